//! What to do about a StatefulSet. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::objects::counts::count;
use crate::objects::time::wake;
use crate::objects::{Pod, StatefulSet, StatefulSetSpec, StatefulSetStatus};
use crate::workload::Plan;
use crate::workload::history::{HASH_LABEL, History};

/// What a plan is made from.
pub(super) struct Observed<'a> {
    pub(super) set: &'a StatefulSet,
    pub(super) pods: &'a [Arc<Pod>],
    /// Name of the revision of the present template.
    pub(super) update: &'a str,
    /// The template that was complete last, if its revision still exists.
    pub(super) current: Option<Value>,
}

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Create {
        ordinal: i32,
        /// Name of the revision of this template.
        revision: String,
        template: Value,
    },
    Delete(Arc<Pod>),
}

/// What to do about its revisions and pods.
#[derive(Default)]
pub(crate) struct Steps {
    pub(super) actions: Vec<Action>,
    /// Names of the revisions that are in use then.
    pub(super) used_revisions: BTreeSet<String>,
    pub(super) history: History,
}

/// A template and the name of its revision.
struct Version<'a> {
    name: &'a str,
    template: &'a Value,
}

/// The ordinal in a pod's name, if the name is one of the set's.
fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let (parent, ordinal) = pod.name().rsplit_once('-')?;
    (Some(parent) == set.metadata.name.as_deref())
        .then(|| ordinal.parse().ok())
        .flatten()
}

fn revision(pod: &Pod) -> &str {
    pod.metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(HASH_LABEL))
        .map(String::as_str)
        .unwrap_or_default()
}

/// Decides.
pub(super) fn plan(seen: &Observed<'_>, now: Timestamp) -> Plan<Steps, StatefulSetStatus> {
    let set = seen.set;
    let pods: BTreeMap<i32, Arc<Pod>> = seen
        .pods
        .iter()
        .filter_map(|pod| Some((ordinal(set, pod)?, pod.clone())))
        .collect();
    let (update, current) = versions(seen);
    let mut wake_at = None;
    let status = status_of(seen, &pods, current.name, now, &mut wake_at);
    let mut used_revisions: BTreeSet<String> = seen.pods.iter().map(|pod| revision(pod).to_owned()).collect();
    used_revisions.extend([seen.update.to_owned(), status.current_revision.clone()]);
    Plan {
        steps: Steps {
            actions: decide(seen, &pods, &update, &current, now),
            used_revisions,
            history: History::default(),
        },
        status: (status != set.status).then_some(status),
        wake_at,
    }
}

/// What the set says now, and what was complete last: the same, if that does not exist any more.
fn versions<'a>(seen: &'a Observed<'_>) -> (Version<'a>, Version<'a>) {
    let update = || Version {
        name: seen.update,
        template: &seen.set.spec.template,
    };
    let current = seen.current.as_ref().map(|template| Version {
        name: &seen.set.status.current_revision,
        template,
    });
    (update(), current.unwrap_or_else(update))
}

/// Which pods there should be, and how they are replaced.
struct Wanted {
    /// Ordinals: the first, and the one after the last.
    first: i32,
    end: i32,
    /// So many of the first pods stay on the old template.
    partition: i32,
    one_by_one: bool,
    /// Old pods are replaced when users delete them.
    on_delete: bool,
}

impl Wanted {
    fn of(spec: &StatefulSetSpec) -> Self {
        let first = spec.ordinals.start;
        let rolling = spec.update_strategy.rolling_update.as_ref();
        Self {
            first,
            end: first.saturating_add(spec.replicas.unwrap_or(1).max(0)),
            partition: rolling.and_then(|rolling| rolling.partition).unwrap_or(0),
            one_by_one: spec.pod_management_policy != "Parallel",
            on_delete: spec.update_strategy.type_ == "OnDelete",
        }
    }

    fn in_partition(&self, ordinal: i32) -> bool {
        ordinal - self.first < self.partition
    }
}

