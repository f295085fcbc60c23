//! Every state, once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::check::check;
use super::moves::moves;
use super::planted::Planted;
use super::real::Real;
use super::setup::{Setup, State};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) states: usize,
    pub(super) moves: usize,
    pub(super) questions: usize,
}

/// Walks all of a world.
pub(super) fn search(setup: &Setup, planted: Planted) -> Result<Found, String> {
    let mut real = Real::new(setup, planted);
    let mut states = vec![State::new(setup)];
    // Where each was reached from.
    let mut from = vec![0];
    let mut known: HashMap<State, ()> = [(states[0], ())].into();
    let (mut at, mut made) = (0, 0);
    while at < states.len() {
        let state = states[at];
        let next = check(&mut real, setup, &state).and_then(|()| moves(&mut real, setup, planted, &state));
        for (_, next) in next.map_err(|why| story(&mut real, setup, planted, (&states, &from), at, &why))? {
            made += 1;
            if let Entry::Vacant(place) = known.entry(next) {
                place.insert(());
                states.push(next);
                from.push(at);
            }
        }
        at += 1;
    }
    Ok(Found {
        states: states.len(),
        moves: made,
        questions: real.questions(),
    })
}

fn story(
    real: &mut Real,
    setup: &Setup,
    planted: Planted,
    (states, from): (&[State], &[usize]),
    mut at: usize,
    why: &str,
) -> String {
    let mut lines = vec![format!("{why}\n  in {:#?}", states[at])];
    while at != 0 {
        let before = from[at];
        let all = moves(real, setup, planted, &states[before]).unwrap_or_default();
        let name = all.into_iter().find(|(_, next)| *next == states[at]);
        lines.push(format!("  {}", name.map(|(name, _)| name).unwrap_or_default()));
        at = before;
    }
    lines.reverse();
    lines.join("\n")
}
