//! What to do about a Deployment. Pure.
//!
//! [`plan`] differs from Kubernetes' own controller in two careful points. It counts a ReplicaSet's pods as the larger of what
//! was asked for and what its status reports (so maxSurge holds even while an old ReplicaSet has not yet removed its surplus),
//! and its available pods less those that it has still to remove (so maxUnavailable holds on a status that lags).

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::Error;
use crate::objects::selector::Labels;
use crate::objects::{Deployment, DeploymentStatus, LAST_APPLIED, ReplicaSet, annotation, controlled_by};
use crate::workload::Plan;
use crate::workload::ownership::claim;
use crate::workload::template::{HASH_LABEL, template_hash};

use super::rolling::{rescale, roll, was_scaled};
use super::sets::{Changes, DESIRED, Limits, MAX, REVISION, Sets, divide, name_of, revision_for_new, revision_of};
use super::status::{is_complete, status_of};

pub(super) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Annotations of the Deployment that its ReplicaSets do not inherit.
const NOT_INHERITED: [&str; 6] = [
    LAST_APPLIED,
    "deprecated.deployment.rollback.to",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
];

/// What a plan is made from.
pub(crate) struct Observed<'a> {
    pub(crate) deployment: &'a Deployment,
    /// ReplicaSets that it controls, and those of its namespace that nobody controls.
    pub(crate) sets: &'a [Arc<ReplicaSet>],
    /// Pods of its old ReplicaSets that have not ended, terminating ones included (for Recreate).
    pub(crate) old_pods: usize,
}

/// One step. Each can be done or left out alone: the next plan copes.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Adopt(Arc<ReplicaSet>),
    Release(Arc<ReplicaSet>),
    Create {
        name: String,
        object: Value,
    },
    /// Merge patch of a ReplicaSet; `scaled` is what to tell the user.
    Update {
        set: Arc<ReplicaSet>,
        patch: Value,
        scaled: Option<String>,
    },
    Delete(Arc<ReplicaSet>),
    /// Merge patch of the Deployment itself.
    Annotate(Value),
}

/// Decides.
///
/// # Errors
/// If the selector cannot be read, or selects all pods.
pub(crate) fn plan(seen: &Observed<'_>, now: Timestamp) -> Result<Plan<Vec<Action>, DeploymentStatus>, Error> {
    let deployment = seen.deployment;
    if Labels::is_empty(&deployment.spec.selector) {
        return Err(Error::SelectsAll);
    }
    let labels = Labels::parse(&deployment.spec.selector)?;
    let claimed = claim(&deployment.metadata, &labels, seen.sets, |set: &ReplicaSet| {
        set.metadata.deletion_timestamp.is_none()
    });
    let adopted = claimed.adopt.into_iter().map(Action::Adopt);
    let mut actions: Vec<Action> = adopted
        .chain(claimed.release.into_iter().map(Action::Release))
        .collect();
    let sets = divide(deployment, claimed.own);
    let limits = Limits::of(deployment);
    if deployment.metadata.deletion_timestamp.is_none() {
        decide(seen, &sets, limits, &mut actions);
    }
    let mut wake_at = None;
    let status = status_of(deployment, &sets, limits, now, &mut wake_at);
    Ok(Plan {
        steps: actions,
        status: (status != deployment.status).then_some(status),
        wake_at,
    })
}

fn decide(seen: &Observed<'_>, sets: &Sets, limits: Limits, actions: &mut Vec<Action>) {
    let deployment = seen.deployment;
    let mut changes = Changes::default();
    if deployment.spec.paused || was_scaled(deployment, sets, limits) {
        rescale(deployment, sets, limits, &mut changes);
    } else if deployment.is_recreate() {
        recreate(seen, sets, limits, &mut changes);
    } else {
        roll(sets, limits, &mut changes);
    }
    let revision = revision_for_new(sets);
    let create = sets.new.is_none() && !deployment.spec.paused && changes.create.is_some();
    if create {
        actions.push(create_new(deployment, limits, revision, changes.create.unwrap_or(0)));
    }
    for set in sets.all() {
        let is_new = sets.new.as_ref().is_some_and(|new| Arc::ptr_eq(new, set));
        let replicas = changes.replicas.get(&name_of(set)).copied();
        actions.extend(update(deployment, set, limits, replicas, is_new.then_some(revision)));
    }
    if (create || sets.new.is_some())
        && annotation(&deployment.metadata, REVISION) != Some(revision.to_string().as_str())
    {
        actions.push(Action::Annotate(
            json!({"metadata": {"annotations": {REVISION: revision.to_string()}}}),
        ));
    }
    if is_complete(deployment, sets, limits) {
        actions.extend(surplus_history(deployment, sets).into_iter().map(Action::Delete));
    }
}

