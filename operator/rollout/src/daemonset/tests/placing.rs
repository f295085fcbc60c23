//! Which nodes have a pod, and what new pods look like.

use super::*;

#[test]
fn each_node_that_suits_gets_a_pod() {
    let mut scene = Scene::new(4, &json!({}));
    scene.pod("n1", NEW);
    scene.nodes.get_mut("n2").unwrap()["spec"] = taint("mine", "NoSchedule");
    scene.nodes.get_mut("n3").unwrap()["spec"] = taint("node.kubernetes.io/unschedulable", "NoSchedule");
    assert_eq!(scene.does(), ["create on n3", "create on n4"]);
    let status = scene.plan().status;
    assert_eq!(
        (
            status.desired_number_scheduled,
            status.current_number_scheduled,
            status.number_unavailable
        ),
        (3, 1, 2)
    );
    scene.template()["nodeSelector"] = json!({"zone": "even"});
    scene.add_revision();
    assert_eq!(scene.does(), ["scale_down n1-new", "create on n4"]);
}

#[test]
fn a_new_pod_is_pinned_and_bears_what_daemons_bear() {
    let mut scene = Scene::new(1, &json!({"rollingUpdateType": "InPlaceIfPossible"}));
    let hash = scene.hash(NEW);
    let Action::CreatePod { pod } = &scene.plan().actions[0] else {
        panic!()
    };
    let own: Vec<_> = pod.own.keys().collect();
    assert_eq!(own, ["affinity"], "the rest is there once for all");
    let body = pod.body();
    assert_eq!(node_of(&body), "n1");
    assert!(body["metadata"]["name"].as_str().unwrap().starts_with("log-"));
    assert_eq!(body["metadata"]["labels"], json!({"app": "log", names::REVISION: hash}));
    assert_eq!(body["metadata"]["ownerReferences"][0]["kind"], "DaemonSet");
    assert_eq!(
        body["spec"]["readinessGates"],
        json!([{"conditionType": names::INPLACE_READY}, {"conditionType": names::KRUISE_POD_READY}])
    );
    assert_eq!(body["spec"]["tolerations"].as_array().unwrap().len(), 6);
    scene.set["spec"]["updateStrategy"]["rollingUpdate"] = json!({});
    let Action::CreatePod { pod } = &scene.plan().actions[0] else {
        panic!()
    };
    assert_eq!(
        pod.body()["spec"]["readinessGates"],
        json!([{"conditionType": names::KRUISE_POD_READY}]),
        "as OpenKruise, which has the other gate for changes in place only"
    );
}

#[test]
fn a_pod_that_waits_for_its_node_is_there() {
    let mut scene = Scene::new(1, &json!({}));
    let pod = scene.pod("n1", NEW);
    pod["spec"]["nodeName"] = Value::Null;
    pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] =
        json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]);
    pod["status"] = json!({"phase": "Pending"});
    assert!(scene.does().is_empty());
    // Nobody else deletes it once its node is gone.
    scene.nodes.clear();
    assert_eq!(scene.does(), ["scale_down n1-new"]);
}

#[test]
fn a_node_that_does_not_suit_any_more_loses_its_pod() {
    let mut scene = Scene::new(3, &json!({})).everywhere(NEW);
    scene.nodes.get_mut("n1").unwrap()["spec"] = taint("mine", "NoExecute");
    scene.nodes.get_mut("n2").unwrap()["spec"] = taint("mine", "NoSchedule");
    assert_eq!(scene.does(), ["scale_down n1-new"]);
    let status = scene.plan().status;
    assert_eq!((status.desired_number_scheduled, status.number_misscheduled), (1, 2));
    // The pod of a node that is gone is the garbage collector's.
    scene.nodes.remove("n1");
    assert!(scene.does().is_empty());
}

#[test]
fn of_several_pods_on_a_node_the_eldest_stays() {
    let mut scene = Scene::new(1, &json!({})).everywhere(NEW);
    let pod = scene.pod("n1", OLD);
    pod["metadata"]["creationTimestamp"] = json!("2025-12-09T00:00:00Z");
    assert_eq!(scene.does(), ["scale_down n1-old"]);
}

#[test]
fn none_comes_while_one_is_there() {
    let mut scene = Scene::new(1, &json!({})).everywhere(NEW);
    scene.find("n1-new")["metadata"]["deletionTimestamp"] = json!(START);
    assert!(scene.does().is_empty());
}

#[test]
fn what_fails_again_and_again_is_replaced_ever_less_often() {
    let mut scene = Scene::new(1, &json!({})).everywhere(NEW);
    scene.find("n1-new")["status"]["phase"] = json!("Failed");
    let plan = scene.plan_after(0);
    assert_eq!(words(&plan), ["finished n1-new"]);
    let told = "Found failed daemon pod n/n1-new on node n1, will try to kill it";
    assert_eq!(plan.warnings, [("FailedDaemonPod", told.to_owned())]);
    scene.memo = plan.memo;
    let plan = scene.plan_after(0);
    assert!(words(&plan).is_empty() && plan.warnings.is_empty());
    assert_eq!(plan.wake_at, Some("2026-01-01T00:00:01Z".parse().unwrap()));
    assert_eq!(words(&scene.plan_after(1)), ["finished n1-new"]);
}

#[test]
fn the_partition_limits_creation_where_that_is_asked_for() {
    let mut scene = Scene::new(4, &json!({"partition": 3}));
    assert_eq!(scene.does().len(), 4);
    scene.set["spec"]["scaleStrategy"] = json!({"partitionedScaling": true});
    assert_eq!(scene.does(), ["create on n1"]);
    scene.pod("n1", NEW);
    assert!(scene.does().is_empty());
    scene.set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!("50%");
    assert_eq!(scene.does(), ["create on n2"]);
}

#[test]
fn no_more_than_a_burst_at_once() {
    let mut scene = Scene::new(5, &json!({}));
    scene.set["spec"]["burstReplicas"] = json!(2);
    let plan = scene.plan();
    assert_eq!(words(&plan), ["create on n1", "create on n2"]);
    assert!(plan.wake_at.is_some());
    scene = scene.everywhere(NEW);
    scene.template()["nodeSelector"] = json!({"zone": "none"});
    scene.add_revision();
    assert_eq!(scene.does(), ["scale_down n1-new", "scale_down n2-new"]);
}

#[test]
fn a_template_that_cannot_be_read_is_named() {
    let mut scene = Scene::new(1, &json!({}));
    for tolerations in [json!("all"), json!([{"key": 7}])] {
        scene.template()["tolerations"] = tolerations;
        scene.add_revision();
        let plan = scene.plan();
        assert!(plan.actions.is_empty());
        let (reason, why) = &plan.warnings[0];
        assert_eq!(*reason, "FailedCreate");
        assert!(why.contains("spec.template.spec.tolerations"), "{why}");
    }
}

#[test]
fn an_empty_selector_selects_nothing() {
    let mut scene = Scene::new(1, &json!({})).everywhere(NEW);
    scene.set["spec"]["selector"] = json!({});
    let plan = scene.plan();
    assert!(plan.actions.is_empty());
    assert_eq!(plan.warnings[0].0, "SelectingAll");
}
