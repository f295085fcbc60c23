//! A Deployment among lagging ReplicaSets and pods that become ready whenever they like, in every order that proptest tries.

use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::plan::{Action, Observed, REVISION_HISTORY, plan};
use super::sets::{Limits, REVISION, name_of};
use crate::objects::{Deployment, Key, ReplicaSet};
use crate::workload::template::{HASH_LABEL, template_hash};

#[derive(Clone, Debug)]
struct PodModel {
    set: String,
    ready: bool,
}

/// The API server's objects and the true pods.
struct World {
    deployment: Value,
    sets: Vec<Value>,
    pods: Vec<PodModel>,
    clock: i64,
}

fn merge(target: &mut Value, patch: &Value) {
    match (target.as_object_mut(), patch.as_object()) {
        (Some(object), Some(changes)) => {
            for (name, change) in changes {
                if change.is_null() {
                    object.remove(name);
                } else {
                    merge(object.entry(name.clone()).or_insert(Value::Null), change);
                }
            }
        }
        (None, Some(_)) => {
            *target = json!({});
            merge(target, patch);
        }
        _ => target.clone_from(patch),
    }
}

impl World {
    fn new(replicas: i32, surge: i32, unavailable: i32) -> Self {
        let deployment = json!({
            "metadata": {"name": "d", "namespace": "n", "uid": "d-uid", "generation": 1},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": {"app": "d"}}, "progressDeadlineSeconds": 600,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
                "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"image": "v1"}},
            },
        });
        Self {
            deployment,
            sets: Vec::new(),
            pods: Vec::new(),
            clock: 0,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_000_000 + self.clock).unwrap()
    }

    fn observe(&self) -> (Deployment, Vec<Arc<ReplicaSet>>) {
        let sets = self
            .sets
            .iter()
            .map(|set| Arc::new(serde_json::from_value(set.clone()).unwrap()))
            .collect();
        (serde_json::from_value(self.deployment.clone()).unwrap(), sets)
    }

    /// Plans, and carries out the first `most` actions. Returns whether there was anything to do.
    fn controller(&mut self, most: usize) -> bool {
        self.clock += 1;
        let (deployment, sets) = self.observe();
        let old_pods = 0;
        let decided = plan(
            &Observed {
                deployment: &deployment,
                sets: &sets,
                old_pods,
            },
            self.now(),
        )
        .unwrap();
        for action in decided.steps.iter().take(most) {
            self.act(action);
        }
        let news = !decided.steps.is_empty() || decided.status.is_some();
        if let Some(status) = decided.status {
            merge(&mut self.deployment, &status.patch());
        }
        news
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Create { name, object } => {
                assert!(
                    !self.sets.iter().any(|set| set["metadata"]["name"] == **name),
                    "created twice"
                );
                let mut object = object.clone();
                object["metadata"]["uid"] = json!(name);
                object["metadata"]["generation"] = json!(1);
                object["metadata"]["creationTimestamp"] = json!(crate::objects::time::seconds(self.now()));
                self.sets.push(object);
            }
            Action::Update { set, patch, .. } => {
                let at = self.at(&name_of(set));
                merge(&mut self.sets[at], patch);
                if patch.get("spec").is_some() {
                    let generation = self.sets[at]["metadata"]["generation"].as_i64().unwrap() + 1;
                    self.sets[at]["metadata"]["generation"] = json!(generation);
                }
            }
            Action::Delete(set) => {
                let at = self.at(&name_of(set));
                assert!(
                    !self.pods.iter().any(|pod| pod.set == name_of(set)),
                    "deleted with pods"
                );
                self.sets.remove(at);
            }
            Action::Annotate(patch) => merge(&mut self.deployment, patch),
            Action::Adopt(_) | Action::Release(_) => panic!("nothing to adopt or release here"),
        }
    }

    fn at(&self, name: &str) -> usize {
        self.sets
            .iter()
            .position(|set| set["metadata"]["name"] == name)
            .unwrap()
    }

    /// One ReplicaSet creates or deletes one pod, unready ones first; and writes its status, if `report`.
    fn replica_set(&mut self, at: usize, report: bool) -> bool {
        let set = &self.sets[at];
        let name = set["metadata"]["name"].as_str().unwrap().to_owned();
        let wanted = usize::try_from(set["spec"]["replicas"].as_i64().unwrap()).unwrap();
        let own: Vec<usize> = (0..self.pods.len()).filter(|pod| self.pods[*pod].set == name).collect();
        let mut news = false;
        if own.len() < wanted {
            self.pods.push(PodModel {
                set: name.clone(),
                ready: false,
            });
            news = true;
        } else if own.len() > wanted {
            let victim = own.iter().copied().find(|pod| !self.pods[*pod].ready).unwrap_or(own[0]);
            self.pods.remove(victim);
            news = true;
        }
        if report {
            let own: Vec<&PodModel> = self.pods.iter().filter(|pod| pod.set == name).collect();
            let ready = own.iter().filter(|pod| pod.ready).count();
            let status = json!({"replicas": own.len(), "readyReplicas": ready, "availableReplicas": ready,
                "observedGeneration": self.sets[at]["metadata"]["generation"]});
            news |= self.sets[at].get("status") != Some(&status);
            self.sets[at]["status"] = status;
        }
        news
    }

    fn make_ready(&mut self) -> bool {
        let unready = self.pods.iter_mut().find(|pod| !pod.ready);
        unready.map(|pod| pod.ready = true).is_some()
    }

    /// Everybody works, honestly, until nobody has anything to do.
    fn settle(&mut self) {
        for _ in 0..500 {
            let mut news = self.controller(usize::MAX);
            for at in 0..self.sets.len() {
                news |= self.replica_set(at, true);
            }
            news |= self.make_ready();
            if !news {
                return;
            }
        }
        panic!("does not settle: {} {:?}", self.deployment, self.sets);
    }

    fn release(&mut self, image: &str) {
        self.deployment["spec"]["template"]["spec"]["image"] = json!(image);
        self.deployment["metadata"]["generation"] =
            json!(self.deployment["metadata"]["generation"].as_i64().unwrap() + 1);
    }

    fn assert_done(&self, replicas: usize, image: &str) {
        let (deployment, _) = self.observe();
        assert_eq!(self.pods.len(), replicas);
        assert!(self.pods.iter().all(|pod| pod.ready));
        for pod in &self.pods {
            assert_eq!(self.sets[self.at(&pod.set)]["spec"]["template"]["spec"]["image"], image);
        }
        assert_eq!(usize::try_from(deployment.status.available_replicas).unwrap(), replicas);
        let progressing = deployment
            .status
            .conditions
            .iter()
            .find(|condition| condition.type_ == "Progressing")
            .unwrap();
        assert_eq!(progressing.reason, "NewReplicaSetAvailable");
    }
}