fn recreate(seen: &Observed<'_>, sets: &Sets, limits: Limits, changes: &mut Changes) {
    let mut old = 0;
    for set in &sets.old {
        old += set.replicas().max(set.status.replicas);
        changes.set(set, 0);
    }
    if old > 0 || seen.old_pods > 0 {
        return;
    }
    match &sets.new {
        Some(new) => changes.set(new, limits.replicas),
        None => changes.create = Some(limits.replicas),
    }
}

fn create_new(deployment: &Deployment, limits: Limits, revision: i64, replicas: i32) -> Action {
    let hash = template_hash(
        &deployment.spec.template,
        deployment.status.collision_count.unwrap_or(0),
    );
    let name = format!("{}-{hash}", deployment.metadata.name.as_deref().unwrap_or_default());
    let mut template = deployment.spec.template.clone();
    template["metadata"]["labels"][HASH_LABEL] = json!(hash);
    let mut selector = json!(deployment.spec.selector);
    selector["matchLabels"][HASH_LABEL] = json!(hash);
    let mut annotations = inherited(deployment);
    annotations.insert(REVISION.into(), revision.to_string());
    annotations.insert(DESIRED.into(), limits.replicas.to_string());
    annotations.insert(MAX.into(), limits.most().to_string());
    let object = json!({
        "metadata": {
            "name": name, "namespace": deployment.metadata.namespace, "labels": template["metadata"]["labels"],
            "annotations": annotations,
            "ownerReferences": [controlled_by::<Deployment>(&deployment.metadata)],
        },
        "spec": {
            "replicas": replicas, "minReadySeconds": deployment.spec.min_ready_seconds, "selector": selector,
            "template": template,
        },
    });
    Action::Create { name, object }
}

fn inherited(deployment: &Deployment) -> BTreeMap<String, String> {
    let annotations = deployment.metadata.annotations.iter().flatten();
    annotations
        .filter(|(name, _)| !NOT_INHERITED.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// What to change of a ReplicaSet, if anything; `revision` is given for the new one.
fn update(
    deployment: &Deployment,
    set: &Arc<ReplicaSet>,
    limits: Limits,
    replicas: Option<i32>,
    revision: Option<i64>,
) -> Option<Action> {
    let mut wanted = BTreeMap::new();
    let mut patch = json!({});
    if let Some(revision) = revision {
        wanted = inherited(deployment);
        wanted.insert(REVISION.to_owned(), revision.to_string());
        let before = revision_of(set);
        if before != 0 && before != revision {
            let history = annotation(&set.metadata, REVISION_HISTORY)
                .map(|text| format!("{text},"))
                .unwrap_or_default();
            wanted.insert(REVISION_HISTORY.to_owned(), format!("{history}{before}"));
        }
        if set.spec.min_ready_seconds != deployment.spec.min_ready_seconds {
            patch["spec"]["minReadySeconds"] = json!(deployment.spec.min_ready_seconds);
        }
    }
    let after = replicas.unwrap_or(set.replicas());
    if after > 0 || set.replicas() > 0 {
        wanted.insert(DESIRED.to_owned(), limits.replicas.to_string());
        wanted.insert(MAX.to_owned(), limits.most().to_string());
    }
    wanted.retain(|name, value| annotation(&set.metadata, name) != Some(value));
    if !wanted.is_empty() {
        patch["metadata"]["annotations"] = json!(wanted);
    }
    let mut scaled = None;
    if let Some(replicas) = replicas {
        patch["spec"]["replicas"] = json!(replicas);
        let way = if replicas > set.replicas() { "up" } else { "down" };
        scaled = Some(format!(
            "Scaled {way} replica set {} from {} to {replicas}",
            name_of(set),
            set.replicas()
        ));
    }
    let empty = patch.as_object().is_none_or(serde_json::Map::is_empty);
    (!empty).then(|| Action::Update {
        set: set.clone(),
        patch,
        scaled,
    })
}

/// Old, empty ReplicaSets beyond revisionHistoryLimit, lowest revision first.
fn surplus_history(deployment: &Deployment, sets: &Sets) -> Vec<Arc<ReplicaSet>> {
    let limit = usize::try_from(deployment.spec.revision_history_limit.unwrap_or(10)).unwrap_or(usize::MAX);
    let empty = |set: &&Arc<ReplicaSet>| {
        set.replicas() == 0
            && set.status.replicas == 0
            && set.status.observed_generation >= set.metadata.generation.unwrap_or(0)
            && set.metadata.deletion_timestamp.is_none()
    };
    let mut candidates: Vec<Arc<ReplicaSet>> = sets.old.iter().filter(empty).cloned().collect();
    candidates.sort_by_key(|set| revision_of(set));
    let surplus = candidates.len().saturating_sub(limit);
    candidates.truncate(surplus);
    candidates
}
