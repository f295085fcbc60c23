//! Many worlds.

use afloat_api::names;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{Bug, World};

const MOVES: usize = 150;
/// Rounds of one virtual second in which a world without faults has to settle.
const ROUNDS: usize = 200;

impl World {
    fn move_on(&mut self) -> Result<(), String> {
        if self.dice.roll(16) == 0 {
            self.user();
            return Ok(());
        }
        self.move_on_without_user()
    }

    /// The user wants an image that no pod has.
    fn release(&mut self) {
        let mut spec = self.set["spec"].clone();
        let images = ["app:1", "app:2", "app:3"];
        let had = |image: &&&str| {
            self.pods
                .values()
                .any(|pod| pod["spec"]["containers"][0]["image"] == ***image)
        };
        let image = images.iter().find(|image| !had(image)).unwrap_or(&"app:4");
        spec["template"]["spec"]["containers"][0]["image"] = json!(image);
        spec["updateStrategy"]["rollingUpdate"]["paused"] = json!(false);
        self.edit(spec);
    }

    fn move_on_without_user(&mut self) -> Result<(), String> {
        match 1 + self.dice.roll(15) {
            1 => {
                let time = i64::try_from(self.dice.roll(2500)).unwrap();
                self.tick(SignedDuration::from_millis(time));
            }
            2 if self.faults => self.see_all(),
            2..=5 => {
                let kind = self.dice.roll(4);
                self.see(kind);
            }
            6..=9 => {
                let whole = self.dice.roll(2) == 0;
                self.control(whole)?;
            }
            _ => {
                let names: Vec<_> = self.pods.keys().cloned().collect();
                if !names.is_empty() {
                    let index = self.dice.roll(names.len());
                    self.node_step(&names[index], false);
                }
            }
        }
        Ok(())
    }

    fn user(&mut self) {
        let replicas = usize::try_from(self.set["spec"]["replicas"].as_i64().unwrap()).unwrap();
        let kinds = if self.faults { 7 } else { 3 };
        let mut choice = self.dice.roll(kinds);
        if choice == 2 && self.gates.partition_rollback && self.dice.roll(2) == 0 {
            choice = 4;
        }
        let mut spec = self.set["spec"].clone();
        match choice {
            0 | 1 => {
                let images: &[&str] = if self.faults {
                    &["app:1", "app:2", "app:3", "app:bad"]
                } else {
                    &["app:1", "app:2", "app:3"]
                };
                spec["template"]["spec"]["containers"][0]["image"] = json!(images[self.dice.roll(images.len())]);
            }
            2 => spec["updateStrategy"]["rollingUpdate"]["paused"] = json!(self.dice.roll(3) == 0),
            3 => spec["replicas"] = json!(1 + self.dice.roll(5)),
            4 => spec["updateStrategy"]["rollingUpdate"]["partition"] = json!(self.dice.roll(replicas + 1)),
            5 => spec["template"]["metadata"]["annotations"] = json!({"note": self.dice.roll(3).to_string()}),
            _ => return self.bother_a_pod(),
        }
        self.edit(spec);
    }

    fn bother_a_pod(&mut self) {
        let names: Vec<_> = self.active().into_iter().cloned().collect();
        if names.is_empty() {
            return;
        }
        let name = &names[self.dice.roll(names.len())];
        let choice = self.dice.roll(3);
        if choice == 2 {
            let mut spec = self.set["spec"].clone();
            spec["scaleStrategy"]["podsToDelete"] = json!([name, "nobody"]);
            return self.edit(spec);
        }
        if choice == 0 {
            self.delete_pod(name);
        } else {
            self.version += 1;
            let pod = self.pods.get_mut(name).unwrap();
            pod["metadata"]["labels"][names::SPECIFIED_DELETE] = json!("true");
            pod["metadata"]["resourceVersion"] = json!(self.version.to_string());
        }
        self.record();
    }

