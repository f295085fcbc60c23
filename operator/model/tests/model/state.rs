//! A state of the whole world, small enough to keep millions of.

/// Most pods at a time.
pub(super) const SLOTS: usize = 6;
/// No revision.
pub(super) const NONE: u8 = u8::MAX;

/// A place for a pod. All three are numbers of [`super::object::Objects`] and [`super::node::Nodes`]; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot {
    /// The object.
    pub(super) object: u16,
    /// What the node knows and runs, and what was done to the pod.
    pub(super) node: u16,
    /// The object as the controller sees it.
    pub(super) seen: u16,
}

/// What changes about the CloneSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Spec {
    /// Revision that the template has.
    pub(super) target: u8,
    pub(super) paused: bool,
    pub(super) replicas: u8,
    /// Revision in `status.currentRevision`; the rest of the status decides nothing.
    pub(super) current: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct State {
    pub(super) slots: [Slot; SLOTS],
    pub(super) spec: Spec,
    /// As the controller sees it.
    pub(super) spec_seen: Spec,
    /// Number of each revision; 0: it does not exist. Only the controller writes them, so it sees all.
    pub(super) ranks: [u8; 3],
    /// How often the user may still change the CloneSet, if that is limited.
    pub(super) edits: u8,
}

impl State {
    /// Nothing but a CloneSet.
    pub(super) fn empty(replicas: u8) -> Self {
        let spec = Spec {
            target: 0,
            paused: false,
            replicas,
            current: NONE,
        };
        Self {
            slots: [Slot::default(); SLOTS],
            spec,
            spec_seen: spec,
            ranks: [0; 3],
            edits: 0,
        }
    }

    /// Pods are interchangeable; of the revisions, only which is the newest matters.
    pub(super) fn canonical(mut self) -> Self {
        self.slots.sort_unstable();
        let newest = self.ranks.into_iter().max().unwrap_or(0);
        self.ranks = self
            .ranks
            .map(|rank| if rank == newest { 2.min(rank * 2) } else { rank.min(1) });
        self
    }

    /// The controller sees everything.
    pub(super) fn up_to_date(mut self) -> Self {
        for slot in &mut self.slots {
            slot.seen = slot.object;
        }
        self.spec_seen = self.spec;
        self
    }

    /// Places of pods that are there.
    pub(super) fn pods(&self) -> impl Iterator<Item = usize> + use<> {
        let slots = self.slots;
        (0..SLOTS).filter(move |index| slots[*index].object != 0)
    }

    /// Pods of which the controller sees an old version.
    pub(super) fn lagging(&self) -> usize {
        self.slots.iter().filter(|slot| slot.seen != slot.object).count()
    }
}
