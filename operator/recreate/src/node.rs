//! What the agent of the pod's node does about requests: whose turn it is, which container is to be stopped now, which are back. It
//! sees the node's containers and the requests, and no pods. The order of steps is that of OpenKruise's daemon: each state is written
//! before the next container is stopped, and containers of a pod are stopped one at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{ContainerRecreateRequest, FailurePolicy, RecreatePhase, RecreateState, RecreateStatus, names};
use jiff::{SignedDuration, Timestamp};

use crate::control::completed;

/// Grace of a request that says none, as OpenKruise's daemon has it.
const GRACE: SignedDuration = SignedDuration::from_secs(30);

/// The newest container of a name, as the node's runtime has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// As in the pod's status, `containerd://…`.
    pub id: String,
    /// Whether it has ended.
    pub ended: bool,
    /// How often it has been restarted.
    pub restart_count: i32,
    /// Since when it runs.
    pub started_at: Option<Timestamp>,
}

/// What to do next about the requests for one pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Write the status of this request.
    Status(Arc<ContainerRecreateRequest>, Box<RecreateStatus>),
    /// Look at the pod's containers: it is this request's turn, see [`next`].
    Turn(Arc<ContainerRecreateRequest>),
    /// Nothing, until something changes or it is that time.
    Wait(Option<Timestamp>),
}

/// Whose turn it is, of all requests for one pod. The others wait, and say so.
pub fn turn(requests: &[Arc<ContainerRecreateRequest>], now: Timestamp) -> Step {
    let open = |request: &&Arc<ContainerRecreateRequest>| {
        request.metadata.deletion_timestamp.is_none() && request.status.completion_time.is_none()
    };
    let mut open: Vec<_> = requests.iter().filter(open).collect();
    let weight = |request: &ContainerRecreateRequest| match request.status.phase {
        RecreatePhase::Completed => 1,
        RecreatePhase::Recreating => 2,
        RecreatePhase::Pending => 3,
        _ => 4,
    };
    open.sort_by_key(|request| {
        let created = request.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (weight(request), created, request.metadata.name.clone())
    });
    let Some((first, others)) = open.split_first() else {
        return Step::Wait(None);
    };
    let with_phase = |request: &Arc<ContainerRecreateRequest>, phase| {
        let status = RecreateStatus {
            phase,
            ..request.status.clone()
        };
        Step::Status(request.clone(), Box::new(status))
    };
    if let Some(new) = others.iter().find(|other| other.status.phase == RecreatePhase::New) {
        return with_phase(new, RecreatePhase::Pending);
    }
    if first.status.phase != RecreatePhase::Recreating {
        return with_phase(first, RecreatePhase::Recreating);
    }
    match quiet_until(first) {
        Quiet::Over => Step::Turn((*first).clone()),
        Quiet::Until(end) if end <= now => Step::Turn((*first).clone()),
        Quiet::Until(end) => Step::Wait(Some(end)),
        Quiet::NotBegun => Step::Wait(None),
    }
}

enum Quiet {
    Over,
    Until(Timestamp),
    NotBegun,
}

/// How long nothing may be stopped yet: until the proxies have let go of the pod, or its quiet period is over.
fn quiet_until(request: &ContainerRecreateRequest) -> Quiet {
    let strategy = request.spec.strategy.as_ref();
    let Some(seconds) = strategy.and_then(|strategy| strategy.unready_grace_period_seconds) else {
        return Quiet::Over;
    };
    let Some(condition) = request.status.condition(names::RECREATE_GRACE) else {
        return Quiet::NotBegun;
    };
    if request.status.condition(names::RECREATE_DRAINED).is_some() {
        return Quiet::Over;
    }
    let since = condition.last_transition_time.0;
    Quiet::Until(
        since
            .checked_add(SignedDuration::from_secs(seconds))
            .unwrap_or(Timestamp::MAX),
    )
}

/// What to do next about the containers of the request whose turn it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Write the status.
    Status(Box<RecreateStatus>),
    /// Stop this container, and then write what has become of it ([`stopped`]).
    Stop {
        /// Its name.
        container: String,
        /// The one of that name that is to end.
        id: String,
    },
    /// Nothing, until something changes or it is that time.
    Wait(Option<Timestamp>),
}

