//! What a new request lacks: which pod and node it is about, and of each container its hook, its ports and what runs now. The texts
//! of refusals are those of OpenKruise's webhook (`crr_mutating_handler.go`), as people search for them.

use std::collections::{BTreeMap, BTreeSet};

use afloat_api::{ContainerRecreateRequest, FailurePolicy, RecreateContainer, RecreateSpec, StatusContext, names};

use crate::Pod;

/// What is to be put into a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Filled {
    /// Its whole `spec`.
    pub spec: RecreateSpec,
    /// Labels, which it keeps.
    pub labels: BTreeMap<String, String>,
}

/// Whether a request says by itself which node's agent shall do what.
pub fn is_filled(request: &ContainerRecreateRequest) -> bool {
    let labels = request.metadata.labels.as_ref();
    let labelled = |key: &str| labels.is_some_and(|labels| labels.get(key).is_some_and(|value| !value.is_empty()));
    labelled(names::RECREATE_POD_UID)
        && labelled(names::RECREATE_NODE)
        && (request.spec.containers.iter()).all(|container| container.status_context.is_some())
}

/// What a new request lacks. `pod`: the one that it names; `virtual_node`: that pod's node bears [`names::VIRTUAL_NODE`].
///
/// # Errors
/// Why there can be no such request.
pub fn fill(request: &ContainerRecreateRequest, pod: Option<&Pod>, virtual_node: bool) -> Result<Filled, String> {
    let mut spec = request.spec.clone();
    check(&spec)?;
    let pod = pod.ok_or_else(|| format!("no found Pod named {}", spec.pod_name))?;
    if !pod.is_active() {
        return Err("not allowed to recreate containers in an inactive Pod".into());
    }
    if pod.node().is_empty() {
        return Err("not allowed to recreate containers in a pending Pod".into());
    }
    let strategy = spec.strategy.get_or_insert_default();
    strategy.failure_policy.get_or_insert(FailurePolicy::Fail);
    if strategy.termination_grace_period_seconds.is_none() {
        strategy.termination_grace_period_seconds = pod.spec.termination_grace_period_seconds;
    }
    let mut seen = BTreeSet::new();
    for container in &mut spec.containers {
        if !seen.insert(container.name.clone()) {
            return Err(format!("can not recreate {} multi times", container.name));
        }
        fill_container(container, pod)?;
    }
    let mut labels = BTreeMap::from([
        (names::RECREATE_ACTIVE.to_owned(), "true".to_owned()),
        (names::RECREATE_NODE.to_owned(), pod.node().to_owned()),
        (names::RECREATE_POD_UID.to_owned(), pod.uid().to_owned()),
    ]);
    if virtual_node {
        labels.insert(names::VIRTUAL_NODE.0.to_owned(), names::VIRTUAL_NODE.1.to_owned());
    }
    Ok(Filled { spec, labels })
}

/// What can be said without a look at the pod. Most of it is in the schema as well, but not in OpenKruise's.
fn check(spec: &RecreateSpec) -> Result<(), String> {
    if spec.pod_name.is_empty() {
        return Err("podName can not be empty".into());
    }
    if spec.containers.is_empty() {
        return Err("containers list can not be null".into());
    }
    if spec.active_deadline_seconds.is_some_and(|seconds| seconds < 3) {
        return Err("activeDeadlineSeconds can not be less than 3s".into());
    }
    let strategy = spec.strategy.as_ref();
    let negative = |seconds: Option<i64>| seconds.is_some_and(|seconds| seconds < 0);
    if negative(strategy.and_then(|strategy| strategy.termination_grace_period_seconds)) {
        return Err("terminationGracePeriodSeconds must be non-negative integer".into());
    }
    if negative(strategy.and_then(|strategy| strategy.unready_grace_period_seconds)) {
        return Err("unreadyGracePeriodSeconds must be non-negative integer".into());
    }
    Ok(())
}

