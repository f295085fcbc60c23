//! Which pods are to be updated, and which first: from the largest ordinal down, or in an order of labels.

use std::collections::{BTreeMap, BTreeSet};

use afloat_api::StatefulSet;

use super::places::Places;
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

/// The places of the outdated ones, by their names. Who is `held` has none.
pub(super) fn turns(order: &[&Pod], held: &BTreeSet<&str>, updated: impl Fn(&Pod) -> bool) -> BTreeMap<String, usize> {
    let outdated = order.iter().filter(|pod| !updated(pod) && !held.contains(pod.name()));
    let places = outdated.enumerate();
    places.map(|(place, pod)| (pod.name().to_owned(), place)).collect()
}
