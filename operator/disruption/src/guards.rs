//! What a planner has to heed beside its workload's own budget: PodUnavailableBudgets and PodDisruptionBudgets that select its pods,
//! and the quorum that it is to keep.
//!
//! A budget's status is behind what a planner has done itself a moment ago, so it is not all that counts: a guard also says how many pods must
//! remain available, and that is held against the pods as the planner sees them, which is never older than its own writes.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use afloat_api::Operation;

/// One limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    /// As sentences name it: `PodDisruptionBudget web`.
    pub name: String,
    /// The pods that it is about, by name; None: all of the workload.
    pub covers: Option<BTreeSet<Arc<str>>>,
    /// What it guards against.
    pub operations: BTreeSet<Operation>,
    /// How many may go, as its status says; None: it says nothing.
    pub stated: Option<usize>,
    /// How many must remain available.
    pub floor: usize,
    /// How many pods of others it is about that may be available.
    pub others: usize,
}

impl Guard {
    /// The majority of `replicas` pods.
    pub fn quorum(name: &str, replicas: usize) -> Self {
        Self {
            name: name.to_owned(),
            covers: None,
            operations: all(),
            stated: None,
            floor: replicas / 2 + 1,
            others: 0,
        }
    }

    fn is_about(&self, pod: &str) -> bool {
        self.covers.as_ref().is_none_or(|covers| covers.contains(pod))
    }
}

/// Everything that can be done to a pod.
pub fn all() -> BTreeSet<Operation> {
    [
        Operation::Delete,
        Operation::Update,
        Operation::Evict,
        Operation::Resize,
    ]
    .into()
}

/// What guards leave, while a plan is made.
#[derive(Clone, Debug, Default)]
pub struct Allowance<'a> {
    guards: Vec<Left<'a>>,
}

/// What one leaves.
#[derive(Clone, Debug)]
struct Left<'a> {
    guard: Cow<'a, Guard>,
    left: usize,
    /// Available pods that it is about, at the beginning.
    serving: usize,
}

impl<'a> Allowance<'a> {
    /// At the beginning of a plan. `available`: the names of the workload's available pods.
    pub fn of<'p>(
        guards: impl Iterator<Item = Cow<'a, Guard>>,
        available: impl Iterator<Item = &'p str> + Clone,
    ) -> Self {
        let left = |guard: Cow<'a, Guard>| {
            let serving = available.clone().filter(|pod| guard.is_about(pod)).count() + guard.others;
            let left = serving.saturating_sub(guard.floor);
            Left {
                left: guard.stated.map_or(left, |stated| stated.min(left)),
                guard,
                serving,
            }
        };
        Self {
            guards: guards.map(left).collect(),
        }
    }

    /// Whether nothing limits.
    pub fn is_free(&self) -> bool {
        self.guards.is_empty()
    }

    /// How many pods may go at most, whatever is done to them; None: any number.
    pub fn most(&self) -> Option<usize> {
        let whole = |one: &&Left<'_>| one.guard.covers.is_none() && one.guard.operations == all();
        self.guards.iter().filter(whole).map(|one| one.left).min()
    }

    /// Takes one for a pod; nothing is taken if one of the guards has nothing left.
    ///
    /// # Errors
    /// What holds the pod, as a sentence.
    pub fn spend(&mut self, pod: &str, operation: Operation) -> Result<(), String> {
        let concerned = |guard: &Guard| guard.is_about(pod) && guard.operations.contains(&operation);
        if let Some(said) = self.holds(concerned) {
            return Err(said);
        }
        for one in self.guards.iter_mut().filter(|one| concerned(&one.guard)) {
            one.left -= 1;
        }
        Ok(())
    }

    /// The sentence of the first guard that has nothing left.
    pub fn held(&self) -> Option<String> {
        self.holds(|_| true)
    }

    fn holds(&self, concerned: impl Fn(&Guard) -> bool) -> Option<String> {
        let one = self.guards.iter().find(|one| one.left == 0 && concerned(&one.guard))?;
        let (guard, serving) = (&one.guard, one.serving);
        Some(if serving > guard.floor {
            format!("held by {}, which lets no further pod go now", guard.name)
        } else {
            let pods = if guard.floor == 1 { "pod" } else { "pods" };
            format!(
                "held by {}: {} {pods} must be available, and {serving} are",
                guard.name, guard.floor
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PODS: [&str; 5] = ["a", "b", "c", "d", "e"];

    fn guard(stated: usize, floor: usize) -> Guard {
        Guard {
            name: "PodUnavailableBudget web".into(),
            stated: Some(stated),
            floor,
            ..Guard::quorum("", 0)
        }
    }

    #[test]
    fn a_majority_stays() {
        for (replicas, ready, left) in [
            (5, 5, 2),
            (5, 4, 1),
            (5, 3, 0),
            (4, 4, 1),
            (3, 3, 1),
            (2, 2, 0),
            (1, 1, 0),
        ] {
            let guards = [Guard::quorum("afloat.dev/quorum", replicas)];
            let allowance = Allowance::of(guards.iter().map(Cow::Borrowed), PODS.into_iter().take(ready));
            assert_eq!(allowance.most(), Some(left), "{ready} of {replicas}");
        }
    }

    /// The status says two and is behind: one of them has gone already.
    #[test]
    fn what_is_seen_counts_as_well() {
        let guards = [guard(2, 3)];
        assert_eq!(
            Allowance::of(guards.iter().map(Cow::Borrowed), PODS.into_iter()).most(),
            Some(2)
        );
        assert_eq!(
            Allowance::of(guards.iter().map(Cow::Borrowed), PODS.into_iter().take(4)).most(),
            Some(1)
        );
    }

    #[test]
    fn a_guard_is_about_its_pods_and_its_operations() {
        let narrow = Guard {
            covers: Some([Arc::from("a")].into()),
            operations: [Operation::Delete].into(),
            ..guard(0, 1)
        };
        let guards = [narrow];
        let mut allowance = Allowance::of(guards.iter().map(Cow::Borrowed), PODS.into_iter());
        assert_eq!(allowance.most(), None);
        assert_eq!(allowance.spend("b", Operation::Delete), Ok(()));
        assert_eq!(allowance.spend("a", Operation::Update), Ok(()));
        let said = allowance.spend("a", Operation::Delete).unwrap_err();
        assert_eq!(
            said,
            "held by PodUnavailableBudget web: 1 pod must be available, and 1 are"
        );
    }

    #[test]
    fn all_guards_have_to_let_a_pod_go() {
        let guards = [guard(1, 1), Guard::quorum("afloat.dev/quorum", 5)];
        let mut allowance = Allowance::of(guards.iter().map(Cow::Borrowed), PODS.into_iter());
        assert_eq!(allowance.spend("a", Operation::Update), Ok(()));
        let said = allowance.spend("b", Operation::Update).unwrap_err();
        assert_eq!(
            said,
            "held by PodUnavailableBudget web, which lets no further pod go now"
        );
        assert_eq!(allowance.most(), Some(0));
    }
}
