//! What the operator does about a request: one step at a time, decided anew after each. The pod's being out of service is kept by a
//! finalizer, so that it ends whatever becomes of the request.

use afloat_api::{ContainerRecreateRequest, ContainerSnapshot, RecreatePhase, RecreateStatus, names};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::Pod;
use crate::fill::{Filled, fill, is_filled};

/// Nobody on the node has answered for so long: there is no agent.
const ANSWER_LIMIT: SignedDuration = SignedDuration::from_secs(60);

/// What is seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The request.
    pub request: &'a ContainerRecreateRequest,
    /// The pod of its name, if there is one.
    pub pod: Option<&'a Pod>,
    /// What is known of its service.
    pub service: Service,
    /// The pod's node bears [`names::VIRTUAL_NODE`].
    pub virtual_node: bool,
    /// The time.
    pub now: Timestamp,
}

/// What is known of the pod's service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// It can be taken out of service: it has the readiness gate [`names::KRUISE_POD_READY`].
    pub gated: bool,
    /// This request keeps it out of service.
    pub held: bool,
    /// The version in which it was last Ready before that, 0 if it was not.
    pub ready_at: u64,
    /// All nodes' proxies have let go of it.
    pub gone: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Put in what a new request lacks.
    Fill(Box<Filled>),
    /// Write the status.
    Status(Box<RecreateStatus>),
    /// Keep the request until the pod is back in service.
    AddFinalizer,
    /// Take the pod out of service.
    Hold,
    /// Let it return.
    Release,
    /// Nothing is left to bring back.
    RemoveFinalizer,
    /// No agent need look at it any more.
    Deactivate,
    /// Its time is over.
    Delete,
    /// Nothing, until something changes or it is that time.
    Wait(Option<Timestamp>),
}

/// The next step.
pub fn step(seen: &Seen<'_>) -> Step {
    let Seen { request, pod, now, .. } = *seen;
    let meta = &request.metadata;
    if meta.deletion_timestamp.is_some() || request.status.completion_time.is_some() {
        return end(seen);
    }
    if !is_filled(request) {
        return match fill(request, pod, seen.virtual_node) {
            Ok(filled) => Step::Fill(Box::new(filled)),
            Err(why) => complete(request, &why, now),
        };
    }
    let uid = meta
        .labels
        .as_ref()
        .and_then(|labels| labels.get(names::RECREATE_POD_UID));
    let there = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none() && Some(pod.uid()) == uid.map(String::as_str);
    let Some(pod) = pod.filter(there) else {
        return complete(request, "pod has gone", now);
    };
    let created = meta.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let mut wake = None;
    let mut limit = |length: SignedDuration| {
        let end = created.checked_add(length).unwrap_or(Timestamp::MAX);
        wake = Some(wake.map_or(end, |wake: Timestamp| wake.min(end)));
        end <= now
    };
    if request.status.phase == RecreatePhase::New && limit(ANSWER_LIMIT) {
        return complete(request, "daemon has not responded for a long time", now);
    }
    if let Some(seconds) = request.spec.active_deadline_seconds
        && limit(SignedDuration::from_secs(seconds))
    {
        return complete(request, "recreating has exceeded the activeDeadlineSeconds", now);
    }
    if request.status.phase != RecreatePhase::Recreating {
        return Step::Wait(wake);
    }
    let status = with_snapshot(request, pod, created);
    if status.container_status_snapshot != request.status.container_status_snapshot {
        return Step::Status(Box::new(status));
    }
    leave_service(seen).unwrap_or(Step::Wait(wake))
}

/// The way out of service, where it is asked for: finalizer, gate, condition, and word of the proxies' having let go.
fn leave_service(seen: &Seen<'_>) -> Option<Step> {
    let Seen { request, service, .. } = seen;
    let strategy = request.spec.strategy.as_ref()?;
    strategy.unready_grace_period_seconds?;
    let status = &request.status;
    if status.condition(names::RECREATE_GRACE).is_none() {
        if service.gated && !has_finalizer(request) {
            return Some(Step::AddFinalizer);
        }
        if service.gated && !service.held {
            return Some(Step::Hold);
        }
        let message = if service.gated {
            ready_at(service.ready_at)
        } else {
            format!(
                "the pod stays in service: it has no readiness gate {}",
                names::KRUISE_POD_READY
            )
        };
        return Some(with_condition(
            status,
            names::RECREATE_GRACE,
            names::RECREATE_GRACE,
            message,
            seen.now,
        ));
    }
    if service.gone && status.condition(names::RECREATE_DRAINED).is_none() {
        let message = "no node's proxy sends anything to the pod, and no connection is open".to_owned();
        return Some(with_condition(
            status,
            names::RECREATE_DRAINED,
            "ProxiesLetGo",
            message,
            seen.now,
        ));
    }
    None
}

