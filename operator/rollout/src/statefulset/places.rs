//! Who is where: each wanted ordinal with whoever has its name, and the pods at other ordinals.

use std::collections::BTreeSet;

use super::ordinals::{Ordinal, Ordinals, ordinal};
use crate::pod::object::Pod;
use crate::workload::roster::{Member, Relation, Roster};

/// A wanted ordinal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) ordinal: Ordinal,
    /// Whoever has the name, whether it is the set's pod or not.
    pub(super) member: Option<&'a Member>,
}

impl<'a> Place<'a> {
    /// The pod, where it is the set's and active.
    pub(super) fn pod(&self) -> Option<&'a Pod> {
        let ours = self.member.filter(|member| member.relation == Relation::Ours);
        ours.map(Member::pod)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Places<'a> {
    /// From the smallest ordinal to the largest.
    pub(super) wanted: Vec<Place<'a>>,
    /// The set's pods at ordinals that are not wanted, the largest first.
    pub(super) condemned: Vec<(Ordinal, &'a Member)>,
    /// Active pods that the set controls and that have a name which it gives no pod.
    pub(super) nameless: Vec<&'a Member>,
}

fn controlled(member: &Member) -> bool {
    matches!(member.relation, Relation::Ours | Relation::Leaving)
}

impl<'a> Places<'a> {
    /// Looks at all pods.
    pub(super) fn of(set: &str, ordinals: &Ordinals, pods: &'a Roster) -> Self {
        let mut named = Vec::new();
        let mut places = Self::default();
        for member in pods.members() {
            match ordinal(set, member.pod().name()) {
                Some(ordinal) => named.push((ordinal, member)),
                None if member.relation == Relation::Ours => places.nameless.push(member),
                None => {}
            }
        }
        named.sort_unstable_by_key(|(ordinal, _)| *ordinal);
        let mut rest = named.iter().copied().peekable();
        for ordinal in ordinals.iter() {
            while rest.next_if(|(other, _)| *other < ordinal).is_some() {}
            let member = rest.next_if(|(other, _)| *other == ordinal).map(|(_, member)| member);
            places.wanted.push(Place { ordinal, member });
        }
        let others = named.into_iter().rev();
        places.condemned = others
            .filter(|(ordinal, member)| controlled(member) && !ordinals.wants(*ordinal))
            .collect();
        places
    }

    /// Names of active pods of the set that are to go.
    pub(super) fn excess(&self) -> BTreeSet<String> {
        let condemned = self.condemned.iter().map(|(_, member)| *member);
        let all = condemned.chain(self.nameless.iter().copied());
        let active = all.filter(|member| member.relation == Relation::Ours);
        active.map(|member| member.pod().name().to_owned()).collect()
    }

    /// The set's pods that have an ordinal, those that are going and those that are over included.
    pub(super) fn controlled(&self) -> impl Iterator<Item = (Ordinal, &'a Member)> + '_ {
        let wanted = self
            .wanted
            .iter()
            .filter_map(|place| Some((place.ordinal, place.member?)));
        let wanted = wanted.filter(|(_, member)| controlled(member));
        wanted.chain(self.condemned.iter().copied())
    }
}
