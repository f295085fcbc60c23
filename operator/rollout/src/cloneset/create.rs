//! New pods: how many of which revision, and the object.

use std::collections::BTreeSet;

use afloat_api::names;
use afloat_words::time::whole_seconds;
use serde_json::Value;

use super::claim::{self, ById};
use super::planner::SeenSet;
use crate::action::Action;
use crate::pod::object::Pod;
use crate::workload::budget::Count;
use crate::workload::history::Revisions;
use crate::workload::kind::Workload;
use crate::workload::plan::planner::BURST;
use crate::workload::recipe::ids::Ids;
use crate::workload::recipe::{Beside, Own, Recipe};

/// Pods to create.
#[derive(Debug, Default)]
pub(super) struct Creation<'a> {
    pub(super) actions: Vec<Action>,
    /// How many of them are at the update revision.
    pub(super) updated: usize,
    /// Pods that have to be gone first, as another one takes their names and claims.
    pub(super) after: Vec<&'a Pod>,
}

/// Creates `missing` pods, [`BURST`] at once at most. Those that the partition keeps at the old revision come
/// first, as far as its template is still known. Claims that others left behind are taken before new ones are made, those
/// of pods that are not gone yet included: who deletes eight pods gets their data back, and not eight empty volumes beside.
///
/// # Errors
/// A template that no pod can be made from.
pub(super) fn pods<'a>(
    seen: &SeenSet<'a>,
    revisions: &Revisions,
    claims: &ById<'a>,
    count: &Count,
    missing: usize,
) -> Result<Creation<'a>, String> {
    let mut creation = Creation::default();
    if missing == 0 {
        return Ok(creation);
    }
    let old = count.total - count.updated;
    let missing = missing.min(BURST);
    let at_old = match revisions.old_template.as_ref() {
        Some(_) => count.partition.saturating_sub(old).min(missing),
        None => 0,
    };
    let set = seen.set;
    let old_template = revisions.old_template.as_ref().filter(|_| at_old > 0);
    let old_recipe = old_template.map(|template| recipe(seen, template, &revisions.current));
    let old_recipe = old_recipe.transpose()?;
    let new_recipe = recipe(seen, &set.spec.template, &revisions.update)?;
    let mut ids = Ids::of(seen.around.seed);
    let set_name = set.owner().name();
    let mut new = BTreeSet::new();
    let left = claim::left(set, seen.around.pods, claims);
    creation.after = left.held;
    creation.after.truncate(missing.saturating_sub(left.free.len()));
    let mut free = left.free.into_iter().map(str::to_owned);
    for index in 0..missing - creation.after.len() {
        let id = free.next().unwrap_or_else(|| {
            let mut id = ids.next();
            let taken = |name: String| seen.around.pods.find(&name).is_some() || new.contains(&name);
            while taken(format!("{set_name}-{id}")) {
                id = ids.next();
            }
            id
        });
        new.insert(format!("{set_name}-{id}"));
        let name = format!("{set_name}-{id}");
        let label = vec![(names::INSTANCE_ID, id.clone())];
        creation.actions.extend(claim::missing(set, claims, &id));
        let pod = match &old_recipe {
            Some(old) if index < at_old => old.pod(name, label)?,
            _ => {
                creation.updated += 1;
                new_recipe.pod(name, label)?
            }
        };
        creation.actions.push(Action::CreatePod { pod });
    }
    Ok(creation)
}

/// What pods of a revision are made from.
fn recipe<'a>(
    seen: &'a SeenSet<'_>,
    template: &'a Value,
    revision: &'a str,
) -> Result<Recipe<'a, impl Fn(&mut Value, &str) + 'a>, String> {
    let (set, owner) = (seen.set, seen.set.owner());
    let prefix = format!("{}-", owner.name());
    let mut beside = Beside::revision(owner, revision, seen.around.gates);
    beside
        .labels
        .push((names::LIFECYCLE_STATE, names::STATE_PREPARING_NORMAL));
    beside.annotations = vec![(names::LIFECYCLE_TIMESTAMP, whole_seconds(seen.around.now))];
    beside.in_place = true;
    beside.generate_name = Some(prefix.clone());
    let own = Own {
        fields: claim::fields(set),
        write: move |spec: &mut Value, pod: &str| {
            claim::mount(set, spec, pod.strip_prefix(&prefix).unwrap_or_default());
        },
    };
    Recipe::of(owner, template, beside, own)
}
