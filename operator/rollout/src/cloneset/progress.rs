//! What the CloneSet reports, and the one sentence that says what it waits for.

use afloat_api::{CloneSet, CloneSetStatus, Condition, names};
use jiff::{SignedDuration, Timestamp};

use crate::pod::object::Pod;
use crate::workload::conditions::Verdict;

/// Whether the rollout has come further since the old status.
pub(super) fn moved(old: &CloneSetStatus, new: &CloneSetStatus) -> bool {
    let outdated = |status: &CloneSetStatus| status.replicas - status.updated_replicas;
    old.update_revision != new.update_revision
        || old.replicas != new.replicas
        || new.updated_replicas > old.updated_replicas
        || new.updated_ready_replicas > old.updated_ready_replicas
        || new.updated_available_replicas > old.updated_available_replicas
        || new.available_replicas > old.available_replicas
        || outdated(new) < outdated(old)
}

/// How far a rollout is, in the reasons that OpenKruise's condition has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Updating,
    Paused,
    PartitionAvailable,
    Available,
    Stuck,
}

impl Progress {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Updating => "CloneSetUpdated",
            Self::Paused => "CloneSetPaused",
            Self::PartitionAvailable => "ProgressPartitionAvailable",
            Self::Available => "CloneSetAvailable",
            Self::Stuck => "ProgressDeadlineExceeded",
        }
    }

    /// As a condition.
    pub(super) fn verdict(self, message: String) -> Verdict {
        Verdict {
            status: self != Self::Stuck,
            reason: self.reason(),
            message,
        }
    }
}

/// `progressDeadlineSeconds`: a rollout that has not moved for that long is called stuck until it moves again. Returns
/// how far it is, the sentence for it, and when to look again.
pub(super) fn deadline(
    set: &CloneSet,
    new: &CloneSetStatus,
    (progress, message): (Progress, String),
    now: Timestamp,
) -> (Progress, String, Option<Timestamp>) {
    let seconds = set.spec.progress_deadline_seconds;
    let Some(seconds) = seconds.filter(|seconds| *seconds != i32::MAX && progress == Progress::Updating) else {
        return (progress, message, None);
    };
    let limit = SignedDuration::from_secs(i64::from(seconds));
    let was = |old: &Condition, progress: Progress| old.reason == progress.reason();
    let old = set.status.condition(names::PROGRESSING);
    let stands =
        old.filter(|old| (was(old, Progress::Updating) || was(old, Progress::Stuck)) && !moved(&set.status, new));
    let since = stands
        .and_then(|old| old.last_update_time.as_ref())
        .map_or(now, |time| time.0);
    let stuck = stands.is_some_and(|old| was(old, Progress::Stuck));
    match since.checked_add(limit) {
        Ok(end) if end > now && !stuck => (progress, message, Some(end)),
        Ok(_) => {
            let revision = &new.update_revision;
            let message = format!("CloneSet revision {revision} has timed out progressing; {message}");
            (Progress::Stuck, message, None)
        }
        Err(_) => (progress, message, None),
    }
}

/// The sentence about pods that are not Ready: how many, and what the first of them says.
fn not_ready(pods: &[&Pod]) -> Option<String> {
    let unready: Vec<_> = pods.iter().filter(|pod| !pod.ready()).collect();
    let first = unready.first()?;
    let why = first.status.container_statuses.iter().find_map(|status| {
        let reason = status.state.waiting.as_ref()?.reason.as_deref()?;
        Some(format!(": container {} of {} {reason}", status.name, first.name()))
    });
    let noun = if unready.len() == 1 { "pod" } else { "pods" };
    Some(format!("{} {noun} not Ready{}", unready.len(), why.unwrap_or_default()))
}

/// How far the rollout is once the counters are known, and a sentence. `pods` are those that are not available, `waits`
/// the sentences that the plan collected.
pub(super) fn progress(set: &CloneSet, status: &CloneSetStatus, pods: &[&Pod], waits: &[String]) -> (Progress, String) {
    let rollout = set.spec.rollout();
    let replicas = i32::try_from(set.spec.replicas()).unwrap_or(i32::MAX);
    let done = status.updated_replicas >= status.expected_updated_replicas && status.replicas == replicas;
    let all_available = status.available_replicas >= replicas;
    if rollout.paused && status.updated_replicas < status.expected_updated_replicas {
        return (Progress::Paused, "CloneSet is paused".into());
    }
    if done && all_available && waits.is_empty() {
        return if status.expected_updated_replicas < replicas && status.updated_replicas < replicas {
            let message = "CloneSet has been paused due to partition ready";
            (Progress::PartitionAvailable, message.into())
        } else {
            (Progress::Available, "CloneSet is available".into())
        };
    }
    let mut sentences = vec![format!(
        "CloneSet is progressing: {} of {} pods updated",
        status.updated_replicas.min(status.expected_updated_replicas),
        status.expected_updated_replicas
    )];
    sentences.extend(waits.iter().cloned());
    sentences.extend(not_ready(pods));
    (Progress::Updating, sentences.join("; "))
}