#[test]
fn a_release_and_its_undo_move_all_pods_and_count_revisions() {
    let mut world = World::new(3, 1, 0);
    world.settle();
    world.assert_done(3, "v1");
    world.release("v2");
    world.settle();
    world.assert_done(3, "v2");
    world.release("v1");
    world.settle();
    world.assert_done(3, "v1");
    assert_eq!(world.sets.len(), 2, "the old replica set serves again");
    assert_eq!(world.deployment["metadata"]["annotations"][REVISION], "3");
    assert_eq!(world.sets[0]["metadata"]["annotations"][REVISION], "3");
    assert_eq!(world.sets[0]["metadata"]["annotations"][REVISION_HISTORY], "1");
}

#[test]
fn history_is_limited() {
    let mut world = World::new(1, 1, 0);
    world.deployment["spec"]["revisionHistoryLimit"] = json!(2);
    for release in 0..6 {
        world.release(&format!("v{release}"));
        world.settle();
    }
    assert_eq!(world.sets.len(), 3);
}

#[test]
fn a_paused_deployment_scales_but_does_not_move() {
    let mut world = World::new(2, 1, 0);
    world.settle();
    world.deployment["spec"]["paused"] = json!(true);
    world.release("v2");
    world.deployment["spec"]["replicas"] = json!(4);
    world.settle();
    assert_eq!((world.sets.len(), world.pods.len()), (1, 4));
    world.deployment["spec"]["paused"] = json!(false);
    world.settle();
    world.assert_done(4, "v2");
}

