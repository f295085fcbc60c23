//! The worlds that are walked, and the mistakes that must not pass.

use std::io::Write as _;

use super::planted::Planted;
use super::search::Model;
use super::setup::Setup;
use crate::search::search;
use crate::world::Dice;

fn world(name: &'static str, replicas: u8, change: impl FnOnce(&mut Setup)) -> Setup {
    let mut setup = Setup::calm(name, replicas);
    change(&mut setup);
    setup
}

/// Walked by every `cargo test`.
fn small() -> Vec<Setup> {
    vec![
        world("in order, a revision that does not work is taken back", 3, |w| {
            w.edits = 3;
        }),
        world("in order, seen late", 3, |w| (w.lag, w.edits, w.targets) = (2, 1, 3)),
        world("in order, containers break, seen late", 3, |w| {
            (w.breaks, w.lag, w.edits) = (true, 1, 1);
        }),
        world("in order, nodes are lost", 2, |w| (w.loses, w.edits) = (true, 2)),
        world("in order, deleted and failed, seen late", 2, |w| {
            (w.deletions, w.lag, w.edits) = (true, 1, 1);
        }),
        world("in order, a partition, deleted and failed", 2, |w| {
            (w.partition, w.edits, w.deletions) = (1, 2, true);
        }),
        world("in order up and down", 1, |w| {
            (w.others, w.edits, w.lag) = (&[0, 3], 3, 1);
        }),
        world("ordinals that begin later, and one reserved", 2, |w| {
            (w.starts, w.edits, w.reserved) = (&[1, 2], 3, &[2]);
        }),
        world("all at once, two may be away", 3, |w| {
            (w.parallel, w.max_unavailable, w.edits) = (true, 2, 2);
        }),
        world("all at once, up and down, nodes are lost", 2, |w| {
            (w.parallel, w.others, w.edits, w.loses) = (true, &[1, 3], 1, true);
        }),
        world("in order, two may be away", 3, |w| {
            (w.max_unavailable, w.edits) = (2, 2);
        }),
        world("in place", 3, |w| {
            (w.policy, w.edits, w.targets) = ("InPlaceIfPossible", 2, 3);
        }),
        world("in place, seen late, containers break", 2, |w| {
            (w.policy, w.edits, w.lag, w.breaks) = ("InPlaceIfPossible", 1, 1, true);
        }),
        world("in place, a partition, up and down", 3, |w| {
            (w.policy, w.edits, w.partition, w.others) = ("InPlaceIfPossible", 2, 1, &[2]);
        }),
    ]
}

/// To the terminal, whatever the test harness captures: how much was walked is part of the result.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn every_state_is_safe_and_comes_to_rest() {
    let wanted = std::env::var("AFLOAT_MODEL").unwrap_or_default();
    let (mut states, mut failed) = (0, Vec::new());
    for setup in small().into_iter().filter(|world| world.name.contains(&wanted)) {
        let name = setup.name;
        match search(&mut Model::new(setup, Planted::Nothing)) {
            Ok(found) => {
                tell(&format!(
                    "{:>9} states, {:>9} moves, {:>6} plans: StatefulSet, {name}",
                    found.states, found.moves, found.plans
                ));
                states += found.states;
            }
            Err(why) => failed.push(format!("{name}: {why}")),
        }
    }
    tell(&format!("{states:>9} states of StatefulSets in all"));
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// Any of everything at once, of which no walk would find the end.
fn anything(seed: u64) -> Setup {
    let mut dice = Dice(seed);
    let mut coin = |sides: usize| dice.roll(sides);
    let replicas = u8::try_from(1 + coin(4)).unwrap();
    world("anything", replicas, |w| {
        w.parallel = coin(2) == 0;
        w.policy = ["ReCreate", "InPlaceIfPossible"][coin(2)];
        w.max_unavailable = u8::try_from(1 + coin(3)).unwrap();
        w.partition = u8::try_from(coin(2) * coin(3)).unwrap();
        w.others = [&[][..], &[0, 2], &[1, 4]][coin(3)];
        w.starts = [&[][..], &[1]][coin(2)];
        w.reserved = [&[][..], &[1]][usize::from(w.starts.is_empty() && coin(2) == 0 && replicas < 4)];
        (w.targets, w.edits, w.lag) = (3, 6, 3);
        (w.breaks, w.loses, w.deletions) = (coin(2) == 0, coin(2) == 0, coin(2) == 0);
    })
}

#[test]
fn whatever_happens_is_safe_and_comes_to_rest() {
    let seeds = std::env::var("AFLOAT_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let (mut states, seeds) = (0, seeds.unwrap_or(100));
    for seed in 0..seeds {
        match Model::new(anything(seed), Planted::Nothing).play(seed, 300) {
            Ok(found) => states += found.states,
            Err(why) => panic!("seed {seed}, {:?}: {why}", anything(seed)),
        }
    }
    tell(&format!("{states:>9} states of StatefulSets in {seeds} plays"));
}

#[test]
fn planted_mistakes_are_found() {
    let plain = |change: fn(&mut Setup)| world("planted", 3, change);
    let mut missed = Vec::new();
    for (planted, setup) in [
        (Planted::BudgetPlusOne, plain(|_| ())),
        (Planted::NoPartition, plain(|w| w.partition = 1)),
        (Planted::NoOrder, plain(|_| ())),
        (Planted::FirstFirst, plain(|w| w.parallel = true)),
        (Planted::GoneEarly, plain(|_| ())),
        (Planted::TerminatingIsAvailable, plain(|w| w.deletions = true)),
        (Planted::OwnWritesUnseen, plain(|w| w.lag = 1)),
        (Planted::Unguarded, plain(|w| (w.lag, w.breaks) = (2, true))),
        (Planted::KeepsFinished, plain(|w| w.deletions = true)),
        (Planted::HaltsOnBroken, plain(|_| ())),
        (Planted::OneLater, plain(|_| ())),
        (Planted::Reserved, plain(|w| w.reserved = &[1])),
        (
            Planted::AlwaysNewest,
            plain(|w| (w.partition, w.deletions, w.targets) = (1, true, 3)),
        ),
    ] {
        match search(&mut Model::new(setup, planted)) {
            Ok(found) => missed.push(format!("{planted:?} in {} states", found.states)),
            Err(why) => tell(&format!(
                "{planted:?}: {}",
                why.lines().find(|line| !line.starts_with(' ')).unwrap_or_default()
            )),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
