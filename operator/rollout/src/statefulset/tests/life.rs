//! Hooks of a pod's life.

use super::*;

fn hook(key: &str) -> Value {
    json!({"labelsHandler": {key: "true"}})
}

#[test]
fn a_pod_takes_part_from_its_beginning_unless_a_hook_says_otherwise() {
    let state = |scene: &Scene| {
        let plan = scene.plan();
        let Some(Action::CreatePod { pod }) = plan.actions.first() else {
            panic!("{:?}", plan.actions)
        };
        pod.body()["metadata"]["labels"][names::LIFECYCLE_STATE].clone()
    };
    let scene = Scene::new(&recreate());
    assert_eq!(state(&scene), "Normal");
    let held = scene.spec("lifecycle", json!({"preNormal": hook("up")}));
    assert_eq!(state(&held), "PreparingNormal");
}

#[test]
fn a_hook_holds_a_pod_before_it_is_deleted() {
    let mut scene = Scene::with_old(&json!({"partition": 3}), &[0, 1, 2])
        .spec("replicas", json!(2))
        .spec("lifecycle", json!({"preDelete": hook("hold")}));
    scene.of(2)["metadata"]["labels"]["hold"] = json!("true");
    assert_eq!(scene.said(), ["patch web-2 lifecycle"]);
    scene.of(2)["metadata"]["labels"][names::LIFECYCLE_STATE] = json!("PreparingDelete");
    assert_eq!(scene.said(), [""; 0]);
    assert!(
        scene.waits().contains("waiting for hook preDelete: web-2"),
        "{}",
        scene.waits()
    );
    scene.of(2)["metadata"]["labels"]
        .as_object_mut()
        .unwrap()
        .remove("hold");
    assert_eq!(scene.said(), ["delete web-2 scale_down"]);
}

#[test]
fn a_hook_holds_a_pod_before_it_is_updated_in_place() {
    let mut scene = Scene::with_old(&in_place(), &[0, 1, 2]).spec("lifecycle", json!({"inPlaceUpdate": hook("hold")}));
    scene.of(2)["metadata"]["labels"]["hold"] = json!("true");
    assert_eq!(scene.said(), ["patch web-2 lifecycle"]);
    scene.of(2)["metadata"]["labels"][names::LIFECYCLE_STATE] = json!("PreparingUpdate");
    assert_eq!(scene.said(), [""; 0], "nobody else goes in its place");
}

/// Pods of a set that OpenKruise made before it had hooks have no state, and get none.
#[test]
fn a_pod_without_a_state_gets_none() {
    let mut scene = Scene::with_old(&in_place(), &[0, 1, 2]);
    let web = scene.of(2);
    web["metadata"]["labels"]
        .as_object_mut()
        .unwrap()
        .remove(names::LIFECYCLE_STATE);
    web["spec"]["readinessGates"] = json!([]);
    let plan = scene.plan();
    let Action::PatchPod { patch, .. } = &plan.actions[0] else {
        panic!("{:?}", plan.actions)
    };
    assert!(!patch.labels.contains_key(names::LIFECYCLE_STATE));
}
