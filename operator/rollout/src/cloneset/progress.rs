//! What the CloneSet reports, and the one sentence that says what it waits for.

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

/// `progressDeadlineSeconds`: a rollout that has not moved for that long is called stuck until it moves again. Returns
/// the verdict, and when to look again.
pub(super) fn deadline(
    set: &CloneSet,
    new: &CloneSetStatus,
    verdict: Verdict,
    now: Timestamp,
) -> (Verdict, Option<Timestamp>) {
    let Some(seconds) = set
        .spec
        .progress_deadline_seconds
        .filter(|seconds| *seconds != i32::MAX)
    else {
        return (verdict, None);
    };
    if verdict.reason != PROGRESS {
        return (verdict, None);
    }
    let limit = SignedDuration::from_secs(i64::from(seconds));
    let old = set.status.condition(names::PROGRESSING);
    let stands = old.filter(|old| [PROGRESS, STUCK].contains(&old.reason.as_str()) && !moved(&set.status, new));
    let since = stands
        .and_then(|old| old.last_update_time.as_ref())
        .map_or(now, |time| time.0);
    let stuck = stands.is_some_and(|old| old.reason == STUCK);
    match since.checked_add(limit) {
        Ok(end) if end > now && !stuck => (verdict, Some(end)),
        Ok(_) => {
            let message = format!(
                "CloneSet revision {} has timed out progressing; {}",
                new.update_revision, verdict.message
            );
            let verdict = Verdict {
                status: false,
                reason: STUCK,
                message,
            };
            (verdict, None)
        }
        Err(_) => (verdict, None),
    }
}

const PROGRESS: &str = "CloneSetUpdated";
const STUCK: &str = "ProgressDeadlineExceeded";

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

/// The usual verdict once the counters are known. `pods` are those that are not available, `waits` are the sentences that the plan collected.
pub(super) fn verdict(set: &CloneSet, status: &CloneSetStatus, pods: &[&Pod], waits: &[String]) -> Verdict {
    let rollout = set.spec.rollout();
    let replicas = i32::try_from(set.spec.replicas()).unwrap_or(i32::MAX);
    let done = status.updated_replicas >= status.expected_updated_replicas && status.replicas == replicas;
    let all_available = status.available_replicas >= replicas;
    let verdict = |reason, message: String| Verdict {
        status: true,
        reason,
        message,
    };
    if rollout.paused && status.updated_replicas < status.expected_updated_replicas {
        return verdict("CloneSetPaused", "CloneSet is paused".into());
    }
    if done && all_available && waits.is_empty() {
        return if status.expected_updated_replicas < replicas && status.updated_replicas < replicas {
            verdict(
                "ProgressPartitionAvailable",
                "CloneSet has been paused due to partition ready".into(),
            )
        } else {
            verdict("CloneSetAvailable", "CloneSet is available".into())
        };
    }
    let mut sentences = vec![format!(
        "CloneSet is progressing: {} of {} pods updated",
        status.updated_replicas.min(status.expected_updated_replicas),
        status.expected_updated_replicas
    )];
    sentences.extend(waits.iter().cloned());
    sentences.extend(not_ready(pods));
    verdict(PROGRESS, sentences.join("; "))
}
