//! Every state, once; and walks at random.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;

use super::control::{View, Write};
use super::object::{Objects, Step};
use super::planted::Planted;
use super::setup::{BAD, IMAGES, PLACES, Setup, State};
use crate::search::{Found, Space, rest};
use crate::world::Dice;

/// A world, and everything that was learnt about it.
pub(super) struct Model {
    pub(super) setup: Setup,
    pub(super) planted: Planted,
    pub(super) objects: Objects,
    pub(super) plans: HashMap<View, Rc<Vec<Write>>>,
    pub(super) revisions: HashMap<u8, Vec<Arc<ControllerRevision>>>,
    /// States from which it comes to rest.
    resting: HashSet<State>,
}

impl Model {
    pub(super) fn new(setup: Setup, planted: Planted) -> Self {
        Self {
            setup,
            planted,
            objects: Objects::new(),
            plans: HashMap::new(),
            revisions: HashMap::new(),
            resting: HashSet::new(),
        }
    }

    /// Plays some of it.
    pub(super) fn play(&mut self, seed: u64, length: usize) -> Result<Found, String> {
        let mut dice = Dice(seed);
        let mut from = HashMap::new();
        let mut state = State::new(&self.setup);
        for _ in 0..length {
            let moves = self.moves(&state).map_err(|why| self.story(&from, state, &why))?;
            let (name, next) = moves[dice.roll(moves.len())].clone();
            if next != state && !from.contains_key(&next) {
                from.insert(next, (state, name));
            }
            state = next;
        }
        rest(self, &state).map_err(|why| self.story(&from, state, &why))?;
        Ok(Found {
            states: from.len(),
            moves: length,
            plans: self.plans.len(),
        })
    }

    /// All that may happen next.
    fn moves(&mut self, state: &State) -> Result<Vec<(String, State)>, String> {
        let mut moves = self.others(state);
        let writes = self.planned(&View::of(state))?;
        let number = u32::try_from(writes.len()).unwrap().min(8);
        for which in 1..1_u32 << number {
            let next = self.carry_out(state, &writes, which)?;
            moves.push((format!("the controller does {which:b} of {writes:?}"), next));
        }
        if moves.is_empty() {
            moves.push(("nothing".into(), *state));
        }
        Ok(moves)
    }

    fn story(&self, from: &HashMap<State, (State, String)>, last: State, why: &str) -> String {
        let mut lines = vec![format!("{why}\n  in {}", self.describe(&last))];
        let mut state = last;
        while let Some((before, name)) = from.get(&state) {
            if lines.len() > 60 {
                break;
            }
            lines.push(format!("  {name}"));
            state = *before;
        }
        lines.reverse();
        lines.join("\n")
    }
}

impl Space for Model {
    type State = State;
    type Move = String;

    fn begin(&mut self) -> Result<State, String> {
        Ok(State::new(&self.setup))
    }

    fn next(&mut self, state: &State) -> Result<Vec<(String, State)>, String> {
        self.moves(state)
    }

    fn calm(&self, state: &State) -> State {
        *state
    }

    /// Lost nodes come back meanwhile.
    fn round(&mut self, state: &State) -> Result<State, String> {
        let mut state = state.up_to_date();
        let writes = self.planned(&View::of(&state))?;
        state = self.carry_out(&state, &writes, u32::MAX)?.up_to_date();
        for ordinal in 0..PLACES {
            for step in [Step::Return, Step::Work] {
                let slot = &mut state.slots[ordinal];
                slot.object = self.objects.step(slot.object, step, &self.setup);
            }
        }
        Ok(state.up_to_date())
    }

    /// A revision that cannot work is taken back in the end.
    fn goal(&mut self, state: &State) -> Result<Option<State>, String> {
        if IMAGES[usize::from(state.spec.target)] == BAD {
            let mut other = *state;
            other.spec.target = 0;
            return Ok(Some(other));
        }
        let end = self.check_end(state);
        end.map_err(|why| format!("{why} at rest: {}", self.describe(state)))?;
        Ok(None)
    }

    fn resting(&mut self) -> &mut HashSet<State> {
        &mut self.resting
    }

    fn plans(&self) -> usize {
        self.plans.len()
    }

    fn title(&self) -> String {
        format!("{:?}", self.planted)
    }

    fn describe(&self, state: &State) -> String {
        let mut text = format!("{:?}", state.spec);
        for (ordinal, slot) in state
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.object + slot.seen > 0)
        {
            let (is, seen) = (self.objects.facts(slot.object), self.objects.facts(slot.seen));
            text.push_str(&format!("\n    web-{ordinal} {is:?}"));
            if slot.object != slot.seen {
                text.push_str(&format!("\n      seen as {seen:?}"));
            }
        }
        text
    }
}