fn fill_container(container: &mut RecreateContainer, pod: &Pod) -> Result<(), String> {
    let name = &container.name;
    if container.pre_stop.is_some() || container.ports.is_some() || container.status_context.is_some() {
        return Err("preStop, ports, statusContext in container are ready-only fields".into());
    }
    let of_pod = pod
        .container(name)
        .ok_or_else(|| format!("container {name} not found in Pod"))?;
    let status = pod.container_status(name);
    let status = status.ok_or_else(|| format!("not found {name} containerStatus in Pod Status"))?;
    let id = status.container_id.clone().filter(|id| !id.is_empty()).ok_or_else(|| {
        format!("no containerID in {name} containerStatus, maybe the container has not been initialized")
    })?;
    container.pre_stop.clone_from(&of_pod.lifecycle.pre_stop);
    if container.pre_stop.as_ref().is_some_and(|hook| hook.http_get.is_some()) {
        container.ports.clone_from(&of_pod.ports);
    }
    container.status_context = Some(StatusContext {
        container_id: id,
        restart_count: status.restart_count,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(edit: impl FnOnce(&mut Value)) -> Pod {
        let mut pod = json!({
            "metadata": {"name": "web", "uid": "u"},
            "spec": {"nodeName": "n1", "terminationGracePeriodSeconds": 7, "containers": [
                {"name": "app", "ports": [{"name": "http", "containerPort": 80}],
                    "lifecycle": {"preStop": {"httpGet": {"port": "http", "path": "/bye"}}}},
                {"name": "log", "ports": [{"containerPort": 81}], "lifecycle": {"preStop": {"exec": {"command": ["x"]}}}},
                {"name": "late"},
            ]},
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "app", "containerID": "containerd://a", "restartCount": 2, "state": {"running": {}}},
                {"name": "log", "containerID": "containerd://l", "restartCount": 0},
                {"name": "late", "restartCount": 0},
            ]},
        });
        edit(&mut pod);
        serde_json::from_value(pod).unwrap()
    }

    fn request(spec: Value) -> ContainerRecreateRequest {
        serde_json::from_value(json!({"metadata": {"name": "r"}, "spec": spec})).unwrap()
    }

    #[test]
    fn what_the_pod_has_is_put_in() {
        let asked = request(
            json!({"podName": "web", "containers": [{"name": "log"}, {"name": "app"}],
            "strategy": {"minStartedSeconds": 5}}),
        );
        assert!(!is_filled(&asked));
        let filled = fill(&asked, Some(&pod(|_| ())), true).unwrap();
        assert_eq!(
            json!(filled.spec),
            json!({"podName": "web", "containers": [
                {"name": "log", "preStop": {"exec": {"command": ["x"]}},
                    "statusContext": {"containerID": "containerd://l", "restartCount": 0}},
                {"name": "app", "preStop": {"httpGet": {"port": "http", "path": "/bye"}},
                    "ports": [{"name": "http", "containerPort": 80}],
                    "statusContext": {"containerID": "containerd://a", "restartCount": 2}}],
                "strategy": {"failurePolicy": "Fail", "terminationGracePeriodSeconds": 7, "minStartedSeconds": 5}})
        );
        assert_eq!(
            json!(filled.labels),
            json!({"crr.apps.kruise.io/active": "true", "crr.apps.kruise.io/node-name": "n1",
                "crr.apps.kruise.io/pod-uid": "u", "type": "virtual-kubelet"})
        );
        let mut after = asked;
        after.spec = filled.spec;
        assert!(!is_filled(&after), "the labels are missing");
        after.metadata.labels = Some(filled.labels);
        assert!(is_filled(&after));
    }

    #[test]
    fn what_the_user_chose_stays() {
        let asked = request(json!({"podName": "web", "containers": [{"name": "app"}],
            "strategy": {"failurePolicy": "Ignore", "terminationGracePeriodSeconds": 0}}));
        let strategy = fill(&asked, Some(&pod(|_| ())), false).unwrap().spec.strategy.unwrap();
        assert_eq!(strategy.failure_policy, Some(FailurePolicy::Ignore));
        assert_eq!(strategy.termination_grace_period_seconds, Some(0));
    }

    #[test]
    fn refusals_are_openkruises() {
        let app = || json!({"podName": "web", "containers": [{"name": "app"}]});
        let with = |edit: fn(&mut Value)| {
            let mut spec = app();
            edit(&mut spec);
            fill(&request(spec), Some(&pod(|_| ())), false).unwrap_err()
        };
        for (text, why) in [
            (with(|s| s["podName"] = json!("")), "podName can not be empty"),
            (with(|s| s["containers"] = json!([])), "containers list can not be null"),
            (
                with(|s| s["activeDeadlineSeconds"] = json!(2)),
                "activeDeadlineSeconds can not be less than 3s",
            ),
            (
                with(|s| s["strategy"] = json!({"unreadyGracePeriodSeconds": -1})),
                "unreadyGracePeriodSeconds must be non-negative integer",
            ),
            (
                with(|s| s["containers"] = json!([{"name": "app"}, {"name": "app"}])),
                "can not recreate app multi times",
            ),
            (
                with(|s| s["containers"][0]["name"] = json!("other")),
                "container other not found in Pod",
            ),
            (
                with(|s| s["containers"][0]["name"] = json!("late")),
                "no containerID in late containerStatus, maybe the container has not been initialized",
            ),
            (
                with(|s| s["containers"][0]["ports"] = json!([])),
                "preStop, ports, statusContext in container are ready-only fields",
            ),
        ] {
            assert_eq!(text, why);
        }
        let of = |pod: Option<&Pod>| fill(&request(app()), pod, false).unwrap_err();
        assert_eq!(of(None), "no found Pod named web");
        let over = pod(|pod| pod["status"]["phase"] = json!("Failed"));
        let going = pod(|pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
        for inactive in [over, going] {
            assert_eq!(
                of(Some(&inactive)),
                "not allowed to recreate containers in an inactive Pod"
            );
        }
        let nowhere = pod(|pod| pod["spec"]["nodeName"] = json!(""));
        assert_eq!(
            of(Some(&nowhere)),
            "not allowed to recreate containers in a pending Pod"
        );
        let unseen = pod(|pod| pod["status"]["containerStatuses"] = json!([]));
        assert_eq!(of(Some(&unseen)), "not found app containerStatus in Pod Status");
    }
}
