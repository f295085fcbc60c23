//! Conditions of a workload.

use afloat_api::Condition;
use afloat_words::time::whole_seconds;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A condition in the making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Of the condition.
    pub status: bool,
    /// One word, or none.
    pub reason: String,
    /// One sentence.
    pub message: String,
}

/// Puts a verdict into the conditions. `lastUpdateTime` is when the status or reason last changed, or something moved
/// (`moved`); another message alone is no news.
pub fn set_condition(conditions: &mut Vec<Condition>, kind: &str, verdict: Verdict, moved: bool, now: Timestamp) {
    let word = if verdict.status { "True" } else { "False" };
    let present = conditions.iter().position(|condition| condition.kind == kind);
    let old = present.map(|index| conditions.remove(index));
    let now = Time(whole_seconds(now).parse().map_or(now, |time: Timestamp| time));
    let same = |old: &&Condition| old.status == word && old.reason == verdict.reason && !moved;
    let updated = old.as_ref().filter(same).and_then(|old| old.last_update_time.clone());
    let turned = old
        .as_ref()
        .filter(|old| old.status == word)
        .and_then(|old| old.last_transition_time.clone());
    let condition = Condition {
        kind: kind.to_owned(),
        status: word.to_owned(),
        last_update_time: updated.or_else(|| Some(now.clone())),
        last_transition_time: turned.or(Some(now)),
        reason: verdict.reason,
        message: verdict.message,
    };
    let at = present.unwrap_or(conditions.len()).min(conditions.len());
    conditions.insert(at, condition);
}

/// Removes a condition.
pub fn clear_condition(conditions: &mut Vec<Condition>, kind: &str) {
    conditions.retain(|condition| condition.kind != kind);
}
