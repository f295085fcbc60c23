//! From one revision to the next.

use super::*;

#[test]
fn the_last_is_updated_first_and_one_after_the_other() {
    let mut scene = Scene::with_old(&recreate(), &[0, 1, 2]);
    assert_eq!(scene.said(), ["delete web-2 recreate"]);
    scene.terminate(2);
    assert_eq!(scene.said(), [""; 0]);
    scene.pods.pop();
    assert_eq!(scene.said(), ["create web-2 new"]);
    scene.pod(2, "new");
    scene.break_pod(2);
    assert_eq!(scene.said(), [""; 0]);
    scene.pods.pop();
    scene.pod(2, "new");
    assert_eq!(scene.said(), ["delete web-1 recreate"]);
}

#[test]
fn in_place_the_pod_stays() {
    let mut scene = Scene::with_old(&in_place(), &[0, 1, 2]);
    let plan = scene.plan();
    assert_eq!(scene.said(), ["patch web-2 drain"]);
    let Action::PatchPodStatus { at, patch, .. } = &plan.actions[0] else {
        panic!()
    };
    let conditions = patch.json(at)["status"]["conditions"].clone();
    scene.of(2)["status"]["conditions"] = conditions;
    let plan = scene.plan();
    let Action::PatchPod { at, patch, .. } = &plan.actions[0] else {
        panic!("{:?}", plan.actions)
    };
    let patch = patch.json(at);
    assert_eq!(patch["spec"]["containers"][0]["image"], "new");
    let labels = &patch["metadata"]["labels"];
    assert_eq!(labels[names::REVISION], scene.revision("new").as_str());
    assert_eq!(labels[names::LIFECYCLE_STATE], "Updating");
    assert!(labels[names::POD_TEMPLATE_HASH].is_null());
}

#[test]
fn more_may_go_where_that_is_allowed_in_either_order() {
    for policy in ["OrderedReady", "Parallel"] {
        let rolling = json!({"podUpdatePolicy": "ReCreate", "maxUnavailable": 2});
        let scene = Scene::with_old(&rolling, &[0, 1, 2]).spec("podManagementPolicy", json!(policy));
        assert_eq!(
            scene.said(),
            ["delete web-2 recreate", "delete web-1 recreate"],
            "{policy}"
        );
    }
    // Percentages round down, but one may always go.
    let scene = Scene::with_old(&json!({"maxUnavailable": "50%"}), &[0, 1, 2]);
    assert_eq!(scene.said(), ["delete web-2 recreate"]);
    let scene = Scene::with_old(&json!({"maxUnavailable": "10%"}), &[0, 1, 2]);
    assert_eq!(scene.said(), ["delete web-2 recreate"]);
}

#[test]
fn the_partition_keeps_the_first_ones() {
    for (partition, expected) in [
        (json!(2), &["delete web-2 recreate"][..]),
        (json!(3), &[][..]),
        (json!("50%"), &["delete web-2 recreate"][..]),
        (json!(9), &[][..]),
    ] {
        let rolling = json!({"partition": partition, "maxUnavailable": 3});
        let scene = Scene::with_old(&rolling, &[0, 1, 2]);
        assert_eq!(scene.said(), expected, "{partition}");
    }
    let mut scene = Scene::with_old(&json!({"partition": 2}), &[1]);
    scene.pod(2, "new");
    assert_eq!(scene.said(), ["create web-0 old"]);
    let on_delete = scene.spec("updateStrategy", json!({"type": "OnDelete"}));
    assert_eq!(on_delete.said(), ["create web-0 new"]);
}

#[test]
fn a_partition_counts_pods_and_not_ordinals() {
    let rolling = json!({"partition": 2, "maxUnavailable": 3});
    let scene = Scene::with_old(&rolling, &[5, 7, 8])
        .spec("ordinals", json!({"start": 5}))
        .spec("reserveOrdinals", json!([6]));
    assert_eq!(scene.said(), ["delete web-8 recreate"]);
}

