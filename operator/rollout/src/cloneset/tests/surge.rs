//! A surge that failed: pods of a new revision that never become Ready. Whatever the user does about it, no pod that serves goes
//! for it, and none is left over.

use afloat_api::names;
use serde_json::{Value, json};

use super::merge::merge;
use super::{Scene, sent, words};
use crate::action::Action;

/// Three pods that serve at the first revision, one pod at the second that does not, and `wanted` as the template's revision.
fn failed(wanted: usize, policy: &str) -> Scene {
    let rolling = json!({"podUpdatePolicy": policy, "maxUnavailable": 0, "maxSurge": 1});
    let mut scene = Scene::new(&["app:1", "app:2", "app:3"], &rolling);
    for name in ["a", "b", "c"] {
        scene.pod(name, 0);
    }
    let broken = scene.pod("x", 1);
    broken["status"]["conditions"][1]["status"] = json!("False");
    broken["status"]["containerStatuses"][0]["ready"] = json!(false);
    broken["status"]["containerStatuses"][0]["state"] = json!({"waiting": {"reason": "ImagePullBackOff"}});
    scene.set["spec"]["replicas"] = json!(3);
    scene.set["status"]["currentRevision"] = json!(scene.revision(0));
    scene.set["spec"]["template"]["spec"]["containers"][0]["image"] = json!(format!("app:{}", wanted + 1));
    if wanted == 0 {
        // It is wanted again.
        scene.revisions[0]["revision"] = json!(4);
    }
    scene
}

const POLICIES: [&str; 2] = ["ReCreate", "InPlaceIfPossible"];

#[test]
fn it_is_waited_for_and_nothing_else_happens() {
    for policy in POLICIES {
        let mut scene = failed(1, policy);
        scene.revisions.pop();
        assert_eq!(words(&scene.plan()), [""; 0], "{policy}");
    }
}

#[test]
fn a_template_that_is_taken_back_takes_it_away() {
    for policy in POLICIES {
        let mut scene = failed(0, policy);
        assert_eq!(words(&scene.plan()), ["scale_down x"], "{policy}");
        scene.pods.pop();
        assert_eq!(words(&scene.plan()), [""; 0], "{policy}");
    }
}

#[test]
fn a_template_that_is_mended_goes_on_with_it() {
    let scene = failed(2, "ReCreate");
    assert_eq!(words(&scene.plan()), ["recreate x"]);
    // In place it is changed where it is: nobody is sent to it.
    let mut scene = failed(2, "InPlaceIfPossible");
    let mut told = Vec::new();
    for _ in 0..2 {
        let plan = scene.plan();
        told.extend(words(&plan));
        for action in &plan.actions {
            merge(&mut scene.pods[3], &sent(action));
        }
    }
    assert_eq!(told, ["drain x", "update x"]);
    assert_eq!(scene.pods[3]["spec"]["containers"][0]["image"], "app:3");
}

/// Paused there is no surge: the pod that serves nobody is the one too many.
#[test]
fn a_pause_takes_away_what_does_not_serve() {
    for policy in POLICIES {
        let mut scene = failed(1, policy);
        scene.revisions.pop();
        scene.set["spec"]["updateStrategy"]["rollingUpdate"]["paused"] = json!(true);
        assert_eq!(words(&scene.plan()), ["scale_down x"], "{policy}");
    }
}

/// So does a surge that the user takes back.
#[test]
fn a_surge_that_is_forbidden_takes_away_what_does_not_serve() {
    for policy in POLICIES {
        let mut scene = failed(1, policy);
        scene.revisions.pop();
        scene.set["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"] = json!(0);
        assert_eq!(words(&scene.plan()), ["scale_down x"], "{policy}");
    }
}

#[test]
fn scaling_down_takes_it_first() {
    for policy in POLICIES {
        for wanted in [0, 1] {
            let mut scene = failed(wanted, policy);
            scene.set["spec"]["replicas"] = json!(2);
            let words = words(&scene.plan());
            let count = words.iter().filter(|word| word.starts_with("scale_down")).count();
            let served = words
                .iter()
                .filter(|word| ["scale_down a", "scale_down b", "scale_down c"].contains(&word.as_str()));
            assert!(served.count() <= 1, "two of three must serve: {words:?}");
            if wanted == 0 {
                assert!(
                    count == 2 && words.contains(&"scale_down x".to_owned()),
                    "{policy} {words:?}"
                );
            }
        }
    }
}

/// The image can be had after all: the rollout goes on as if nothing had been.
#[test]
fn it_becomes_ready_after_all() {
    let mut scene = failed(1, "ReCreate");
    scene.revisions.pop();
    let broken = &mut scene.pods[3];
    broken["status"]["conditions"][1]["status"] = json!("True");
    broken["status"]["containerStatuses"][0]["ready"] = json!(true);
    broken["status"]["containerStatuses"][0]["state"] = json!({"running": {}});
    let plan = scene.plan();
    let gone = plan
        .actions
        .iter()
        .filter(|action| matches!(action, Action::DeletePod { .. }));
    assert_eq!(gone.count(), 1, "{:?}", words(&plan));
}

/// Nobody can say where to: no node takes it. A change that a pod without a node cannot follow recreates it, and whatever it was
/// given goes with it.
#[test]
fn one_without_a_node_is_taken_away_too() {
    let pending = |scene: &mut Scene| {
        let broken: &mut Value = &mut scene.pods[3];
        broken["spec"].as_object_mut().unwrap().remove("nodeName");
        broken["status"] =
            json!({"phase": "Pending", "conditions": [{"type": names::INPLACE_READY, "status": "True"}]});
    };
    let mut scene = failed(0, "InPlaceIfPossible");
    pending(&mut scene);
    assert_eq!(words(&scene.plan()), ["scale_down x"]);
    let mut scene = failed(2, "ReCreate");
    pending(&mut scene);
    assert_eq!(words(&scene.plan()), ["recreate x"]);
}