fn is_healthy(set: &StatefulSet, pod: &Pod, now: Timestamp) -> bool {
    !pod.is_terminating() && pod.is_available(set.spec.min_ready_seconds, now) == Ok(true)
}

fn decide(
    seen: &Observed<'_>,
    pods: &BTreeMap<i32, Arc<Pod>>,
    update: &Version<'_>,
    current: &Version<'_>,
    now: Timestamp,
) -> Vec<Action> {
    let mut actions = Vec::new();
    if seen.set.metadata.deletion_timestamp.is_some() {
        return actions;
    }
    let wanted = Wanted::of(&seen.set.spec);
    let new = |ordinal: i32| {
        let old = !wanted.on_delete && wanted.in_partition(ordinal);
        let version = if old { current } else { update };
        Action::Create {
            ordinal,
            revision: version.name.to_owned(),
            template: version.template.clone(),
        }
    };
    let complete = fill(seen, &wanted, pods, new, now, &mut actions);
    let complete = complete && shrink(&wanted, pods, &mut actions);
    if complete && !wanted.on_delete && actions.is_empty() {
        actions.extend(replace_one(seen, &wanted, pods, now));
    }
    actions
}

/// Makes the pods that are missing, and those anew that have ended. False: it has to wait for one of them.
fn fill(
    seen: &Observed<'_>,
    wanted: &Wanted,
    pods: &BTreeMap<i32, Arc<Pod>>,
    new: impl Fn(i32) -> Action,
    now: Timestamp,
    actions: &mut Vec<Action>,
) -> bool {
    for ordinal in wanted.first..wanted.end {
        match pods.get(&ordinal) {
            None => actions.push(new(ordinal)),
            Some(pod) if pod.is_finished() && !pod.is_terminating() => actions.push(Action::Delete(pod.clone())),
            // Also where it never will be: a pod of a broken template stays until somebody deletes it, as in Kubernetes (k/k #67250),
            // so that what is tried here ends as it does there.
            Some(pod) if wanted.one_by_one && !is_healthy(seen.set, pod, now) => return false,
            Some(_) => continue,
        }
        if wanted.one_by_one {
            return false;
        }
    }
    true
}

/// Deletes the pods beyond the number asked for, the last first. False: it has to wait for one of them.
fn shrink(wanted: &Wanted, pods: &BTreeMap<i32, Arc<Pod>>, actions: &mut Vec<Action>) -> bool {
    let surplus = |ordinal: i32| ordinal < wanted.first || ordinal >= wanted.end;
    for (_, pod) in pods.iter().rev().filter(|(ordinal, _)| surplus(**ordinal)) {
        if !pod.is_terminating() {
            actions.push(Action::Delete(pod.clone()));
        }
        if wanted.one_by_one {
            return false;
        }
    }
    true
}

/// Replaces the last pod of an old template, once all after it are healthy.
fn replace_one(seen: &Observed<'_>, wanted: &Wanted, pods: &BTreeMap<i32, Arc<Pod>>, now: Timestamp) -> Option<Action> {
    let from = wanted.first.saturating_add(wanted.partition).min(wanted.end);
    for (_, pod) in pods.range(from..wanted.end).rev() {
        if revision(pod) != seen.update && !pod.is_terminating() {
            return Some(Action::Delete(pod.clone()));
        }
        if !is_healthy(seen.set, pod, now) {
            return None;
        }
    }
    None
}

