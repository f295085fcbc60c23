//! OpenKruise's condition `Progressing`.

use afloat_api::{CloneSet, CloneSetStatus, Status as _, names};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::Resource as _;

use crate::workload::conditions::Verdict;
use crate::workload::progress::{Progress, TIMED_OUT};

const KIND: &str = CloneSet::KIND;

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
    let was = |progress: Progress| old.filter(|old| old.reason == progress.reason(KIND));
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
            .unwrap_or_else(|| format!("{KIND} revision {} {TIMED_OUT}", new.update_revision)),
        other => other.text(KIND),
    };
    let verdict = Verdict {
        status: progress != Progress::TimedOut,
        reason: progress.reason(KIND),
        message,
    };
    Some((verdict, look))
}
