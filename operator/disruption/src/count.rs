//! What a budget's status says.

use std::collections::BTreeMap;

use afloat_api::{BudgetSpec, BudgetStatus, PodUnavailableBudget};
use afloat_words::percent::{Round, scaled};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// How long a pod that was let go may still be there; OpenKruise's `DeletionTimeout`.
pub const DISRUPTED: SignedDuration = SignedDuration::from_secs(20);
/// How long a pod that was let change may seem available; OpenKruise's `UpdatedDelayCheckTime`.
pub const UNAVAILABLE: SignedDuration = SignedDuration::from_secs(10);

/// How long a pod that was let go may not have been seen at all: by the webhook it was, by the cache not yet.
pub const UNSEEN: SignedDuration = SignedDuration::from_secs(5);

/// One of a budget's pods, neither terminating nor over.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Its name.
    pub name: &'a str,
    /// Since when it exists.
    pub created: Option<Timestamp>,
    /// Ready, not marked as unavailable, and no update of it under way. Images by digest are not compared with what runs: runtimes report
    /// another digest than that of the manifest, and such pods would be unavailable for ever (kruise #2570).
    pub available: bool,
    /// When it became Ready last, or ceased to be.
    pub ready_since: Option<Timestamp>,
    /// It is to be replaced and then deleted, as somebody has asked for that.
    pub going: bool,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted {
    /// To be written.
    pub status: BudgetStatus,
    /// When something ends that was only noted.
    pub wake_at: Option<Timestamp>,
    /// Pods that were let go long ago and are still there.
    pub overdue: Vec<String>,
}

/// How many pods must be available of `total`.
pub fn desired(spec: &BudgetSpec, total: i32) -> i32 {
    let all = u32::try_from(total).unwrap_or(0);
    // Text that is no percentage was refused when it was written; the careful reading of it is that nothing may go.
    let number = |value| scaled(value, all, Round::Up);
    let desired = match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => i64::from(all) - number(most).unwrap_or(0),
        (None, Some(least)) => number(least).unwrap_or(i64::from(all)),
        (None, None) => 0,
    };
    i32::try_from(desired.max(0)).unwrap_or(i32::MAX)
}

