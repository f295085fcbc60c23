//! Updates without a surge.

use super::*;

#[test]
fn one_node_after_the_other_the_last_name_first() {
    let mut scene = Scene::new(3, &json!({})).everywhere(OLD);
    assert_eq!(scene.does(), ["recreate n3-old"]);
    scene.pods.remove(2);
    assert_eq!(scene.does(), ["create on n3"]);
    scene.pod("n3", NEW)["status"]["conditions"] = json!([]);
    assert_eq!(scene.does(), ["return n3-new"], "it is waited for");
    scene.pods.pop();
    scene.pod("n3", NEW);
    assert_eq!(scene.does(), ["recreate n2-old"]);
    let status = scene.plan().status;
    assert_eq!((status.updated_number_scheduled, status.number_available), (1, 3));
    assert_eq!(status.update_revision, scene.hash(NEW));
}

#[test]
fn in_place_a_pod_stays() {
    let mut scene = Scene::new(2, &json!({"rollingUpdateType": "InPlaceIfPossible"})).everywhere(OLD);
    assert_eq!(scene.does(), ["drain n2-old"]);
    let since = "2026-01-01T01:00:00Z";
    let message = format!("updating to log-{}, out of service since {since}", scene.hash(NEW));
    scene.find("n2-old")["status"]["conditions"] = json!([
        {"type": names::INPLACE_READY, "status": "False", "message": message}, {"type": "Ready", "status": "False"}]);
    let plan = scene.plan();
    assert_eq!(words(&plan), ["update n2-old"]);
    let Action::PatchPod { at, patch, .. } = &plan.actions[0] else {
        panic!()
    };
    let sent = patch.json(at);
    assert_eq!(
        sent["metadata"]["labels"],
        json!({names::REVISION: scene.hash(NEW)}),
        "no state of life, no second hash"
    );
    let state: Value =
        serde_json::from_str(sent["metadata"]["annotations"][names::INPLACE_STATE].as_str().unwrap()).unwrap();
    assert_eq!(state["revision"], json!(scene.hash(NEW)));
    assert_eq!(sent["spec"]["containers"], json!([{"name": "app", "image": "log:2"}]));
}

#[test]
fn what_cannot_be_changed_in_place_is_recreated() {
    let mut scene = Scene::new(1, &json!({"rollingUpdateType": "InPlaceIfPossible"})).everywhere(OLD);
    scene.template()["containers"][0]["env"] = json!([{"name": "A", "value": "b"}]);
    scene.add_revision();
    assert_eq!(scene.does(), ["recreate n1-old"]);
}

#[test]
fn a_pod_that_is_down_costs_nothing() {
    let mut scene = Scene::new(3, &json!({})).everywhere(OLD);
    scene.find("n1-old")["status"]["conditions"] = json!([{"type": names::INPLACE_READY, "status": "True"}]);
    assert_eq!(scene.does(), ["recreate n1-old"], "and uses up what others could cost");
    scene.set["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = json!("50%");
    assert_eq!(scene.does(), ["recreate n3-old", "recreate n1-old"]);
}

#[test]
fn the_partition_keeps_pods_back() {
    for (partition, moves) in [
        (json!(2), 1),
        (json!("50%"), 2),
        (json!(3), 0),
        (json!("100%"), 0),
        (json!(9), 0),
    ] {
        let scene = Scene::new(3, &json!({"partition": partition, "maxUnavailable": 3})).everywhere(OLD);
        assert_eq!(scene.does().len(), moves, "{partition}");
    }
    let mut scene = Scene::new(3, &json!({"partition": 2, "maxUnavailable": 3})).everywhere(OLD);
    scene.pods.remove(0);
    scene.pod("n1", NEW);
    assert!(scene.does().is_empty());
    let rollout = &scene.plan().status.conditions[0];
    assert_eq!(
        (rollout.status.as_str(), rollout.reason.as_str()),
        ("False", "ProgressPartitionAvailable")
    );
}

#[test]
fn only_nodes_that_are_selected() {
    let rolling = json!({"selector": {"matchLabels": {"zone": "even"}}, "maxUnavailable": 4});
    let mut scene = Scene::new(4, &rolling).everywhere(OLD);
    assert_eq!(scene.does(), ["recreate n4-old", "recreate n2-old"]);
    scene.set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(3);
    assert_eq!(scene.does(), ["recreate n4-old"]);
}

#[test]
fn nothing_moves_where_it_must_not() {
    for (kind, paused) in [("OnDelete", false), ("RollingUpdate", true)] {
        let mut scene = Scene::new(2, &json!({"paused": paused})).everywhere(OLD);
        scene.set["spec"]["updateStrategy"]["type"] = json!(kind);
        assert!(scene.does().is_empty(), "{kind}");
        scene.pods.remove(0);
        assert_eq!(scene.does(), ["create on n1"], "at the new revision");
    }
}

#[test]
fn a_hook_holds_a_pod_before_it_goes() {
    let mut scene = Scene::new(2, &json!({})).everywhere(OLD);
    scene.set["spec"]["lifecycle"] = json!({"preDelete": {"labelsHandler": {"hold": "true"}}});
    for pod in &mut scene.pods {
        pod["metadata"]["labels"]["hold"] = json!("true");
    }
    assert_eq!(scene.does(), ["lifecycle n2-old"]);
    scene.find("n2-old")["metadata"]["labels"][names::LIFECYCLE_STATE] = json!(names::STATE_PREPARING_DELETE);
    assert!(scene.does().is_empty(), "nobody else goes meanwhile");
    // Not even by the rollout's end does it come back.
    scene.set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(2);
    assert!(scene.does().is_empty());
    scene.find("n2-old")["metadata"]["labels"]["hold"] = json!("false");
    assert_eq!(scene.does(), ["recreate n2-old"]);
}

#[test]
fn who_is_asked_to_go_goes() {
    let mut scene = Scene::new(2, &json!({})).everywhere(NEW);
    for pod in &mut scene.pods {
        pod["metadata"]["labels"][names::SPECIFIED_DELETE] = json!("true");
    }
    assert_eq!(scene.does(), ["specified_delete n1-new"], "within the budget");
}

#[test]
fn minutes_of_readiness_count() {
    let mut scene = Scene::new(2, &json!({})).everywhere(OLD);
    scene.set["spec"]["minReadySeconds"] = json!(60);
    scene.pods.remove(1);
    scene.pod("n2", NEW);
    scene.find("n1-old")["status"]["conditions"][1]["lastTransitionTime"] = json!("2025-12-31T00:00:00Z");
    let plan = scene.plan_after(59);
    assert!(words(&plan).is_empty());
    assert_eq!(plan.wake_at, Some("2026-01-01T00:01:00Z".parse().unwrap()));
    assert_eq!((plan.status.number_ready, plan.status.number_available), (2, 1));
    assert_eq!(words(&scene.plan_after(60)), ["recreate n1-old"]);
}

#[test]
fn a_pod_that_may_stay_where_none_may_come_is_left_alone() {
    let mut scene = Scene::new(2, &json!({})).everywhere(OLD);
    scene.nodes.get_mut("n2").unwrap()["spec"] = taint("mine", "NoSchedule");
    assert_eq!(scene.does(), ["recreate n1-old"]);
}
