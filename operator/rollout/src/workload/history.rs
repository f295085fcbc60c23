//! Which revision is wanted, which one the pods had, and which ones nobody needs any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use afloat_api::names;
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::Value;

use super::owner::Owner;
use super::revision::{data, hash, name, object, template};
use super::roster::Roster;
use crate::action::patch::RevisionNumber;
use crate::action::{Action, At};
use crate::go::bytes;
use crate::pod::label::same_revision;
use crate::pod::meaning::{canonical, same};

/// The revisions of a workload.
#[derive(Clone, Debug, Default)]
pub struct Revisions {
    /// Name of the one that the present template has.
    pub update: String,
    /// Its number, or the one that it is to have.
    pub update_number: i64,
    /// Name of the one that all pods had last.
    pub current: String,
    /// Template of `current`, if it is another one and still known.
    pub old_template: Option<Arc<Value>>,
    /// Makes `update` the newest if an older one is wanted again.
    pub number: Option<Action>,
}

impl Revisions {
    /// Just one.
    pub(crate) fn only(name: String) -> Self {
        Self {
            current: name.clone(),
            update: name,
            ..Self::default()
        }
    }
}

/// What there is of the wanted revision.
pub enum Found {
    /// It is there.
    Known(Box<Revisions>),
    /// It has to be created.
    Missing {
        /// The object.
        body: Value,
        /// How often a name was taken by another template so far.
        collisions: i32,
    },
}

/// Finds the revision of the present template by meaning, or says what to create. `collisions`, `current` and `reported` stand
/// in the workload's status: how often a name was taken so far, the revision that all pods had last, and the one that was
/// wanted last.
pub fn resolve(
    owner: Owner<'_>,
    collisions: i32,
    current: &str,
    reported: &str,
    revisions: &[Arc<ControllerRevision>],
) -> Found {
    let mut sorted: Vec<_> = revisions
        .iter()
        .filter(|revision| revision.metadata.deletion_timestamp.is_none())
        .collect();
    sorted.sort_by(|a, b| {
        a.revision
            .cmp(&b.revision)
            .then_with(|| a.metadata.name.cmp(&b.metadata.name))
    });
    let newest = sorted.last().map_or(0, |revision| revision.revision);
    let wanted = owner.template;
    let Some(found) = same_meaning(wanted, reported, &sorted) else {
        let workload = owner.name();
        let bytes = bytes(&data(wanted));
        let mut collisions = collisions;
        // Each round that collides takes a name out of a finite list, so this ends.
        let taken = |text: &str| {
            sorted
                .iter()
                .any(|revision| revision.metadata.name.as_deref() == Some(&name(workload, text)))
        };
        let mut text = hash(&bytes, collisions);
        while taken(&text) {
            collisions += 1;
            text = hash(&bytes, collisions);
        }
        return Found::Missing {
            body: object(owner, &text, newest + 1),
            collisions,
        };
    };
    let update = found.metadata.name.clone().unwrap_or_default();
    let number = (found.revision < newest).then(|| Action::NumberRevision {
        at: At::of(&found.metadata),
        number: RevisionNumber {
            number: newest + 1,
            claims: None,
        },
    });
    let current = sorted
        .iter()
        .find(|revision| revision.metadata.name.as_deref() == Some(current));
    let current_name = current
        .and_then(|revision| revision.metadata.name.clone())
        .unwrap_or_else(|| update.clone());
    let old_template = current
        .filter(|_| current_name != update)
        .and_then(|revision| template(revision))
        .map(|template| Arc::new(template.clone()));
    Found::Known(Box::new(Revisions {
        update,
        update_number: number.as_ref().map_or(found.revision, |_| newest + 1),
        current: current_name,
        old_template,
        number,
    }))
}

/// The revision that means what a template means; `sorted` has the newest last. Where several do, because OpenKruise tells
/// by bytes or because each states another default of what the template leaves open: the one that was `reported` as wanted
/// last, so that saying the same thing in other words moves no pod; else one that states the same; else the newest.
pub fn same_meaning<'a>(
    wanted: &Value,
    reported: &str,
    sorted: &[&'a Arc<ControllerRevision>],
) -> Option<&'a Arc<ControllerRevision>> {
    let wanted = canonical(wanted);
    let meaning = |revision: &ControllerRevision| template(revision).map(canonical);
    let means_it = |meaning: &Value| same("template", meaning, &wanted);
    let named = |revision: &&&'a Arc<ControllerRevision>| revision.metadata.name.as_deref() == Some(reported);
    let last = sorted.iter().rev().find(named);
    if let Some(last) = last.filter(|last| meaning(last).is_some_and(|meaning| means_it(&meaning))) {
        return Some(last);
    }
    let mut newest = None;
    for revision in sorted.iter().rev() {
        let Some(meaning) = meaning(revision) else { continue };
        if meaning == wanted {
            return Some(revision);
        }
        if newest.is_none() && means_it(&meaning) {
            newest = Some(*revision);
        }
    }
    newest
}

/// The revision that was wanted last.
pub fn newest(revisions: &[Arc<ControllerRevision>]) -> Option<&Arc<ControllerRevision>> {
    let present = revisions
        .iter()
        .filter(|revision| revision.metadata.deletion_timestamp.is_none());
    present.max_by_key(|revision| revision.revision)
}

/// Deletes the oldest revisions that no pod uses, beyond `limit`. Those that a status names stay.
pub fn truncate(
    limit: Option<i32>,
    reported: &[&str],
    revisions: &[Arc<ControllerRevision>],
    pods: &Roster,
) -> Vec<Action> {
    let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or(0);
    let name = |revision: &Arc<ControllerRevision>| revision.metadata.name.clone().unwrap_or_default();
    let reported = |name: &String| reported.contains(&name.as_str());
    let mut dead: Vec<_> = revisions.iter().filter(|revision| !reported(&name(revision))).collect();
    if dead.len() <= limit {
        return Vec::new();
    }
    let labels: BTreeSet<&str> = pods.pods().filter_map(|pod| pod.labels.get(names::REVISION)).collect();
    dead.retain(|revision| !labels.iter().any(|label| same_revision(label, &name(revision))));
    dead.sort_by_key(|revision| revision.revision);
    let surplus = dead.len().saturating_sub(limit);
    dead.into_iter()
        .take(surplus)
        .map(|revision| Action::DeleteRevision {
            at: At::of(&revision.metadata),
        })
        .collect()
}

#[cfg(test)]
mod tests;
