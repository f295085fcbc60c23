//! Which pods are to be updated, and which first: from the largest ordinal down, or in an order of labels.

use std::collections::{BTreeMap, BTreeSet};

use afloat_api::StatefulSet;
use jiff::{SignedDuration, Timestamp};

use super::places::Places;
use crate::pod::drain::Drain;
use crate::pod::lifecycle::State;
use crate::pod::object::Pod;
use crate::workload::order::prioritise;

/// The pods beyond the partition, in the order in which they come to their turn, whether they are outdated or not. A partition keeps the
/// smallest ordinals back; where the order is another one (`unorderedUpdate`), those that come last in it.
pub(super) fn beyond_partition<'a>(
    set: &StatefulSet,
    places: &Places<'a>,
    partition: usize,
    updated: impl Fn(&Pod) -> bool,
) -> Vec<&'a Pod> {
    let Some(unordered) = set.spec.unordered() else {
        let beyond = places.wanted.iter().skip(partition).rev();
        return beyond.filter_map(|place| place.pod()).collect();
    };
    let all = places.wanted.iter().rev().filter_map(|place| place.pod());
    let (done, mut waiting): (Vec<_>, Vec<_>) = all.partition(|pod| updated(pod));
    if let Some(strategy) = &unordered.priority_strategy {
        prioritise(&mut waiting, strategy);
    }
    waiting.truncate(waiting.len().saturating_sub(partition));
    [done, waiting].concat()
}

/// How long the order is kept for a pod that has stopped serving by itself.
const PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Turns<'a> {
    /// The places of the outdated pods, by their names.
    pub(super) places: BTreeMap<String, usize>,
    /// Outdated pods that do not serve and still come after others that do, with the time until which that holds.
    pub(super) later: Vec<(&'a Pod, Timestamp)>,
}

impl<'a> Turns<'a> {
    /// Of the outdated ones in this order. Who is `held` has none. A pod that does not serve costs no budget, but it is not updated before
    /// others whose turn comes before its own: in an order it is them that its clients wait for, and it may be mended meanwhile, as OpenKruise
    /// lets it be. After [`PATIENCE`] it is: else a pod that never serves would hold up what is to mend it (kubernetes #67250).
    pub(super) fn of(
        order: &[&'a Pod],
        held: &BTreeSet<&str>,
        updated: impl Fn(&Pod) -> bool,
        (min_ready, now): (SignedDuration, Timestamp),
    ) -> Self {
        let outdated = order
            .iter()
            .copied()
            .filter(|pod| !updated(pod) && !held.contains(pod.name()));
        let mut turns = Self::default();
        let mut others_first = false;
        for (place, pod) in outdated.enumerate() {
            if pod.available(min_ready, now) {
                others_first = true;
            } else if let Some(until) = patience(pod).filter(|until| others_first && *until > now) {
                turns.later.push((pod, until));
                continue;
            }
            turns.places.insert(pod.name().to_owned(), place);
        }
        turns
    }
}

/// Until when a pod that does not serve keeps its place; None for one whose update has begun.
fn patience(pod: &Pod) -> Option<Timestamp> {
    let begun = [State::PreparingUpdate, State::Updating, State::PreparingDelete].contains(&State::of(pod));
    if begun || Drain::of(pod).is_some() {
        return None;
    }
    let since = pod.ready_since().or(pod.metadata.created)?;
    since.checked_add(PATIENCE).ok()
}
