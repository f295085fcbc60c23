//! The outdated pods in the order in which they come to their turn. Of thousands a plan touches a few hundred, so they are
//! put in order only as far as they are asked for.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::planner::Planner;
use super::seen::Turns;
use crate::workload::order::{Standing, has_rules, update_sequence};
use crate::workload::roster::Member;

/// A pod's place in the order: those first that are on the way already, then the worst, then by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    not_begun: bool,
    standing: Standing,
    name: usize,
}

/// See the module.
pub(super) struct Queue<'a> {
    /// By name.
    pods: Vec<&'a Member>,
    order: Order,
}

enum Order {
    Ranks(BinaryHeap<Reverse<Rank>>),
    /// Places in `pods`, the first one last.
    Places(Vec<usize>),
}

impl<'a> Queue<'a> {
    /// The outdated pods that nothing in this plan is about yet.
    pub(super) fn of(planner: &Planner<'a>) -> Self {
        let decided = planner
            .written
            .iter()
            .filter_map(|name| planner.seen.pods.member_of(name));
        let decided: BTreeSet<*const Member> = decided.map(std::ptr::from_ref).collect();
        let open = |member: &&'a Member| {
            let specified =
                member.specified || planner.listed(member) || member.evicted && planner.evicted(member.pod());
            !specified && !decided.contains(&std::ptr::from_ref(*member))
        };
        let pods: Vec<&'a Member> = planner.tally.outdated.iter().copied().filter(open).collect();
        let order = match planner.seen.turns {
            Turns::Given(places) => Order::Places(by_place(planner, &pods, places)),
            Turns::Any if has_rules(planner.seen.rollout) => Order::Places(by_rules(planner, &pods)),
            Turns::Any => {
                let ranks = pods
                    .iter()
                    .enumerate()
                    .map(|(name, member)| rank(planner, member, name));
                Order::Ranks(ranks.map(Reverse).collect())
            }
        };
        Self { pods, order }
    }

    /// How many are left.
    pub(super) fn len(&self) -> usize {
        match &self.order {
            Order::Ranks(ranks) => ranks.len(),
            Order::Places(places) => places.len(),
        }
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Option<&'a Member> {
        let place = match &mut self.order {
            Order::Ranks(ranks) => ranks.pop()?.0.name,
            Order::Places(places) => places.pop()?,
        };
        Some(self.pods[place])
    }

    /// Takes those out that pass: how many, and the first of them.
    pub(super) fn take_out(&mut self, pass: impl Fn(&Member) -> bool) -> (usize, Option<&'a Member>) {
        let before = self.len();
        let pods = &self.pods;
        let first = match &mut self.order {
            Order::Ranks(ranks) => {
                let mut first: Option<Rank> = None;
                ranks.retain(|Reverse(rank)| {
                    let passes = pass(pods[rank.name]);
                    if passes && first.is_none_or(|first| *rank < first) {
                        first = Some(*rank);
                    }
                    !passes
                });
                first.map(|rank| rank.name)
            }
            Order::Places(places) => {
                let mut first = None;
                places.retain(|place| {
                    let passes = pass(pods[*place]);
                    first = if passes { Some(*place) } else { first };
                    !passes
                });
                first
            }
        };
        (before - self.len(), first.map(|place| pods[place]))
    }
}

fn rank(planner: &Planner<'_>, member: &Member, name: usize) -> Rank {
    Rank {
        not_begun: !planner.on_the_way(member),
        standing: member.standing,
        name,
    }
}

/// Where the workload has rules of its own all pods are needed to know the place of one.
fn by_rules(planner: &Planner<'_>, pods: &[&Member]) -> Vec<usize> {
    let all: Vec<_> = super::tally::ours(planner.seen.pods).collect();
    let waiting = pods.iter().map(|member| member.pod()).collect();
    let sequence = update_sequence(waiting, &all, planner.seen.rollout).into_iter();
    let place = |name: &str| pods.binary_search_by(|member| member.pod().name().cmp(name)).ok();
    begun_first(planner, pods, sequence.filter_map(|pod| place(pod.name())))
}

/// Where the order is given only those in it come to their turn.
fn by_place(planner: &Planner<'_>, pods: &[&Member], given: &BTreeMap<String, usize>) -> Vec<usize> {
    let place = |(index, member): (usize, &&Member)| Some((*given.get(member.pod().name())?, index));
    let mut places: Vec<_> = pods.iter().enumerate().filter_map(place).collect();
    places.sort_unstable();
    begun_first(planner, pods, places.into_iter().map(|(_, index)| index))
}

/// Those first that are on the way already; the first one last.
fn begun_first(planner: &Planner<'_>, pods: &[&Member], places: impl Iterator<Item = usize>) -> Vec<usize> {
    let (first, rest): (Vec<usize>, Vec<usize>) = places.partition(|place| planner.on_the_way(pods[*place]));
    let mut places = [first, rest].concat();
    places.reverse();
    places
}
