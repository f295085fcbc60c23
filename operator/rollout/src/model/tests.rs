use super::planted::Planted;
use super::search::Model;
use super::setup::Setup;

#[test]
fn try_one() {
    let names = std::env::var("M").unwrap_or_default();
    for setup in worlds() {
        if !names.is_empty() && !setup.name.contains(&names) {
            continue;
        }
        let started = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let name = setup.name;
        let mut model = Model::new(setup, Planted::Nothing);
        let found = model.search();
        let took = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap() - started;
        match found {
            Ok(found) => println!("{name}: {found:?} {took:?}"),
            Err(why) => println!("{name}: FAILED {took:?}\n{why}"),
        }
    }
}

fn worlds() -> Vec<Setup> {
    let calm = Setup::calm;
    vec![
        calm("a1 one calm", 1),
        Setup {
            fine: true,
            ..calm("a2 one fine", 1)
        },
        Setup {
            fine: true,
            crashes: true,
            targets: 2,
            ..calm("a3 one fine crashes 2 targets", 1)
        },
        Setup {
            fine: true,
            crashes: true,
            ..calm("a4 one fine crashes", 1)
        },
        Setup {
            fine: true,
            crashes: true,
            lag: 1,
            targets: 2,
            set_lag: true,
            ..calm("a5 one fine crashes lag", 1)
        },
        Setup {
            grace: true,
            targets: 2,
            ..calm("a6 one grace", 1)
        },
        Setup {
            hooks: true,
            targets: 2,
            ..calm("a7 one hooks", 1)
        },
        Setup {
            one_image: true,
            fine: true,
            edits: 3,
            ..calm("a8 one image", 1)
        },
        Setup {
            tells_generation: false,
            edits: 2,
            ..calm("a9 no generation", 1)
        },
        Setup {
            pauses: true,
            targets: 2,
            ..calm("b0 two pauses", 2)
        },
        Setup {
            edits: 2,
            ..calm("b1 two edits", 2)
        },
        Setup {
            lag: 1,
            edits: 1,
            ..calm("b2 two lag", 2)
        },
        Setup {
            crashes: true,
            edits: 1,
            ..calm("b3 two crashes", 2)
        },
        Setup {
            crashes: true,
            lag: 1,
            edits: 1,
            ..calm("b4 two crashes lag", 2)
        },
        Setup {
            policy: "ReCreate",
            edits: 1,
            targets: 2,
            max_surge: 1,
            slots: 4,
            ..calm("b5 two recreate surge", 2)
        },
        Setup {
            policy: "ReCreate",
            edits: 1,
            targets: 2,
            deletions: true,
            slots: 4,
            ..calm("b6 two recreate deletions", 2)
        },
        Setup {
            partition: 1,
            edits: 2,
            from_nothing: true,
            ..calm("b7 two partition", 2)
        },
        Setup {
            edits: 1,
            ..calm("c1 three", 3)
        },
        Setup {
            edits: 1,
            crashes: true,
            targets: 2,
            ..calm("c2 three crashes", 3)
        },
        Setup {
            edits: 1,
            max_unavailable: 2,
            targets: 2,
            ..calm("d1 four", 4)
        },
    ]
}
