//! What guards a workload's pods beside its own budget, as budgets of others and its annotations say.

use std::borrow::Cow;

use afloat_api::{boolean, names};
use afloat_disruption::guards::{Allowance, Guard};

use super::seen::{Seen, Turns};
use crate::workload::owner::Owner;
use crate::workload::roster::{Member, Relation};

/// What they leave at the beginning of a plan.
pub(super) fn allowance<'a>(seen: Seen<'a>) -> Allowance<'a> {
    let quorum = quorum(seen.owner) == Some(true);
    let quorum = quorum.then(|| Guard::quorum(names::QUORUM, seen.limits.replicas));
    let guards = seen
        .around
        .guards
        .iter()
        .map(Cow::Borrowed)
        .chain(quorum.map(Cow::Owned));
    let ours =
        move |member: &&'a Member| member.relation == Relation::Ours && member.available(seen.min_ready, seen.now);
    let available = seen.around.pods.members().iter().filter(ours);
    Allowance::of(guards, available.map(|member| member.pod().name()))
}

/// Whether a workload is to keep a majority; None if it says neither.
fn quorum(owner: Owner<'_>) -> Option<bool> {
    owner.annotation(names::QUORUM).map_or(Some(false), boolean)
}

/// Whether a workload wants evicted pods replaced before they go. One that has a place of its own cannot be: there is no other of
/// its name.
pub(super) fn replaces_evicted(seen: &Seen<'_>) -> bool {
    let asked = seen.owner.annotation(names::BEFORE_EVICTION);
    matches!(seen.turns, Turns::Any) && asked == Some(names::BEFORE_EVICTION_SURGE)
}

/// Sentences about annotations that mean nothing.
pub(super) fn misspelt(seen: &Seen<'_>) -> Vec<String> {
    let mut found = Vec::new();
    if quorum(seen.owner).is_none() {
        let text = seen.owner.annotation(names::QUORUM).unwrap_or_default();
        found.push(format!(
            "annotation {} is {text:?}, which is neither true nor false: no quorum is kept",
            names::QUORUM
        ));
    }
    match seen.owner.annotation(names::BEFORE_EVICTION) {
        None => {}
        Some(names::BEFORE_EVICTION_SURGE) if matches!(seen.turns, Turns::Any) => {}
        Some(names::BEFORE_EVICTION_SURGE) => found.push(format!(
            "annotation {} has no effect on a {}: its pods have places of their own, and nobody can take one beforehand",
            names::BEFORE_EVICTION,
            seen.owner.kind
        )),
        Some(text) => found.push(format!(
            "annotation {} is {text:?}, which means nothing: say {}",
            names::BEFORE_EVICTION,
            names::BEFORE_EVICTION_SURGE
        )),
    }
    found
}