    fn edit(&mut self, spec: Value) {
        if spec != self.set["spec"] {
            self.version += 1;
            self.set["spec"] = spec;
            let generation = self.set["metadata"]["generation"].as_i64().unwrap() + 1;
            self.set["metadata"]["generation"] = json!(generation);
            self.set["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.record();
        }
    }

    /// Faults stop, everybody does their work: the world must come to what is wanted, and then rest.
    fn settle(&mut self) -> Result<(), String> {
        let mut spec = self.set["spec"].clone();
        spec["updateStrategy"]["rollingUpdate"]["paused"] = json!(false);
        if spec["template"]["spec"]["containers"][0]["image"] == "app:bad" {
            spec["template"]["spec"]["containers"][0]["image"] = json!("app:2");
        }
        if self.faults {
            // A partition may keep pods at an image that cannot be had.
            spec["updateStrategy"]["rollingUpdate"]["partition"] = json!(0);
        }
        self.edit(spec);
        self.see_all();
        let mut quiet = 0;
        for _ in 0..ROUNDS {
            self.see_all();
            let wrote = self.control(true)?;
            let names: Vec<_> = self.pods.keys().cloned().collect();
            for name in names {
                self.node_step(&name, true);
            }
            self.now += SignedDuration::from_secs(1);
            quiet = if wrote == 0 { quiet + 1 } else { 0 };
            if quiet == 8 {
                return self.check_end();
            }
        }
        Err(format!("still writing after {ROUNDS} rounds"))
    }

    fn check_end(&self) -> Result<(), String> {
        let (spec, status) = (&self.set["spec"], &self.set["status"]);
        let replicas = spec["replicas"].as_i64().unwrap();
        let partition = spec["updateStrategy"]["rollingUpdate"]["partition"]
            .as_i64()
            .unwrap_or(0)
            .min(replicas);
        let number = |field: &str| status[field].as_i64().unwrap_or(-1);
        let count = i64::try_from(self.pods.len()).unwrap();
        if count != replicas || number("availableReplicas") != replicas {
            return Err(format!(
                "{count} pods, {} available, {replicas} wanted: {status}",
                number("availableReplicas")
            ));
        }
        self.check_claims()?;
        if let Some(stopped) = self.check_stopped() {
            return stopped;
        }
        for (name, pod) in &self.pods {
            let state = &pod["metadata"]["labels"][names::LIFECYCLE_STATE];
            if state != names::STATE_NORMAL {
                return Err(format!("{name} is {state}"));
            }
        }
        let between = status["currentRevision"] != status["updateRevision"];
        if self.gates.partition_rollback && between && number("updatedReplicas") > replicas - partition {
            return Err(format!(
                "more updated than the partition of {partition} allows: {status}"
            ));
        }
        if number("updatedReplicas") < replicas - partition
            || status["observedGeneration"] != self.set["metadata"]["generation"]
        {
            return Err(format!("not updated: {status}"));
        }
        Ok(())
    }
}

fn run(seed: u64, bug: Bug) -> Result<usize, String> {
    run_world(seed, &mut World::new(seed, bug), false)
}

fn run_world(seed: u64, world: &mut World, loses: bool) -> Result<usize, String> {
    let mut moves = || {
        for _ in 0..MOVES {
            if loses && world.dice.roll(20) == 0 {
                world.lose();
            }
            world.move_on()?;
        }
        if loses {
            world.release();
            for _ in 0..MOVES {
                if world.dice.roll(20) == 0 {
                    world.lose();
                }
                if world.dice.roll(2) == 0 {
                    world.see_all();
                }
                world.move_on_without_user()?;
            }
        }
        world.settle()?;
        Ok(world.writes)
    };
    moves().map_err(|why: String| {
        let set = &world.set["spec"];
        let pods: Vec<_> = world.pods.values().map(|pod| format!("{pod}")).collect();
        format!(
            "seed {seed} (faults: {}): {why}\n{set}\n{}",
            world.faults,
            pods.join("\n")
        )
    })
}

/// The budget, the partition and the drain hold in every interleaving; every world settles and then writes nothing.
/// `AFLOAT_SEEDS=from..to` runs others.
#[test]
fn every_world_is_safe_and_settles() {
    let range = std::env::var("AFLOAT_SEEDS").unwrap_or_else(|_| "0..200".into());
    let (from, to) = range.split_once("..").expect("AFLOAT_SEEDS=from..to");
    let (from, to): (u64, u64) = (from.parse().unwrap(), to.parse().unwrap());
    let mut writes = 0;
    for seed in from..to {
        writes += run(seed, Bug::None).unwrap_or_else(|why| panic!("{why}"));
    }
    assert!(writes > 0);
}

/// The same where connections are lost all the time and none may be: no further pod is touched, or all go back, from
/// whatever state they are in; and then nothing is written.
#[test]
fn every_lossy_world_stops_or_goes_back() {
    let (mut held, mut gone_back) = (0, 0);
    for seed in 0..800 {
        let mut world = World::new(seed, Bug::None);
        world.count_losses(seed % 2 == 0);
        // What users and nodes break is not a matter of going back.
        world.faults = false;
        run_world(seed, &mut world, true).unwrap_or_else(|why| panic!("{why}"));
        let conditions = world.set["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        held += usize::from(conditions.iter().any(|condition| condition["reason"] == "MaxLoss"));
        gone_back += usize::from(conditions.iter().any(|condition| condition["reason"] == "Rollback"));
    }
    assert!(held > 20 && gone_back > 20, "{held} held, {gone_back} gone back");
}

/// The checks can fail.
#[test]
fn planted_bugs_are_caught() {
    for bug in [
        Bug::NoGrace,
        Bug::BudgetPlusOne,
        Bug::EarlyReturn,
        Bug::NoPartition,
        Bug::StaleView,
        Bug::AnyFalseIsADrain,
        Bug::ContainerIdAlone,
        Bug::OneTooMany,
        Bug::NoHooks,
        Bug::NoClaims,
        Bug::NewClaims,
        Bug::NameTaken,
        Bug::NoRollback,
        Bug::EarlyPage,
        Bug::EarlyEvent,
    ] {
        assert!(
            (0..20_000).any(|seed| run(seed, bug).is_err()),
            "{bug:?} was not caught"
        );
    }
}