#[test]
fn without_an_order_labels_say_who_is_first() {
    let rolling = json!({"partition": 1, "maxUnavailable": 1,
        "unorderedUpdate": {"priorityStrategy": {"weightPriority": [{"weight": 10, "matchSelector": {"matchLabels": {"first": "yes"}}}]}}});
    let mut scene = Scene::with_old(&rolling, &[0, 1, 2]).spec("podManagementPolicy", json!("Parallel"));
    assert_eq!(scene.said(), ["delete web-2 recreate"]);
    scene.of(0)["metadata"]["labels"]["first"] = json!("yes");
    assert_eq!(scene.said(), ["delete web-0 recreate"]);
    // One stays, whoever that is.
    scene.pods.remove(0);
    scene.pod(0, "new");
    scene.pods.retain(|pod| pod["metadata"]["name"] != "web-2");
    scene.pod(2, "new");
    assert_eq!(scene.said(), [""; 0]);
    scene.pods.retain(|pod| pod["metadata"]["name"] != "web-1");
    assert_eq!(scene.said(), ["create web-1 old"]);
}

/// kubernetes #67250: a revision that does not work is taken back without anybody deleting a pod by hand.
#[test]
fn a_broken_revision_is_taken_back() {
    let mut scene = Scene::with_old(&recreate(), &[0, 1]);
    scene.pod(2, "new");
    scene.break_pod(2);
    scene.set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("old");
    let said = scene.said();
    assert_eq!(said[0], "delete web-2 recreate");
    // The other way round as well: the first one is broken, and those after it wait for nothing.
    let mut scene = Scene::with_old(&recreate(), &[0, 1, 2]);
    scene.break_pod(0);
    assert_eq!(scene.said(), ["delete web-0 recreate"]);
}

/// OpenKruise's own case of a rolling update breaks a pod in the middle of the order, and finds the rollout there until it is mended.
#[test]
fn a_pod_that_fails_does_not_overtake_at_once() {
    let mut scene = Scene::with_old(&recreate(), &[0, 1, 2]);
    let failed = "2026-01-01T00:09:50Z";
    scene.break_pod(1).of(1)["status"]["conditions"][1]["lastTransitionTime"] = json!(failed);
    assert_eq!(scene.said(), [""; 0]);
    assert!(
        scene.waits().contains("1 pod to update after others"),
        "{}",
        scene.waits()
    );
    assert_eq!(scene.plan().wake_at.unwrap().to_string(), "2026-01-01T00:10:20Z");
    assert!(scene.plan_after(619).actions.is_empty());
    let then = scene.plan_after(620);
    let said: Vec<_> = then.actions.iter().map(|action| scene.words(action)).collect();
    assert_eq!(said, ["delete web-1 recreate"], "it may never be mended");
    // Whose turn it is anyway does not wait, nor who is on the way.
    scene.break_pod(2).of(2)["status"]["conditions"][1]["lastTransitionTime"] = json!(failed);
    assert_eq!(scene.said(), ["delete web-2 recreate", "delete web-1 recreate"]);
    let mut scene = Scene::with_old(&in_place(), &[0, 1, 2]);
    scene.break_pod(1).of(1)["metadata"]["labels"][names::LIFECYCLE_STATE] = json!("Updating");
    scene.of(1)["status"]["conditions"][1]["lastTransitionTime"] = json!(failed);
    assert!(!scene.waits().contains("to update after others"), "{}", scene.waits());
}

#[test]
fn nobody_is_touched_while_another_is_away() {
    let mut scene = Scene::with_old(&recreate(), &[0, 1]);
    scene.pod(2, "new");
    scene.break_pod(2);
    assert_eq!(scene.said(), [""; 0]);
    assert!(scene.waits().contains("held by the budget"), "{}", scene.waits());
    let mut scene = Scene::with_old(&recreate(), &[0, 2]).spec("podManagementPolicy", json!("Parallel"));
    assert_eq!(scene.said(), ["create web-1 new"]);
    scene.pod(1, "new");
    scene.terminate(1);
    assert_eq!(scene.said(), [""; 0]);
}

