//! The worlds that are walked, and the mistakes that must not pass.

use std::io::Write;

use super::planted::Planted;
use super::search::Model;
use super::setup::Setup;
use crate::search::search;
use crate::world::Bug;

/// Settings of a world on top of a calm one, by name.
fn world(name: &'static str, replicas: u8, change: impl FnOnce(&mut Setup)) -> Setup {
    let mut setup = Setup::calm(name, replicas);
    change(&mut setup);
    setup
}

/// The sidecar changes alone, and together with the other container.
const SIDECARS: [[&str; 2]; 3] = [["app:1", "log:1"], ["app:1", "log:2"], ["app:3", "log:3"]];

/// Walked by every `cargo test`.
fn small() -> Vec<Setup> {
    let mut worlds = one_pod();
    worlds.extend(more_pods());
    worlds
}

fn one_pod() -> Vec<Setup> {
    let hooks = |w: &mut Setup| w.hooks = true;
    vec![
        world("one pod, three updates, each step of its node by itself", 1, |w| {
            (w.fine, w.edits) = (true, 3);
        }),
        world("one pod, back and forth between two revisions, crashes", 1, |w| {
            (w.fine, w.crashes, w.targets, w.edits) = (true, true, 2, 3);
        }),
        world("one pod, crashes, everything seen late", 1, |w| {
            (w.crashes, w.lag, w.set_lag, w.edits) = (true, 1, true, 2);
        }),
        world("one pod, quiet periods, back and forth, pauses", 1, |w| {
            (w.grace, w.targets, w.pauses) = (true, 2, true);
        }),
        world("one pod, hooks, back and forth", 1, |w| {
            hooks(w);
            (w.targets, w.lag) = (2, 1);
        }),
        world("one pod, two tags of one image, crashes", 1, |w| {
            (w.one_image, w.crashes, w.fine, w.edits) = (true, true, true, 1);
        }),
        world("one pod, two tags of one image, two updates", 1, |w| {
            (w.one_image, w.fine, w.edits) = (true, true, 2);
        }),
        world("one pod whose node does not tell generations", 1, |w| {
            (w.tells_generation, w.edits) = (false, 2);
        }),
        world("one pod with a sidecar, crashes", 1, |w| {
            w.images = SIDECARS;
            (w.sidecar, w.fine, w.crashes, w.edits) = (true, true, true, 2);
        }),
        world("one pod, an image that cannot be had", 1, |w| {
            w.images[1][0] = super::node::BAD;
            (w.fine, w.edits) = (true, 3);
        }),
    ]
}

fn more_pods() -> Vec<Setup> {
    let hooks = |w: &mut Setup| w.hooks = true;
    vec![
        world("two pods, two updates, quiet periods", 2, |w| {
            (w.grace, w.edits) = (true, 2);
        }),
        world("two pods, crashes seen late", 2, |w| {
            (w.crashes, w.lag, w.edits) = (true, 1, 1);
        }),
        world("two pods, a postStart hook that fails", 2, |w| {
            w.images[1][0] = super::node::DOOMED;
            (w.post_start, w.edits) = (true, 2);
        }),
        world("two pods, hooks", 2, |w| {
            hooks(w);
            (w.edits, w.lag) = (1, 1);
        }),
        world("two pods, partition, from nothing", 2, |w| {
            (w.partition, w.edits, w.targets, w.from_nothing) = (1, 2, 2, true);
        }),
        world("two pods, scaled and updated, set seen late", 2, |w| {
            (w.other_replicas, w.edits, w.set_lag, w.slots, w.targets) = (1, 2, true, 3, 2);
        }),
        world("two pods recreated with surge", 2, |w| {
            (w.policy, w.max_surge, w.edits, w.slots) = ("ReCreate", 1, 2, 4);
        }),
        world("two pods recreated, surge alone", 2, |w| {
            (w.policy, w.max_surge, w.max_unavailable, w.edits, w.slots) = ("ReCreate", 1, 0, 1, 4);
        }),
        world("two pods recreated, deleted by others", 2, |w| {
            (w.policy, w.deletions, w.lag, w.edits, w.targets, w.slots) = ("ReCreate", true, 1, 1, 2, 3);
        }),
        world("two pods in place, deletion asked for", 2, |w| {
            (w.specified, w.edits, w.targets, w.slots) = (true, 1, 2, 3);
        }),
        world("two pods, old revisions forgotten", 2, |w| {
            (w.forgets, w.edits) = (true, 3);
        }),
        world("three pods, three updates, pauses", 3, |w| {
            (w.pauses, w.edits) = (true, 3);
        }),
        world("three pods, crashes", 3, |w| {
            (w.crashes, w.edits, w.targets) = (true, 1, 2);
        }),
        world("four pods, budget of two, two updates", 4, |w| {
            (w.max_unavailable, w.edits) = (2, 2);
        }),
        world("four pods, quiet periods, partition", 4, |w| {
            (w.max_unavailable, w.partition, w.grace, w.edits) = (2, 1, true, 1);
        }),
    ]
}