#[test]
fn scaling_in_the_middle_of_an_update_keeps_the_mixture() {
    let mut world = World::new(10, 3, 2);
    world.settle();
    world.release("v2");
    world.controller(usize::MAX);
    let sizes = |world: &World| {
        world
            .sets
            .iter()
            .map(|set| set["spec"]["replicas"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    let before = sizes(&world);
    assert_eq!(before, [8, 3]);
    world.deployment["spec"]["replicas"] = json!(20);
    world.controller(usize::MAX);
    let after = sizes(&world);
    assert_eq!(after.iter().sum::<i64>(), 23);
    assert!(after[0] > before[0] && after[1] > before[1], "{after:?}");
    world.settle();
    world.assert_done(20, "v2");
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut world = World::new(2, 0, 0);
    world.deployment["spec"]["strategy"] = json!({"type": "Recreate"});
    world.settle();
    world.release("v2");
    let (deployment, sets) = world.observe();
    let decided = plan(
        &Observed {
            deployment: &deployment,
            sets: &sets,
            old_pods: 2,
        },
        world.now(),
    )
    .unwrap();
    assert!(
        !decided
            .steps
            .iter()
            .any(|action| matches!(action, Action::Create { .. }))
    );
    world.settle();
    world.assert_done(2, "v2");
}

#[test]
fn template_hashes_tell_templates_apart() {
    let one = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"x": 1}});
    let with_hash = json!({"metadata": {"labels": {"a": "b", HASH_LABEL: "zz"}}, "spec": {"x": 1}});
    let other = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"x": 2}});
    assert_eq!(template_hash(&one, 0), template_hash(&with_hash, 0));
    assert_ne!(template_hash(&one, 0), template_hash(&other, 0));
    assert_ne!(template_hash(&one, 0), template_hash(&one, 1));
    assert_eq!(Key::new("a", "b"), Key::new("a", "b"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the order of events, and however late statuses are: never more pods than replicas + maxSurge, never fewer
    /// available ones than replicas − maxUnavailable; and when all do their work, it ends with all pods of the new template.
    #[test]
    fn budgets_hold_in_any_order(
        replicas in 1..=5_i32,
        surge in 0..=3_i32,
        unavailable in 0..=3_i32,
        moves in proptest::collection::vec((0..6_u8, 0..4_usize, any::<bool>()), 0..120),
    ) {
        let mut world = World::new(replicas, surge, unavailable);
        world.settle();
        world.release("v2");
        let (deployment, _) = world.observe();
        let limits = Limits::of(&deployment);
        let mut releases = 2;
        for (kind, number, flag) in moves {
            match kind {
                0 | 1 => drop(world.controller(number)),
                2 | 3 if !world.sets.is_empty() => {
                    let at = number % world.sets.len();
                    world.replica_set(at, flag);
                }
                4 => drop(world.make_ready()),
                5 if number == 3 => {
                    releases = if flag { releases + 1 } else { releases - 1 };
                    world.release(&format!("v{releases}"));
                }
                _ => {}
            }
            prop_assert!(world.pods.len() <= usize::try_from(limits.most()).unwrap(), "{} pods", world.pods.len());
            let ready = world.pods.iter().filter(|pod| pod.ready).count();
            prop_assert!(ready >= usize::try_from(limits.least_available()).unwrap(), "{ready} available");
        }
        world.settle();
        world.assert_done(usize::try_from(replicas).unwrap(), &format!("v{releases}"));
    }
}
