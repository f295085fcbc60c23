//! What the CloneSet reports: OpenKruise's word, and the one sentence that says what it waits for.

use afloat_api::{CloneSet, CloneSetStatus, names};
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
enum Progress {
    Updating,
    Paused,
    PartitionAvailable,
    Available,
    TimedOut,
}

impl Progress {
    fn reason(self) -> &'static str {
        match self {
            Self::Updating => "CloneSetUpdated",
            Self::Paused => "CloneSetPaused",
            Self::PartitionAvailable => "ProgressPartitionAvailable",
            Self::Available => "CloneSetAvailable",
            Self::TimedOut => "ProgressDeadlineExceeded",
        }
    }

    /// What OpenKruise says of it; dashboards and scripts read it.
    fn text(self) -> &'static str {
        match self {
            Self::Updating => "CloneSet is progressing",
            Self::Paused => "CloneSet is paused",
            Self::PartitionAvailable => "CloneSet has been paused due to partition ready",
            Self::Available => "CloneSet is available",
            Self::TimedOut => TIMED_OUT,
        }
    }
}

/// The end of OpenKruise's sentence about a deadline; the revision stands in front of it.
const TIMED_OUT: &str = "has timed out progressing";

/// OpenKruise's condition `Progressing`, and when to look again. None without `progressDeadlineSeconds`, or where it is
/// the largest number.
///
/// Source: `calculateProgressingStatus` of OpenKruise 1.9.1. Two things are otherwise: the deadline counts from when the
/// rollout began, where OpenKruise counts from its last verdict, which may be days old by then; and a sentence that an
/// earlier Afloat wrote is replaced.
pub(super) fn progressing(
    set: &CloneSet,
    new: &CloneSetStatus,
    now: Timestamp,
) -> Option<(Verdict, Option<Timestamp>)> {
    let seconds = set
        .spec
        .progress_deadline_seconds
        .filter(|seconds| *seconds != i32::MAX)?;
    let replicas = i32::try_from(set.spec.replicas()).unwrap_or(i32::MAX);
    let old = set.status.condition(names::PROGRESSING);
    let was = |progress: Progress| old.filter(|old| old.reason == progress.reason());
    let available = new.current_revision == new.update_revision
        && [new.replicas, new.updated_replicas, new.updated_available_replicas] == [replicas; 3];
    let expected = new.expected_updated_replicas;
    let (progress, look) = if available {
        (Progress::Available, None)
    } else if set.spec.rollout().paused {
        (Progress::Paused, None)
    } else if expected < replicas && expected <= new.updated_available_replicas {
        (Progress::PartitionAvailable, None)
    } else if was(Progress::TimedOut).is_some() {
        (Progress::TimedOut, None)
    } else {
        let began = was(Progress::Updating).and_then(|old| old.last_update_time.as_ref());
        let limit = SignedDuration::from_secs(i64::from(seconds));
        match began.map_or(now, |time| time.0).checked_add(limit) {
            Ok(end) if end <= now => (Progress::TimedOut, None),
            end => (Progress::Updating, end.ok()),
        }
    };
    let message = match progress {
        // It names the revision that was wanted then, also when another one is wanted by now.
        Progress::TimedOut => was(progress)
            .map(|old| old.message.clone())
            .filter(|message| message.ends_with(TIMED_OUT))
            .unwrap_or_else(|| format!("CloneSet revision {} {TIMED_OUT}", new.update_revision)),
        other => other.text().into(),
    };
    let verdict = Verdict {
        status: progress != Progress::TimedOut,
        reason: progress.reason(),
        message,
    };
    Some((verdict, look))
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

/// Our own condition: whether a rollout goes on, how far it is, and what it waits for. `pods` are those that are not
/// available, `waits` the sentences that the plan collected.
pub(super) fn rollout(set: &CloneSet, status: &CloneSetStatus, pods: &[&Pod], waits: &[String]) -> Verdict {
    let replicas = i32::try_from(set.spec.replicas()).unwrap_or(i32::MAX);
    let expected = status.expected_updated_replicas;
    let done = status.updated_replicas >= expected && status.replicas == replicas;
    let still = |progress: Progress| Verdict {
        status: false,
        reason: progress.reason(),
        message: progress.text().into(),
    };
    if set.spec.rollout().paused && status.updated_replicas < expected {
        return still(Progress::Paused);
    }
    if done && status.available_replicas >= replicas && waits.is_empty() {
        let partly = expected < replicas && status.updated_replicas < replicas;
        return still(if partly {
            Progress::PartitionAvailable
        } else {
            Progress::Available
        });
    }
    let updated = status.updated_replicas.min(expected);
    let mut sentences = vec![format!("{updated} of {expected} pods updated")];
    sentences.extend(waits.iter().cloned());
    sentences.extend(not_ready(pods));
    Verdict {
        status: true,
        reason: Progress::Updating.reason(),
        message: sentences.join("; "),
    }
}