/// With a name that `AFLOAT_MODEL` is part of, or all.
fn chosen() -> Vec<Setup> {
    let wanted = std::env::var("AFLOAT_MODEL").unwrap_or_default();
    let mut worlds = small();
    worlds.retain(|world| world.name.contains(&wanted));
    worlds
}

/// To the terminal, whatever the test harness captures: how much was walked is part of the result.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn every_state_is_safe_and_comes_to_rest() {
    let (mut states, mut moves, mut failed) = (0, 0, Vec::new());
    for setup in chosen() {
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
    tell(&format!("{states:>9} states, {moves:>9} moves in all"));
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    assert!(states > 0, "AFLOAT_MODEL names no world");
}

fn plain(change: impl FnOnce(&mut Setup)) -> Setup {
    world("planted", 2, |w| {
        (w.edits, w.targets) = (2, 2);
        change(w);
    })
}

#[test]
fn planted_mistakes_are_found() {
    let grace = || plain(|w| w.grace = true);
    let back = || world("planted", 1, |w| (w.fine, w.edits, w.targets) = (true, 2, 2));
    let one_image = || world("planted", 1, |w| (w.one_image, w.edits) = (true, 2));
    let created = || plain(|w| (w.policy, w.max_surge, w.slots, w.from_nothing) = ("ReCreate", 1, 4, true));
    let with_sidecar = || {
        world("planted", 1, |w| {
            w.images = SIDECARS;
            (w.sidecar, w.fine, w.edits, w.targets) = (true, true, 1, 2);
        })
    };
    let hook_fails = || {
        plain(|w| {
            w.images[1][0] = super::node::DOOMED;
            w.post_start = true;
        })
    };
    let mut missed = Vec::new();
    for (planted, setup) in [
        (Planted::Known(Bug::NoGrace), grace()),
        (Planted::Known(Bug::AnyFalseIsADrain), back()),
        (Planted::Known(Bug::EarlyReturn), back()),
        (
            Planted::Known(Bug::ContainerIdAlone),
            world("planted", 1, |w| (w.crashes, w.edits, w.targets) = (true, 1, 2)),
        ),
        (Planted::Known(Bug::BudgetPlusOne), plain(|_| ())),
        (Planted::Known(Bug::NoPartition), plain(|w| w.partition = 1)),
        (Planted::Known(Bug::OneTooMany), created()),
        (Planted::Known(Bug::NoHooks), plain(|w| w.hooks = true)),
        (Planted::OwnWritesUnseen, created()),
        (Planted::Unguarded, back()),
        (Planted::NoVersion, plain(|_| ())),
        (Planted::TerminatingIsAvailable, created()),
        (Planted::NewIsAvailable, created()),
        (Planted::ImageIdAlone, back()),
        (Planted::ImageIdAlone, one_image()),
        (Planted::ImageIdAlone, with_sidecar()),
        (Planted::RollbackIsDone, back()),
        (Planted::AnyDrainCounts, grace()),
        (Planted::NoDrain, plain(|_| ())),
        (Planted::OtherContainer, plain(|_| ())),
        (Planted::OldImage, plain(|_| ())),
        (Planted::ReCreates, plain(|_| ())),
        (Planted::Deaf, plain(|_| ())),
        (Planted::Restless, plain(|_| ())),
        (Planted::ReturnWithUpdate, plain(|_| ())),
        (Planted::Sleeps, grace()),
        (Planted::MomentIsReady, hook_fails()),
        (Planted::StartIsReady, hook_fails()),
    ] {
        let found = search(&mut Model::new(setup, planted));
        match found {
            Ok(found) => missed.push(format!("{planted:?} in {} states", found.states)),
            Err(why) => tell(&format!("{planted:?}: {}", why.lines().last().unwrap_or_default())),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
