//! Which revision is wanted, which one the pods had, and which ones nobody needs any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use afloat_api::{CloneSet, CloneSetStatus, names};
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::Value;

use crate::action::{Action, At};
use crate::pod::object::{Pod, same_revision};
use crate::workload::revision::{bytes, canonical, data, hash, name, object, template};

/// The revisions of a CloneSet.
#[derive(Clone, Debug, Default)]
pub struct Revisions {
    /// Name of the one that the spec's template has.
    pub update: String,
    /// Its number, or the one that it is to have.
    pub update_number: i64,
    /// Name of the one that all pods had last.
    pub current: String,
    /// Template of `current`, if it is another one and still known.
    pub old_template: Option<Value>,
    /// Makes `update` the newest if an older one is wanted again.
    pub number: Option<Action>,
}

impl Revisions {
    /// Just one.
    pub(super) fn only(name: String) -> Self {
        Self {
            current: name.clone(),
            update: name,
            ..Self::default()
        }
    }
}

pub(super) enum Found {
    Known(Box<Revisions>),
    Missing { body: Value, collisions: i32 },
}

/// Finds the revision of the present template by meaning, or says what to create.
pub(super) fn resolve(set: &CloneSet, revisions: &[Arc<ControllerRevision>]) -> Found {
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
    let wanted = &set.spec.template;
    let meaning = canonical(wanted);
    let found = sorted
        .iter()
        .rev()
        .find(|revision| template(revision).is_some_and(|template| canonical(template) == meaning));
    let Some(found) = found else {
        let workload = set.metadata.name.as_deref().unwrap_or_default();
        let bytes = bytes(&data(wanted));
        let mut collisions = set.status.collision_count.unwrap_or(0);
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
            body: object(set, &text, newest + 1),
            collisions,
        };
    };
    let update = found.metadata.name.clone().unwrap_or_default();
    let number = (found.revision < newest).then(|| Action::NumberRevision {
        at: At::of(&found.metadata),
        number: newest + 1,
    });
    let current = sorted
        .iter()
        .find(|revision| revision.metadata.name.as_deref() == Some(&set.status.current_revision));
    let current_name = current
        .and_then(|revision| revision.metadata.name.clone())
        .unwrap_or_else(|| update.clone());
    let old_template = current
        .filter(|_| current_name != update)
        .and_then(|revision| template(revision))
        .cloned();
    Found::Known(Box::new(Revisions {
        update,
        update_number: number.as_ref().map_or(found.revision, |_| newest + 1),
        current: current_name,
        old_template,
        number,
    }))
}

/// Deletes the oldest revisions that no pod uses, beyond `revisionHistoryLimit`.
pub(super) fn truncate(
    set: &CloneSet,
    status: &CloneSetStatus,
    revisions: &[Arc<ControllerRevision>],
    pods: &[Arc<Pod>],
) -> Vec<Action> {
    let limit = usize::try_from(set.spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
    let name = |revision: &Arc<ControllerRevision>| revision.metadata.name.clone().unwrap_or_default();
    let reported = |name: &String| {
        [
            &status.update_revision,
            &status.current_revision,
            &set.status.current_revision,
        ]
        .contains(&name)
    };
    let mut dead: Vec<_> = revisions.iter().filter(|revision| !reported(&name(revision))).collect();
    if dead.len() <= limit {
        return Vec::new();
    }
    let labels: BTreeSet<&str> = pods.iter().filter_map(|pod| pod.labels.get(names::REVISION)).collect();
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
