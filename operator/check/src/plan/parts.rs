//! What forecasts of all kinds are made of.

use afloat_api::names;
use afloat_rollout::workload::budget::{Round, resolve};
use serde_json::Value;

use super::forecast::{ContainerChange, Estimate, Forecast, Hold, Outcome, Situation};
use crate::object::{Id, Workload, amount, items, matcher};
use crate::rules::shutdown::sleep_seconds;

/// Pods wanted: `kubectl apply` leaves a number that the manifest does not have.
fn replicas(seen: &Situation<'_>, workload: &Workload<'_>) -> u64 {
    let stated = |object: &Value| object.pointer("/spec/replicas").and_then(Value::as_u64);
    let kept = seen.old.and_then(stated);
    stated(workload.object).or(kept).unwrap_or(1)
}

pub(super) fn template(object: &Value) -> Value {
    object.pointer("/spec/template").cloned().unwrap_or_default()
}

pub(super) fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// A forecast of nothing, to start from.
pub(super) fn start(seen: &Situation<'_>, workload: &Workload<'_>) -> Forecast {
    Forecast {
        object: Id::of(seen.new),
        outcome: Outcome::Nothing,
        why: "the pod template means the same as before".into(),
        under_way: seen.old.and_then(under_way),
        replicas_before: seen
            .old
            .map(|old| old.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1)),
        replicas: replicas(seen, workload),
        pods_to_change: 0,
        max_unavailable: 0,
        max_surge: 0,
        order: Vec::new(),
        first: Vec::new(),
        containers: Vec::new(),
        holds: Vec::new(),
        estimate: None,
    }
}

/// What the operator says of a rollout that goes on.
fn under_way(old: &Value) -> Option<String> {
    let said = items(old, "/status/conditions")
        .find(|condition| condition["type"] == names::ROLLOUT && condition["status"] == "True")?;
    said["message"].as_str().map(str::to_owned)
}

/// All containers start anew, in other pods.
pub(super) fn all_anew(workload: &Workload<'_>) -> Vec<ContainerChange> {
    let anew = |name: &str, why: &str| ContainerChange {
        name: name.to_owned(),
        restarts: true,
        why: why.to_owned(),
    };
    let init = workload.init_containers().into_iter();
    let init = init.map(|container| anew(container.name(), "init container of a new pod"));
    let all = workload.containers().into_iter();
    init.chain(all.map(|container| anew(container.name(), "in a new pod")))
        .collect()
}

/// A change of a container's image, with a word if it is the same under another name.
pub(super) fn image_change(seen: &Situation<'_>, name: &str, new: &str) -> String {
    let old = seen.old.and_then(Workload::of).and_then(|old| {
        let mut containers = old.containers().into_iter().chain(old.init_containers());
        let found = containers.find(|container| container.name() == name);
        found.map(|container| container.image().to_owned())
    });
    let old = old.unwrap_or_default();
    let id = |image: &str| {
        seen.images
            .get(image)
            .map(|image| image.id.as_str())
            .filter(|id| !id.is_empty())
    };
    let same = id(&old).is_some() && id(&old) == id(new);
    let word = if same {
        ", which is the same image under another name: nodes go by the name, so it restarts, and that brings nothing new"
    } else {
        ""
    };
    format!("image {old} → {new}{word}")
}

/// The budgets of the namespace that allow no eviction now.
pub(super) fn budget_notes(seen: &Situation<'_>, workload: &Workload<'_>) -> Vec<Hold> {
    let labels = workload.labels();
    let selects = |budget: &&Value| {
        budget["kind"] == "PodDisruptionBudget"
            && matcher(&budget["spec"]["selector"]).is_some_and(|matcher| matcher.selects(&labels))
            && budget.pointer("/status/disruptionsAllowed").and_then(Value::as_u64) == Some(0)
    };
    let budgets = seen.budgets.iter().filter(selects);
    budgets
        .map(|budget| {
            let name = budget
                .pointer("/metadata/name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            Hold::Budget(name.to_owned())
        })
        .collect()
}

/// Seconds from the start of a pod's containers until it is available, as far as the manifest tells.
fn start_seconds(workload: &Workload<'_>) -> u64 {
    let number = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let containers = workload.containers().into_iter();
    let slowest = containers.map(|container| {
        let hook = container
            .field("/lifecycle/postStart")
            .and_then(sleep_seconds)
            .unwrap_or(0);
        let probes = ["startupProbe", "readinessProbe"]
            .into_iter()
            .filter_map(|probe| container.value.get(probe));
        let delays = probes.map(|probe| number(probe, "/initialDelaySeconds"));
        delays.sum::<u64>() + u64::try_from(hook).unwrap_or(0)
    });
    slowest.max().unwrap_or(0) + number(workload.object, "/spec/minReadySeconds")
}

/// Seconds that the longest preStop sleeps.
pub(super) fn stop_seconds(workload: &Workload<'_>) -> u64 {
    let hooks = items(workload.object, "/spec/template/spec/containers");
    let sleeps = hooks.filter_map(|container| sleep_seconds(container.pointer("/lifecycle/preStop")?));
    u64::try_from(sleeps.max().unwrap_or(0)).unwrap_or(0)
}

/// Time for pods that go one after the other, `at_once` together. `stops`: seconds until an old one has gone, where the
/// next step waits for that; Deployments and CloneSets do not wait for pods that are being deleted.
pub(super) fn estimate(
    seen: &Situation<'_>,
    workload: &Workload<'_>,
    pods: u64,
    at_once: u64,
    stops: (u64, u64),
) -> Estimate {
    let rounds = pods.div_ceil(at_once.max(1));
    let mut past = seen.history.to_vec();
    past.sort_unstable();
    if let Some(median) = past.get(past.len() / 2).copied() {
        return Estimate {
            seconds: rounds * median,
            pod_seconds: median,
            rounds,
            from_history: true,
            assumes: vec![format!(
                "a pod takes what the median of {} earlier ones took",
                past.len()
            )],
        };
    }
    let ((quiet, stop), start) = (stops, start_seconds(workload));
    let pod_seconds = quiet + stop + start;
    Estimate {
        seconds: rounds * pod_seconds,
        pod_seconds,
        rounds,
        from_history: false,
        assumes: vec![
            format!("per pod: quiet period {quiet} s, preStop {stop} s, probe delays and minReadySeconds {start} s"),
            "images are on the nodes, processes stop at once when asked and answer their first probe".into(),
        ],
    }
}

/// A number of pods out of a field, or out of its default.
pub(super) fn pods_of(object: &Value, pointer: &str, default: &str, replicas: u64, round: Round) -> u64 {
    let value = amount(object.pointer(pointer)).or_else(|| amount(Some(&Value::from(default))));
    let total = usize::try_from(replicas).unwrap_or(usize::MAX);
    value.map_or(0, |value| count(resolve(&value, total, round)))
}
