//! The walk that every kind's small worlds have: each state once, what may happen in it, and that it comes to rest from there.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;

/// Rounds in which a world has to come to rest, each a whole step of everybody.
const ROUNDS: usize = 120;

/// What may happen, and what it leads to.
type Moves<S> = Vec<(<S as Space>::Move, <S as Space>::State)>;

/// A small world.
pub(crate) trait Space: Sized {
    /// All that is so at a time.
    type State: Copy + Eq + Hash;
    /// What happens.
    type Move: Debug;

    /// Where the walk begins.
    fn begin(&mut self) -> Result<Self::State, String>;

    /// All that may happen next, and what it leads to.
    fn next(&mut self, state: &Self::State) -> Result<Moves<Self>, String>;

    /// The same state once faults and edits stop.
    fn calm(&self, state: &Self::State) -> Self::State;

    /// Everybody does what there is to do.
    fn round(&mut self, state: &Self::State) -> Result<Self::State, String>;

    /// What has to be true where nothing is left to do; a state: what the user makes of it.
    fn goal(&mut self, state: &Self::State) -> Result<Option<Self::State>, String>;

    /// States from which it is known to come to rest.
    fn resting(&mut self) -> &mut HashSet<Self::State>;

    /// How many plans were made.
    fn plans(&self) -> usize;

    /// The world in a word.
    fn title(&self) -> String;

    /// A state for the reader of a trace.
    fn describe(&self, state: &Self::State) -> String;
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) states: usize,
    pub(crate) moves: usize,
    pub(crate) plans: usize,
}

/// Every state that can be reached.
pub(crate) fn search<S: Space>(space: &mut S) -> Result<Found, String> {
    let start = space.begin()?;
    let mut states = vec![start];
    let mut parents = vec![0_u32];
    let mut known: HashMap<S::State, u32> = [(start, 0)].into();
    let (mut moves, mut index) = (0, 0);
    while index < states.len() {
        let state = states[index];
        let found = space.next(&state).and_then(|found| {
            let rests = rest(space, &state);
            rests.map_err(|why| format!("then nothing goes wrong any more, and {why}"))?;
            Ok(found)
        });
        let found = found.map_err(|why| trace(space, &states, &parents, index, &why))?;
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
        plans: space.plans(),
    })
}

/// Faults and edits stop, everybody does their work: the state in which nothing happens any more.
pub(crate) fn rest<S: Space>(space: &mut S, state: &S::State) -> Result<S::State, String> {
    let mut path = Vec::new();
    let mut now = space.calm(state);
    while !space.resting().contains(&now) {
        path.push(now);
        if path.len() > ROUNDS {
            let last = space.describe(&now);
            return Err(format!("it does not come to rest within {ROUNDS} rounds: {last}"));
        }
        let next = space.round(&now)?;
        if next != now {
            now = next;
            continue;
        }
        match space.goal(&now)? {
            Some(other) => now = other,
            None => break,
        }
    }
    space.resting().extend(path);
    Ok(now)
}

/// How a state came about.
fn trace<S: Space>(space: &mut S, states: &[S::State], parents: &[u32], last: usize, why: &str) -> String {
    let mut path = vec![last];
    while path[path.len() - 1] != 0 {
        path.push(usize::try_from(parents[path[path.len() - 1]]).unwrap());
    }
    path.reverse();
    let mut lines = vec![space.title(), format!("  {}", space.describe(&states[0]))];
    for pair in path.windows(2) {
        let next = states[pair[1]];
        let found = space.next(&states[pair[0]]).unwrap_or_default();
        let what = found.iter().find(|(_, to)| *to == next).map(|(what, _)| what);
        lines.push(format!("{what:?}\n  {}", space.describe(&next)));
    }
    lines.push(why.to_owned());
    lines.join("\n")
}
