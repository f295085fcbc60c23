//! The worlds that are walked, and the mistakes that must not pass.

use std::io::Write as _;

use super::planted::Planted;
use super::search::search;
use super::setup::{Setup, Want};

const ALL: &[Want] = &[Want::Delete, Want::Evict, Want::Update, Want::Resize];

fn world(name: &'static str, change: impl FnOnce(&mut Setup)) -> Setup {
    let mut setup = Setup::calm(name);
    change(&mut setup);
    setup
}

/// Walked by every `cargo test`.
fn small() -> Vec<Setup> {
    vec![
        world("deleted and made anew, by two at once", |w| {
            (w.asks, w.seconds) = (3, 2);
        }),
        world("whatever is wanted", |w| w.wants = ALL),
        world("updated in place", |w| {
            (w.wants, w.asks, w.seconds, w.tens) = (&[Want::Update], 2, 2, 1);
        }),
        world("updated in place, and only readiness tells", |w| {
            (w.wants, w.seconds, w.tens, w.untold) = (&[Want::Update], 2, 1, true);
        }),
        world("let go and never gone", |w| (w.asks, w.seconds, w.tens) = (3, 1, 2)),
        world("let go, then updated", |w| {
            (w.wants, w.seconds, w.tens, w.untold) = (&[Want::Delete, Want::Update], 1, 2, true);
        }),
        world("unready by themselves", |w| w.breaks = 1),
        world("unready by themselves, and updated", |w| {
            (w.breaks, w.wants, w.untold) = (1, &[Want::Update], true);
        }),
        world("made wider and narrower", |w| w.most = &[1, 2, 0, 1]),
        world("one is to be replaced", |w| (w.going, w.total) = (1, 2)),
        world("one is to be replaced, and the budget is edited", |w| {
            (w.going, w.total, w.most, w.seconds, w.asks) = (1, 2, &[1, 0, 1], 0, 1);
        }),
        world("all are to be replaced", |w| {
            (w.going, w.total, w.seconds, w.asks) = (2, 2, 0, 1);
        }),
        world("rounds take for themselves", |w| {
            (w.rounds, w.wants, w.breaks, w.seconds) = (true, &[Want::Delete, Want::Update], 1, 0);
        }),
        world("a new budget", |w| (w.fresh, w.tens) = (true, 1)),
        world("clocks ahead", |w| (w.ahead, w.asks, w.seconds) = (3, 3, 0)),
        world("clocks ahead, updated", |w| {
            (w.ahead, w.asks, w.seconds, w.wants, w.untold) = (3, 3, 0, &[Want::Update], true);
        }),
        world("clocks behind", |w| {
            (w.ahead, w.wants, w.untold, w.seconds) = (-3, &[Want::Delete, Want::Update], true, 1);
        }),
    ]
}

/// To the terminal, whatever the test harness captures: how much was walked is part of the result.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn no_more_go_than_a_budget_lets_and_counts_heal() {
    let wanted = std::env::var("AFLOAT_MODEL").unwrap_or_default();
    let (mut states, mut failed) = (0, Vec::new());
    for setup in small().into_iter().filter(|world| world.name.contains(&wanted)) {
        match search(&setup, Planted::Nothing) {
            Ok(found) => {
                tell(&format!(
                    "{:>9} states, {:>9} moves, {:>6} questions: budget, {}",
                    found.states, found.moves, found.questions, setup.name
                ));
                states += found.states;
            }
            Err(why) => failed.push(format!("{}: {why}", setup.name)),
        }
    }
    tell(&format!("{states:>9} states of budgets in all"));
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn planted_mistakes_are_found() {
    let plain = |change: fn(&mut Setup)| world("planted", change);
    let mut missed = Vec::new();
    for (planted, setup) in [
        (Planted::Digests, plain(|_| ())),
        (Planted::NearestOwner, plain(|_| ())),
        (Planted::GoingStays, plain(|w| (w.going, w.total) = (1, 2))),
        (Planted::Unguarded, plain(|_| ())),
        (Planted::RefusedCounts, plain(|_| ())),
        (Planted::NotesUnheeded, plain(|_| ())),
        (Planted::Forgets, plain(|_| ())),
        (Planted::Remembers, plain(|_| ())),
        (Planted::NamesOnly, plain(|w| w.seconds = 2)),
        (Planted::TakesNothing, plain(|_| ())),
        (Planted::UpdatesUnnoted, plain(|w| w.wants = &[Want::Update])),
        (Planted::NotedOnce, plain(|w| (w.asks, w.tens) = (3, 2))),
        (Planted::OneClock, plain(|w| (w.ahead, w.asks) = (3, 3))),
    ] {
        match search(&setup, planted) {
            Ok(found) => missed.push(format!("{planted:?} in {} states", found.states)),
            Err(why) => tell(&format!(
                "{planted:?}: {}",
                why.lines().find(|line| !line.starts_with(' ')).unwrap_or_default()
            )),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
