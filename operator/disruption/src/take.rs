//! What is asked before a pod goes, and what is noted if it may.

use std::fmt;

use afloat_api::{BudgetStatus, Matcher, Operation, PodUnavailableBudget, names};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use crate::count::desired;

/// Pods that may be noted at the same time, as in OpenKruise.
const NOTED: usize = 2000;

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
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (budget, why) = match self {
            Self::Spent { budget } => (budget, "pub unavailable allowed is negative"),
            Self::Unconfirmed { budget } => (
                budget,
                "DisruptedPods and UnavailablePods map too big - too many unavailable not confirmed by PUB controller",
            ),
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
pub fn labels(pod: &Value) -> std::collections::BTreeMap<String, String> {
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
    let desired = desired(&budget.spec, status.total_replicas);
    status.current_available.saturating_sub(desired).max(0)
}

/// Decides.
pub fn take(budget: &PodUnavailableBudget, pod: Subject<'_>, operation: Operation, now: Timestamp) -> Verdict {
    let status = &budget.status;
    if !pod.available || !budget.guards().contains(&operation) || desired(&budget.spec, status.total_replicas) == 0 {
        return Verdict::Free;
    }
    let meant = |since: &Time| {
        pod.created
            .is_none_or(|created| created.as_second() <= since.0.as_second())
    };
    let noted = |map: &std::collections::BTreeMap<String, Time>| map.get(pod.name).is_some_and(meant);
    if noted(&status.disrupted_pods) {
        return Verdict::Free;
    }
    let mut new = status.clone();
    // It counts already; but for longer from now on.
    if !noted(&status.unavailable_pods) {
        let name = || budget.metadata.name.clone().unwrap_or_default();
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
    let since = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    new.unavailable_pods.remove(pod.name);
    match operation {
        Operation::Delete | Operation::Evict => new.disrupted_pods.insert(pod.name.to_owned(), since),
        Operation::Update | Operation::Resize => new.unavailable_pods.insert(pod.name.to_owned(), since),
    };
    Verdict::Take(Box::new(new))
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