/// Counts. `total`: pods that there should be.
pub fn count(budget: &PodUnavailableBudget, rows: &[Row<'_>], total: i32, now: Timestamp) -> Counted {
    let mut counted = Counted::default();
    let by_name: BTreeMap<&str, &Row<'_>> = rows.iter().map(|row| (row.name, row)).collect();
    // None: another pod has taken the name, and nobody has let that one go. Some(None): no pod of the name is seen.
    let meant = |name: &str, since: &Time| match by_name.get(name) {
        Some(row) => {
            let same = |created: Timestamp| created.as_second() <= since.0.as_second();
            row.created.is_none_or(same).then_some(Some(*row))
        }
        None => Some(None),
    };
    let mut wake = |at: Option<Timestamp>| counted.wake_at = [counted.wake_at, at].into_iter().flatten().min();
    for (name, since) in &budget.status.disrupted_pods {
        let Some(row) = meant(name, since) else { continue };
        let end = since.0.checked_add(if row.is_some() { DISRUPTED } else { UNSEEN }).ok();
        if end.is_some_and(|end| end > now) {
            wake(end);
            counted.status.disrupted_pods.insert(name.clone(), since.clone());
        } else if row.is_some() {
            counted.overdue.push(name.clone());
        }
    }
    for (name, since) in &budget.status.unavailable_pods {
        let Some(row) = meant(name, since) else { continue };
        let end = since
            .0
            .checked_add(if row.is_some() { UNAVAILABLE } else { UNSEEN })
            .ok();
        // It was Ready before it was noted: seen to have gone since, or to be back, it speaks for itself.
        let changed = row.and_then(|row| row.ready_since);
        let seen = changed.is_some_and(|changed| changed.as_second() >= since.0.as_second());
        if !seen && end.is_some_and(|end| end > now) {
            wake(end);
            counted.status.unavailable_pods.insert(name.clone(), since.clone());
        }
    }
    let noted = |name: &str| {
        counted.status.disrupted_pods.contains_key(name) || counted.status.unavailable_pods.contains_key(name)
    };
    let available = rows.iter().filter(|row| row.available && !noted(row.name));
    let going = number(available.clone().filter(|row| row.going).count());
    let available = number(available.count());
    let desired = desired(&budget.spec, total);
    // Replacements of pods that are to go are no room for others to go as well (kruise #2175). What is too many because fewer are
    // wanted may go.
    let promised = going.min(available.saturating_sub(total).max(0));
    counted.status.observed_generation = budget.metadata.generation.unwrap_or(0);
    counted.status.current_available = available;
    counted.status.desired_available = desired;
    counted.status.total_replicas = total;
    counted.status.unavailable_allowed = (available - promised).saturating_sub(desired).max(0);
    counted
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

    fn budget(spec: &Value, status: &Value) -> PodUnavailableBudget {
        serde_json::from_value(json!({"metadata": {"generation": 3}, "spec": spec, "status": status})).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000 + second).unwrap()
    }

    fn rows(count: usize) -> Vec<Row<'static>> {
        let row = |name| Row {
            name,
            created: Some(at(-100)),
            available: true,
            ready_since: Some(at(-90)),
            going: false,
        };
        NAMES.into_iter().take(count).map(row).collect()
    }

    #[test]
    fn percentages_round_up() {
        for (spec, total, wanted) in [
            (json!({"maxUnavailable": 1}), 4, 3),
            (json!({"maxUnavailable": "25%"}), 10, 7),
            (json!({"maxUnavailable": "25%"}), 5, 3),
            (json!({"maxUnavailable": "100%"}), 5, 0),
            (json!({"maxUnavailable": 9}), 5, 0),
            (json!({"maxUnavailable": 0}), 1, 1),
            (json!({"minAvailable": 3}), 2, 3),
            (json!({"minAvailable": "50%"}), 5, 3),
            (json!({"maxUnavailable": "x"}), 5, 5),
            (json!({"minAvailable": "x"}), 5, 5),
            (json!({"maxUnavailable": 1}), 0, 0),
        ] {
            assert_eq!(
                desired(&budget(&spec, &json!({})).spec, total),
                wanted,
                "{spec} of {total}"
            );
        }
    }

    #[test]
    fn what_was_let_go_counts_as_gone() {
        let status = json!({"disruptedPods": {"a": at(0).to_string(), "gone": at(0).to_string()}, "unavailablePods": {"b": at(0).to_string()}});
        let budget = budget(&json!({"maxUnavailable": 3}), &status);
        let early = count(&budget, &rows(5), 5, at(5));
        assert_eq!(
            (early.status.current_available, early.status.unavailable_allowed),
            (3, 1)
        );
        assert_eq!(early.wake_at, Some(at(10)));
        let later = count(&budget, &rows(5), 5, at(15));
        assert_eq!(
            later.status.unavailable_pods.len(),
            0,
            "whoever was to change has long begun"
        );
        assert_eq!((later.status.current_available, later.wake_at), (4, Some(at(20))));
        let late = count(&budget, &rows(5), 5, at(20));
        assert_eq!((late.status.current_available, late.overdue), (5, vec!["a".to_owned()]));
    }

    /// A StatefulSet's pod comes back under the name of the one that was let go.
    #[test]
    fn a_pod_that_takes_the_name_is_another() {
        let status = json!({"disruptedPods": {"a": at(0).to_string()}});
        let mut rows = rows(3);
        rows[0].created = Some(at(2));
        let counted = count(&budget(&json!({"maxUnavailable": 1}), &status), &rows, 3, at(5));
        assert_eq!(
            (counted.status.current_available, counted.status.unavailable_allowed),
            (3, 1)
        );
        assert_eq!(counted.status.disrupted_pods.len(), 0);
    }

    #[test]
    fn a_changed_pod_counts_again_once_it_is_back() {
        let status = json!({"unavailablePods": {"a": at(0).to_string()}});
        let mut rows = rows(3);
        rows[0].ready_since = Some(at(3));
        let counted = count(&budget(&json!({"maxUnavailable": 1}), &status), &rows, 3, at(4));
        assert_eq!(
            (
                counted.status.unavailable_pods.len(),
                counted.status.unavailable_allowed
            ),
            (0, 1)
        );
    }

    #[test]
    fn a_changed_pod_that_was_seen_to_go_needs_no_note() {
        let status = json!({"unavailablePods": {"a": at(0).to_string()}});
        let mut rows = rows(3);
        (rows[0].available, rows[0].ready_since) = (false, Some(at(0)));
        let budget = budget(&json!({"maxUnavailable": 1}), &status);
        let counted = count(&budget, &rows, 3, at(1)).status;
        assert_eq!((counted.unavailable_pods.len(), counted.unavailable_allowed), (0, 0));
        // What it was before the note proves nothing.
        rows[0].ready_since = Some(at(-1));
        assert_eq!(count(&budget, &rows, 3, at(1)).status.unavailable_pods.len(), 1);
    }

    /// The webhook has seen it, and the cache will.
    #[test]
    fn a_pod_that_is_not_seen_yet_is_remembered_for_a_while() {
        let status = json!({"disruptedPods": {"x": at(0).to_string()}, "unavailablePods": {"y": at(0).to_string()}});
        let budget = budget(&json!({"maxUnavailable": 1}), &status);
        let early = count(&budget, &rows(3), 3, at(4));
        assert_eq!(
            (
                early.status.disrupted_pods.len(),
                early.status.unavailable_pods.len(),
                early.wake_at
            ),
            (1, 1, Some(at(5)))
        );
        let late = count(&budget, &rows(3), 3, at(5));
        assert_eq!(
            (
                late.status.disrupted_pods.len(),
                late.status.unavailable_pods.len(),
                late.overdue.len()
            ),
            (0, 0, 0)
        );
    }

    /// kruise #2175: six pods that are to be replaced, and the first replacement.
    #[test]
    fn replacements_are_no_room() {
        let mut rows = rows(7);
        rows.iter_mut().take(6).for_each(|row| row.going = true);
        let counted = count(&budget(&json!({"maxUnavailable": 1}), &json!({})), &rows, 6, at(0));
        assert_eq!(
            (counted.status.current_available, counted.status.unavailable_allowed),
            (7, 1)
        );
    }

    /// Fewer are wanted: those that are too many may go at once.
    #[test]
    fn what_is_too_many_may_go() {
        let counted = count(
            &budget(&json!({"maxUnavailable": "10%"}), &json!({})),
            &rows(8),
            4,
            at(0),
        );
        assert_eq!(
            (counted.status.desired_available, counted.status.unavailable_allowed),
            (3, 5)
        );
    }

    proptest! {
        /// Whatever is noted and whoever is available: what may go, goes, and those remain that are needed.
        #[test]
        fn as_many_remain_as_are_needed(
            ready in prop::collection::vec(any::<bool>(), 8), going in prop::collection::vec(any::<bool>(), 8),
            disrupted in prop::collection::btree_map(0..8_usize, -30..0_i64, 0..4), changed in prop::collection::btree_map(0..8_usize, -30..0_i64, 0..4),
            total in 0..10_i32, most in 0..10_i32,
        ) {
            let mut all = rows(8);
            for (place, row) in all.iter_mut().enumerate() {
                (row.available, row.going) = (ready[place], going[place]);
            }
            let noted = |map: &BTreeMap<usize, i64>| -> Value {
                map.iter().map(|(place, second)| (NAMES[*place].to_owned(), json!(at(*second).to_string()))).collect::<serde_json::Map<_, _>>().into()
            };
            let mut budget = budget(&json!({}), &json!({"disruptedPods": noted(&disrupted), "unavailablePods": noted(&changed)}));
            budget.spec.max_unavailable = Some(IntOrString::Int(most));
            let counted = count(&budget, &all, total, at(0)).status;
            let noted = |name: &str| counted.disrupted_pods.contains_key(name) || counted.unavailable_pods.contains_key(name);
            let serving = i32::try_from(all.iter().filter(|row| row.available && !noted(row.name)).count()).unwrap();
            prop_assert_eq!(counted.current_available, serving);
            prop_assert!(counted.unavailable_allowed >= 0);
            if counted.unavailable_allowed > 0 {
                prop_assert!(serving - counted.unavailable_allowed >= (total - most).max(0));
            }
            if serving <= total {
                prop_assert!(counted.unavailable_allowed <= most);
            }
            // Counted once more, nothing changes.
            budget.status = counted.clone();
            prop_assert_eq!(count(&budget, &all, total, at(0)).status, counted);
        }
    }
}
