//! Budgets that are not the set's own, a quorum, and evictions that wait for a replacement.

use std::collections::BTreeSet;
use std::sync::Arc;

use afloat_api::Operation;
use afloat_disruption::guards::Guard;

use super::*;

fn guard(stated: usize, floor: usize) -> Guard {
    Guard {
        name: "PodUnavailableBudget web".into(),
        stated: Some(stated),
        floor,
        ..Guard::quorum("", 0)
    }
}

/// Five pods at the old revision, of which the set itself lets all go.
fn rollout() -> Scene {
    let rolling = json!({"podUpdatePolicy": "InPlaceOnly", "maxUnavailable": "100%"});
    let mut scene = Scene::new(&["app:1", "app:2"], &rolling);
    for name in ["a", "b", "c", "d", "e"] {
        scene.pod(name, 0);
    }
    scene
}

fn told(plan: &Plan) -> String {
    let condition = plan.status.conditions.iter().find(|one| one.kind == names::ROLLOUT);
    condition.map(|one| one.message.clone()).unwrap_or_default()
}

#[test]
fn a_budget_of_others_limits_who_may_go() {
    let mut scene = rollout();
    scene.guards = vec![guard(2, 3)];
    let plan = scene.plan();
    assert_eq!(words(&plan), ["drain a", "drain b"]);
    let spent: Vec<_> = plan
        .spends
        .iter()
        .map(|(name, operation)| (name.as_str(), *operation))
        .collect();
    assert_eq!(spent, [("a", Operation::Update), ("b", Operation::Update)]);
    // Its status still says that two may go.
    scene.pods[0]["status"]["conditions"][0]["status"] = json!("False");
    scene.pods[1]["status"]["conditions"][0]["status"] = json!("False");
    let plan = scene.plan();
    assert_eq!(
        words(&plan),
        ["drain a", "drain b"],
        "who is out of service is free, and nobody else goes"
    );
    let text = told(&plan);
    assert!(
        text.contains("held by PodUnavailableBudget web: 3 pods must be available, and 3 are"),
        "{text}"
    );
}

#[test]
fn a_budget_for_some_pods_leaves_the_others_alone() {
    let mut scene = rollout();
    scene.guards = vec![Guard {
        covers: Some(BTreeSet::from([Arc::from("a"), Arc::from("b")])),
        ..guard(1, 1)
    }];
    assert_eq!(words(&scene.plan()), ["drain a", "drain c", "drain d", "drain e"]);
}

#[test]
fn a_budget_against_deletions_alone_lets_pods_change() {
    let mut scene = rollout();
    scene.guards = vec![Guard {
        operations: [Operation::Delete].into(),
        ..guard(0, 5)
    }];
    assert_eq!(words(&scene.plan()).len(), 5);
    scene.set["spec"]["updateStrategy"]["rollingUpdate"]["podUpdatePolicy"] = json!("ReCreate");
    assert_eq!(words(&scene.plan()), Vec::<String>::new());
}

/// As with Kubernetes' own workloads.
#[test]
fn fewer_pods_are_had_whatever_a_budget_says() {
    let mut scene = Scene::new(&["app:1"], &json!({"maxUnavailable": 0}));
    for name in ["a", "b", "c"] {
        scene.pod(name, 0);
    }
    scene.guards = vec![guard(0, 3)];
    scene.set["spec"]["replicas"] = json!(1);
    assert_eq!(words(&scene.plan()), ["scale_down a", "scale_down b"]);
}

#[test]
fn a_majority_stays() {
    let mut scene = rollout();
    scene.set["metadata"]["annotations"] = json!({names::QUORUM: "true"});
    assert_eq!(words(&scene.plan()), ["drain a", "drain b"]);
    // Somebody else has taken one.
    scene.pods[4]["status"]["conditions"][1]["status"] = json!("False");
    let plan = scene.plan();
    assert_eq!(words(&plan), ["drain e", "drain a"], "who is not available is free");
    scene.pods[3]["metadata"]["deletionTimestamp"] = json!(START);
    assert_eq!(words(&scene.plan())[1..], ["drain e"]);
    let text = told(&scene.plan());
    assert!(
        text.contains("held by afloat.dev/quorum: 3 pods must be available, and 3 are"),
        "{text}"
    );
}

/// An evicted pod, a budget of nothing, and no surge: one more is created, then it goes.
#[test]
fn an_evicted_pod_goes_after_its_replacement_has_come() {
    let mut scene = Scene::new(&["app:1"], &json!({"maxUnavailable": 0}));
    scene.set["metadata"]["annotations"] = json!({names::BEFORE_EVICTION: "Surge"});
    for name in ["a", "b"] {
        scene.pod(name, 0);
    }
    scene.pods[0]["metadata"]["annotations"] = json!({names::EVICTION_WAITS: START});
    let waits = scene.plan_after(5);
    assert_eq!(words(&waits), ["create"]);
    assert_eq!(waits.wake_at.unwrap().to_string(), "2026-01-01T00:10:00Z");
    let text = told(&waits);
    assert!(
        text.contains("1 pod evicted, kept until a replacement is available: a"),
        "{text}"
    );
    scene.pod("c", 0);
    scene.set["spec"]["replicas"] = json!(2);
    scene.pods[2]["status"]["conditions"][1]["status"] = json!("False");
    assert_eq!(words(&scene.plan_after(6)), Vec::<String>::new(), "it is not Ready");
    scene.pods[2]["status"]["conditions"][1]["status"] = json!("True");
    assert_eq!(words(&scene.plan_after(7)), ["specified_delete a"]);
    // Where it is not asked for, the annotation means nothing.
    scene.set["metadata"]["annotations"] = json!({});
    assert_eq!(words(&scene.plan_after(7)), ["scale_down a"]);
}

#[test]
fn an_evicted_pod_does_not_wait_for_ever() {
    let mut scene = Scene::new(&["app:1"], &json!({"maxUnavailable": 1}));
    scene.set["metadata"]["annotations"] = json!({names::BEFORE_EVICTION: "Surge"});
    for name in ["a", "b"] {
        scene.pod(name, 0);
    }
    scene.pods[0]["metadata"]["annotations"] = json!({names::EVICTION_WAITS: START});
    assert_eq!(words(&scene.plan_after(599)), ["create"]);
    assert_eq!(words(&scene.plan_after(600)), ["create", "specified_delete a"]);
}
