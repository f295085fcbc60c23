//! Pods as `kubectl get` shows them (Kubernetes' `printPod`).

use serde_json::{Value, json};

use super::age::{between, since_creation};
use super::read::{or_none, truthy};
use crate::json::{list, text};

pub(crate) fn cells(pod: &Value, now: &str) -> Vec<Value> {
    let spec = pod.get("spec");
    let statuses = list(pod.get("status"), "containerStatuses");
    let ready = statuses
        .iter()
        .filter(|s| truthy(s.get("ready")) && s.pointer("/state/running").is_some())
        .count();
    let restartable = list(spec, "initContainers").iter().filter(|c| is_sidecar(c)).count();
    let sidecars = list(pod.get("status"), "initContainerStatuses");
    let sidecars_ready = list(spec, "initContainers")
        .iter()
        .filter(|c| is_sidecar(c))
        .filter(|c| {
            sidecars
                .iter()
                .any(|s| s.get("name") == c.get("name") && truthy(s.get("ready")) && truthy(s.get("started")))
        });
    let total = list(spec, "containers").len() + restartable;
    vec![
        format!("{}/{total}", ready + sidecars_ready.count()).into(),
        status_word(pod).into(),
        restarts(pod, now).into(),
        since_creation(pod, now).into(),
        or_none(pod.pointer("/status/podIP")).into(),
        or_none(pod.pointer("/spec/nodeName")).into(),
        or_none(pod.pointer("/status/nominatedNodeName")).into(),
        gates(pod).into(),
    ]
}

/// The word under STATUS.
fn status_word(pod: &Value) -> String {
    let status = pod.get("status");
    let mut word = match text(status.and_then(|s| s.get("reason"))) {
        "" => text(status.and_then(|s| s.get("phase"))).to_owned(),
        reason => reason.to_owned(),
    };
    let gated = list(status, "conditions")
        .iter()
        .any(|c| text(c.get("type")) == "PodScheduled" && text(c.get("reason")) == "SchedulingGated");
    if gated {
        word = "SchedulingGated".to_owned();
    }
    if let Some(init) = initializing(pod) {
        word = init;
    }
    if !shown_as_initializing(pod) {
        word = running_word(pod, word);
    }
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        let reason = text(status.and_then(|s| s.get("reason")));
        let phase = text(status.and_then(|s| s.get("phase")));
        if reason == "NodeLost" {
            return "Unknown".to_owned();
        }
        if !["Succeeded", "Failed"].contains(&phase) {
            return "Terminating".to_owned();
        }
    }
    word
}

/// `Init:…` while init containers are at work.
fn initializing(pod: &Value) -> Option<String> {
    let spec = list(pod.get("spec"), "initContainers");
    let statuses = list(pod.get("status"), "initContainerStatuses");
    for (i, status) in statuses.iter().enumerate() {
        let container = spec.iter().find(|c| c.get("name") == status.get("name"));
        let state = status.get("state");
        let terminated = state.and_then(|s| s.get("terminated"));
        if terminated.is_some_and(|t| number(t.get("exitCode")) == 0) {
            continue;
        }
        if container.is_some_and(is_sidecar) && truthy(status.get("started")) {
            continue;
        }
        if let Some(terminated) = terminated {
            return Some(match text(terminated.get("reason")) {
                "" if number(terminated.get("signal")) != 0 => {
                    format!("Init:Signal:{}", number(terminated.get("signal")))
                }
                "" => format!("Init:ExitCode:{}", number(terminated.get("exitCode"))),
                reason => format!("Init:{reason}"),
            });
        }
        let waiting = text(state.and_then(|s| s.pointer("/waiting/reason")));
        if !waiting.is_empty() && waiting != "PodInitializing" {
            return Some(format!("Init:{waiting}"));
        }
        return Some(format!("Init:{i}/{}", spec.len()));
    }
    None
}

/// Init containers are at work and have not been done before: how a sidecar ends later says nothing about the start.
fn shown_as_initializing(pod: &Value) -> bool {
    let initialized = list(pod.get("status"), "conditions")
        .iter()
        .any(|c| text(c.get("type")) == "Initialized" && text(c.get("status")) == "True");
    !initialized && initializing(pod).is_some()
}

fn running_word(pod: &Value, phase: String) -> String {
    let statuses = list(pod.get("status"), "containerStatuses");
    let mut word = phase;
    let mut running = false;
    for status in statuses.iter().rev() {
        let state = status.get("state");
        let waiting = text(state.and_then(|s| s.pointer("/waiting/reason")));
        let terminated = state.and_then(|s| s.get("terminated"));
        if !waiting.is_empty() {
            word = waiting.to_owned();
        } else if let Some(terminated) = terminated {
            word = match text(terminated.get("reason")) {
                "" if number(terminated.get("signal")) != 0 => format!("Signal:{}", number(terminated.get("signal"))),
                "" => format!("ExitCode:{}", number(terminated.get("exitCode"))),
                reason => reason.to_owned(),
            };
        } else if truthy(status.get("ready")) && state.is_some_and(|s| s.get("running").is_some()) {
            running = true;
        }
    }
    if word == "Completed" && running {
        let ready = list(pod.get("status"), "conditions")
            .iter()
            .any(|c| text(c.get("type")) == "Ready" && text(c.get("status")) == "True");
        word = if ready { "Running" } else { "NotReady" }.to_owned();
    }
    word
}

/// `3 (5s ago)`: restarts, and when the last of them was.
fn restarts(pod: &Value, now: &str) -> String {
    let spec = list(pod.get("spec"), "initContainers");
    let sidecars = list(pod.get("status"), "initContainerStatuses")
        .iter()
        .filter(|s| shown_as_initializing(pod) || spec.iter().any(|c| c.get("name") == s.get("name") && is_sidecar(c)));
    let containers = list(pod.get("status"), "containerStatuses")
        .iter()
        .filter(|_| !shown_as_initializing(pod));
    let (mut count, mut last) = (0, "");
    for status in sidecars.chain(containers) {
        count += number(status.get("restartCount"));
        // RFC 3339 in UTC sorts as text.
        last = last.max(text(status.pointer("/lastState/terminated/finishedAt")));
    }
    if count == 0 || last.is_empty() {
        count.to_string()
    } else {
        format!("{count} ({} ago)", between(last, now))
    }
}

/// `1/2`: readiness gates that are true.
fn gates(pod: &Value) -> String {
    let gates = list(pod.get("spec"), "readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let conditions = list(pod.get("status"), "conditions");
    let is_true = |gate: &&Value| {
        conditions
            .iter()
            .any(|c| c.get("type") == gate.get("conditionType") && text(c.get("status")) == "True")
    };
    format!("{}/{}", gates.iter().filter(is_true).count(), gates.len())
}

fn is_sidecar(container: &Value) -> bool {
    container.get("restartPolicy") == Some(&json!("Always"))
}

fn number(value: Option<&Value>) -> i64 {
    value.and_then(Value::as_i64).unwrap_or_default()
}
