//! What is asked before a pod goes, and what is noted if it may.

use std::collections::BTreeMap;
use std::fmt;

use afloat_api::{BudgetStatus, Matcher, Operation, PodUnavailableBudget, names};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use crate::count::{DISRUPTED, desired};

/// Pods that may be noted at the same time, as in OpenKruise.
const NOTED: usize = 2000;
/// How far other clocks may be ahead of ours.
const APART: SignedDuration = SignedDuration::from_secs(60);

/// Why a pod may not go. The texts are OpenKruise's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// As many pods are unavailable as may be.
    Spent {
        /// The budget.
        budget: String,
    },
    /// Too many were let go of which nothing has been seen since.
    Unconfirmed {
        /// The budget.
        budget: String,
    },
    /// It is new, and nobody has counted its pods yet. (OpenKruise lets any number go until then.)
    Uncounted {
        /// The budget.
        budget: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (budget, why) = match self {
            Self::Spent { budget } => (budget, "pub unavailable allowed is negative"),
            Self::Unconfirmed { budget } => (
                budget,
                "DisruptedPods and UnavailablePods map too big - too many unavailable not confirmed by PUB controller",
            ),
            Self::Uncounted { budget } => (budget, "its pods are not counted yet"),
        };
        write!(
            f,
            "podunavailablebudget.policy.kruise.io {budget:?} is forbidden: {why}"
        )
    }
}

/// What is known of the pod that is to go.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its name.
    pub name: &'a str,
    /// Since when it exists.
    pub created: Option<Timestamp>,
    /// When it became Ready last, or ceased to be.
    pub ready_since: Option<Timestamp>,
    /// As [`crate::count::Row::available`] says.
    pub available: bool,
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It may go, and makes no difference.
    Free,
    /// It may go once this is written, decided on this version of the budget.
    Take(Box<BudgetStatus>),
    /// It may not.
    Refused(Refusal),
}

/// Whether a pod may go, by name and labels, whatever its budget says.
pub fn exempt(budget: &PodUnavailableBudget, pod: &Value) -> bool {
    let annotation = &pod["metadata"]["annotations"][names::NO_PROTECT];
    let ignored = || {
        let selector = budget.spec.ignored_pod_selector.as_ref();
        selector.is_some_and(|selector| Matcher::new(selector).selects(&labels(pod)))
    };
    annotation.as_str().and_then(afloat_api::boolean) == Some(true) || ignored()
}

/// The labels of a pod.
pub fn labels(pod: &Value) -> BTreeMap<String, String> {
    let labels = pod["metadata"]["labels"].as_object().into_iter().flatten();
    let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    labels.filter_map(text).collect()
}

/// How many more pods may go. What a spec allows that nobody has counted for yet is worked out from what was counted last: a budget
/// that is made narrower counts at once.
pub fn left(budget: &PodUnavailableBudget) -> i32 {
    let status = &budget.status;
    if budget
        .metadata
        .generation
        .is_none_or(|generation| generation == status.observed_generation)
    {
        return status.unavailable_allowed;
    }
    let desired = desired(&budget.spec, total(budget));
    let left = status.current_available.saturating_sub(desired);
    let more = desired.saturating_sub(status.desired_available).max(0);
    // What was allowed leaves out replacements of pods that are to go, which are not known here.
    let narrowed = if more > 0 {
        status.unavailable_allowed.saturating_sub(more)
    } else {
        left
    };
    left.min(narrowed).max(0)
}

/// How many pods there should be, as far as it is known.
fn total(budget: &PodUnavailableBudget) -> i32 {
    budget.said_total().unwrap_or(budget.status.total_replicas)
}

/// Whether nobody has counted yet, and somebody will soon. After that a budget that cannot be counted holds nobody.
fn awaited(budget: &PodUnavailableBudget, now: Timestamp) -> bool {
    let created = budget.metadata.creation_timestamp.as_ref();
    let soon = || created.and_then(|created| created.0.checked_add(DISRUPTED).ok());
    budget.status.observed_generation == 0 && soon().is_some_and(|soon| now < soon)
}

