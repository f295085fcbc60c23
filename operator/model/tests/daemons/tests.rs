//! The worlds that are walked, those that are played at random, and the mistakes that must not pass.

use std::io::Write;

use super::planted::Planted;
use super::search::Model;
use super::setup::Setup;
use crate::search::search;

fn world(name: &'static str, nodes: usize, change: impl FnOnce(&mut Setup)) -> Setup {
    let mut setup = Setup::calm(name, nodes);
    change(&mut setup);
    setup
}

/// Walked by every `cargo test`.
fn small() -> Vec<Setup> {
    vec![
        world("daemons on two nodes, recreated", 2, |w| {
            (w.deletions, w.lag) = (true, 1);
        }),
        world("daemons on two nodes, in place, crashes seen late", 2, |w| {
            (w.in_place, w.failures, w.lag, w.edits) = (true, true, 1, 1);
        }),
        world("daemons on three nodes, in place, budget of two", 3, |w| {
            (w.in_place, w.max_unavailable) = (true, 2);
        }),
        world("daemons on three nodes, in place, partition", 3, |w| {
            (w.in_place, w.partition) = (true, 1);
        }),
        world("daemons on two nodes, surge", 2, |w| {
            (w.max_unavailable, w.max_surge, w.lag) = (0, 1, 1);
        }),
        world("a daemon on one node, surge, deleted by others", 1, |w| {
            (w.max_unavailable, w.max_surge, w.deletions, w.edits) = (0, 1, true, 2);
        }),
        world("a daemon on one node, surge, failures", 1, |w| {
            (w.max_unavailable, w.max_surge, w.failures, w.edits) = (0, 1, true, 2);
        }),
        world("a daemon on one node, surge, asked to go", 1, |w| {
            (w.max_unavailable, w.max_surge, w.specified, w.edits) = (0, 1, true, 2);
        }),
        world("daemons on two nodes, hooks", 2, |w| {
            (w.hooks, w.lag) = (true, 1);
        }),
        world("daemons on two nodes, asked to go", 2, |w| {
            (w.specified, w.in_place, w.lag) = (true, true, 1);
        }),
        world("daemons on two nodes that are tainted, leave and come back", 2, |w| {
            (w.moving_nodes, w.lag, w.edits) = (true, 1, 3);
        }),
        world("daemons on two nodes that move, surge", 2, |w| {
            (w.moving_nodes, w.max_unavailable, w.max_surge, w.edits) = (true, 0, 1, 2);
        }),
        world("daemons on two nodes that move, hooks, in place", 2, |w| {
            (w.moving_nodes, w.hooks, w.in_place, w.edits) = (true, true, true, 2);
        }),
    ]
}

fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn every_state_of_daemons_is_safe_and_comes_to_rest() {
    let wanted = std::env::var("AFLOAT_MODEL").unwrap_or_default();
    let (mut states, mut moves, mut failed) = (0, 0, Vec::new());
    for setup in small().into_iter().filter(|world| world.name.contains(&wanted)) {
        let name = setup.name;
        match search(&mut Model::new(setup, Planted::Nothing)) {
            Ok(found) => {
                tell(&format!(
                    "{:>9} states, {:>9} moves, {:>6} plans: {name}",
                    found.states, found.moves, found.plans
                ));
                states += found.states;
                moves += found.moves;
            }
            Err(why) => failed.push(format!("{name}: {why}")),
        }
    }
    tell(&format!("{states:>9} states, {moves:>9} moves of daemons in all"));
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// Four nodes, and everything that may happen.
fn big(seed: u64) -> Setup {
    world("daemons at random", 4, |w| {
        let bit = |place: u64| seed >> place & 1 == 1;
        if bit(0) {
            (w.max_unavailable, w.max_surge) = (0, 1 + usize::from(bit(1)));
        } else {
            (w.in_place, w.max_unavailable) = (bit(1), 1 + usize::from(bit(2)));
        }
        (w.partition, w.hooks) = (usize::from(bit(3)), bit(4));
        (w.failures, w.deletions, w.specified, w.moving_nodes) = (true, true, true, true);
        (w.lag, w.edits, w.slots) = (2, 1, 9);
    })
}

#[test]
fn random_worlds_of_daemons_are_safe_and_come_to_rest() {
    let (mut states, mut moves) = (0, 0);
    for seed in 0..32 {
        match Model::new(big(seed), Planted::Nothing).wander(seed, 80) {
            Ok(found) => {
                states += found.states;
                moves += found.moves;
            }
            Err(why) => panic!("{why}"),
        }
    }
    tell(&format!("{states:>9} states, {moves:>9} moves of daemons at random"));
}

#[test]
fn planted_mistakes_about_daemons_are_found() {
    let plain = || world("planted", 2, |w| w.deletions = true);
    let in_place = || world("planted", 2, |w| (w.in_place, w.failures) = (true, true));
    let surge = || world("planted", 2, |w| (w.max_unavailable, w.max_surge) = (0, 1));
    let hooks = || world("planted", 2, |w| w.hooks = true);
    let moving = || world("planted", 2, |w| w.moving_nodes = true);
    let mut missed = Vec::new();
    for (planted, setup) in [
        (Planted::BudgetPlusOne, plain()),
        (Planted::BudgetPlusOne, in_place()),
        (Planted::SurgePlusOne, surge()),
        (Planted::NoPartition, world("planted", 2, |w| w.partition = 1)),
        (Planted::NoHooks, hooks()),
        (Planted::BlindToTaints, moving()),
        (Planted::TerminatingIsGone, plain()),
        (Planted::SurgeElsewhere, surge()),
        (Planted::NewIsAvailable, surge()),
        (Planted::OwnWritesUnseen, surge()),
        (Planted::FailedIsRunning, in_place()),
        (Planted::ReCreates, in_place()),
        (Planted::TwoStay, surge()),
        (Planted::PreparedIsForgotten, hooks()),
        (Planted::DeletesAll, in_place()),
    ] {
        match search(&mut Model::new(setup, planted)) {
            Ok(found) => missed.push(format!("{planted:?} in {} states", found.states)),
            Err(why) => tell(&format!("{planted:?}: {}", why.lines().last().unwrap_or_default())),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
