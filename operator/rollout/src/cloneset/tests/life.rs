//! Hooks, and what a pod leaves behind.

use afloat_api::names;
use serde_json::{Value, json};

use super::merge::merge;
use super::{Plan, START, Scene, in_place, sent, words};
use crate::action::Action;

/// Status of one of a pod's conditions.
fn condition(pod: &Value, kind: &str) -> Value {
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == kind).unwrap()["status"].clone()
}

/// Without a hook the states cost no write: each comes with one that there is anyway.
#[test]
fn a_life_without_hooks() {
    let mut scene = Scene::new(&["app:1"], &in_place());
    scene.set["spec"]["replicas"] = json!(1);
    let plan = scene.plan();
    let [Action::CreatePod { pod }] = &plan.actions[..] else {
        panic!("{:?}", words(&plan))
    };
    let body = pod.body();
    assert_eq!(body["metadata"]["labels"][names::LIFECYCLE_STATE], "PreparingNormal");
    assert_eq!(
        body["metadata"]["annotations"][names::LIFECYCLE_TIMESTAMP],
        "2026-01-01T01:00:00Z"
    );
    let ready = scene.pod("a", 0)["status"].clone();
    let pod = &mut scene.pods[0];
    pod["metadata"]["labels"][names::LIFECYCLE_STATE] = json!("PreparingNormal");
    pod["spec"]["nodeName"] = Value::Null;
    pod["status"] = json!({"phase": "Pending"});
    assert!(scene.plan().actions.is_empty());
    scene.pods[0]["spec"]["nodeName"] = json!("node");
    assert!(scene.plan().actions.is_empty(), "the node is at work");
    // With any hook its controller is told at once.
    scene.set["spec"]["lifecycle"] = json!({"preDelete": {"labelsHandler": {"hold": "on"}}});
    assert_eq!(
        sent(&scene.plan().actions[0])["metadata"]["labels"][names::LIFECYCLE_STATE],
        "Normal"
    );
    scene.set["spec"]["lifecycle"] = json!({});
    scene.pods[0]["status"] = ready;
    scene.pods[0]["status"]["conditions"] = json!([{"type": "Ready", "status": "False"}]);
    let step = |scene: &mut Scene, expected: &str| {
        let plan = scene.plan();
        assert_eq!(words(&plan), [expected]);
        merge(&mut scene.pods[0], &sent(&plan.actions[0]));
        scene.pods[0]["metadata"]["labels"][names::LIFECYCLE_STATE].clone()
    };
    assert_eq!(step(&mut scene, "return a"), "Normal");
    assert_eq!(condition(&scene.pods[0], names::INPLACE_READY), "True");
    let mut scene = Scene::new(&["app:1", "app:2"], &in_place());
    scene.pod("a", 0)["metadata"]["labels"][names::LIFECYCLE_STATE] = json!("Normal");
    assert_eq!(step(&mut scene, "drain a"), "Normal");
    assert_eq!(step(&mut scene, "update a"), "Updating");
    scene.pods[0]["status"]["containerStatuses"][0]["imageID"] = json!("id:app:2");
    scene.pods[0]["status"]["containerStatuses"][0]["image"] = json!("app:2");
    assert_eq!(step(&mut scene, "return a"), "Normal");
}

