//! What may happen next.

use afloat_api::names;
use serde_json::json;

use super::node::Step;
use super::search::Model;
use super::setup::UNLIMITED;
use super::state::{Slot, Spec, State};
use crate::merge::merge;

/// Steps of a node that are taken together, where it takes them one by one, and where it does not.
const FINE: &[&[Step]] = &[
    &[Step::Bind],
    &[Step::See],
    &[Step::Act(0)],
    &[Step::Act(1)],
    &[Step::Ready],
    &[Step::Report],
    &[Step::Crash(0)],
    &[Step::Crash(1)],
    &[Step::Fail],
    &[Step::Gone],
];
const COARSE: &[&[Step]] = &[
    &[Step::Bind, Step::See, Step::Act(0), Step::Act(1)],
    &[Step::Report],
    &[Step::Ready, Step::Report],
    &[Step::Crash(0)],
    &[Step::Fail],
    &[Step::Gone],
];
/// A node that does all it can.
const EAGER: &[Step] = &[
    Step::Gone,
    Step::Bind,
    Step::See,
    Step::Act(0),
    Step::Act(1),
    Step::Fail,
    Step::Ready,
    Step::Report,
];

#[allow(dead_code)] // The fields are for Debug alone: a trace tells who did what.
#[derive(Clone, Copy, Debug)]
pub(super) enum Move {
    /// The controller sees a pod as it is.
    SeePod(usize),
    /// The controller sees the CloneSet as it is.
    SeeSet,
    /// The controller starts anew: it has forgotten what it waited for, and lists everything.
    Restart,
    /// The controller plans, and carries out the writes whose bits are set.
    Control(u32),
    Node(usize, &'static [Step]),
    /// The user's hook controller does its part.
    Hook(usize),
    /// The user changes the CloneSet.
    Edit(Spec),
    /// The user deletes a pod, or asks for its deletion.
    DeletePod(usize),
    Specify(usize),
    /// A quiet period passes.
    Tick,
}

impl Model {
    /// All moves from a state, with where they lead.
    pub(super) fn moves(&mut self, state: &State) -> Result<Vec<(Move, State)>, (Move, String)> {
        let mut found = Vec::new();
        self.controllers_moves(state, &mut found)?;
        for place in state.pods() {
            let steps = if self.setup.fine { FINE } else { COARSE };
            for steps in steps {
                let next = self.node_steps(state, place, steps);
                found.push((Move::Node(place, steps), self.noticed(state, next, place)));
            }
            let next = self.hook_step(state, place);
            found.push((Move::Hook(place), self.noticed(state, next, place)));
            self.bother(state, place, &mut found);
        }
        self.edits(state, &mut found);
        if self.setup.grace || self.setup.settles() {
            let in_step = |slot: &Slot| self.nodes.get(slot.node).in_step();
            // Nodes act within the time that a container is watched for: the planner relies on it.
            if !self.setup.settles() || state.slots.iter().all(in_step) {
                found.push((Move::Tick, self.tick(state)));
            }
        }
        found.retain(|(_, next)| next != state);
        Ok(found)
    }

    fn controllers_moves(&mut self, state: &State, found: &mut Vec<(Move, State)>) -> Result<(), (Move, String)> {
        for place in 0..state.slots.len() {
            if state.slots[place].seen != state.slots[place].object {
                let mut next = *state;
                next.slots[place].seen = next.slots[place].object;
                found.push((Move::SeePod(place), next.canonical()));
            }
        }
        if state.spec != state.spec_seen {
            let mut next = *state;
            next.spec_seen = next.spec;
            found.push((Move::SeeSet, next));
        }
        found.push((Move::Restart, state.up_to_date().canonical()));
        let planned = self.planned(state).map_err(|why| (Move::Control(0), why))?;
        let count = u32::try_from(planned.writes.len()).unwrap();
        for which in 1..1_u32 << count.min(8) {
            let control = Move::Control(which);
            let next = self.carry_out(state, &planned, which).map_err(|why| (control, why))?;
            found.push((control, next));
        }
        Ok(())
    }

