//! Which rollouts there are, and which fault strikes each. Pure: the seed decides everything.

use std::collections::{BTreeSet, VecDeque};

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

/// What the user may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub(crate) enum FaultChoice {
    /// Rollouts without any
    None,
    /// The operator's agent of a node is killed, and started again after a while
    Reporter,
    /// The node agent of a node is killed, and started again after a while
    Agent,
    /// The operator is killed at every one of its writes: after each, and in another rollout before each second one
    Operator,
    /// No part of the cluster reaches the API server for a while: it refuses, and in another rollout it is silent
    Api,
}

/// What strikes during a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Fault {
    None,
    Reporter,
    Agent,
    /// Each write of the operator is its last, and it never hears of it.
    OperatorAfterWrite,
    /// Each second write of the operator is never made.
    OperatorBeforeWrite,
    ApiRefuses,
    ApiSilent,
}

/// What is rolled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Motion {
    /// Another image, in the pods that are there.
    InPlace,
    /// Another image, in new pods.
    Recreate,
    /// Half of the pods leave, and as many come.
    Scale,
}

/// One rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Round {
    pub(super) motion: Motion,
    pub(super) fault: Fault,
    /// After how many of the operator's writes the fault strikes; those of the operator strike at every one.
    pub(super) at_write: u64,
    /// Whose agent or reporter it is.
    pub(super) node: usize,
}

/// Rollouts without end. A pass has every fault once; three passes have each with every motion.
pub(super) struct Plan {
    dice: StdRng,
    faults: Vec<Fault>,
    nodes: usize,
    writes: u64,
    pass: usize,
    next: VecDeque<Round>,
}

const MOTIONS: [Motion; 3] = [Motion::InPlace, Motion::Recreate, Motion::Scale];

impl FaultChoice {
    fn faults(self) -> &'static [Fault] {
        match self {
            Self::None => &[Fault::None],
            Self::Reporter => &[Fault::Reporter],
            Self::Agent => &[Fault::Agent],
            Self::Operator => &[Fault::OperatorAfterWrite, Fault::OperatorBeforeWrite],
            Self::Api => &[Fault::ApiRefuses, Fault::ApiSilent],
        }
    }
}

impl Fault {
    /// In words.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Reporter => "reporter killed",
            Self::Agent => "node agent killed",
            Self::OperatorAfterWrite => "operator killed after every write",
            Self::OperatorBeforeWrite => "operator killed before every 2nd write",
            Self::ApiRefuses => "API server refuses",
            Self::ApiSilent => "API server is silent",
        }
    }
}

impl Motion {
    /// In words.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::InPlace => "in place",
            Self::Recreate => "recreate",
            Self::Scale => "scale in, out",
        }
    }
}

impl Plan {
    /// Faults strike at one of the first `writes` writes of the operator, or one of `nodes` nodes.
    pub(super) fn new(seed: u64, chosen: &[FaultChoice], nodes: usize, writes: u64) -> Self {
        let faults: BTreeSet<Fault> = chosen.iter().flat_map(|choice| choice.faults()).copied().collect();
        Self {
            dice: StdRng::seed_from_u64(seed),
            faults: faults.into_iter().collect(),
            nodes: nodes.max(1),
            writes: writes.max(1),
            pass: 0,
            next: VecDeque::new(),
        }
    }

    /// Rollouts of one pass.
    pub(super) fn pass_length(&self) -> usize {
        self.faults.len()
    }

    /// The next rollout.
    pub(super) fn next(&mut self) -> Round {
        loop {
            if let Some(round) = self.next.pop_front() {
                return round;
            }
            let mut rounds = Vec::new();
            for (number, fault) in self.faults.iter().enumerate() {
                rounds.push(Round {
                    motion: MOTIONS[(number + self.pass) % MOTIONS.len()],
                    fault: *fault,
                    at_write: self.dice.random_range(1..=self.writes),
                    node: self.dice.random_range(0..self.nodes),
                });
            }
            if rounds.is_empty() {
                rounds.push(Round {
                    motion: MOTIONS[self.pass % MOTIONS.len()],
                    fault: Fault::None,
                    at_write: 1,
                    node: 0,
                });
            }
            rounds.shuffle(&mut self.dice);
            self.next.extend(rounds);
            self.pass += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [FaultChoice; 5] = [
        FaultChoice::None,
        FaultChoice::Reporter,
        FaultChoice::Agent,
        FaultChoice::Operator,
        FaultChoice::Api,
    ];

    #[test]
    fn three_passes_have_every_fault_with_every_motion() {
        let mut plan = Plan::new(7, &ALL, 3, 5);
        let length = plan.pass_length();
        assert_eq!(length, 7);
        let first: BTreeSet<Fault> = (0..length).map(|_| plan.next().fault).collect();
        assert_eq!(first.len(), length, "each fault in the first pass");
        let mut plan = Plan::new(7, &ALL, 3, 5);
        let pairs: BTreeSet<(Fault, Motion)> = (0..3 * length)
            .map(|_| plan.next())
            .map(|round| (round.fault, round.motion))
            .collect();
        assert_eq!(pairs.len(), 3 * length);
    }

    #[test]
    fn a_seed_is_a_plan() {
        let rounds = |seed| {
            let mut plan = Plan::new(seed, &ALL, 3, 5);
            (0..20).map(|_| plan.next()).collect::<Vec<_>>()
        };
        assert_eq!(rounds(1), rounds(1));
        assert_ne!(rounds(1), rounds(2));
        assert!(
            rounds(1)
                .iter()
                .all(|round| round.node < 3 && (1..=5).contains(&round.at_write))
        );
    }

    #[test]
    fn one_fault_meets_all_motions() {
        let mut plan = Plan::new(0, &[FaultChoice::Agent], 1, 1);
        let motions: BTreeSet<Motion> = (0..3).map(|_| plan.next().motion).collect();
        assert_eq!(motions.len(), 3);
    }
}
