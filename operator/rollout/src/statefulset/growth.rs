//! How far the claims of each pod have grown.

use std::collections::BTreeSet;

use afloat_api::{Gates, StatefulSet};

use super::claims::Claims;
use super::ordinals::{Ordinal, ordinal};
use super::places::Places;
use crate::pod::object::Pod;
use crate::workload::kind::Workload;

/// Whose claims are how far.
#[derive(Debug, Default)]
pub(super) struct Growth<'a> {
    /// Pods that are not updated before their claims have grown.
    pub(super) held: BTreeSet<&'a str>,
    /// Pods whose claims have been asked to grow and have not yet.
    pub(super) under_way: Vec<&'a Pod>,
    /// Pods whose claims are to be asked, in order.
    pub(super) to_ask: Vec<(Ordinal, &'a Pod)>,
}

impl<'a> Growth<'a> {
    /// Looks; nothing where claims do not grow.
    pub(super) fn of(
        set: &StatefulSet,
        claims: &Claims<'_>,
        places: &Places<'a>,
        order: &[&'a Pod],
        gates: Gates,
    ) -> Self {
        let mut growth = Self::default();
        let rollout = set.spec.rollout();
        if !gates.grow_claims || !set.spec.grows_claims() || claims.none() || rollout.on_delete {
            return growth;
        }
        let owner = set.owner();
        for pod in order {
            let Some(ordinal) = ordinal(owner.name(), pod.name()) else {
                continue;
            };
            if claims.at(ordinal).any(|(template, claim)| !claim.holds(template)) {
                growth.held.insert(pod.name());
                growth.to_ask.push((ordinal, pod));
            } else if claims
                .at(ordinal)
                .any(|(_, claim)| !claim.has_grown() && !claim.waits_for_pod())
            {
                growth.held.insert(pod.name());
            }
        }
        let grows = |ordinal: Ordinal| claims.at(ordinal).any(|(_, claim)| claim.alive() && !claim.has_grown());
        for place in &places.wanted {
            growth.under_way.extend(place.pod().filter(|_| grows(place.ordinal)));
        }
        growth
    }
}
