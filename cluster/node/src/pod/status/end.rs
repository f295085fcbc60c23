//! The end of a pod, as its status tells it: every container that may have run is terminated, and messages have a limit. Pure.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus,
};

use super::container::old_entry;
use crate::pod::spec;

/// All messages of ended containers together, in bytes; each has an equal part (the kubelet's `normalizeStatus`).
const MESSAGES_MAX: usize = 12 * 1024;

/// How a container ended, as the API was told.
pub(super) fn terminated_before<'a>(pod: &'a Pod, container: &Container) -> Option<&'a ContainerStateTerminated> {
    old_entry(pod, container)?.state.as_ref()?.terminated.as_ref()
}

/// The status of a pod that is over: a container of which nobody knows how it ended has failed, unless it cannot have begun
/// (the kubelet's `TerminatePod`).
pub(super) fn with_end(pod: &Pod, mut status: PodStatus) -> PodStatus {
    let init = status.init_container_statuses.as_deref_mut().unwrap_or_default();
    let begun = init.iter().rposition(began).map_or(0, |last| last + 1);
    let initialized = init.last().is_none_or(|last| exit_code(last) == Some(0));
    let list = spec::init_containers(pod).iter().zip(init.iter_mut());
    for (container, entry) in list.take(begun) {
        end(pod, container, entry);
    }
    let entries = status.container_statuses.as_deref_mut().unwrap_or_default();
    if initialized || entries.iter().any(began) {
        for (container, entry) in spec::containers(pod).iter().zip(entries) {
            end(pod, container, entry);
        }
    }
    status
}

fn began(entry: &ContainerStatus) -> bool {
    let has = |state: &Option<ContainerState>| {
        state
            .as_ref()
            .is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    };
    has(&entry.state) || has(&entry.last_state)
}

fn exit_code(entry: &ContainerStatus) -> Option<i32> {
    let terminated = |state: &Option<ContainerState>| Some(state.as_ref()?.terminated.as_ref()?.exit_code);
    terminated(&entry.state).or_else(|| terminated(&entry.last_state))
}

fn end(pod: &Pod, container: &Container, entry: &mut ContainerStatus) {
    if entry.state.as_ref().is_some_and(|state| state.terminated.is_some()) {
        return;
    }
    let unknown = || ContainerStateTerminated {
        exit_code: 137,
        reason: Some("ContainerStatusUnknown".to_owned()),
        message: Some("The container could not be located when the pod was terminated".to_owned()),
        ..Default::default()
    };
    // What ended before the node's last start is known from what was told then.
    let before = terminated_before(pod, container);
    if before.is_some() {
        entry.last_state = old_entry(pod, container).and_then(|old| old.last_state.clone());
    }
    entry.state = Some(ContainerState {
        terminated: Some(before.cloned().unwrap_or_else(unknown)),
        ..ContainerState::default()
    });
}

/// The status with messages of ended containers cut to their part of what a pod may say.
pub(super) fn bounded(mut status: PodStatus) -> PodStatus {
    let lists = [
        &mut status.init_container_statuses,
        &mut status.container_statuses,
        &mut status.ephemeral_container_statuses,
    ];
    let mut all: Vec<&mut ContainerStatus> = lists.into_iter().flatten().flatten().collect();
    let most = MESSAGES_MAX / all.len().max(1);
    let states = all
        .iter_mut()
        .flat_map(|entry| [&mut entry.state, &mut entry.last_state]);
    for message in states
        .flatten()
        .filter_map(|state| state.terminated.as_mut()?.message.as_mut())
    {
        message.truncate(message.floor_char_boundary(most));
    }
    status
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A status entry with what every entry has.
    fn entry(name: &str, state: Value) -> ContainerStatus {
        let text = json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        serde_json::from_value(text).unwrap()
    }

    fn waits(name: &str) -> ContainerStatus {
        entry(name, json!({"waiting": {}}))
    }

    fn done(name: &str, code: i32) -> ContainerStatus {
        entry(name, json!({"terminated": {"exitCode": code, "reason": "R"}}))
    }

    /// Exit codes and reasons of init containers and containers.
    fn ended(init: Vec<ContainerStatus>, containers: Vec<ContainerStatus>) -> Value {
        let names =
            |list: &[ContainerStatus]| -> Value { list.iter().map(|entry| json!({"name": entry.name})).collect() };
        let spec = json!({"initContainers": names(&init), "containers": names(&containers)});
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
        let status = with_end(
            &pod,
            PodStatus {
                init_container_statuses: Some(init),
                container_statuses: Some(containers),
                ..PodStatus::default()
            },
        );
        let one = |entry: ContainerStatus| match entry.state.and_then(|state| state.terminated) {
            Some(ended) => json!([ended.exit_code, ended.reason]),
            None => json!("waits"),
        };
        let told =
            |entries: Option<Vec<ContainerStatus>>| -> Value { entries.into_iter().flatten().map(one).collect() };
        json!([told(status.init_container_statuses), told(status.container_statuses)])
    }

    #[test]
    fn whatever_may_have_run_is_terminated_and_what_cannot_have_is_not() {
        let unknown = json!([137, "ContainerStatusUnknown"]);
        // A pod whose image never came.
        let told = ended(vec![], vec![waits("a"), done("b", 0)]);
        assert_eq!(told, json!([[], [unknown, [0, "R"]]]));
        // One that never got beyond its init containers.
        let told = ended(vec![done("i", 1), waits("j")], vec![waits("a")]);
        assert_eq!(told, json!([[[1, "R"], "waits"], ["waits"]]));
        // One that did.
        let told = ended(vec![waits("i"), done("j", 0)], vec![waits("a")]);
        assert_eq!(told, json!([[unknown, [0, "R"]], [unknown]]));
    }

    #[test]
    fn messages_of_a_pod_have_a_limit_together() {
        let says = |message: &str| entry("a", json!({"terminated": {"exitCode": 1, "message": message}}));
        let length = |entry: &ContainerStatus| {
            let terminated = entry.state.as_ref().and_then(|state| state.terminated.as_ref());
            terminated.and_then(|ended| ended.message.as_ref()).map(String::len)
        };
        let long = "ü".repeat(2048);
        let status = bounded(PodStatus {
            init_container_statuses: Some(vec![says("x"), says(&long), says(&long)]),
            container_statuses: Some(vec![says(&long), says("short")]),
            ..PodStatus::default()
        });
        let init: Vec<_> = status.init_container_statuses.iter().flatten().map(length).collect();
        // 12,288 by five is 2457, in the middle of a letter.
        assert_eq!(init, [Some(1), Some(2456), Some(2456)]);
        let others: Vec<_> = status.container_statuses.iter().flatten().map(length).collect();
        assert_eq!(others, [Some(2456), Some(5)]);
        let alone = bounded(PodStatus {
            container_statuses: Some(vec![says(&long)]),
            ..PodStatus::default()
        });
        assert_eq!(length(&alone.container_statuses.unwrap()[0]), Some(4096));
    }
}
