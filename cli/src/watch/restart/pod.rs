//! One pod: by a ContainerRecreateRequest, which the agent of its node carries out.

use std::time::Duration;

use afloat_api::{ContainerRecreateRequest, RecreatePhase, RecreateState, RecreateStatus, names};
use anyhow::Context as _;
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use super::containers::chosen;
use super::progress::{Look, answered, follow};
use crate::output;

/// Requests go by themselves that long after they are over.
const TTL_SECONDS: i32 = 3600;
/// Out of service for so long at most, if nothing else is said.
const DRAIN_SECONDS: i64 = 10;

/// What only a single pod may be told.
#[derive(Args, Clone, Debug)]
pub(super) struct PodFlags {
    /// Pod: the next container only when the one before is back
    #[arg(long)]
    ordered: bool,
    /// Pod: also a container that restarts by itself meanwhile
    #[arg(long)]
    force: bool,
    /// Pod: go on with the others if one container cannot be stopped
    #[arg(long)]
    ignore_failures: bool,
    /// Pod: out of service for so long before anything stops, or until all proxies have let go, where agents report; 0: not at
    /// all [default: 10, where the pod has the readiness gate KruisePodReady]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(0..))]
    drain: Option<i64>,
    /// Pod: for hook and signal together [default: the pod's]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(0..))]
    grace: Option<i64>,
    /// Pod: a new container counts when it has run that long
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..))]
    min_started: i32,
}

impl PodFlags {
    /// The first flag that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let all = [
            (self.ordered, "--ordered"),
            (self.force, "--force"),
            (self.ignore_failures, "--ignore-failures"),
            (self.drain.is_some(), "--drain"),
            (self.grace.is_some(), "--grace"),
            (self.min_started > 0, "--min-started"),
        ];
        all.into_iter().find(|(given, _)| *given).map(|(_, flag)| flag)
    }
}

/// A request that was made.
pub(super) struct Asked {
    namespace: String,
    name: String,
}

/// Makes the request.
pub(super) async fn ask(
    client: &Client,
    (namespace, name): (&str, &str),
    containers: &[String],
    flags: &PodFlags,
) -> anyhow::Result<Asked> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pod = answered(async { Ok(pods.get_opt(name).await?) }).await;
    let pod = pod.with_context(|| format!("cannot read pod {name}"))?;
    let pod = pod.with_context(|| format!("no pod {name} in namespace {namespace}"))?;
    let spec = pod.spec.unwrap_or_default();
    let there: Vec<String> = spec.containers.into_iter().map(|container| container.name).collect();
    let chosen = chosen(&there, containers)?;
    let mut gates = spec.readiness_gates.into_iter().flatten();
    let gated = gates.any(|gate| gate.condition_type == names::KRUISE_POD_READY);
    let object = request(name, &chosen, flags, gated);
    let kind = GroupVersionKind::gvk(names::GROUP, "v1beta1", "ContainerRecreateRequest");
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let object: DynamicObject = serde_json::from_value(object)?;
    let made = answered(async { Ok(api.create(&PostParams::default(), &object).await?) }).await;
    let made = made.map_err(|error| match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) if status.code == 404 => {
            anyhow::anyhow!("the cluster does not know ContainerRecreateRequest: apply what `afloat crds` prints first")
        }
        _ => error.context(format!("cannot ask for a restart of pod {name}")),
    })?;
    let asked = Asked {
        namespace: namespace.to_owned(),
        name: made.name_any(),
    };
    output::print(&format!(
        "pod/{name}: {} to be started anew (crr/{})\n",
        chosen.join(", "),
        asked.name
    ))?;
    if flags.drain.is_some_and(|seconds| seconds > 0) && !gated {
        output::print("the pod stays in service meanwhile: it has no readiness gate KruisePodReady\n")?;
    }
    Ok(asked)
}

fn request(pod: &str, containers: &[String], flags: &PodFlags, gated: bool) -> Value {
    let drain = flags
        .drain
        .or(gated.then_some(DRAIN_SECONDS))
        .filter(|seconds| *seconds > 0);
    let mut strategy = json!({
        "failurePolicy": if flags.ignore_failures { "Ignore" } else { "Fail" },
        "orderedRecreate": flags.ordered,
        "forceRecreate": flags.force,
        "minStartedSeconds": flags.min_started,
    });
    if let Some(seconds) = drain {
        strategy["unreadyGracePeriodSeconds"] = seconds.into();
    }
    if let Some(seconds) = flags.grace {
        strategy["terminationGracePeriodSeconds"] = seconds.into();
    }
    let containers: Vec<Value> = containers.iter().map(|name| json!({"name": name})).collect();
    json!({
        "apiVersion": afloat_api::API_VERSION,
        "kind": "ContainerRecreateRequest",
        "metadata": {"generateName": format!("{pod}-restart-")},
        "spec": {
            "podName": pod, "containers": containers, "strategy": strategy,
            "ttlSecondsAfterFinished": TTL_SECONDS,
        },
    })
}

