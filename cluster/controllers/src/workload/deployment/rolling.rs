//! The arithmetic of a rolling update.

use std::sync::Arc;

use crate::objects::{Deployment, ReplicaSet, annotation};

use super::sets::{Changes, DESIRED, Limits, MAX, Sets};

/// The most pods that a ReplicaSet has or will have: it may not have removed its surplus yet.
fn present(set: &ReplicaSet) -> i32 {
    set.replicas().max(set.status.replicas)
}

/// Whether the status is about the present spec. Before that nothing is sure: the ReplicaSet may have had another size in
/// between, of which neither spec nor status tells.
fn observed(set: &ReplicaSet) -> bool {
    set.status.observed_generation >= set.metadata.generation.unwrap_or(0)
}

/// Available pods that are sure to remain: all that it has still to remove might be available ones.
fn sure(set: &ReplicaSet) -> i32 {
    if !observed(set) {
        return 0;
    }
    let surplus = (set.status.replicas - set.replicas()).max(0);
    (set.status.available_replicas - surplus).clamp(0, set.replicas())
}

/// One step of the update: more of the new, as many fewer of the old as the budgets allow. Both may happen at once: the new
/// only counts once it is available, the old as long as it is there.
pub(super) fn roll(sets: &Sets, limits: Limits, changes: &mut Changes) {
    let total: i32 = sets.all().map(|set| present(set)).sum();
    let room = if sets.all().all(|set| observed(set)) {
        (limits.most() - total).max(0)
    } else {
        0
    };
    match &sets.new {
        // Made even if there is no room yet: its name and revision are of use already.
        None => changes.create = Some(room.min(limits.replicas)),
        Some(new) if new.replicas() > limits.replicas => changes.set(new, limits.replicas),
        Some(new) => {
            changes.set(new, new.replicas() + room.min(limits.replicas - new.replicas()));
        }
    }
    shrink_old(sets, limits, changes);
}

fn shrink_old(sets: &Sets, limits: Limits, changes: &mut Changes) {
    let asked: i32 = sets.all().map(|set| set.replicas()).sum();
    let new_unavailable = sets.new.as_ref().map_or(0, |new| new.replicas() - sure(new));
    // As if every old pod were available: what may go at most.
    let mut most = asked - limits.least_available() - new_unavailable;
    if most <= 0 {
        return;
    }
    let mut left: Vec<i32> = sets.old.iter().map(|set| set.replicas()).collect();
    // Pods that serve nobody go first: they cost nothing.
    for (set, left) in sets.old.iter().zip(&mut left) {
        let settled = set.status.replicas <= set.replicas() && observed(set);
        if settled {
            let useless = (set.replicas() - set.status.available_replicas).clamp(0, most);
            *left -= useless;
            most -= useless;
        }
    }
    let available: i32 = sets.all().map(|set| sure(set)).sum();
    let mut spare = (available - limits.least_available()).clamp(0, most);
    for (set, left) in sets.old.iter().zip(&mut left) {
        let useful = (*left).min(spare);
        *left -= useful;
        spare -= useful;
        changes.set(set, *left);
    }
}

/// Whether the size asked for changed since the ReplicaSets were sized.
pub(super) fn was_scaled(_: &Deployment, sets: &Sets, limits: Limits) -> bool {
    sets.all().filter(|set| set.replicas() > 0).any(|set| {
        let desired: Option<i32> = annotation(&set.metadata, DESIRED).and_then(|text| text.parse().ok());
        desired.is_some_and(|desired| desired != limits.replicas)
    })
}

/// Resizes in proportion, so that a scaled Deployment in the middle of an update keeps its mixture.
pub(super) fn rescale(deployment: &Deployment, sets: &Sets, limits: Limits, changes: &mut Changes) {
    let mut active: Vec<&Arc<ReplicaSet>> = sets.all().filter(|set| set.replicas() > 0).collect();
    if active.len() <= 1 {
        // None has pods: the new one takes them all, or the latest if there is no new one (paused before its first pod).
        if let Some(only) = active.first().copied().or(sets.new.as_ref()).or(sets.old.last()) {
            changes.set(only, limits.replicas);
        }
        return;
    }
    let complete = sets.new.as_ref().filter(|new| {
        new.replicas() == limits.replicas
            && new.status.available_replicas == limits.replicas
            && desired_of(new) == Some(limits.replicas)
    });
    if complete.is_some() {
        for set in &sets.old {
            changes.set(set, 0);
        }
        return;
    }
    let total: i32 = active.iter().map(|set| set.replicas()).sum();
    let allowed = if limits.replicas > 0 { limits.most() } else { 0 };
    let to_add = allowed - total;
    // The largest first; among equals the newer when growing, the older when shrinking.
    active.reverse();
    if to_add < 0 {
        active.reverse();
    }
    active.sort_by_key(|set| std::cmp::Reverse(set.replicas()));
    let mut sizes: Vec<i32> = Vec::with_capacity(active.len());
    let mut added = 0;
    for set in &active {
        let share = if to_add == 0 {
            0
        } else {
            proportion(deployment, set, limits, to_add - added)
        };
        added += share;
        sizes.push((set.replicas() + share).max(0));
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    for (set, size) in active.iter().zip(sizes) {
        changes.set(set, size);
    }
}

fn desired_of(set: &ReplicaSet) -> Option<i32> {
    annotation(&set.metadata, DESIRED).and_then(|text| text.parse().ok())
}

/// A ReplicaSet's share of what is left to add (or, negative, to remove).
fn proportion(deployment: &Deployment, set: &ReplicaSet, limits: Limits, left: i32) -> i32 {
    let before: i64 = annotation(&set.metadata, MAX)
        .and_then(|text| text.parse().ok())
        .filter(|most| *most > 0)
        .unwrap_or(i64::from(deployment.status.replicas.max(1)));
    let size = i64::from(set.replicas());
    // Rounded to nearest.
    let target = if limits.replicas == 0 {
        0
    } else {
        (2 * size * i64::from(limits.most()) + before) / (2 * before)
    };
    let share = i32::try_from(target - size).unwrap_or(left);
    if left > 0 {
        share.clamp(0, left)
    } else {
        share.clamp(left, 0)
    }
}
