//! Deployments: moves pods from the ReplicaSets of old templates to that of the present one, within maxSurge and
//! maxUnavailable.
//!
//! [`plan`] differs from Kubernetes' own controller in two careful points. It counts a ReplicaSet's pods as the larger of what
//! was asked for and what its status reports (so maxSurge holds even while an old ReplicaSet has not yet removed its surplus),
//! and its available pods less those that it has still to remove (so maxUnavailable holds on a status that lags).

mod drive;
mod rolling;
mod status;
#[cfg(test)]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::Error;
use crate::objects::{Deployment, DeploymentStatus, LAST_APPLIED, ReplicaSet, Round, controller_of, scaled};
use crate::selector::Labels;

pub(crate) use drive::run;

/// Label that tells the ReplicaSets of a Deployment apart.
pub(crate) const HASH_LABEL: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
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

/// What to do next.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    /// Set if it differs from what the object says.
    pub(crate) status: Option<DeploymentStatus>,
    pub(crate) wake_at: Option<Timestamp>,
}

/// The budgets in pods.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) replicas: i32,
    pub(crate) surge: i32,
    pub(crate) unavailable: i32,
}

impl Limits {
    /// maxSurge rounds up, maxUnavailable down; if both come to 0 one pod may be unavailable, or nothing could move.
    pub(crate) fn of(deployment: &Deployment) -> Self {
        let replicas = deployment.spec.replicas.unwrap_or(1).max(0);
        if deployment.spec.strategy.type_ == "Recreate" {
            return Self {
                replicas,
                surge: 0,
                unavailable: 0,
            };
        }
        let quarter = k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::String("25%".into());
        let rolling = deployment.spec.strategy.rolling_update.clone().unwrap_or_default();
        let surge = scaled(rolling.max_surge.as_ref().unwrap_or(&quarter), replicas, Round::Up).max(0);
        let mut unavailable = scaled(
            rolling.max_unavailable.as_ref().unwrap_or(&quarter),
            replicas,
            Round::Down,
        )
        .max(0);
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        Self {
            replicas,
            surge,
            unavailable: unavailable.min(replicas),
        }
    }

    /// The most pods at a time.
    pub(crate) fn most(self) -> i32 {
        self.replicas.saturating_add(self.surge)
    }

    /// The fewest available pods at a time.
    pub(crate) fn least_available(self) -> i32 {
        self.replicas - self.unavailable
    }
}

/// The ReplicaSets by role.
pub(crate) struct Sets {
    pub(crate) new: Option<Arc<ReplicaSet>>,
    /// Oldest first.
    pub(crate) old: Vec<Arc<ReplicaSet>>,
}

impl Sets {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }
}

/// Decides.
///
/// # Errors
/// [`Error::Invalid`] if the selector cannot be read.
pub(crate) fn plan(seen: &Observed<'_>, now: Timestamp) -> Result<Plan, Error> {
    let deployment = seen.deployment;
    let mut plan = Plan::default();
    if Labels::is_empty(&deployment.spec.selector) {
        return Err(Error::Invalid("spec.selector: selects all pods; give it labels".into()));
    }
    let owned = claim(seen, &mut plan.actions)?;
    let sets = divide(deployment, owned);
    let limits = Limits::of(deployment);
    let terminating = deployment.metadata.deletion_timestamp.is_some();
    if !terminating {
        decide(seen, &sets, limits, &mut plan.actions);
    }
    let status = status::status(deployment, &sets, limits, now, &mut plan.wake_at);
    plan.status = (status != deployment.status).then_some(status);
    Ok(plan)
}

