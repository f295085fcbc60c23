//! StatefulSets: pods with names and volumes that stay, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::Error;
use crate::context::Context;
use crate::loops::answer::is_status;
use crate::loops::events::Tone;
use crate::loops::shell::Shell;
use crate::objects::condition::conditions_json;
use crate::objects::counts::{count, unless_zero};
use crate::objects::time::until;
use crate::objects::{Index, Key, Pod, StatefulSet, StatefulSetStatus, controlled_by};
use crate::workload::history::{self, HASH_LABEL};
use crate::workload::template::pod_from_template;

/// What a plan is made from.
pub(crate) struct Observed<'a> {
    pub(crate) set: &'a StatefulSet,
    pub(crate) pods: &'a [Arc<Pod>],
    /// Name of the revision of the present template.
    pub(crate) update: &'a str,
    /// Whether the revision that was complete last still exists.
    pub(crate) current_exists: bool,
}

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Create { ordinal: i32, revision: String },
    Delete(Arc<Pod>),
}

/// What to do next.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    pub(crate) status: StatefulSetStatus,
    pub(crate) wake_at: Option<Timestamp>,
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
pub(crate) fn plan(seen: &Observed<'_>, now: Timestamp) -> Plan {
    let set = seen.set;
    let pods: BTreeMap<i32, Arc<Pod>> = seen
        .pods
        .iter()
        .filter_map(|pod| Some((ordinal(set, pod)?, pod.clone())))
        .collect();
    let mut plan = Plan::default();
    let current = if seen.current_exists {
        set.status.current_revision.as_str()
    } else {
        seen.update
    };
    plan.status = status(seen, &pods, current, now, &mut plan.wake_at);
    if set.metadata.deletion_timestamp.is_none() {
        decide(seen, &pods, current, now, &mut plan);
    }
    plan
}

fn decide(seen: &Observed<'_>, pods: &BTreeMap<i32, Arc<Pod>>, current: &str, now: Timestamp, plan: &mut Plan) {
    let spec = &seen.set.spec;
    let (first, wanted) = (spec.ordinals.start, spec.replicas.unwrap_or(1).max(0));
    let end = first.saturating_add(wanted);
    let one_by_one = spec.pod_management_policy != "Parallel";
    let partition = spec
        .update_strategy
        .rolling_update
        .as_ref()
        .and_then(|rolling| rolling.partition)
        .unwrap_or(0);
    let healthy = |pod: &Pod| !pod.is_terminating() && pod.is_available(spec.min_ready_seconds, now) == Ok(true);
    for ordinal in first..end {
        match pods.get(&ordinal) {
            None => {
                let old = spec.update_strategy.type_ != "OnDelete" && ordinal - first < partition;
                let revision = if old { current } else { seen.update };
                plan.actions.push(Action::Create {
                    ordinal,
                    revision: revision.to_owned(),
                });
            }
            Some(pod) if pod.is_finished() && !pod.is_terminating() => plan.actions.push(Action::Delete(pod.clone())),
            Some(pod) if one_by_one && !healthy(pod) => {
                // It never starts on the old template: only replacing it can help (k/k #67250).
                let broken = !pod.is_terminating() && !pod.is_ready() && revision(pod) != seen.update;
                if broken && spec.update_strategy.type_ != "OnDelete" && ordinal - first >= partition {
                    plan.actions.push(Action::Delete(pod.clone()));
                }
                return;
            }
            Some(_) => continue,
        }
        if one_by_one {
            return;
        }
    }
    for (_, pod) in pods
        .iter()
        .rev()
        .filter(|(ordinal, _)| **ordinal < first || **ordinal >= end)
    {
        if !pod.is_terminating() {
            plan.actions.push(Action::Delete(pod.clone()));
        }
        if one_by_one {
            return;
        }
    }
    if spec.update_strategy.type_ == "OnDelete" || !plan.actions.is_empty() {
        return;
    }
    for (_, pod) in pods.range(first.saturating_add(partition).min(end)..end).rev() {
        if revision(pod) != seen.update && !pod.is_terminating() {
            plan.actions.push(Action::Delete(pod.clone()));
            return;
        }
        if !healthy(pod) {
            return;
        }
    }
}