fn status_of(
    seen: &Observed<'_>,
    pods: &BTreeMap<i32, Arc<Pod>>,
    current: &str,
    now: Timestamp,
    wake_at: &mut Option<Timestamp>,
) -> StatefulSetStatus {
    let spec = &seen.set.spec;
    let live = || pods.values().filter(|pod| pod.is_active());
    let mut status = StatefulSetStatus {
        replicas: count(pods.values().filter(|pod| !pod.is_finished()).count()),
        ready_replicas: count(live().filter(|pod| pod.is_ready()).count()),
        current_replicas: count(live().filter(|pod| revision(pod) == current).count()),
        updated_replicas: count(live().filter(|pod| revision(pod) == seen.update).count()),
        current_revision: current.to_owned(),
        update_revision: seen.update.to_owned(),
        observed_generation: seen.set.metadata.generation.unwrap_or(0),
        conditions: seen.set.status.conditions.clone(),
        ..StatefulSetStatus::default()
    };
    for pod in live() {
        match pod.is_available(spec.min_ready_seconds, now) {
            Ok(available) => status.available_replicas += i32::from(available),
            Err(at) => wake(wake_at, at),
        }
    }
    let all = status.updated_replicas == status.replicas && status.ready_replicas == status.replicas;
    if all && status.replicas == spec.replicas.unwrap_or(1) {
        status.current_revision.clone_from(&status.update_revision);
        status.current_replicas = status.updated_replicas;
    }
    status
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(replicas: i32, partition: i32) -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "n", "uid": "u"},
            "spec": {"replicas": replicas, "podManagementPolicy": "OrderedReady", "template": {},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}},
            "status": {"currentRevision": "db-1"},
        }))
        .unwrap()
    }

    fn pod(ordinal: i32, revision: &str, ready: bool) -> Arc<Pod> {
        let status = if ready { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": format!("db-{ordinal}"), "uid": format!("u{ordinal}"), "labels": {HASH_LABEL: revision}},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]},
            }))
            .unwrap(),
        )
    }

    fn decide(set: &StatefulSet, pods: &[Arc<Pod>]) -> Vec<String> {
        let seen = Observed {
            set,
            pods,
            update: "db-2",
            current: Some(Value::Null),
        };
        let actions = plan(&seen, Timestamp::UNIX_EPOCH).steps.actions;
        let tell = |action: &Action| match action {
            Action::Create { ordinal, revision, .. } => format!("create {ordinal} {revision}"),
            Action::Delete(pod) => format!("delete {}", pod.name()),
        };
        actions.iter().map(tell).collect()
    }

    #[test]
    fn one_after_the_other() {
        assert_eq!(decide(&set(3, 0), &[]), ["create 0 db-2"]);
        assert_eq!(decide(&set(3, 0), &[pod(0, "db-2", false)]), Vec::<String>::new());
        assert_eq!(decide(&set(3, 0), &[pod(0, "db-2", true)]), ["create 1 db-2"]);
        assert_eq!(
            decide(
                &set(1, 0),
                &[pod(0, "db-2", true), pod(1, "db-2", true), pod(2, "db-2", true)]
            ),
            ["delete db-2"]
        );
    }

    #[test]
    fn updates_from_the_end_and_stops_at_the_partition() {
        let old = [pod(0, "db-1", true), pod(1, "db-1", true), pod(2, "db-1", true)];
        assert_eq!(decide(&set(3, 0), &old), ["delete db-2"]);
        let half = [pod(0, "db-1", true), pod(1, "db-1", true), pod(2, "db-2", true)];
        assert_eq!(decide(&set(3, 1), &half), ["delete db-1"]);
        assert_eq!(decide(&set(3, 2), &half), Vec::<String>::new());
        assert_eq!(decide(&set(3, 2), &half[1..]), ["create 0 db-1"]);
    }

    #[test]
    fn a_broken_pod_is_waited_for_as_in_kubernetes() {
        let broken = [pod(0, "db-1", true), pod(1, "db-1", true), pod(2, "db-1", false)];
        assert_eq!(decide(&set(3, 0), &broken), Vec::<String>::new());
        let mut parallel = set(3, 0);
        parallel.spec.pod_management_policy = "Parallel".into();
        assert_eq!(decide(&parallel, &broken), ["delete db-2"]);
        // Once a user has deleted it, the next one is of the new template.
        assert_eq!(decide(&set(3, 0), &broken[..2]), ["create 2 db-2"]);
    }

    #[test]
    fn parallel_means_all_at_once() {
        let mut set = set(3, 0);
        set.spec.pod_management_policy = "Parallel".into();
        assert_eq!(decide(&set, &[]).len(), 3);
    }
}