/// The next step of a request, by the newest containers of the pod.
pub fn next(request: &ContainerRecreateRequest, found: &BTreeMap<String, Found>, now: Timestamp) -> Next {
    let strategy = request.spec.strategy.clone().unwrap_or_default();
    let min_started = SignedDuration::from_secs(strategy.min_started_seconds.into());
    let mut wake = None;
    let mut states: Vec<_> = (request.spec.containers.iter())
        .map(|container| state(request, &container.name, found, (min_started, now), &mut wake))
        .collect();
    if states != request.status.container_recreate_states {
        return with_states(request, states);
    }
    let mut over = 0;
    for state in &mut states {
        match state.phase {
            RecreatePhase::Succeeded => over += 1,
            RecreatePhase::Failed if strategy.failure_policy == Some(FailurePolicy::Ignore) => over += 1,
            RecreatePhase::Failed => return Next::Status(Box::new(completed(&request.status, "", now))),
            RecreatePhase::Recreating => {
                // Whoever stopped it: it need not be stopped again.
                state.is_killed = true;
                if strategy.ordered_recreate {
                    break;
                }
            }
            _ => {
                let Some(running) = found.get(&state.name) else { break };
                return Next::Stop {
                    container: state.name.clone(),
                    id: running.id.clone(),
                };
            }
        }
    }
    if states != request.status.container_recreate_states {
        return with_states(request, states);
    }
    if over == states.len() {
        return Next::Status(Box::new(completed(&request.status, "", now)));
    }
    Next::Wait(wake)
}

fn with_states(request: &ContainerRecreateRequest, states: Vec<RecreateState>) -> Next {
    Next::Status(Box::new(RecreateStatus {
        container_recreate_states: states,
        ..request.status.clone()
    }))
}

/// What has become of one container. `wake` becomes the time at which one that runs has run long enough, if that is the next thing.
fn state(
    request: &ContainerRecreateRequest,
    name: &str,
    found: &BTreeMap<String, Found>,
    (min_started, now): (SignedDuration, Timestamp),
    wake: &mut Option<Timestamp>,
) -> RecreateState {
    let before = (request.status.container_recreate_states.iter()).find(|state| state.name == name);
    if let Some(before) = before.filter(|state| matches!(state.phase, RecreatePhase::Failed | RecreatePhase::Succeeded))
    {
        return before.clone();
    }
    let is_killed = before.is_some_and(|before| before.is_killed);
    let told = |phase, message: &str, is_killed| RecreateState {
        name: name.to_owned(),
        phase,
        message: message.to_owned(),
        is_killed,
    };
    let Some(container) = found.get(name) else {
        return told(RecreatePhase::Pending, "not found container on Node", is_killed);
    };
    if container.ended {
        return told(RecreatePhase::Recreating, "", is_killed);
    }
    let force = request
        .spec
        .strategy
        .as_ref()
        .is_some_and(|strategy| strategy.force_recreate);
    if force && !is_killed {
        return told(RecreatePhase::Pending, "", false);
    }
    let asked = request.spec.containers.iter().find(|container| container.name == name);
    let is_new = asked
        .and_then(|asked| asked.status_context.as_ref())
        .is_some_and(|context| container.id != context.container_id || container.restart_count > context.restart_count);
    if !is_new {
        return told(RecreatePhase::Pending, "", is_killed);
    }
    let mut snapshot = request.status.container_status_snapshot.iter();
    let ready = snapshot.any(|seen| seen.name == name && seen.container_id == container.id && seen.ready);
    if let Some(since) = container.started_at.filter(|_| ready) {
        let enough = since.checked_add(min_started).unwrap_or(Timestamp::MAX);
        if enough < now {
            return told(RecreatePhase::Succeeded, "", is_killed);
        }
        // The very moment is not enough.
        let soon = enough.checked_add(SignedDuration::from_millis(1)).unwrap_or(enough);
        *wake = Some(wake.map_or(soon, |wake| wake.min(soon)));
    }
    told(RecreatePhase::Recreating, "", is_killed)
}

/// Grace of a request, hook and signal together.
pub fn grace(request: &ContainerRecreateRequest) -> SignedDuration {
    let strategy = request.spec.strategy.as_ref();
    let seconds = strategy.and_then(|strategy| strategy.termination_grace_period_seconds);
    seconds.map_or(GRACE, |seconds| SignedDuration::from_secs(seconds.max(0)))
}

/// The status after a container was stopped, or could not be: `present` may be over by now, and says so on.
pub fn stopped(present: &RecreateStatus, container: &str, outcome: Result<(), &str>) -> RecreateStatus {
    let mut status = present.clone();
    let mut states = status.container_recreate_states.iter_mut();
    if let Some(state) = states.find(|state| state.name == container) {
        match outcome {
            Ok(()) => {
                state.phase = RecreatePhase::Recreating;
                state.is_killed = true;
            }
            Err(why) => {
                state.phase = RecreatePhase::Failed;
                state.message = format!("kill container error: {why}");
            }
        }
    }
    status
}

#[cfg(test)]
mod tests;