    /// The controller's whole plan, all that it sees being up to date.
    pub(super) fn control(&mut self, state: &State) -> Result<State, String> {
        let planned = self.planned(state)?;
        self.carry_out(state, &planned, u32::MAX)
    }

    pub(super) fn node_steps(&mut self, state: &State, place: usize, steps: &'static [Step]) -> State {
        let mut next = *state;
        let Slot { object, node, .. } = next.slots[place];
        let key = (object, node, steps.as_ptr() as usize);
        let known = self.steps.get(&key).copied();
        let (object, node) = known.unwrap_or_else(|| {
            let mut pod = (object, node);
            for step in steps.iter().copied() {
                if pod.0 != 0 {
                    pod = self.objects.node_step(&mut self.nodes, pod, step, &self.setup);
                }
            }
            pod
        });
        self.steps.insert(key, (object, node));
        next.slots[place].object = object;
        next.slots[place].node = node;
        next
    }

    pub(super) fn eager(&mut self, state: &State, place: usize) -> State {
        let state = self.hook_step(state, place);
        self.node_steps(&state, place, EAGER)
    }

    fn hook_step(&mut self, state: &State, place: usize) -> State {
        let facts = self.objects.facts(state.slots[place].object);
        let Some(labels) = self.setup.hook(Some(&facts.state)) else {
            return *state;
        };
        self.write(state, place, json!({"metadata": {"labels": labels}}))
    }

    /// Somebody else writes a pod.
    fn write(&mut self, state: &State, place: usize, patch: serde_json::Value) -> State {
        let mut next = *state;
        let mut value = self.objects.value(next.slots[place].object).clone();
        merge(&mut value, &patch);
        next.slots[place].object = self.objects.keep(value, &self.setup);
        next
    }

    fn bother(&mut self, state: &State, place: usize, found: &mut Vec<(Move, State)>) {
        if self.objects.facts(state.slots[place].object).terminating {
            return;
        }
        if self.setup.deletions {
            let mut next = *state;
            self.terminate(&mut next, place);
            found.push((Move::DeletePod(place), self.noticed(state, next, place)));
        }
        if self.setup.specified {
            let labels = json!({"metadata": {"labels": {names::SPECIFIED_DELETE: "true"}}});
            let next = self.write(state, place, labels);
            found.push((Move::Specify(place), self.noticed(state, next, place)));
        }
    }

    /// After somebody else changed a pod: the controller sees it later, if it lags so far; else at once.
    fn noticed(&self, before: &State, mut next: State, place: usize) -> State {
        if next.slots[place].object != before.slots[place].object && next.lagging() > self.setup.lag {
            next.slots[place].seen = next.slots[place].object;
        }
        next.canonical()
    }

    fn edits(&self, state: &State, found: &mut Vec<(Move, State)>) {
        let spec = state.spec;
        if state.edits == 0 {
            return;
        }
        let mut wanted: Vec<Spec> = (0..self.setup.targets).map(|target| Spec { target, ..spec }).collect();
        if self.setup.pauses {
            wanted.push(Spec {
                paused: !spec.paused,
                ..spec
            });
        }
        wanted.extend([self.setup.replicas, self.setup.other_replicas].map(|replicas| Spec { replicas, ..spec }));
        for spec in wanted.into_iter().filter(|wanted| *wanted != spec) {
            let mut next = *state;
            next.spec = spec;
            if state.edits != UNLIMITED {
                next.edits -= 1;
            }
            if !self.setup.set_lag {
                next.spec_seen = spec;
            }
            found.push((Move::Edit(spec), next));
        }
    }

    pub(super) fn tick(&mut self, state: &State) -> State {
        let mut next = *state;
        for slot in &mut next.slots {
            slot.object = self.objects.older(slot.object, &self.setup);
            slot.seen = self.objects.older(slot.seen, &self.setup);
            let node = self.nodes.get(slot.node).clone().older(&self.setup);
            slot.node = self.nodes.keep(node);
        }
        next.canonical()
    }
}