/// Waits for its end. 1 if not every container is back.
pub(super) async fn wait(client: &Client, asked: &Asked, limit: Duration) -> anyhow::Result<u8> {
    let api: Api<ContainerRecreateRequest> = Api::namespaced(client.clone(), &asked.namespace);
    follow(limit, || async {
        let request = api.get_opt(&asked.name).await?;
        let request = request.with_context(|| format!("crr/{} is gone", asked.name))?;
        Ok(look(&request.status))
    })
    .await
}

fn look(status: &RecreateStatus) -> Look {
    let states = &status.container_recreate_states;
    let each: Vec<String> = states.iter().map(state).collect();
    let over = status.completion_time.is_some();
    let waits = match status.phase {
        _ if over => "",
        RecreatePhase::New => "waits for the agent of the pod's node",
        RecreatePhase::Pending => "waits for another request for the same pod",
        _ if each.is_empty() => "leaves service",
        _ => "",
    };
    let line = if over {
        let all = [status.message.clone(), each.join(", ")];
        all.into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("; ")
    } else if waits.is_empty() {
        each.join(", ")
    } else {
        waits.to_owned()
    };
    let back = states.iter().all(|state| state.phase == RecreatePhase::Succeeded);
    let good = back && status.message.is_empty();
    Look {
        line,
        end: over.then_some(u8::from(!good)),
    }
}

fn state(state: &RecreateState) -> String {
    let word = match (state.phase, state.is_killed) {
        (RecreatePhase::Succeeded, _) => "is back",
        (RecreatePhase::Failed, _) => "failed",
        (RecreatePhase::Recreating, _) => "starts",
        (_, _) if state.message.is_empty() => "stops",
        _ => "waits",
    };
    let why = if state.message.is_empty() {
        String::new()
    } else {
        format!(" ({})", state.message)
    };
    format!("{} {word}{why}", state.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: Value) -> (String, Option<u8>) {
        let status: RecreateStatus = serde_json::from_value(status).unwrap();
        let look = look(&status);
        (look.line, look.end)
    }

    #[test]
    fn each_moment_has_its_words() {
        let app = |phase: &str| json!([{"name": "app", "phase": phase}, {"name": "log", "phase": "Pending"}]);
        let end = "2026-01-01T00:00:00Z";
        for (status, line, ended) in [
            (json!({}), "waits for the agent of the pod's node", None),
            (
                json!({"phase": "Pending"}),
                "waits for another request for the same pod",
                None,
            ),
            (json!({"phase": "Recreating"}), "leaves service", None),
            (
                json!({"phase": "Recreating", "containerRecreateStates": app("Recreating")}),
                "app starts, log stops",
                None,
            ),
            (
                json!({"phase": "Completed", "completionTime": end, "containerRecreateStates": [
                    {"name": "app", "phase": "Succeeded"}]}),
                "app is back",
                Some(0),
            ),
            (
                json!({"phase": "Completed", "completionTime": end, "containerRecreateStates": [
                    {"name": "app", "phase": "Failed", "message": "kill container error: no"}]}),
                "app failed (kill container error: no)",
                Some(1),
            ),
            (
                json!({"phase": "Completed", "completionTime": end, "message": "pod has gone"}),
                "pod has gone",
                Some(1),
            ),
        ] {
            let (told, code) = told(status);
            assert_eq!((told.as_str(), code), (line, ended));
        }
    }

    #[test]
    fn a_pod_leaves_service_if_it_can() {
        let flags = |drain| PodFlags {
            ordered: false,
            force: false,
            ignore_failures: false,
            drain,
            grace: None,
            min_started: 0,
        };
        let seconds = |drain, gated| {
            request("web", &["app".into()], &flags(drain), gated)["spec"]["strategy"]["unreadyGracePeriodSeconds"]
                .as_i64()
        };
        assert_eq!(seconds(None, true), Some(DRAIN_SECONDS));
        assert_eq!(seconds(None, false), None);
        assert_eq!(seconds(Some(0), true), None);
        assert_eq!(seconds(Some(3), true), Some(3));
    }
}
