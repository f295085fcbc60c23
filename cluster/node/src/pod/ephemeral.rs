//! Ephemeral containers (KEP-277): started once in a living pod, never again; they count for nothing.
//!
//! They are containers without probes, hooks and resources; so here they become ones, made from the pod when they are asked for.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod};

use super::spec;

/// A pod's ephemeral containers, as containers.
pub(crate) fn containers(pod: &Pod) -> Vec<Container> {
    spec::ephemeral_containers(pod).iter().map(container).collect()
}

/// One of a pod's containers, of whatever kind.
pub(crate) fn find<'a>(pod: &'a Pod, name: &str) -> Option<Cow<'a, Container>> {
    let ephemeral = || {
        spec::ephemeral_containers(pod)
            .iter()
            .find(|container| container.name == name)
    };
    match spec::find(pod, name) {
        Some(found) => Some(Cow::Borrowed(found)),
        None => ephemeral().map(|found| Cow::Owned(container(found))),
    }
}

/// The container whose processes it is to see.
pub(crate) fn target<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let found = spec::ephemeral_containers(pod)
        .iter()
        .find(|container| container.name == name)?;
    let target = found.target_container_name.as_deref();
    target.filter(|target| !target.is_empty())
}

fn container(from: &EphemeralContainer) -> Container {
    let from = from.clone();
    Container {
        args: from.args,
        command: from.command,
        env: from.env,
        env_from: from.env_from,
        image: from.image,
        image_pull_policy: from.image_pull_policy,
        name: from.name,
        security_context: from.security_context,
        stdin: from.stdin,
        stdin_once: from.stdin_once,
        termination_message_path: from.termination_message_path,
        termination_message_policy: from.termination_message_policy,
        tty: from.tty,
        volume_devices: from.volume_devices,
        volume_mounts: from.volume_mounts,
        working_dir: from.working_dir,
        ..Container::default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use afloat_runtime::Exit;
    use jiff::Timestamp;
    use serde_json::json;

    use super::super::back_off::BackOffLimits;
    use super::super::recover;
    use super::super::state::{PodState, Sandbox};
    use super::*;
    use crate::pod::action::Action;
    use crate::pod::plan::{Plan, plan};
    use crate::pod::state::PodView;

    const IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {
                "containers": [{"name": "web", "image": "web"}], "initContainers": [{"name": "init", "image": "init"}],
                "ephemeralContainers": [{"name": "look", "image": "busybox", "tty": true, "targetContainerName": "web"}],
            },
        }))
        .unwrap()
    }

    fn container(name: &str, state: afloat_runtime::ContainerState) -> afloat_runtime::Container {
        afloat_runtime::Container {
            id: format!("id-of-{name}"),
            pod_uid: "u".into(),
            name: name.into(),
            attempt: 0,
            image_id: "sha256:1".into(),
            state,
            created_at: Timestamp::UNIX_EPOCH,
            started_at: Some(Timestamp::UNIX_EPOCH),
            labels: Default::default(),
            log_path: "/log".into(),
        }
    }

    /// The plan where the runtime has these containers.
    fn planned(pod: &Pod, containers: Vec<afloat_runtime::Container>) -> Plan {
        let now = Timestamp::UNIX_EPOCH;
        let mut state: PodState = recover::recover(pod, containers, BackOffLimits::default(), now);
        state.sandbox = Sandbox::Ready(IP);
        plan(
            &PodView {
                pod,
                state: &state,
                host_ip: IP,
            },
            now,
        )
    }

    fn created(plan: &Plan) -> Vec<&str> {
        let of = |action: &'_ Action| match action {
            Action::Create { container, .. } => Some(container.clone()),
            _ => None,
        };
        let names: Vec<String> = plan.actions.iter().filter_map(of).collect();
        ["look", "init", "web"]
            .into_iter()
            .filter(|name| names.iter().any(|made| made == name))
            .collect()
    }

    #[test]
    fn one_is_started_beside_the_init_containers_and_once() {
        let pod = pod();
        assert_eq!(created(&planned(&pod, vec![])), ["look", "init"]);
        let exit = Exit {
            code: 1,
            signal: 0,
            finished_at: Timestamp::UNIX_EPOCH,
            oom_killed: false,
        };
        let ended = container("look", afloat_runtime::ContainerState::Exited(exit));
        let plan = planned(&pod, vec![ended]);
        assert_eq!(created(&plan), ["init"], "never again");
        let status = &plan.status.ephemeral_container_statuses.as_ref().unwrap()[0];
        assert_eq!(
            (status.name.as_str(), status.ready, status.restart_count),
            ("look", false, 0)
        );
        let terminated = status.state.as_ref().and_then(|state| state.terminated.as_ref());
        assert_eq!(terminated.unwrap().exit_code, 1);

        // Also after a reboot of the node, which leaves nothing but the status.
        let mut told = pod;
        told.status = Some(plan.status);
        assert_eq!(created(&planned(&told, vec![])), ["init"]);
    }

    #[test]
    fn what_it_is_called_and_what_it_sees() {
        let pod = pod();
        assert!(spec::is_ephemeral(&pod, "look") && !spec::is_ephemeral(&pod, "web"));
        assert_eq!((target(&pod, "look"), target(&pod, "web")), (Some("web"), None));
        assert_eq!(find(&pod, "look").unwrap().tty, Some(true));
        assert_eq!(find(&pod, "web").unwrap().name, "web");
        assert!(find(&pod, "nobody").is_none());
    }
}