const READY_AT: &str = "out of service, last Ready in version ";

fn ready_at(version: u64) -> String {
    format!("{READY_AT}{version}")
}

/// Since when a request has its pod out of service, and in which version that was Ready last: what proxies have applied of older
/// EndpointSlices is from before. None: it has not, or somebody else wrote so.
pub fn out_of_service(request: &ContainerRecreateRequest) -> Option<(Timestamp, u64)> {
    let condition = request.status.condition(names::RECREATE_GRACE)?;
    let version = condition.message.strip_prefix(READY_AT)?.parse().ok()?;
    Some((condition.last_transition_time.0, version))
}

/// What is left to do when a request is over, or about to go.
fn end(seen: &Seen<'_>) -> Step {
    let Seen { request, now, .. } = *seen;
    if has_finalizer(request) {
        return if seen.service.held {
            Step::Release
        } else {
            Step::RemoveFinalizer
        };
    }
    if request.metadata.deletion_timestamp.is_some() {
        return Step::Wait(None);
    }
    let labels = request.metadata.labels.as_ref();
    if labels.is_some_and(|labels| labels.contains_key(names::RECREATE_ACTIVE)) {
        return Step::Deactivate;
    }
    let over = request.status.completion_time.as_ref().map(|time| time.0);
    let (Some(over), Some(seconds)) = (over, request.spec.ttl_seconds_after_finished) else {
        return Step::Wait(None);
    };
    let end = over
        .checked_add(SignedDuration::from_secs(seconds.into()))
        .unwrap_or(Timestamp::MAX);
    if end <= now {
        Step::Delete
    } else {
        Step::Wait(Some(end))
    }
}

fn has_finalizer(request: &ContainerRecreateRequest) -> bool {
    let finalizers = request.metadata.finalizers.as_deref().unwrap_or_default();
    finalizers.iter().any(|finalizer| finalizer == names::RECREATE_UNREADY)
}

fn complete(request: &ContainerRecreateRequest, message: &str, now: Timestamp) -> Step {
    Step::Status(Box::new(completed(&request.status, message, now)))
}

/// The status of a request that is over.
pub(crate) fn completed(status: &RecreateStatus, message: &str, now: Timestamp) -> RecreateStatus {
    RecreateStatus {
        phase: RecreatePhase::Completed,
        completion_time: Some(Time(now)),
        message: message.to_owned(),
        ..status.clone()
    }
}

fn with_condition(status: &RecreateStatus, kind: &str, reason: &str, message: String, now: Timestamp) -> Step {
    let mut status = status.clone();
    status.conditions.retain(|condition| condition.type_ != kind);
    status.conditions.push(Condition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: Time(now),
        observed_generation: None,
    });
    Step::Status(Box::new(status))
}

/// The status with what the pod's status says now of containers that were started after the request was made. Where none of them
/// runs just now, what was said last stays.
fn with_snapshot(request: &ContainerRecreateRequest, pod: &Pod, created: Timestamp) -> RecreateStatus {
    let mut status = request.status.clone();
    let snapshot = |name: &str| {
        let status = pod.container_status(name)?;
        let started = status.state.running.as_ref()?.started_at.as_ref()?.0;
        (started >= created).then(|| ContainerSnapshot {
            name: status.name.clone(),
            ready: status.ready,
            restart_count: status.restart_count,
            container_id: status.container_id.clone().unwrap_or_default(),
        })
    };
    let containers = request.spec.containers.iter();
    let now: Vec<_> = containers.filter_map(|container| snapshot(&container.name)).collect();
    if !now.is_empty() {
        status.container_status_snapshot = now;
    }
    status
}

#[cfg(test)]
mod tests;
