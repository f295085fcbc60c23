//! Every state, once: what may happen in it, and that the world comes to rest from it. And the same at random, where there are too many.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::control::{View, Write};
use super::moves::Move;
use super::object::Objects;
use super::planted::Planted;
use super::setup::{Ground, Setup, State};
use crate::search::{Found, Space, rest};

/// A world, and everything that was learnt about it.
pub(super) struct Model {
    pub(super) setup: Setup,
    pub(super) planted: Planted,
    pub(super) objects: Objects,
    pub(super) plans: HashMap<View, Rc<Vec<Write>>>,
    /// States from which it comes to rest.
    resting: HashSet<State>,
}

impl Model {
    pub(super) fn new(setup: Setup, planted: Planted) -> Self {
        Self {
            objects: Objects::new(&setup),
            plans: HashMap::new(),
            resting: HashSet::new(),
            setup,
            planted,
        }
    }

    /// So many steps of one way at random, each followed by the question whether it would come to rest.
    pub(super) fn wander(&mut self, seed: u64, steps: usize) -> Result<Found, String> {
        let mut state = self.begin()?;
        let mut seen = HashSet::from([state]);
        let mut dice = seed;
        let (mut moves, mut way) = (0, Vec::new());
        for _ in 0..steps {
            state.edits = 1;
            let found = self
                .moves(&state)
                .map_err(|(last, why)| format!("seed {seed}: {way:?}, {last:?}: {why}"))?;
            rest(self, &state).map_err(|why| format!("seed {seed}: {way:?}, and then {why}"))?;
            moves += found.len();
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let choice = usize::try_from(dice >> 33).unwrap() % found.len().max(1);
            let Some((made, next)) = found.into_iter().nth(choice) else {
                break;
            };
            way.push(made);
            state = next;
            seen.insert(state);
        }
        Ok(Found {
            states: seen.len(),
            moves,
            plans: self.plans.len(),
        })
    }
}

impl Space for Model {
    type State = State;
    type Move = Move;

    fn begin(&mut self) -> Result<State, String> {
        let start = rest(self, &State::new(0)).map_err(|why| format!("before anything happened: {why}"))?;
        let edits = self.setup.edits;
        Ok(State { edits, ..start })
    }

    fn next(&mut self, state: &State) -> Result<Vec<(Move, State)>, String> {
        self.moves(state).map_err(|(last, why)| format!("{last:?}: {why}"))
    }

    fn calm(&self, state: &State) -> State {
        State { edits: 0, ..*state }
    }

    /// Everybody does what there is to do.
    fn round(&mut self, state: &State) -> Result<State, String> {
        let state = state.up_to_date();
        let planned = self.planned(&state)?;
        let mut next = self.carry_out(&state, &planned, u32::MAX)?;
        for place in next.pods() {
            next.slots[place].object = match self.let_go(&next, place) {
                Some(object) => object,
                None => self.node_step(&next, place),
            };
        }
        Ok(next.up_to_date())
    }

    /// What has to be true at rest.
    fn goal(&mut self, state: &State) -> Result<Option<State>, String> {
        let mut old = 0;
        for node in 0..self.setup.nodes {
            let here: Vec<_> = self.on(state, u8::try_from(node).unwrap()).collect();
            let all = here.len();
            let good = here.iter().filter(|pod| pod.available && pod.true_to_spec).count();
            let wanted = match state.nodes[node] {
                Ground::Good => all == 1 && good == 1,
                Ground::NoSchedule => all <= 1,
                Ground::NoExecute | Ground::Gone => all == 0,
            };
            if !wanted {
                return Err(format!(
                    "it rests with {all} pods on node {node}: {}",
                    self.describe(state)
                ));
            }
            if state.nodes[node] == Ground::Good {
                old += here.iter().filter(|pod| pod.revision != state.target).count();
            }
        }
        if old > self.setup.partition {
            return Err(format!("it rests with {old} old pods: {}", self.describe(state)));
        }
        self.check_rest(state)?;
        Ok(None)
    }

    fn describe(&self, state: &State) -> String {
        let pods: Vec<_> = state
            .pods()
            .map(|place| format!("\n    {}", self.objects.describe(state.slots[place])))
            .collect();
        format!(
            "revision {} wanted, nodes {:?}{}",
            state.target,
            state.nodes,
            pods.concat()
        )
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
}