fn status(
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
            Err(at) => *wake_at = Some(wake_at.map_or(at, |earlier| earlier.min(at))),
        }
    }
    let all = status.updated_replicas == status.replicas && status.ready_replicas == status.replicas;
    if all && status.replicas == spec.replicas.unwrap_or(1) {
        status.current_revision.clone_from(&status.update_revision);
        status.current_replicas = status.updated_replicas;
    }
    status
}

/// Runs the loop until shutdown.
pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let queue = crate::loops::queue::Queue::new();
    let caches = &context.caches;
    caches.stateful_sets.ready().await;
    caches.revisions.ready().await;
    caches.pods.ready().await;
    queue.follow(&caches.stateful_sets, |set| Some(Key::of(&set.metadata)));
    queue.follow_pods_of(&caches.pods, "StatefulSet");
    queue
        .run(context.shell.name, 8, &context.shutdown, |key| sync(&context, key))
        .await;
    Ok(())
}

async fn sync(context: &Context, key: Key) -> Result<Option<Duration>, Error> {
    let (shell, caches) = (&context.shell, &context.caches);
    shell.settle(&key).await?;
    let Some(set) = caches.stateful_sets.get(&key) else {
        return Ok(None);
    };
    if set.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let update = history::record::<StatefulSet>(context, &key, &set.metadata, &set.spec.template).await?;
    let pods = caches
        .pods
        .by_index(&Index::Owner(set.metadata.uid.clone().unwrap_or_default()));
    let revisions = history::of(context, &set.metadata);
    let current_exists = revisions.iter().any(|one| one.name() == set.status.current_revision);
    let now = Timestamp::now();
    let decided = plan(
        &Observed {
            set: &set,
            pods: &pods,
            update: &update,
            current_exists,
        },
        now,
    );
    for action in &decided.actions {
        match action {
            Action::Create { ordinal, revision } => {
                let kept = revisions
                    .iter()
                    .find(|one| one.name() == revision)
                    .map(|one| one.template());
                let template = kept.unwrap_or_else(|| set.spec.template.clone());
                claim(context, &set, *ordinal).await?;
                let pod = pod(&set, &template, *ordinal, revision);
                let name = format!("Pod {}", pod_name(&set, *ordinal));
                let created = shell.create(&key, &caches.pods, pod).await;
                tell(shell, &set, "create", &name, created)?;
            }
            Action::Delete(pod) => {
                let deleted = shell.delete(&key, &caches.pods, &pod.metadata, None).await;
                tell(shell, &set, "delete", &format!("Pod {}", pod.name()), deleted)?;
            }
        }
    }
    if decided.status != set.status {
        shell
            .patch(
                &key,
                &caches.stateful_sets,
                &set.metadata,
                Some("status"),
                status_patch(&decided.status),
            )
            .await?;
    }
    let mut used: BTreeSet<String> = pods.iter().map(|pod| revision(pod).to_owned()).collect();
    used.extend([update, decided.status.current_revision]);
    history::trim(context, &key, &set.metadata, &used, set.spec.revision_history_limit).await?;
    Ok(decided.wake_at.map(|at| until(at, now)))
}

/// Tells of a pod or a claim that was made or deleted, or why not; returns what came of it.
fn tell<T>(shell: &Shell, set: &StatefulSet, verb: &str, what: &str, outcome: Result<T, Error>) -> Result<(), Error> {
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let (success, failure) = if verb == "create" {
        ("SuccessfulCreate", "FailedCreate")
    } else {
        ("SuccessfulDelete", "FailedDelete")
    };
    let word = if what.starts_with("Claim") {
        "success"
    } else {
        "successful"
    };
    match outcome {
        Ok(_) => {
            let message = format!("{verb} {what} in StatefulSet {name} {word}");
            shell.event::<StatefulSet>(&set.metadata, Tone::Normal, success, message);
            Ok(())
        }
        Err(error) => {
            if !error.is_end_of_namespace() {
                let message = format!("{verb} {what} in StatefulSet {name} failed error: {}", error.told());
                shell.event::<StatefulSet>(&set.metadata, Tone::Warning, failure, message);
            }
            Err(error)
        }
    }
}

fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.metadata.name.as_deref().unwrap_or_default())
}

fn claim_name(template: &Value, set: &StatefulSet, ordinal: i32) -> String {
    let name = template
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    format!("{name}-{}-{ordinal}", set.metadata.name.as_deref().unwrap_or_default())
}

/// Makes the pod's volume claims. Those that exist stay as they are: that is what they are for.
async fn claim(context: &Context, set: &StatefulSet, ordinal: i32) -> Result<(), Error> {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    for template in &set.spec.volume_claim_templates {
        let mut object = template.clone();
        object["apiVersion"] = json!("v1");
        object["kind"] = json!("PersistentVolumeClaim");
        object["metadata"]["name"] = json!(claim_name(template, set, ordinal));
        object["metadata"]["namespace"] = json!(namespace);
        for (key, value) in set.spec.selector.match_labels.iter().flatten() {
            object["metadata"]["labels"][key] = json!(value);
        }
        let api = context.shell.api::<PersistentVolumeClaim>(namespace);
        let created = match api
            .create(&PostParams::default(), &serde_json::from_value(object)?)
            .await
        {
            Err(error) if is_status(&error, 409) => continue,
            created => created.map_err(Error::from),
        };
        let what = format!(
            "Claim {} Pod {}",
            claim_name(template, set, ordinal),
            pod_name(set, ordinal)
        );
        tell(&context.shell, set, "create", &what, created)?;
    }
    Ok(())
}

fn pod(set: &StatefulSet, template: &Value, ordinal: i32, revision: &str) -> Value {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod_name(set, ordinal);
    let mut pod = pod_from_template(template, namespace, controlled_by::<StatefulSet>(&set.metadata));
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["labels"][HASH_LABEL] = json!(revision);
    pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] = json!(name);
    pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"] = json!(ordinal.to_string());
    pod["spec"]["hostname"] = json!(name);
    if let Some(service) = &set.spec.service_name {
        pod["spec"]["subdomain"] = json!(service);
    }
    let claimed: Vec<Value> = set
        .spec
        .volume_claim_templates
        .iter()
        .map(|template| {
            json!({"name": template.pointer("/metadata/name"),
                "persistentVolumeClaim": {"claimName": claim_name(template, set, ordinal)}})
        })
        .collect();
    if !claimed.is_empty() {
        let mut volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
        volumes.retain(|volume| !claimed.iter().any(|claim| claim["name"] == volume["name"]));
        volumes.extend(claimed);
        pod["spec"]["volumes"] = json!(volumes);
    }
    pod
}

fn status_patch(status: &StatefulSetStatus) -> Value {
    json!({"status": {
        "replicas": status.replicas,
        "readyReplicas": unless_zero(status.ready_replicas),
        "availableReplicas": status.available_replicas,
        "currentReplicas": unless_zero(status.current_replicas),
        "updatedReplicas": unless_zero(status.updated_replicas),
        "currentRevision": status.current_revision,
        "updateRevision": status.update_revision,
        "observedGeneration": status.observed_generation,
        "conditions": conditions_json(&status.conditions),
    }})
}

#[cfg(test)]
mod tests {
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
            current_exists: true,
        };
        let actions = plan(&seen, Timestamp::UNIX_EPOCH).actions;
        let tell = |action: &Action| match action {
            Action::Create { ordinal, revision } => format!("create {ordinal} {revision}"),
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
    fn parallel_means_all_at_once() {
        let mut set = set(3, 0);
        set.spec.pod_management_policy = "Parallel".into();
        assert_eq!(decide(&set, &[]).len(), 3);
    }
}
