//! What the CloneSet reports, and the one sentence that says what it waits for.

use afloat_api::{CloneSet, CloneSetStatus, Condition};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod::Pod;

/// A condition in the making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Of the condition.
    pub status: bool,
    /// One word.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

/// Fills in the counters from the pods.
pub fn count(
    status: &mut CloneSetStatus,
    pods: &[&Pod],
    update_revision: &str,
    min_ready: SignedDuration,
    now: Timestamp,
) {
    let number = |keep: &dyn Fn(&&&Pod) -> bool| i32::try_from(pods.iter().filter(keep).count()).unwrap_or(i32::MAX);
    let updated = |pod: &&&Pod| pod.at_revision(update_revision);
    status.replicas = number(&|_| true);
    status.ready_replicas = number(&|pod| pod.ready());
    status.available_replicas = number(&|pod| pod.available(min_ready, now));
    status.updated_replicas = number(&|pod| updated(pod));
    status.updated_ready_replicas = number(&|pod| updated(pod) && pod.ready());
    status.updated_available_replicas = number(&|pod| updated(pod) && pod.available(min_ready, now));
}

/// Puts a verdict into the conditions; times change only if it does.
pub fn set_condition(status: &mut CloneSetStatus, kind: &str, verdict: Verdict, now: Timestamp) {
    let word = if verdict.status { "True" } else { "False" };
    let present = status.conditions.iter().position(|condition| condition.kind == kind);
    let old = present.map(|index| status.conditions.remove(index));
    let now = crate::state::rfc3339(now).parse().map_or(now, |time: Timestamp| time);
    let same = old
        .as_ref()
        .is_some_and(|old| old.status == word && old.reason == verdict.reason && old.message == verdict.message);
    let condition = match old {
        Some(old) if same => old,
        old => Condition {
            kind: kind.to_owned(),
            status: word.to_owned(),
            last_update_time: Some(Time(now)),
            last_transition_time: old
                .filter(|old| old.status == word)
                .and_then(|old| old.last_transition_time)
                .or(Some(Time(now))),
            reason: verdict.reason.to_owned(),
            message: verdict.message,
        },
    };
    let at = present.unwrap_or(status.conditions.len()).min(status.conditions.len());
    status.conditions.insert(at, condition);
}

/// Removes a condition.
pub fn clear_condition(status: &mut CloneSetStatus, kind: &str) {
    status.conditions.retain(|condition| condition.kind != kind);
}

/// The sentence about pods that are not Ready: how many, and what the first of them says.
pub fn not_ready(pods: &[&Pod]) -> Option<String> {
    let unready: Vec<_> = pods.iter().filter(|pod| !pod.ready()).collect();
    let first = unready.first()?;
    let why = first.status.container_statuses.iter().find_map(|status| {
        let reason = status.state.waiting.as_ref()?.reason.as_deref()?;
        Some(format!(": container {} of {} {reason}", status.name, first.name()))
    });
    let noun = if unready.len() == 1 { "pod" } else { "pods" };
    Some(format!("{} {noun} not Ready{}", unready.len(), why.unwrap_or_default()))
}

/// The usual verdict once the counters are known. `waits` are the sentences that the plan collected.
pub fn verdict(set: &CloneSet, status: &CloneSetStatus, pods: &[&Pod], waits: &[String]) -> Verdict {
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
    verdict("CloneSetUpdated", sentences.join("; "))
}