#[test]
fn paused_and_on_delete_update_nobody() {
    let paused = Scene::with_old(&json!({"paused": true}), &[0, 1, 2]);
    assert_eq!(paused.said(), [""; 0]);
    let on_delete = Scene::with_old(&json!({}), &[0, 1, 2]).spec("updateStrategy", json!({"type": "OnDelete"}));
    assert_eq!(on_delete.said(), [""; 0]);
    let status = on_delete.plan().status;
    assert_eq!(status.current_revision, on_delete.revision("old"));
    assert_eq!(status.update_revision, on_delete.revision("new"));
}

#[test]
fn what_cannot_go_in_place_is_told() {
    let mut scene = Scene::with_old(&json!({"podUpdatePolicy": "InPlaceOnly"}), &[0, 1, 2]);
    scene.set["spec"]["template"]["spec"]["containers"][0]["command"] = json!(["sh"]);
    let plan = scene.plan();
    assert!(matches!(plan.actions[..], [Action::CreateRevision { .. }]));
    let mut revision = scene.revisions[1].clone();
    revision["metadata"]["name"] = json!("web-third");
    revision["data"]["spec"]["template"]["spec"]["containers"][0]["command"] = json!(["sh"]);
    revision["revision"] = json!(3);
    scene.revisions.push(revision);
    let plan = scene.plan();
    assert!(plan.actions.is_empty(), "{:?}", plan.actions);
    let failed = plan.status.condition_of(names::FAILED_UPDATE_POD);
    assert!(failed.contains("cannot be updated in place"), "{failed}");
}

#[test]
fn pods_that_somebody_asks_to_delete_go_within_the_budget() {
    let mut scene = Scene::with_old(&json!({"partition": 3}), &[0, 1, 2]);
    for ordinal in [0, 1] {
        scene.of(ordinal)["metadata"]["labels"][names::SPECIFIED_DELETE] = json!("true");
    }
    assert_eq!(scene.said(), ["delete web-1 specified_delete"]);
    scene.break_pod(0);
    assert_eq!(scene.said(), ["delete web-0 specified_delete"]);
}

#[test]
fn the_status_counts_as_openkruise_does() {
    let mut scene = Scene::with_old(&json!({"partition": 1}), &[0]);
    scene.pod(1, "new");
    scene.pod(2, "new");
    scene.terminate(2);
    let status = scene.plan().status;
    let counts = [
        status.replicas,
        status.ready_replicas,
        status.available_replicas,
        status.current_replicas,
        status.updated_replicas,
    ];
    assert_eq!(counts, [3, 3, 2, 1, 1]);
    assert_eq!(
        (status.updated_ready_replicas, status.updated_available_replicas),
        (2, 1)
    );
    assert_eq!(status.current_revision, scene.revision("old"));
    let mut done = Scene::new(&recreate());
    for ordinal in 0..3 {
        done.pod(ordinal, "new");
    }
    let status = done.plan().status;
    assert_eq!(status.current_revision, done.revision("new"));
    assert_eq!((status.current_replicas, status.updated_replicas), (3, 3));
    assert!(
        status
            .conditions
            .iter()
            .all(|condition| condition.last_update_time.is_none())
    );
    // A pod that is to be made anew at the old revision: OpenKruise forgets here which one that was.
    let mut partly = Scene::new(&json!({"partition": 1}));
    partly.pod(1, "new");
    partly.pod(2, "new");
    assert_eq!(partly.plan().status.current_revision, partly.revision("old"));
}

trait Told {
    fn condition_of(&self, kind: &str) -> String;
}

impl Told for StatefulSetStatus {
    fn condition_of(&self, kind: &str) -> String {
        let mut conditions = self.conditions.iter();
        let found = conditions.find(|condition| condition.kind == kind);
        found.map(|condition| condition.message.clone()).unwrap_or_default()
    }
}
