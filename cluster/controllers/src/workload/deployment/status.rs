//! What a Deployment says of itself; `kubectl rollout status` reads it.

use jiff::{SignedDuration, Timestamp};

use crate::objects::time::{wake, whole_seconds};
use crate::objects::{Condition, Deployment, DeploymentStatus};

use super::sets::{Limits, Sets, name_of};

/// Whether all pods are of the present template and available.
pub(super) fn is_complete(deployment: &Deployment, sets: &Sets, limits: Limits) -> bool {
    complete(&counts(deployment, sets), limits.replicas) && sets.new.is_some()
}

fn complete(status: &DeploymentStatus, replicas: i32) -> bool {
    status.updated_replicas == replicas && status.replicas == replicas && status.available_replicas == replicas
}

fn counts(deployment: &Deployment, sets: &Sets) -> DeploymentStatus {
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation.unwrap_or(0),
        collision_count: deployment.status.collision_count,
        updated_replicas: sets.new.as_ref().map_or(0, |new| new.status.replicas),
        ..DeploymentStatus::default()
    };
    let mut total = 0;
    for set in sets.all() {
        total += set.replicas();
        status.replicas += set.status.replicas;
        status.ready_replicas += set.status.ready_replicas;
        status.available_replicas += set.status.available_replicas;
    }
    status.unavailable_replicas = (total - status.available_replicas).max(0);
    status
}

/// The status that it should have.
pub(super) fn status_of(
    deployment: &Deployment,
    sets: &Sets,
    limits: Limits,
    now: Timestamp,
    wake_at: &mut Option<Timestamp>,
) -> DeploymentStatus {
    let mut status = counts(deployment, sets);
    status.conditions = deployment.status.conditions.clone();
    let enough = status.available_replicas >= limits.least_available();
    let (value, reason, message) = if enough {
        (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    set_condition(&mut status.conditions, "Available", value, reason, message, now, false);
    progress(deployment, sets, limits, &mut status, now, wake_at);
    let failure = sets
        .all()
        .flat_map(|set| &set.status.conditions)
        .find(|condition| condition.type_ == "ReplicaFailure");
    match failure {
        Some(failure) => {
            set_condition(
                &mut status.conditions,
                "ReplicaFailure",
                &failure.status,
                &failure.reason,
                &failure.message,
                now,
                false,
            );
        }
        None => status
            .conditions
            .retain(|condition| condition.type_ != "ReplicaFailure"),
    }
    status
}

fn progress(
    deployment: &Deployment,
    sets: &Sets,
    limits: Limits,
    status: &mut DeploymentStatus,
    now: Timestamp,
    wake_at: &mut Option<Timestamp>,
) {
    let deadline = deployment.spec.progress_deadline_seconds;
    let Some(deadline) = deadline.filter(|seconds| *seconds != i32::MAX) else {
        status.conditions.retain(|condition| condition.type_ != "Progressing");
        return;
    };
    let known = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Progressing");
    let since = known
        .and_then(|condition| {
            condition
                .last_update_time
                .as_ref()
                .or(condition.last_transition_time.as_ref())
        })
        .map_or(now, |time| time.0);
    let due = since
        .checked_add(SignedDuration::from_secs(i64::from(deadline)))
        .unwrap_or(Timestamp::MAX);
    match step(deployment, sets, limits, status, due <= now) {
        Step::Say(value, reason, message) => {
            set_condition(
                &mut status.conditions,
                "Progressing",
                value,
                reason.name(),
                &message,
                now,
                true,
            );
            if reason == Reason::Updated {
                wake_after(wake_at, now, deadline);
            }
        }
        Step::Wait => wake_after(wake_at, since, deadline),
        Step::Rest => {}
    }
}

/// Reasons of the condition Progressing; `kubectl rollout status` reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Paused,
    Resumed,
    Updated,
    Available,
    DeadlineExceeded,
}

impl Reason {
    const ALL: [Self; 5] = [
        Self::Paused,
        Self::Resumed,
        Self::Updated,
        Self::Available,
        Self::DeadlineExceeded,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Paused => "DeploymentPaused",
            Self::Resumed => "DeploymentResumed",
            Self::Updated => "ReplicaSetUpdated",
            Self::Available => "NewReplicaSetAvailable",
            Self::DeadlineExceeded => "ProgressDeadlineExceeded",
        }
    }

    fn of(condition: &Condition) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == condition.reason)
    }
}

/// What there is to say about progress.
enum Step {
    /// Status, reason and message of the condition.
    Say(&'static str, Reason, String),
    /// Nothing moved; the deadline runs.
    Wait,
    /// The condition says it all.
    Rest,
}

fn step(deployment: &Deployment, sets: &Sets, limits: Limits, status: &DeploymentStatus, overdue: bool) -> Step {
    let known = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Progressing");
    let reason = known.and_then(Reason::of);
    match (deployment.spec.paused, reason == Some(Reason::Paused)) {
        (true, true) => return Step::Rest,
        (true, false) => return Step::Say("Unknown", Reason::Paused, "Deployment is paused".into()),
        (false, true) => return Step::Say("Unknown", Reason::Resumed, "Deployment is resumed".into()),
        (false, false) => {}
    }
    if reason == Some(Reason::Available) && sets.new.is_some() && status.replicas == status.updated_replicas {
        return Step::Rest;
    }
    let name = match &sets.new {
        Some(new) => name_of(new),
        None => deployment.metadata.name.clone().unwrap_or_default(),
    };
    let before = &deployment.status;
    let restarted = reason == Some(Reason::Available) || (sets.new.is_none() && reason != Some(Reason::Updated));
    let old = |status: &DeploymentStatus| status.replicas - status.updated_replicas;
    let moved = status.updated_replicas > before.updated_replicas
        || old(status) < old(before)
        || status.ready_replicas > before.ready_replicas
        || status.available_replicas > before.available_replicas;
    if complete(status, limits.replicas) && sets.new.is_some() {
        let message = format!("ReplicaSet \"{name}\" has successfully progressed.");
        Step::Say("True", Reason::Available, message)
    } else if known.is_none() || moved || restarted {
        Step::Say(
            "True",
            Reason::Updated,
            format!("ReplicaSet \"{name}\" is progressing."),
        )
    } else if reason == Some(Reason::DeadlineExceeded) {
        Step::Rest
    } else if overdue {
        let message = format!("ReplicaSet \"{name}\" has timed out progressing.");
        Step::Say("False", Reason::DeadlineExceeded, message)
    } else {
        Step::Wait
    }
}

fn wake_after(wake_at: &mut Option<Timestamp>, since: Timestamp, deadline: i32) {
    let due = since
        .checked_add(SignedDuration::from_secs(i64::from(deadline) + 1))
        .unwrap_or(Timestamp::MAX);
    wake(wake_at, due);
}

/// Sets a condition; its transition time moves only with its status. `renew`: the update time moves although nothing else does.
fn set_condition(
    conditions: &mut Vec<Condition>,
    type_: &str,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
    renew: bool,
) {
    let now = Some(whole_seconds(now));
    match conditions.iter_mut().find(|condition| condition.type_ == type_) {
        Some(known) => {
            if !renew && known.status == value && known.reason == reason && known.message == message {
                return;
            }
            if known.status != value {
                known.last_transition_time = now.clone();
            }
            known.status = value.to_owned();
            known.reason = reason.to_owned();
            known.message = message.to_owned();
            known.last_update_time = now;
        }
        None => conditions.push(Condition {
            type_: type_.to_owned(),
            status: value.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: now.clone(),
            last_update_time: now,
            last_heartbeat_time: None,
        }),
    }
}