/// Decides.
pub fn take(budget: &PodUnavailableBudget, pod: Subject<'_>, operation: Operation, now: Timestamp) -> Verdict {
    let status = &budget.status;
    let name = || budget.metadata.name.clone().unwrap_or_default();
    if !pod.available || !budget.guards().contains(&operation) {
        return Verdict::Free;
    }
    // Of how many pods nobody knows: only where all may go of any number, all may go.
    if awaited(budget, now) && desired(&budget.spec, i32::MAX) > 0 {
        return Verdict::Refused(Refusal::Uncounted { budget: name() });
    }
    if desired(&budget.spec, total(budget)) == 0 {
        return Verdict::Free;
    }
    let meant = |since: &Time| {
        pod.created
            .is_none_or(|created| created.as_second() <= since.0.as_second())
    };
    let noted = |map: &BTreeMap<String, Time>| map.get(pod.name).is_some_and(meant);
    let mut new = status.clone();
    // Whoever is noted counts already.
    if !noted(&status.disrupted_pods) && !noted(&status.unavailable_pods) {
        if left(budget) <= 0 {
            return Verdict::Refused(Refusal::Spent { budget: name() });
        }
        if status.disrupted_pods.len() + status.unavailable_pods.len() > NOTED {
            return Verdict::Refused(Refusal::Unconfirmed { budget: name() });
        }
        new.unavailable_allowed = left(budget) - 1;
        // Who was let go no longer counts as available, so that the two numbers always fit each other.
        new.current_available -= 1;
    }
    // Noted anew each time, so that a note lasts as long as what was let go may still come.
    let since = Time(since(&pod, now));
    match operation {
        Operation::Delete | Operation::Evict => {
            new.unavailable_pods.remove(pod.name);
            new.disrupted_pods.insert(pod.name.to_owned(), since);
        }
        Operation::Update | Operation::Resize => {
            new.unavailable_pods.insert(pod.name.to_owned(), since);
        }
    }
    if new == *status {
        Verdict::Free
    } else {
        Verdict::Take(Box::new(new))
    }
}

