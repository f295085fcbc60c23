//! Every state, once: what may happen in it, and that the world comes to rest from it. And the same at random, where there are too many.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::control::{View, Write};
use super::object::Objects;
use super::planted::Planted;
use super::setup::{Ground, Setup, State};

/// Rounds in which a world has to come to rest, each a whole step of everybody.
const ROUNDS: usize = 120;

/// A world, and everything that was learnt about it.
pub(super) struct Model {
    pub(super) setup: Setup,
    pub(super) planted: Planted,
    pub(super) objects: Objects,
    pub(super) plans: HashMap<View, Rc<Vec<Write>>>,
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
            plans: HashMap::new(),
            resting: HashSet::new(),
            setup,
            planted,
        }
    }

    fn start(&mut self) -> Result<State, String> {
        let mut start = State::new(0);
        start = self
            .rest(&start)
            .map_err(|why| format!("before anything happened: {why}"))?;
        start.edits = self.setup.edits;
        Ok(start)
    }

    /// Every state that can be reached.
    pub(super) fn search(&mut self) -> Result<Found, String> {
        let start = self.start()?;
        let mut states = vec![start];
        let mut parents = vec![0_u32];
        let mut known: HashMap<State, u32> = [(start, 0)].into();
        let (mut moves, mut index) = (0, 0);
        while index < states.len() {
            let state = states[index];
            let found = self.moves(&state);
            let found =
                found.map_err(|(last, why)| self.trace(&states, &parents, index, &format!("{last:?}: {why}")))?;
            if let Err(why) = self.rest(&state) {
                return Err(self.trace(
                    &states,
                    &parents,
                    index,
                    &format!("then nothing goes wrong any more, and {why}"),
                ));
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

    /// So many steps of one way at random, each followed by the question whether it would come to rest.
    pub(super) fn wander(&mut self, seed: u64, steps: usize) -> Result<Found, String> {
        let mut state = self.start()?;
        let mut seen = HashSet::from([state]);
        let mut dice = seed;
        let (mut moves, mut way) = (0, Vec::new());
        for _ in 0..steps {
            state.edits = 1;
            let found = self
                .moves(&state)
                .map_err(|(last, why)| format!("seed {seed}: {way:?}, {last:?}: {why}"))?;
            self.rest(&state)
                .map_err(|why| format!("seed {seed}: {way:?}, and then {why}"))?;
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

    /// Faults and edits stop, everybody does their work: the state in which nothing happens any more.
    fn rest(&mut self, state: &State) -> Result<State, String> {
        let mut path = Vec::new();
        let mut now = State { edits: 0, ..*state };
        while !self.resting.contains(&now) {
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
    fn check_goal(&mut self, state: &State) -> Result<(), String> {
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
        self.check_rest(state)
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

    /// How it came to that.
    fn trace(&mut self, states: &[State], parents: &[u32], last: usize, why: &str) -> String {
        let mut path = vec![last];
        while *path.last().unwrap() != 0 {
            path.push(usize::try_from(parents[*path.last().unwrap()]).unwrap());
        }
        let mut lines = Vec::new();
        for index in path.into_iter().rev() {
            lines.push(self.describe(&states[index]));
        }
        lines.push(why.to_owned());
        lines.join("\n")
    }
}
