//! The agent's own conditions of a pod.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod::progress::{self, Phase, condition};
use crate::pod::state::{PodState, PodView, Sandbox};
use crate::pod::{resize, spec};

/// What is to be said, before it is compared with what was said last.
struct Said {
    type_: &'static str,
    holds: bool,
    /// Reason and message; empty ones are left out.
    why: Option<(&'static str, String)>,
}

impl Said {
    fn new(type_: &'static str, holds: bool, why: Option<(&'static str, String)>) -> Self {
        Self { type_, holds, why }
    }

    /// With the moment of the last change.
    fn of(self, pod: &Pod, now: Timestamp) -> PodCondition {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (reason, message) = match &self.why {
            Some((reason, message)) => (some(reason), some(message)),
            None => (None, None),
        };
        let status = if self.holds { "True" } else { "False" }.to_owned();
        let before = condition(pod, self.type_).filter(|old| old.status == status);
        let since = before
            .and_then(|old| old.last_transition_time.clone())
            .unwrap_or(Time(now));
        PodCondition {
            type_: self.type_.to_owned(),
            status,
            reason,
            message,
            last_transition_time: Some(since),
            ..Default::default()
        }
    }
}

/// Those of a pod in that phase.
pub(super) fn conditions(view: &PodView<'_>, phase: Phase, now: Timestamp) -> Vec<PodCondition> {
    let PodView { pod, state, .. } = *view;
    let over = matches!(phase, Phase::Succeeded | Phase::Failed);
    let networked = matches!(state.sandbox, Sandbox::Ready(_)) && !state.cleaned && !over;
    let unready = unready(pod, state, phase);
    let mut all = vec![
        Said::new("PodReadyToStartContainers", networked, None),
        initialized(pod, state, phase),
        ready(pod, unready.clone()),
        Said::new("ContainersReady", unready.is_none(), unready),
    ];
    if let Some((_, message)) = state.failed.as_ref().filter(|(reason, _)| over && reason == "Evicted") {
        let why = ("TerminationByKubelet", message.clone());
        all.push(Said::new("DisruptionTarget", true, Some(why)));
    }
    if !over {
        let resize = resize::conditions(pod, state);
        all.extend(resize.map(|(type_, reason, message)| Said::new(type_, true, Some((reason, message)))));
    }
    all.into_iter().map(|said| said.of(pod, now)).collect()
}

/// Why its containers are not ready; None: they are.
fn unready(pod: &Pod, state: &PodState, phase: Phase) -> Option<(&'static str, String)> {
    match phase {
        Phase::Succeeded => return Some(("PodCompleted", String::new())),
        Phase::Failed => return Some(("PodFailed", String::new())),
        Phase::Pending | Phase::Running => {}
    }
    let unready: Vec<_> = ready_relevant(pod)
        .filter(|c| !progress::is_ready(c, state))
        .map(name)
        .collect();
    if unready.is_empty() && progress::initialized(pod, state) {
        return None;
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    Some(("ContainersNotReady", message))
}

fn ready(pod: &Pod, unready: Option<(&'static str, String)>) -> Said {
    let gates = unmet_gates(pod);
    let gated = (!gates.is_empty()).then(|| ("ReadinessGatesNotReady", gates.join(", ")));
    let why = unready.or(gated);
    Said::new("Ready", why.is_none(), why)
}

fn initialized(pod: &Pod, state: &PodState, phase: Phase) -> Said {
    let why = if phase == Phase::Succeeded {
        return Said::new("Initialized", true, Some(("PodCompleted", String::new())));
    } else if progress::initialized(pod, state) {
        None
    } else {
        let late: Vec<_> = spec::init_containers(pod)
            .iter()
            .filter(|c| !progress::init_part_done(pod, c, state))
            .map(name)
            .collect();
        let message = format!("containers with incomplete status: [{}]", late.join(" "));
        Some(("ContainersNotInitialized", message))
    };
    Said::new("Initialized", why.is_none(), why)
}

fn name(container: &Container) -> &str {
    &container.name
}

/// Containers whose readiness the pod's depends on: sidecars count, init containers do not.
fn ready_relevant(pod: &Pod) -> impl Iterator<Item = &Container> {
    spec::all_containers(pod).filter(|c| !spec::is_init(pod, &c.name) || spec::is_sidecar(pod, c))
}

fn unmet_gates(pod: &Pod) -> Vec<String> {
    let gates = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.readiness_gates.as_deref())
        .unwrap_or_default();
    let text = |gate: &str| match condition(pod, gate) {
        None => Some(format!(
            "corresponding condition of pod readiness gate \"{gate}\" does not exist."
        )),
        Some(found) if found.status != "True" => Some(format!(
            "the status of pod readiness gate \"{gate}\" is not \"True\", but {}",
            found.status
        )),
        Some(_) => None,
    };
    gates.iter().filter_map(|gate| text(&gate.condition_type)).collect()
}
