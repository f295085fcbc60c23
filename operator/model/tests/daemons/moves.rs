//! Everything that may happen next.

use afloat_api::names;
use serde_json::json;

use super::search::Model;
use super::setup::{Ground, REVISIONS, State};

/// What has happened, for the report of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// The controller makes a plan, and carries out the writes whose bits are set.
    Control(u32),
    /// It starts anew, and sees everything.
    Restart,
    SeePod(usize),
    SeeNodes,
    /// A node does what there is to do for a pod.
    Node(usize),
    /// A container ends, and its node has not started it again yet.
    Crash(usize),
    Fail(usize),
    /// The hook lets go of a pod that is prepared for its deletion.
    LetGo(usize),
    DeletePod(usize),
    Specify(usize),
    Want(u8),
    Change(usize, Ground),
}

/// Writes of which each subset is tried.
const SUBSETS: u32 = 6;

impl Model {
    /// All moves from a state, with where they lead.
    pub(super) fn moves(&mut self, state: &State) -> Result<Vec<(Move, State)>, (Move, String)> {
        let mut found = Vec::new();
        let planned = self.planned(state).map_err(|why| (Move::Control(0), why))?;
        let writes = u32::try_from(planned.len()).unwrap_or(u32::MAX);
        let last = 1_u32 << writes.min(SUBSETS);
        let all = (writes > SUBSETS).then_some(u32::MAX);
        for which in (1..last).chain(all) {
            let made = Move::Control(which);
            let next = self.carry_out(state, &planned, which).map_err(|why| (made, why))?;
            found.push((made, next));
        }
        found.push((Move::Restart, state.up_to_date()));
        for place in 0..state.slots.len() {
            let mut next = *state;
            next.slots[place].seen = next.slots[place].object;
            found.push((Move::SeePod(place), next.canonical()));
        }
        let seen = State {
            nodes_seen: state.nodes,
            ..*state
        };
        found.push((Move::SeeNodes, seen));
        for place in state.pods() {
            self.happens_to(state, place, &mut found);
        }
        self.edits(state, &mut found);
        found.retain(|(_, next)| next != state);
        Ok(found)
    }

    fn happens_to(&mut self, state: &State, place: usize, found: &mut Vec<(Move, State)>) {
        let object = state.slots[place].object;
        let facts = self.objects.facts(object).clone();
        let mut to = |model: &Self, made: Move, object: u16| found.push((made, model.noticed(state, place, object)));
        let after = self.node_step(state, place);
        to(self, Move::Node(place), after);
        if facts.terminating {
            return;
        }
        if self.setup.failures && facts.bound && facts.active {
            let object = self.objects.spoil(object, false);
            to(self, Move::Crash(place), object);
        }
        if self.setup.failures && facts.active {
            let object = self.objects.spoil(object, true);
            to(self, Move::Fail(place), object);
        }
        if let Some(after) = self.let_go(state, place) {
            to(self, Move::LetGo(place), after);
        }
        if self.setup.deletions && !facts.hooked {
            let object = self.objects.terminate(object);
            to(self, Move::DeletePod(place), object);
        }
        if self.setup.specified && facts.active {
            let asked = json!({"metadata": {"labels": {names::SPECIFIED_DELETE: "true"}}});
            let object = self.objects.patched(object, &asked);
            to(self, Move::Specify(place), object);
        }
    }

    /// What a node makes of a pod: it runs, or is gone; without the node it is gone, too, if it ever was there.
    pub(super) fn node_step(&mut self, state: &State, place: usize) -> u16 {
        let slot = state.slots[place];
        let facts = self.objects.facts(slot.object);
        let gone = state.nodes[usize::from(slot.node)] == Ground::Gone;
        match () {
            () if facts.terminating || gone && facts.bound => 0,
            () if gone || !facts.active => slot.object,
            () => self.objects.run(slot.object),
        }
    }

    /// The object once its hook has let go.
    pub(super) fn let_go(&mut self, state: &State, place: usize) -> Option<u16> {
        let facts = self.objects.facts(state.slots[place].object);
        let label = self.setup.label().filter(|_| facts.prepared && facts.hooked)?;
        let patch = json!({"metadata": {"labels": {label: null}}});
        Some(self.objects.patched(state.slots[place].object, &patch))
    }

    /// After somebody else changed a pod: the controller sees it later, if it lags so far; else at once.
    fn noticed(&self, state: &State, place: usize, object: u16) -> State {
        let mut next = *state;
        next.slots[place].object = object;
        if next.lagging() > self.setup.lag {
            next.slots[place].seen = object;
        }
        next.canonical()
    }

    fn edits(&self, state: &State, found: &mut Vec<(Move, State)>) {
        if state.edits == 0 {
            return;
        }
        let edits = state.edits - 1;
        for target in (0..REVISIONS).filter(|target| *target != state.target) {
            found.push((
                Move::Want(target),
                State {
                    target,
                    edits,
                    ..*state
                },
            ));
        }
        if !self.setup.moving_nodes {
            return;
        }
        for node in 0..self.setup.nodes {
            for ground in [Ground::Good, Ground::NoSchedule, Ground::NoExecute, Ground::Gone] {
                let mut next = State { edits, ..*state };
                next.nodes[node] = ground;
                if self.setup.lag == 0 {
                    next.nodes_seen = next.nodes;
                }
                if state.nodes[node] != ground {
                    found.push((Move::Change(node, ground), next));
                }
            }
        }
    }
}