fn decide(seen: &Observed<'_>, sets: &Sets, limits: Limits, actions: &mut Vec<Action>) {
    let deployment = seen.deployment;
    let mut changes = Changes::default();
    if deployment.spec.paused || rolling::was_scaled(deployment, sets, limits) {
        rolling::rescale(deployment, sets, limits, &mut changes);
    } else if deployment.spec.strategy.type_ == "Recreate" {
        recreate(seen, sets, limits, &mut changes);
    } else {
        rolling::roll(sets, limits, &mut changes);
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
    if status::is_complete(deployment, sets, limits) {
        actions.extend(surplus_history(deployment, sets).into_iter().map(Action::Delete));
    }
}

/// New sizes of ReplicaSets, by name.
#[derive(Default)]
pub(crate) struct Changes {
    pub(crate) replicas: BTreeMap<String, i32>,
    /// Create the new ReplicaSet with this size.
    pub(crate) create: Option<i32>,
}

impl Changes {
    pub(crate) fn set(&mut self, set: &ReplicaSet, replicas: i32) {
        if replicas != set.replicas() {
            self.replicas.insert(name_of(set), replicas);
        }
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

/// The ReplicaSets that are its own; adopts and releases as the selector says.
fn claim(seen: &Observed<'_>, actions: &mut Vec<Action>) -> Result<Vec<Arc<ReplicaSet>>, Error> {
    let deployment = seen.deployment;
    let labels = Labels::parse(&deployment.spec.selector)?;
    let terminating = deployment.metadata.deletion_timestamp.is_some();
    let mut owned = Vec::new();
    for set in seen.sets {
        let matches = labels.matches(set.metadata.labels.as_ref());
        match controller_of(&set.metadata) {
            Some(owner) if Some(&owner.uid) == deployment.metadata.uid.as_ref() => {
                if matches {
                    owned.push(set.clone());
                } else if !terminating {
                    actions.push(Action::Release(set.clone()));
                }
            }
            None if matches && !terminating && set.metadata.deletion_timestamp.is_none() => {
                actions.push(Action::Adopt(set.clone()));
            }
            _ => {}
        }
    }
    Ok(owned)
}

/// Finds the ReplicaSet of the present template: the oldest, if there are several.
fn divide(deployment: &Deployment, mut owned: Vec<Arc<ReplicaSet>>) -> Sets {
    owned.sort_by_key(|set| {
        (
            set.metadata.creation_timestamp.as_ref().map(|time| time.0),
            name_of(set),
        )
    });
    let template = without_hash(&deployment.spec.template);
    let new = owned
        .iter()
        .position(|set| without_hash(&set.spec.template) == template)
        .map(|at| owned.remove(at));
    Sets { new, old: owned }
}

/// A template without the label that the controller adds; an absent and an empty map are the same.
pub(crate) fn without_hash(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(meta) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        if let Some(labels) = meta.get_mut("labels").and_then(Value::as_object_mut) {
            labels.remove(HASH_LABEL);
        }
        meta.retain(|_, value| !value.is_null() && value.as_object().is_none_or(|object| !object.is_empty()));
    }
    template
}

/// Our own hash over the template: the API only asks that it tells templates apart.
pub(crate) fn template_hash(template: &Value, collisions: i32) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    // FNV-1a; JSON text of sorted maps is the same for equal templates.
    let text = format!("{}#{collisions}", without_hash(template));
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut name = String::with_capacity(10);
    for _ in 0..10 {
        name.push(char::from(ALPHABET[usize::try_from(hash % 27).unwrap_or(0)]));
        hash /= 27;
    }
    name
}

fn revision_of(set: &ReplicaSet) -> i64 {
    annotation(&set.metadata, REVISION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// One more than any old revision; the present one if it is that already.
fn revision_for_new(sets: &Sets) -> i64 {
    let old = sets.old.iter().map(|set| revision_of(set)).max().unwrap_or(0);
    let new = sets.new.as_ref().map_or(0, |set| revision_of(set));
    if new > old { new } else { old + 1 }
}

pub(crate) fn annotation<'a>(meta: &'a kube::api::ObjectMeta, name: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}

pub(crate) fn name_of(set: &ReplicaSet) -> String {
    set.metadata.name.clone().unwrap_or_default()
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
            "ownerReferences": [crate::replicaset::controlled_by::<Deployment>(&deployment.metadata)],
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