/// The states of a pod's life, one plan after the other, as a hook's controller drives them.
#[test]
fn an_update_waits_for_its_hook_and_reports_back_to_it() {
    let mut scene = Scene::new(&["app:1", "app:2"], &in_place());
    scene.set["spec"]["lifecycle"] = json!({"inPlaceUpdate": {"labelsHandler": {"hold": "on"}, "finalizersHandler": ["x/y"], "markPodNotReady": true}});
    let pod = scene.pod("a", 0);
    pod["metadata"]["labels"]["hold"] = json!("on");
    pod["metadata"]["finalizers"] = json!(["x/y"]);
    pod["spec"]["readinessGates"] =
        json!([{"conditionType": names::INPLACE_READY}, {"conditionType": names::KRUISE_POD_READY}]);
    pod["status"]["conditions"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": names::KRUISE_POD_READY, "status": "True"}));
    let step = |scene: &mut Scene, expected: &str| {
        let plan = scene.plan();
        assert_eq!(words(&plan), [expected], "{:?}", plan.status.conditions[0].message);
        if let Action::PatchPod { .. } | Action::PatchPodStatus { .. } = &plan.actions[0] {
            merge(&mut scene.pods[0], &sent(&plan.actions[0]));
        }
        scene.pods[0]["metadata"]["labels"][names::LIFECYCLE_STATE]
            .as_str()
            .unwrap_or("")
            .to_owned()
    };
    assert_eq!(step(&mut scene, "lifecycle a"), "PreparingUpdate");
    let marked = |scene: &Scene| condition(&scene.pods[0], names::KRUISE_POD_READY);
    assert_eq!(
        marked(&scene),
        "False",
        "not ready from the moment on that the hook can see"
    );
    assert_eq!(condition(&scene.pods[0], "Ready"), "False");
    let waiting = scene.plan();
    assert!(waiting.actions.is_empty());
    assert!(
        waiting.status.conditions[0]
            .message
            .contains("1 pod waiting for hook inPlaceUpdate: a")
    );
    scene.pods[0]["metadata"]["labels"]["hold"] = json!("off");
    scene.pods[0]["metadata"]["finalizers"] = json!([]);
    step(&mut scene, "drain a");
    assert_eq!(step(&mut scene, "update a"), "Updating");
    scene.pods[0]["status"]["containerStatuses"][0]["imageID"] = json!("id:app:2");
    scene.pods[0]["status"]["containerStatuses"][0]["image"] = json!("app:2");
    assert_eq!(step(&mut scene, "return a"), "Updated", "the gate opens");
    assert_eq!(marked(&scene), "True", "its mark goes");
    assert!(scene.plan().actions.is_empty(), "until the hook holds it again");
    scene.pods[0]["metadata"]["labels"]["hold"] = json!("on");
    scene.pods[0]["metadata"]["finalizers"] = json!(["x/y"]);
    assert_eq!(step(&mut scene, "lifecycle a"), "Normal");
}

#[test]
fn a_deletion_waits_for_its_hook_and_can_be_taken_back() {
    let mut scene = Scene::new(&["app:1"], &in_place());
    scene.set["spec"]["lifecycle"] = json!({"preDelete": {"labelsHandler": {"hold": "on"}}});
    scene.pod("a", 0)["metadata"]["labels"]["hold"] = json!("on");
    scene.pod("b", 0)["metadata"]["labels"]["hold"] = json!("on");
    scene.set["spec"]["replicas"] = json!(1);
    assert_eq!(words(&scene.plan()), ["lifecycle a"]);
    scene.pods[0]["metadata"]["labels"][names::LIFECYCLE_STATE] = json!("PreparingDelete");
    assert!(scene.plan().actions.is_empty());
    scene.set["spec"]["replicas"] = json!(2);
    let back = scene.plan();
    assert_eq!(words(&back), ["lifecycle a"]);
    let patch = sent(&back.actions[0]);
    assert_eq!(patch["metadata"]["labels"][names::LIFECYCLE_STATE], "PreparingNormal");
    scene.set["spec"]["replicas"] = json!(1);
    scene.pods[0]["metadata"]["labels"]["hold"] = json!("off");
    assert_eq!(words(&scene.plan()), ["scale_down a"]);
    scene.set["spec"]["replicas"] = json!(2);
    scene.set["spec"]["scaleStrategy"] = json!({"excludePreparingDelete": true, "podsToDelete": ["a"]});
    scene.pods[0]["metadata"]["labels"]["hold"] = json!("on");
    assert_eq!(
        words(&scene.plan()),
        ["create"],
        "its replacement need not wait for the hook"
    );
}

/// OpenKruise leaves pods without hooks in PreparingNormal until they are scheduled, and in Updating until it looks.
#[test]
fn states_that_openkruise_left_go_on() {
    let mut scene = Scene::new(&["app:1"], &in_place());
    for state in ["PreparingNormal", "Updating", "Updated", "PreparingUpdate"] {
        scene.pod(&state.to_lowercase(), 0)["metadata"]["labels"][names::LIFECYCLE_STATE] = json!(state);
    }
    let plan = scene.plan();
    assert_eq!(plan.actions.len(), 4);
    for action in &plan.actions {
        assert!(matches!(action, Action::PatchPod { .. }));
        assert_eq!(sent(action)["metadata"]["labels"][names::LIFECYCLE_STATE], "Normal");
    }
}

/// A set with a claim per pod, and a pod "web-one" with its claim.
fn with_claims() -> Scene {
    let mut scene = Scene::new(&["app:1"], &in_place());
    scene.set["spec"]["volumeClaimTemplates"] =
        json!([{"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}]);
    scene.pod("web-one", 0)["metadata"]["labels"][names::INSTANCE_ID] = json!("one");
    scene.claims.push(
        json!({"metadata": {"name": "data-web-one", "uid": "c", "resourceVersion": "3",
        "labels": {names::INSTANCE_ID: "one"}}}),
    );
    scene
}

#[test]
fn each_new_pod_has_claims_of_its_own() {
    let mut scene = with_claims();
    scene.set["spec"]["replicas"] = json!(2);
    let plan = scene.plan();
    let Action::CreatePod { pod } = &plan.actions[1] else {
        panic!("{:?}", words(&plan))
    };
    let body = pod.body();
    let id = body["metadata"]["labels"][names::INSTANCE_ID].as_str().unwrap();
    let name = format!("data-web-{id}");
    assert_eq!(words(&plan), [format!("claim {name}"), "create".to_owned()]);
    assert_eq!(
        body["spec"]["volumes"],
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": name}}])
    );
    let Action::CreateClaim { body } = &plan.actions[0] else {
        panic!()
    };
    assert_eq!(
        body["metadata"]["labels"],
        json!({"app": "web", names::INSTANCE_ID: id})
    );
    assert_eq!(body["spec"]["resources"]["requests"]["storage"], "1Gi");

    // The claim was not created, or is gone, before the pod was given a node.
    let mut scene = with_claims();
    scene.claims.clear();
    scene.pods[0]["spec"]["nodeName"] = Value::Null;
    scene.pods[0]["status"] = json!({"phase": "Pending"});
    assert_eq!(words(&scene.plan()), ["claim data-web-one"]);
}

#[test]
fn claims_go_with_pods_that_the_controller_deletes() {
    for reuse in [false, true] {
        let mut scene = with_claims();
        scene.set["spec"]["scaleStrategy"] = json!({"enablePVCReuse": reuse});
        scene.set["spec"]["replicas"] = json!(0);
        let plan = scene.plan();
        let [Action::DeletePod { claims, .. }] = &plan.actions[..] else {
            panic!("{:?}", words(&plan))
        };
        assert_eq!(claims[0].name, "data-web-one");
    }
}

#[test]
fn claims_of_pods_that_others_removed() {
    let gone = |reuse: bool, going: bool| {
        let mut scene = with_claims();
        scene.set["spec"]["scaleStrategy"] = json!({"enablePVCReuse": reuse});
        if going {
            scene.pods[0]["metadata"]["deletionTimestamp"] = json!(START);
        } else {
            scene.pods.clear();
        }
        scene.plan()
    };
    let created = |plan: &Plan| {
        let bodies = plan.actions.iter().filter_map(|action| match action {
            Action::CreatePod { pod } => Some(pod.name.clone()),
            _ => None,
        });
        bodies.collect::<Vec<_>>()
    };
    assert_eq!(
        created(&gone(true, false)),
        ["web-one"],
        "a new pod takes the id and the claim"
    );
    assert_eq!(gone(true, false).actions.len(), 1, "which is there");
    let waiting = gone(true, true);
    assert!(
        waiting.actions.is_empty(),
        "not before the old pod is gone: {:?}",
        words(&waiting)
    );
    let sentence = "1 pod not gone yet, whose name and claims a new one takes: web-one";
    assert!(waiting.status.conditions[0].message.contains(sentence));
    assert_ne!(created(&gone(false, false)), ["web-one"]);
    assert_eq!(words(&gone(false, false)).last().unwrap(), "delete claim data-web-one");
    assert_eq!(words(&gone(false, true)).last().unwrap(), "pass on data-web-one");
}

/// Eight claims stay eight: what is missing beyond the pods that are going gets claims of its own at once.
#[test]
fn more_pods_than_were_removed_do_not_wait_for_them() {
    let mut scene = with_claims();
    scene.set["spec"]["scaleStrategy"] = json!({"enablePVCReuse": true});
    scene.pods[0]["metadata"]["deletionTimestamp"] = json!(START);
    scene.set["spec"]["replicas"] = json!(3);
    let claims = |plan: &Plan| {
        plan.actions
            .iter()
            .filter(|a| matches!(a, Action::CreateClaim { .. }))
            .count()
    };
    assert_eq!((scene.plan().actions.len(), claims(&scene.plan())), (4, 2));
    // Going claims are no good for anybody.
    scene.claims[0]["metadata"]["deletionTimestamp"] = json!(START);
    assert_eq!((scene.plan().actions.len(), claims(&scene.plan())), (6, 3));
}

/// An evicted pod stays until somebody deletes it, and its name is taken so long.
#[test]
fn a_pod_that_is_over_makes_room_for_its_successor() {
    let mut scene = with_claims();
    scene.set["spec"]["scaleStrategy"] = json!({"enablePVCReuse": true});
    scene.pods[0]["status"]["phase"] = json!("Failed");
    let plan = scene.plan();
    let [Action::DeletePod { claims, .. }] = &plan.actions[..] else {
        panic!("{:?}", words(&plan))
    };
    assert!(claims.is_empty(), "they are the successor's");
    assert_eq!(words(&plan), ["finished web-one"]);
    scene.set["spec"]["replicas"] = json!(0);
    assert!(
        scene.plan().actions.is_empty(),
        "without a successor it is left to look at"
    );
    scene.set["spec"]["replicas"] = json!(1);
    scene.set["spec"]["scaleStrategy"] = json!({"enablePVCReuse": false});
    let names = words(&scene.plan());
    assert_eq!(names.last().unwrap(), "pass on data-web-one");
}

#[test]
fn thousands_of_writes_are_asked_for_in_portions() {
    let mut scene = Scene::new(
        &["app:1", "app:2"],
        &json!({"podUpdatePolicy": "InPlaceIfPossible", "maxUnavailable": "100%"}),
    );
    scene.set["spec"]["replicas"] = json!(1200);
    assert_eq!(scene.plan().actions.len(), 500);
    for index in 0..1200 {
        scene.pod(&format!("p{index:04}"), 0);
    }
    let plan = scene.plan();
    assert_eq!(plan.actions.len(), 500);
    assert!(plan.wake_at.is_some(), "the rest is not forgotten");
    scene.set["spec"]["replicas"] = json!(0);
    assert_eq!(scene.plan().actions.len(), 500);
}

/// The scheduler and the node write to a new pod in quick succession; what is written between meets a conflict.
#[test]
fn a_new_pod_is_not_written_before_its_containers_run() {
    let mut scene = Scene::new(&["app:1"], &in_place());
    let pod = scene.pod("a", 0);
    pod["status"]["conditions"] = json!([{"type": "Ready", "status": "False"}]);
    pod["status"]["containerStatuses"][0]["ready"] = json!(false);
    pod["status"]["containerStatuses"][0]["state"] = json!({"waiting": {"reason": "ContainerCreating"}});
    assert!(words(&scene.plan()).is_empty());
    scene.pods[0]["status"]["containerStatuses"][0]["state"] = json!({"running": {}});
    assert_eq!(
        words(&scene.plan()),
        ["return a"],
        "its first Ready needs no round of ours"
    );
}
