//! Every state, once: what may happen in it, and that the world comes to rest from it.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use afloat_api::CloneSet;

use super::control::{Planned, Revisions, View};
use super::moves::Move;
use super::node::{BAD, DOOMED, Nodes};
use super::object::Objects;
use super::planted::Planted;
use super::setup::Setup;
use super::state::{SLOTS, Spec, State};
use crate::search::{Space, rest};

/// A world, and everything that was learnt about it.
pub(super) struct Model {
    pub(super) setup: Setup,
    pub(super) planted: Planted,
    pub(super) objects: Objects,
    pub(super) nodes: Nodes,
    pub(super) plans: HashMap<View, Rc<Planned>>,
    pub(super) sets: HashMap<Spec, CloneSet>,
    pub(super) revisions: HashMap<[u8; 3], Revisions>,
    pub(super) node_images: afloat_rollout::pod::images::Nodes,
    pub(super) steps: HashMap<(u16, u16, usize), (u16, u16)>,
    /// States from which it comes to rest.
    resting: HashSet<State>,
}

impl Model {
    pub(super) fn new(setup: Setup, planted: Planted) -> Self {
        Self {
            objects: Objects::new(&setup),
            nodes: Nodes::new(),
            plans: HashMap::new(),
            sets: HashMap::new(),
            revisions: HashMap::new(),
            node_images: setup.nodes(),
            steps: HashMap::new(),
            resting: HashSet::new(),
            setup,
            planted,
        }
    }
}

impl Space for Model {
    type State = State;
    type Move = Move;

    fn begin(&mut self) -> Result<State, String> {
        let mut start = State::empty(self.setup.replicas);
        if !self.setup.from_nothing {
            start = rest(self, &start).map_err(|why| format!("before anything happened: {why}"))?;
        }
        start.edits = self.setup.edits;
        Ok(start)
    }

    fn next(&mut self, state: &State) -> Result<Vec<(Move, State)>, String> {
        self.moves(state).map_err(|(last, why)| format!("{last:?}: {why}"))
    }

    /// A revision that cannot work is taken back.
    fn calm(&self, state: &State) -> State {
        let mut now = State { edits: 0, ..*state };
        let images = self.setup.images[usize::from(now.spec.target)];
        if images.contains(&BAD) || images.contains(&DOOMED) {
            now.spec.target = 0;
        }
        now
    }

    /// Everybody does what there is to do; only if that is nothing, time passes, and only if the controller asked for it
    /// it looks again.
    fn round(&mut self, state: &State) -> Result<State, String> {
        let mut next = self.control(&state.up_to_date())?;
        for place in 0..SLOTS {
            if next.slots[place].object != 0 {
                next = self.eager(&next, place);
            }
        }
        let next = next.up_to_date().canonical();
        if next != *state {
            return Ok(next);
        }
        let later = self.tick(&next);
        if self.planned(&next)?.wakes {
            if later == next {
                return Err(format!("the controller looks for ever at {}", self.describe(&next)));
            }
            return Ok(later);
        }
        if !self.planned(&later)?.writes.is_empty() {
            return Err(format!("nobody wakes the controller for {}", self.describe(&later)));
        }
        Ok(next)
    }

    /// What the user wanted has come, and nobody writes.
    fn goal(&mut self, state: &State) -> Result<Option<State>, String> {
        self.check_rest(state)?;
        let pods: Vec<_> = state.pods().map(|place| state.slots[place]).collect();
        let facts: Vec<_> = pods.iter().map(|slot| self.objects.facts(slot.object)).collect();
        let wanted = usize::from(state.spec.replicas);
        let available = facts.iter().filter(|facts| facts.available).count();
        let at = |revision: u8| facts.iter().filter(|facts| facts.revision == revision).count();
        let updated = at(state.spec.target);
        let kept = usize::from(self.setup.partition).min(wanted);
        let fine = pods.len() == wanted
            && available == wanted
            && (state.spec.paused || updated >= wanted - kept)
            && facts
                .iter()
                .all(|facts| facts.images == self.setup.images[usize::from(facts.revision)]);
        if !fine {
            return Err(format!("it rests at {}", self.describe(state)));
        }
        Ok(None)
    }

    fn resting(&mut self) -> &mut HashSet<State> {
        &mut self.resting
    }

    fn plans(&self) -> usize {
        self.plans.len()
    }

    fn title(&self) -> String {
        format!("{} ({:?})", self.setup.name, self.planted)
    }

    /// The state in short, for a reader of a trace.
    fn describe(&self, state: &State) -> String {
        let mut text = format!("{:?}", state.spec);
        if state.spec_seen != state.spec {
            text.push_str(&format!(", seen as {:?}", state.spec_seen));
        }
        text.push_str(&format!(", revisions {:?}", state.ranks));
        for (place, slot) in state.slots.iter().enumerate() {
            if slot.object != 0 {
                let node = self.nodes.get(slot.node);
                text.push_str(&format!(
                    "\n    web-{place} {}\n      {node}",
                    self.objects.describe(slot.object)
                ));
            }
            if slot.seen != slot.object {
                text.push_str(&format!("\n      seen as {}", self.objects.describe(slot.seen)));
            }
        }
        text
    }
}