/// Since when a pod is noted: after all that is known of it. Notes are compared with times of the API server and of the pod's node, whose
/// clocks may be ahead of ours, and which say whole seconds.
fn since(pod: &Subject<'_>, now: Timestamp) -> Timestamp {
    let ready = pod.ready_since.map(|ready| ready.as_second() + 1);
    let known = pod.created.map(Timestamp::as_second).max(ready);
    let now_second = now.as_second();
    // A clock that is farther off is not followed: what it says would not be forgotten.
    let second = known.map_or(now_second, |known| {
        known.clamp(now_second, now_second + APART.as_secs())
    });
    Timestamp::from_second(second).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-01-01T00:00:30Z".parse().unwrap()
    }

    fn budget(allowed: i32, change: impl FnOnce(&mut Value)) -> PodUnavailableBudget {
        let mut budget = json!({
            "metadata": {"name": "web", "generation": 2}, "spec": {"maxUnavailable": 1},
            "status": {"observedGeneration": 2, "unavailableAllowed": allowed, "currentAvailable": 2 + allowed, "desiredAvailable": 2,
                "totalReplicas": 3},
        });
        change(&mut budget);
        serde_json::from_value(budget).unwrap()
    }

    fn pod(available: bool) -> Subject<'static> {
        Subject {
            name: "a",
            created: Some("2026-01-01T00:00:00Z".parse().unwrap()),
            ready_since: Some("2026-01-01T00:00:01Z".parse().unwrap()),
            available,
        }
    }

    fn taken(verdict: Verdict) -> BudgetStatus {
        match verdict {
            Verdict::Take(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_last_one_is_taken_once() {
        let mut budget = budget(1, |_| ());
        budget.status = taken(take(&budget, pod(true), Operation::Delete, now()));
        assert_eq!(
            (budget.status.unavailable_allowed, budget.status.current_available),
            (0, 2)
        );
        assert_eq!(budget.status.disrupted_pods["a"].0, now());
        assert_eq!(
            take(&budget, pod(true), Operation::Delete, now()),
            Verdict::Free,
            "it is noted"
        );
        let other = Subject { name: "b", ..pod(true) };
        let Verdict::Refused(why) = take(&budget, other, Operation::Evict, now()) else {
            panic!()
        };
        assert_eq!(
            why.to_string(),
            "podunavailablebudget.policy.kruise.io \"web\" is forbidden: pub unavailable allowed is negative"
        );
    }

    #[test]
    fn who_makes_no_difference_is_free() {
        assert_eq!(
            take(&budget(0, |_| ()), pod(false), Operation::Delete, now()),
            Verdict::Free
        );
        assert_eq!(
            take(&budget(0, |_| ()), pod(true), Operation::Resize, now()),
            Verdict::Free
        );
        let nothing = budget(0, |b| b["spec"]["maxUnavailable"] = json!("100%"));
        assert_eq!(take(&nothing, pod(true), Operation::Delete, now()), Verdict::Free);
        let other = budget(0, |b| b["spec"]["protectOperations"] = json!(["EVICT"]));
        assert_eq!(take(&other, pod(true), Operation::Delete, now()), Verdict::Free);
    }

    /// Changed a moment ago, and now deleted: it counts once, and as long as deletions take.
    #[test]
    fn a_changed_pod_that_is_deleted_counts_once() {
        let budget = budget(0, |b| {
            b["status"]["unavailablePods"] = json!({"a": "2026-01-01T00:00:25Z"});
        });
        let status = taken(take(&budget, pod(true), Operation::Delete, now()));
        assert_eq!((status.unavailable_allowed, status.unavailable_pods.len()), (0, 0));
        assert_eq!(status.disrupted_pods["a"].0, now());
    }

    /// Let go long ago, and let go again: it may still come.
    #[test]
    fn a_note_lasts_from_the_last_time() {
        let budget = budget(0, |b| {
            b["status"]["disruptedPods"] = json!({"a": "2026-01-01T00:00:11Z"});
        });
        let again = taken(take(&budget, pod(true), Operation::Evict, now()));
        assert_eq!((again.unavailable_allowed, again.disrupted_pods["a"].0), (0, now()));
        let changed = taken(take(&budget, pod(true), Operation::Update, now()));
        assert_eq!(
            (changed.disrupted_pods.len(), changed.unavailable_pods["a"].0),
            (1, now())
        );
    }

    /// The clocks of nodes and of the API server are ahead, or off by any amount.
    #[test]
    fn a_note_is_later_than_what_is_known_of_the_pod() {
        for (created, ready, wanted) in [(0, 20, 30), (0, 30, 31), (0, 33, 34), (40, 20, 40), (0, 999, 90)] {
            let at = |second: i64| Some(Timestamp::from_second(now().as_second() - 30 + second).unwrap());
            let pod = Subject {
                created: at(created),
                ready_since: at(ready),
                ..pod(true)
            };
            let status = taken(take(&budget(1, |_| ()), pod, Operation::Update, now()));
            assert_eq!(Some(status.unavailable_pods["a"].0), at(wanted), "{created} {ready}");
        }
    }

    #[test]
    fn a_new_budget_holds_until_it_is_counted() {
        let fresh = |most: &str, created: &str| {
            budget(0, |b| {
                b["spec"]["maxUnavailable"] = json!(most);
                b["metadata"]["creationTimestamp"] = json!(created);
                b["status"] = json!({});
            })
        };
        let soon = "2026-01-01T00:00:11Z";
        assert!(matches!(
            take(&fresh("50%", soon), pod(true), Operation::Delete, now()),
            Verdict::Refused(Refusal::Uncounted { .. })
        ));
        // All may go, or nobody counts.
        for budget in [fresh("100%", soon), fresh("50%", "2026-01-01T00:00:10Z")] {
            assert_eq!(take(&budget, pod(true), Operation::Delete, now()), Verdict::Free);
        }
    }

    /// The note is about the pod that had the name before.
    #[test]
    fn a_new_pod_of_a_noted_name_is_asked_for() {
        let budget = budget(0, |b| {
            b["status"]["disruptedPods"] = json!({"a": "2025-12-31T23:59:50Z"});
        });
        assert!(matches!(
            take(&budget, pod(true), Operation::Delete, now()),
            Verdict::Refused(_)
        ));
    }

    #[test]
    fn a_narrower_spec_counts_before_it_was_counted_for() {
        let narrower = budget(1, |b| {
            b["metadata"]["generation"] = json!(3);
            b["spec"]["maxUnavailable"] = json!(0);
        });
        assert!(matches!(
            take(&narrower, pod(true), Operation::Delete, now()),
            Verdict::Refused(_)
        ));
        let more = budget(1, |b| {
            b["metadata"]["generation"] = json!(3);
            b["spec"]["protectTotalReplicas"] = json!(4);
        });
        assert_eq!(left(&more), 0, "more are to be there");
        // One of the four is the replacement of one that is to go: one less may go than are there.
        let replaced = budget(1, |b| {
            b["metadata"]["generation"] = json!(3);
            b["spec"]["maxUnavailable"] = json!(0);
            b["status"]["currentAvailable"] = json!(4);
        });
        assert_eq!(left(&replaced), 0);
        let mut wider = budget(0, |b| {
            b["metadata"]["generation"] = json!(3);
            b["spec"]["maxUnavailable"] = json!(2);
        });
        wider.status = taken(take(&wider, pod(true), Operation::Delete, now()));
        let other = Subject { name: "b", ..pod(true) };
        assert!(
            matches!(take(&wider, other, Operation::Delete, now()), Verdict::Refused(_)),
            "one more, not two"
        );
    }

    #[test]
    fn pods_can_be_exempt() {
        let budget = budget(0, |b| {
            b["spec"]["ignoredPodSelector"] = json!({"matchLabels": {"job": "x"}});
        });
        let pod = |meta: Value| json!({"metadata": meta});
        assert!(exempt(
            &budget,
            &pod(json!({"annotations": {names::NO_PROTECT: "true"}}))
        ));
        assert!(exempt(&budget, &pod(json!({"labels": {"job": "x"}}))));
        assert!(!exempt(
            &budget,
            &pod(json!({"labels": {"job": "y"}, "annotations": {names::NO_PROTECT: "no"}}))
        ));
    }
}
