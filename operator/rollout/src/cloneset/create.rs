//! New pods: how many of which revision, and the object.

use std::collections::BTreeSet;
use std::sync::Arc;

use afloat_api::{CloneSet, Gates, names};
use afloat_words::time::whole_seconds;
use serde_json::{Value, json};

use super::claim::{self, ById};
use super::observed::Observed;
use super::owner::owner;
use crate::action::{Action, NewPod};
use crate::pod::label::{revision_label, short};
use crate::pod::launch;
use crate::pod::object::Pod;
use crate::workload::budget::Count;
use crate::workload::history::Revisions;
use crate::workload::plan::planner::BURST;

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
    seen: &Observed<'a>,
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
    let old_template = revisions.old_template.as_ref().filter(|_| at_old > 0);
    let old_recipe = old_template.map(|template| Recipe::of(seen, template, &revisions.current));
    let old_recipe = old_recipe.transpose()?;
    let new_recipe = Recipe::of(seen, &seen.cloneset.spec.template, &revisions.update)?;
    let mut ids = Ids { state: seen.seed };
    let set_name = seen.cloneset.metadata.name.as_deref().unwrap_or_default();
    let mut new = BTreeSet::new();
    let left = claim::left(seen.cloneset, seen.pods, claims);
    creation.after = left.held;
    creation.after.truncate(missing.saturating_sub(left.free.len()));
    let mut free = left.free.into_iter().map(str::to_owned);
    for index in 0..missing - creation.after.len() {
        let id = free.next().unwrap_or_else(|| {
            let mut id = ids.next();
            let taken = |name: String| seen.pods.find(&name).is_some() || new.contains(&name);
            while taken(format!("{set_name}-{id}")) {
                id = ids.next();
            }
            id
        });
        new.insert(format!("{set_name}-{id}"));
        let recipe = match &old_recipe {
            Some(old) if index < at_old => old,
            _ => {
                creation.updated += 1;
                &new_recipe
            }
        };
        creation.actions.extend(claim::missing(seen.cloneset, claims, &id));
        let pod = recipe.pod(format!("{set_name}-{id}"), id)?;
        creation.actions.push(Action::CreatePod { pod });
    }
    Ok(creation)
}

/// What pods of a revision are made from.
struct Recipe<'a> {
    set: &'a CloneSet,
    template: &'a Value,
    common: Arc<Value>,
    /// Each pod's spec names the pod, or its claims.
    differ: bool,
}

impl<'a> Recipe<'a> {
    fn of(seen: &Observed<'a>, template: &'a Value, revision: &str) -> Result<Self, String> {
        let set = seen.cloneset;
        let set_name = set.metadata.name.as_deref().unwrap_or_default();
        let mut metadata = json!({
            "generateName": format!("{set_name}-"),
            "namespace": set.metadata.namespace,
            "ownerReferences": [owner(set).reference()],
        });
        for part in ["annotations", "finalizers"] {
            if let Some(value) = template
                .pointer(&format!("/metadata/{part}"))
                .filter(|value| !value.is_null())
            {
                metadata[part] = value.clone();
            }
        }
        metadata["labels"] = labels(template, revision, seen.gates);
        metadata["annotations"][names::LIFECYCLE_TIMESTAMP] = json!(whole_seconds(seen.now));
        let mut spec = template
            .get("spec")
            .filter(|spec| spec.is_object())
            .cloned()
            .unwrap_or(json!({}));
        add_gates(set, &mut spec);
        let mut any = spec.clone();
        let differ = claim::mount(set, &mut any, "") | launch::put_barriers(template, &mut any, "")?;
        let common = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        Ok(Self {
            set,
            template,
            common: Arc::new(common),
            differ,
        })
    }

    /// One of them.
    fn pod(&self, name: String, id: String) -> Result<NewPod, String> {
        let mut spec = self.differ.then(|| self.common["spec"].clone());
        if let Some(spec) = &mut spec {
            claim::mount(self.set, spec, &id);
            launch::put_barriers(self.template, spec, &name)?;
        }
        Ok(NewPod {
            name,
            id,
            common: self.common.clone(),
            spec,
        })
    }
}

fn labels(template: &Value, revision: &str, gates: Gates) -> Value {
    let mut labels = template
        .pointer("/metadata/labels")
        .filter(|value| value.is_object())
        .cloned()
        .unwrap_or(json!({}));
    labels[names::REVISION] = json!(revision_label(revision, gates));
    labels[names::POD_TEMPLATE_HASH] = json!(short(revision));
    labels[names::LIFECYCLE_STATE] = json!(names::STATE_PREPARING_NORMAL);
    labels
}

/// The readiness gates by which a pod is taken out of service.
fn add_gates(set: &CloneSet, spec: &mut Value) {
    let mut gates = spec
        .get("readinessGates")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let hooks = set.spec.lifecycle.as_ref();
    let marks = [
        hooks.and_then(|h| h.pre_delete.as_ref()),
        hooks.and_then(|h| h.in_place_update.as_ref()),
    ]
    .into_iter()
    .flatten()
    .any(|hook| hook.mark_pod_not_ready);
    for gate in [Some(names::INPLACE_READY), marks.then_some(names::KRUISE_POD_READY)]
        .into_iter()
        .flatten()
    {
        if !gates.iter().any(|present| present["conditionType"] == gate) {
            gates.push(json!({"conditionType": gate}));
        }
    }
    spec["readinessGates"] = Value::Array(gates);
}

/// Five characters at a time out of a seed (splitmix64), in Kubernetes' alphabet for generated names.
struct Ids {
    state: u64,
}

impl Ids {
    fn next(&mut self) -> String {
        const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (0..5)
            .map(|_| {
                let digit = usize::try_from(mixed % 27).unwrap_or(0);
                mixed /= 27;
                char::from(ALPHABET[digit])
            })
            .collect()
    }
}
