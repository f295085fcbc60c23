//! Updates where the new pod is there before the old one goes.

use super::*;

#[test]
fn the_new_pod_comes_first_and_on_the_same_node() {
    let mut scene = Scene::new(3, &json!({"maxSurge": 1})).everywhere(OLD);
    assert_eq!(scene.does(), ["create on n3"]);
    scene.pod("n3", NEW)["status"]["conditions"] = json!([{"type": names::INPLACE_READY, "status": "True"}]);
    assert!(scene.does().is_empty());
    assert_eq!(
        scene.plan().status.updated_number_scheduled,
        0,
        "the elder speaks for its node"
    );
    scene.pods.pop();
    scene.pod("n3", NEW);
    assert_eq!(scene.does(), ["recreate n3-old", "create on n2"]);
    scene.pods.remove(2);
    assert_eq!(scene.does(), ["create on n2"]);
}

#[test]
fn the_type_of_old_is_a_surge_of_one() {
    let scene = Scene::new(3, &json!({"rollingUpdateType": "Surging"})).everywhere(OLD);
    assert_eq!(scene.does(), ["create on n3"]);
    let all = Scene::new(3, &json!({"maxSurge": "100%", "maxUnavailable": 0})).everywhere(OLD);
    assert_eq!(all.does().len(), 3);
}

#[test]
fn an_old_pod_that_is_down_is_replaced_at_once() {
    let mut scene = Scene::new(3, &json!({"maxSurge": 1})).everywhere(OLD);
    scene.find("n1-old")["status"]["conditions"] = json!([{"type": names::INPLACE_READY, "status": "True"}]);
    assert_eq!(scene.does(), ["create on n1", "create on n3"]);
    let new = scene.pod("n1", NEW);
    new["status"] = json!({"phase": "Pending", "conditions": [{"type": names::INPLACE_READY, "status": "True"}]});
    assert_eq!(scene.does(), ["recreate n1-old"], "the new one counts as on its way");
}

#[test]
fn minutes_of_readiness_keep_the_old_one() {
    let mut scene = Scene::new(1, &json!({"maxSurge": 1})).everywhere(OLD);
    scene.set["spec"]["minReadySeconds"] = json!(10);
    scene.pod("n1", NEW);
    assert!(words(&scene.plan_after(9)).is_empty());
    assert_eq!(words(&scene.plan_after(10)), ["recreate n1-old"]);
}

#[test]
fn who_is_asked_to_go_waits_for_a_successor() {
    let mut scene = Scene::new(2, &json!({"maxSurge": 1, "paused": true})).everywhere(NEW);
    scene.find("n2-new")["metadata"]["labels"][names::SPECIFIED_DELETE] = json!("true");
    assert_eq!(scene.does(), ["create on n2"]);
    let mut successor = scene.find("n2-new").clone();
    successor["metadata"]["name"] = json!("n2-newer");
    successor["metadata"]["uid"] = json!("n2-newer");
    successor["metadata"]["labels"]
        .as_object_mut()
        .unwrap()
        .remove(names::SPECIFIED_DELETE);
    scene.pods.push(successor);
    assert_eq!(scene.does(), ["recreate n2-new"]);
}

#[test]
fn while_the_old_one_ends_the_new_one_starts() {
    let mut scene = Scene::new(1, &json!({"maxSurge": 1})).everywhere(OLD);
    scene.find("n1-old")["metadata"]["deletionTimestamp"] = json!(START);
    assert_eq!(scene.does(), ["create on n1"]);
}

#[test]
fn the_partition_counts_nodes() {
    let scene = Scene::new(4, &json!({"maxSurge": 4, "partition": 3})).everywhere(OLD);
    assert_eq!(scene.does(), ["create on n4"]);
}

#[test]
fn of_three_pods_two_stay() {
    let mut scene = Scene::new(1, &json!({"maxSurge": 1})).everywhere(OLD);
    scene.pod("n1", NEW)["status"]["conditions"] = json!([{"type": names::INPLACE_READY, "status": "True"}]);
    let mut third = scene.find("n1-new").clone();
    third["metadata"]["name"] = json!("n1-third");
    third["metadata"]["uid"] = json!("n1-third");
    scene.pods.push(third);
    assert_eq!(scene.does(), ["scale_down n1-third"]);
}

/// Found by the model: somebody wants the old one replaced, and the revision of its successor is taken back.
#[test]
fn none_comes_while_another_one_still_goes() {
    let mut scene = Scene::new(1, &json!({"maxSurge": 1})).everywhere(NEW);
    scene.find("n1-new")["metadata"]["labels"][names::SPECIFIED_DELETE] = json!("true");
    scene.pod("n1", OLD)["metadata"]["creationTimestamp"] = json!("2025-12-09T00:00:00Z");
    assert_eq!(scene.does(), ["scale_down n1-old"]);
}
