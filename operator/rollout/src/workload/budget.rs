//! How many: partition, maxUnavailable, maxSurge and the numbers of pods to create, delete and update.
//! The rules are OpenKruise's (spec/kruise-behaviour.md §16.2) unless said otherwise.

use afloat_api::Rollout;
use afloat_words::percent::scaled;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

pub use afloat_words::percent::Round;

/// A number, or a percentage of `total`. Text that is neither counts as 0, the careful choice for a budget.
pub fn resolve(value: &IntOrString, total: usize, round: Round) -> usize {
    let number = scaled(value, u32::try_from(total).unwrap_or(u32::MAX), round);
    let plain = || match value {
        IntOrString::String(text) => text.parse().ok(),
        IntOrString::Int(_) => None,
    };
    number
        .or_else(plain)
        .map_or(0, |number| usize::try_from(number).unwrap_or(0))
}

/// Pods that may be unavailable of `replicas`. A percentage rounds up, so that it is never 0 by rounding alone; beside a
/// surge it rounds down, as that lets the rollout go on.
pub fn max_unavailable(value: &IntOrString, replicas: usize, max_surge: usize) -> usize {
    let round = if max_surge == 0 { Round::Up } else { Round::Down };
    resolve(value, replicas, round)
}

/// How many pods stay at old revisions, 0 ..= replicas. A percentage rounds up, but below 100 % leaves at least one new
/// pod, and above 0 % at least one old one.
pub fn partition(value: &IntOrString, replicas: usize) -> usize {
    let kept = resolve(value, replicas, Round::Up).min(replicas);
    match value {
        IntOrString::String(text) if text.ends_with('%') && text != "100%" && replicas > 1 => kept.min(replicas - 1),
        _ => kept,
    }
}

/// What a workload wants, in numbers of pods. Each kind rounds in its own way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Pods wanted.
    pub replicas: usize,
    /// Pods to keep at old revisions.
    pub partition: usize,
    /// Pods that may be unavailable.
    pub max_unavailable: usize,
    /// Pods that may exist beyond `replicas`.
    pub max_surge: usize,
}

impl Limits {
    /// Those of pods without names of their own.
    pub fn anonymous(rollout: &Rollout, replicas: usize) -> Self {
        let max_surge = if rollout.paused {
            0
        } else {
            resolve(&rollout.max_surge, replicas, Round::Up)
        };
        Self {
            replicas,
            partition: partition(&rollout.partition, replicas),
            max_unavailable: max_unavailable(&rollout.max_unavailable, replicas, max_surge),
            max_surge,
        }
    }
}

/// What is counted before the numbers below can be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Pods wanted.
    pub replicas: usize,
    /// Pods to keep at old revisions.
    pub partition: usize,
    /// Active pods.
    pub total: usize,
    /// Active pods at the update revision.
    pub updated: usize,
    /// Active pods that are available.
    pub available: usize,
    /// Active pods that somebody asked to delete.
    pub to_delete: usize,
    /// Of those, pods whose eviction waits for their replacement.
    pub evicted: usize,
    /// Active pods that a preDelete hook holds, if they are not to count for scaling up.
    pub leaving: usize,
    /// Active pods that are neither available nor asked to be deleted.
    pub unavailable: usize,
    /// Pods that may be unavailable.
    pub max_unavailable: usize,
    /// Pods that may exist beyond `replicas`.
    pub max_surge: usize,
    /// Where an order of turns is given: outdated pods that have a place in it.
    pub turns: Option<usize>,
}

impl Count {
    /// Pods that are to move to the update revision. Never negative: pods beyond a raised partition stay updated.
    pub fn to_update(&self) -> usize {
        if let Some(turns) = self.turns {
            return turns;
        }
        let old = self.total - self.updated;
        let surplus_old = old.saturating_sub(self.partition);
        let missing_new = (self.replicas - self.partition.min(self.replicas)).saturating_sub(self.updated);
        surplus_old.min(missing_new)
    }

    /// Pods at the update revision that are to move back, as the partition does not allow as many.
    pub fn to_bring_back(&self) -> usize {
        let missing_old = self.partition.saturating_sub(self.total - self.updated);
        let allowed = self.replicas.saturating_sub(self.partition);
        missing_old.min(self.updated.saturating_sub(allowed))
    }

    /// Pods beyond `replicas` that are useful now.
    pub fn surge(&self) -> usize {
        // Who is evicted has a replacement beside that.
        let to_delete = self.to_delete - self.evicted;
        let for_deletion = (self.unavailable + to_delete)
            .saturating_sub(self.max_unavailable)
            .min(to_delete);
        self.max_surge.min(for_deletion.max(self.to_update()))
    }

    /// Available pods that may be taken out of service by us now, so that at least `replicas - max_unavailable` remain.
    /// This one figure guards updates, specified deletions and scaling down alike.
    pub fn may_go(&self) -> usize {
        self.available
            .saturating_sub(self.replicas.saturating_sub(self.max_unavailable))
    }

    /// Pods to create.
    pub fn to_create(&self, surge: usize) -> usize {
        (self.replicas + surge + self.evicted).saturating_sub(self.total - self.leaving)
    }

    /// Pods to delete because there are too many.
    pub fn to_remove(&self, surge: usize) -> usize {
        self.total
            .saturating_sub(self.to_delete)
            .saturating_sub(self.replicas + surge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> IntOrString {
        IntOrString::String(value.into())
    }

    #[test]
    fn percentages_round() {
        for (value, total, up, down) in [
            ("20%", 4, 1, 0),
            ("20%", 5, 1, 1),
            ("50%", 3, 2, 1),
            ("0%", 9, 0, 0),
            ("x", 9, 0, 0),
        ] {
            assert_eq!(resolve(&text(value), total, Round::Up), up, "{value} of {total}");
            assert_eq!(resolve(&text(value), total, Round::Down), down, "{value} of {total}");
        }
        assert_eq!(resolve(&IntOrString::Int(-1), 9, Round::Up), 0);
    }

    #[test]
    fn partition_leaves_one_on_each_side() {
        for (value, replicas, kept) in [
            (text("99%"), 5, 4),
            (text("1%"), 5, 1),
            (text("100%"), 5, 5),
            (text("0%"), 5, 0),
            (IntOrString::Int(9), 5, 5),
        ] {
            assert_eq!(partition(&value, replicas), kept, "{value:?} of {replicas}");
        }
    }

    #[test]
    fn numbers_of_a_plain_rollout() {
        let count = Count {
            replicas: 5,
            total: 5,
            available: 5,
            max_unavailable: 2,
            ..Count::default()
        };
        assert_eq!((count.to_update(), count.surge(), count.may_go()), (5, 0, 2));
        let half = Count {
            updated: 2,
            available: 4,
            partition: 2,
            ..count
        };
        assert_eq!((half.to_update(), half.may_go()), (1, 1));
    }

    #[test]
    fn surge_lets_a_set_without_budget_move() {
        let count = Count {
            replicas: 3,
            total: 3,
            available: 3,
            max_surge: 1,
            ..Count::default()
        };
        assert_eq!(
            (count.surge(), count.to_create(count.surge()), count.may_go()),
            (1, 1, 0)
        );
        let surged = Count {
            total: 4,
            updated: 1,
            available: 4,
            ..count
        };
        assert_eq!((surged.to_update(), surged.may_go()), (2, 1));
    }
}
