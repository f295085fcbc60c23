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

/// Rounds in which a world has to come to rest, each a whole step of everybody.
const ROUNDS: usize = 100;

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

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) states: usize,
    pub(super) moves: usize,
    pub(super) plans: usize,
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

    /// Every state that can be reached.
    pub(super) fn search(&mut self) -> Result<Found, String> {
        let mut start = State::empty(self.setup.replicas);
        if !self.setup.from_nothing {
            start = self
                .rest(&start)
                .map_err(|why| format!("before anything happened: {why}"))?;
        }
        start.edits = self.setup.edits;
        let mut states = vec![start];
        let mut parents = vec![0_u32];
        let mut known: HashMap<State, u32> = [(start, 0)].into();
        let mut moves = 0;
        let mut index = 0;
        while index < states.len() {
            let state = states[index];
            let trace = |model: &mut Self, why: String| model.trace(&states, &parents, index, &why);
            let found = match self.moves(&state) {
                Ok(found) => found,
                Err((last, why)) => return Err(trace(self, format!("{last:?}: {why}"))),
            };
            if let Err(why) = self.rest(&state) {
                return Err(trace(self, format!("then nothing goes wrong any more, and {why}")));
            }
            moves += found.len();
            for (_, next) in found {
                known.entry(next).or_insert_with(|| {
                    states.push(next);
                    parents.push(u32::try_from(index).unwrap());
                    u32::try_from(states.len() - 1).unwrap()
                });
            }
            index += 1;
        }
        Ok(Found {
            states: states.len(),
            moves,
            plans: self.plans.len(),
        })
    }

    /// Faults and edits stop, everybody does their work: the state in which nothing happens any more.
    fn rest(&mut self, state: &State) -> Result<State, String> {
        let mut path = Vec::new();
        let mut now = *state;
        now.edits = 0;
        let images = self.setup.images[usize::from(now.spec.target)];
        if images.contains(&BAD) || images.contains(&DOOMED) {
            now.spec.target = 0;
        }
        loop {
            if self.resting.contains(&now) {
                break;
            }
            path.push(now);
            if path.len() > ROUNDS {
                return Err(format!(
                    "it does not come to rest within {ROUNDS} rounds: {}",
                    self.describe(&now)
                ));
            }
            let next = self.round(&now)?;
            if next == now {
                self.check_goal(&now)?;
                break;
            }
            now = next;
        }
        self.resting.extend(path);
        Ok(now)
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
    fn check_goal(&mut self, state: &State) -> Result<(), String> {
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
        Ok(())
    }

    /// How a state came about.
    fn trace(&mut self, states: &[State], parents: &[u32], last: usize, why: &str) -> String {
        let mut path = vec![last];
        while path[path.len() - 1] != 0 {
            path.push(usize::try_from(parents[path[path.len() - 1]]).unwrap());
        }
        path.reverse();
        let mut lines = vec![format!("{} ({:?})", self.setup.name, self.planted)];
        lines.push(format!("  {}", self.describe(&states[0])));
        for pair in path.windows(2) {
            let next = states[pair[1]];
            let found = self.moves(&states[pair[0]]).unwrap_or_default();
            let found = found.iter().find(|(_, to)| *to == next);
            let what: Option<Move> = found.map(|(what, _)| *what);
            lines.push(format!("{what:?}\n  {}", self.describe(&next)));
        }
        lines.push(why.to_owned());
        lines.join("\n")
    }

    /// The state in short, for a reader of a trace.
    pub(super) fn describe(&self, state: &State) -> String {
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
