//! A pod for each ordinal, and none elsewhere.

use super::*;

#[test]
fn one_is_created_after_the_other() {
    let mut scene = Scene::new(&recreate());
    assert_eq!(scene.said(), ["create web-0 new"]);
    scene.pod(0, "new");
    assert_eq!(scene.said(), ["create web-1 new"]);
    scene.pod(1, "new");
    scene.break_pod(1);
    assert_eq!(scene.said(), [""; 0]);
    assert!(scene.waits().contains("OrderedReady): web-1"), "{}", scene.waits());
    assert_eq!(scene.plan().status.ready_replicas, 1);
}

#[test]
fn all_are_created_at_once_where_that_is_allowed() {
    let scene = Scene::new(&recreate()).spec("podManagementPolicy", json!("Parallel"));
    assert_eq!(
        scene.said(),
        ["create web-0 new", "create web-1 new", "create web-2 new"]
    );
    let mut limited = scene.spec("scaleStrategy", json!({"maxUnavailable": 2}));
    assert_eq!(limited.said(), ["create web-0 new", "create web-1 new"]);
    limited.pod(0, "new");
    limited.break_pod(0);
    assert_eq!(limited.said(), ["create web-1 new"]);
    assert!(
        limited
            .waits()
            .contains("1 pods to create wait for scaleStrategy.maxUnavailable")
    );
    limited.break_pod(0);
    limited.pod(1, "new");
    limited.break_pod(1);
    assert_eq!(limited.said(), [""; 0]);
}

#[test]
fn ordinals_begin_where_they_are_to_and_skip_what_is_reserved() {
    let scene = Scene::new(&recreate())
        .spec("podManagementPolicy", json!("Parallel"))
        .spec("ordinals", json!({"start": 2}))
        .spec("reserveOrdinals", json!([3, "5-6"]));
    assert_eq!(
        scene.said(),
        ["create web-2 new", "create web-4 new", "create web-7 new"]
    );
    let without = Scene {
        gates: Gates {
            start_ordinal: false,
            ..Gates::default()
        },
        ..scene
    };
    assert_eq!(without.said()[0], "create web-0 new");
}

#[test]
fn a_pod_has_its_identity() {
    let scene = Scene::new(&in_place()).with_claims();
    let plan = scene.plan();
    let Some(Action::CreatePod { pod }) = plan
        .actions
        .iter()
        .find(|action| matches!(action, Action::CreatePod { .. }))
    else {
        panic!("{:?}", plan.actions)
    };
    let own: Vec<_> = pod.own.keys().collect();
    assert_eq!(
        own,
        ["hostname", "subdomain", "volumes"],
        "the rest is there once for all"
    );
    let body = pod.body();
    assert_eq!(
        body["metadata"]["labels"],
        json!({"app": "web", names::REVISION: scene.revision("new"), names::LIFECYCLE_STATE: "Normal",
            names::POD_NAME: "web-0", names::POD_INDEX: "0"})
    );
    assert_eq!(
        (&body["spec"]["hostname"], &body["spec"]["subdomain"]),
        (&json!("web-0"), &json!("peers"))
    );
    assert_eq!(
        body["spec"]["volumes"],
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-web-0"}}])
    );
    assert_eq!(
        body["spec"]["readinessGates"],
        json!([{"conditionType": names::INPLACE_READY}, {"conditionType": names::KRUISE_POD_READY}])
    );
    assert_eq!(body["metadata"]["ownerReferences"][0]["kind"], "StatefulSet");
}

/// A node that is lost says nothing, and its pods stay until somebody says that they are gone.
#[test]
fn nobody_gets_a_name_that_is_taken() {
    let mut scene = Scene::with_old(&json!({"partition": 3}), &[0, 1, 2]);
    scene.terminate(1);
    assert_eq!(scene.said(), [""; 0]);
    assert!(scene.waits().contains("a new one takes: web-1"), "{}", scene.waits());
    let mut scene = Scene::with_old(&json!({"partition": 3}), &[0, 1, 2]);
    scene.of(1)["status"]["phase"] = json!("Failed");
    assert_eq!(scene.said(), ["delete web-1 finished"]);
    // A node that refuses a pod refuses the next one as well.
    scene.of(1)["metadata"]["creationTimestamp"] = json!("2026-01-01T00:09:58Z");
    assert_eq!(scene.said(), [""; 0]);
    assert_eq!(scene.plan().wake_at.unwrap().to_string(), "2026-01-01T00:10:03Z");
    scene.of(1)["metadata"]["ownerReferences"] = json!([]);
    scene.of(1)["metadata"]["labels"] = json!({});
    assert_eq!(scene.said(), [""; 0], "a stranger has the name");
}

#[test]
fn the_last_go_first_one_after_the_other() {
    let mut scene = Scene::with_old(&json!({"partition": 3}), &[0, 1, 2, 3]).spec("replicas", json!(1));
    assert_eq!(scene.said(), ["delete web-3 scale_down"]);
    scene.terminate(3);
    assert_eq!(scene.said(), [""; 0]);
    scene.pods.pop();
    scene.break_pod(0);
    assert_eq!(scene.said(), [""; 0], "what stays has to be available");
    let parallel = scene.spec("podManagementPolicy", json!("Parallel"));
    assert_eq!(parallel.said(), ["delete web-2 scale_down", "delete web-1 scale_down"]);
}

/// OpenKruise's case "Scale down will halt with unhealthy stateful pod".
#[test]
fn a_pod_that_does_not_work_halts_the_way_down_unless_it_is_the_only_one() {
    let mut scene = Scene::new(&recreate()).spec("replicas", json!(0));
    for ordinal in 0..3 {
        scene.pod(ordinal, "new");
    }
    scene.break_pod(2);
    assert_eq!(scene.said(), ["delete web-2 scale_down"]);
    scene.break_pod(0);
    assert_eq!(scene.said(), [""; 0]);
    // Nobody will repair what is not of the wanted revision.
    let mut scene = Scene::with_old(&recreate(), &[0, 1, 2]).spec("replicas", json!(0));
    scene.break_pod(2);
    scene.break_pod(0);
    assert_eq!(scene.said(), ["delete web-2 scale_down"]);
}

#[test]
fn a_reserved_ordinal_gives_its_pod_to_another_one() {
    let mut scene = Scene::with_old(&json!({"partition": 3}), &[0, 1, 2]).spec("reserveOrdinals", json!([1]));
    assert_eq!(
        scene.said(),
        ["create web-3 old"],
        "it is the third, and the partition is 3"
    );
    scene.pod(3, "old");
    assert_eq!(scene.said(), ["delete web-1 scale_down"]);
}

#[test]
fn orphans_with_the_name_are_taken_and_others_are_not() {
    let mut scene = Scene::with_old(&json!({"partition": 3}), &[0, 1, 2]);
    scene.of(1)["metadata"]["ownerReferences"] = json!([]);
    assert_eq!(scene.said(), ["patch web-1 adopt"]);
    let mut scene = Scene::with_old(&json!({"partition": 3}), &[0, 1, 2]);
    scene.pod(7, "old")["metadata"]["name"] = json!("other");
    assert_eq!(scene.said(), ["patch other release"]);
    let mut scene = Scene::with_old(&json!({"partition": 3}), &[0, 1, 2]);
    scene.of(2)["metadata"]["labels"][names::POD_NAME] = json!("db-2");
    assert_eq!(scene.said(), ["patch web-2 identity"]);
}
