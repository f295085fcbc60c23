//! What a CloneSet says of itself: OpenKruise's condition in OpenKruise's words, and our own.

use afloat_api::{CloneSet, Condition, Status as _, names};
use serde_json::{Value, json};

use super::{Plan, START, Scene, in_place};
use crate::workload::kind::Workload as _;

/// Two pods of which the first is to be updated and the second is, with a deadline of a minute.
fn scene() -> Scene {
    let mut scene = Scene::new(&["app:1", "app:2"], &in_place());
    scene.set["spec"]["progressDeadlineSeconds"] = json!(60);
    scene.pod("a", 0);
    scene.pod("b", 1)["status"]["conditions"][1]["status"] = json!("False");
    scene
}

fn condition(plan: &Plan, kind: &str) -> Option<Condition> {
    plan.status.condition(kind).cloned()
}

/// Status, reason and message.
fn progressing(plan: &Plan) -> (String, String, String) {
    let found = condition(plan, names::PROGRESSING).unwrap();
    (found.status, found.reason, found.message)
}

fn told(status: &str, reason: &str, message: &str) -> (String, String, String) {
    (status.to_owned(), reason.to_owned(), message.to_owned())
}

fn keep(scene: &mut Scene, plan: &Plan) {
    scene.set["status"] = serde_json::to_value(&plan.status).unwrap();
}

fn make_available(scene: &mut Scene) {
    for pod in &mut scene.pods {
        pod["status"]["conditions"][1]["status"] = json!("True");
    }
}

fn updated() -> (String, String, String) {
    told("True", "CloneSetUpdated", "CloneSet is progressing")
}

#[test]
fn a_rollout_that_does_not_end_in_time_is_said_to_have_timed_out() {
    let mut scene = scene();
    let first = scene.plan_after(0);
    assert_eq!(progressing(&first), updated());
    assert_eq!(first.wake_at.unwrap().to_string(), "2026-01-01T00:01:00Z");
    keep(&mut scene, &first);
    assert_eq!(scene.plan_after(59).status, first.status);
    let late = scene.plan_after(60);
    let wanted = scene.revision(1);
    let timed_out = format!("CloneSet revision {wanted} has timed out progressing");
    let timed_out = told("False", "ProgressDeadlineExceeded", &timed_out);
    assert_eq!(progressing(&late), timed_out);
    keep(&mut scene, &late);
    assert_eq!(scene.plan_after(61).status, late.status, "and stays so");
    scene.pods[1]["status"]["conditions"][1]["status"] = json!("True");
    assert_eq!(progressing(&scene.plan_after(62)), timed_out, "until it is available");
    scene.pods.remove(0);
    scene.set["spec"]["replicas"] = json!(1);
    assert_eq!(
        progressing(&scene.plan_after(63)),
        told("True", "CloneSetAvailable", "CloneSet is available")
    );
}

/// OpenKruise's manager would call this one late at once.
#[test]
fn the_deadline_counts_from_the_begin_of_the_rollout() {
    let mut scene = scene();
    scene.set["status"]["conditions"] = json!([{"type": "Progressing", "status": "True", "reason": "CloneSetAvailable",
        "message": "CloneSet is available", "lastUpdateTime": "2020-01-01T00:00:00Z", "lastTransitionTime": START}]);
    assert_eq!(progressing(&scene.plan_after(0)), updated());
}

#[test]
fn without_a_deadline_there_is_no_such_condition() {
    for none in [Value::Null, json!(i32::MAX)] {
        let mut scene = scene();
        let plan = scene.plan_after(0);
        keep(&mut scene, &plan);
        scene.set["spec"]["progressDeadlineSeconds"] = none;
        let plan = scene.plan_after(0);
        assert_eq!(condition(&plan, names::PROGRESSING), None);
        assert!(condition(&plan, names::ROLLOUT).is_some());
    }
}

/// Nothing of it is updated in place, nor has to be: the pods are merely not available yet.
#[test]
fn paused_is_said_from_the_beginning() {
    let mut scene = Scene::new(&["app:1"], &json!({"paused": true}));
    scene.set["spec"]["progressDeadlineSeconds"] = json!(600);
    scene.pod("a", 0)["status"]["conditions"][1]["status"] = json!("False");
    assert_eq!(
        progressing(&scene.plan_after(0)),
        told("True", "CloneSetPaused", "CloneSet is paused")
    );
    make_available(&mut scene);
    assert_eq!(
        progressing(&scene.plan_after(0)),
        told("True", "CloneSetAvailable", "CloneSet is available"),
        "as OpenKruise does"
    );
}

#[test]
fn a_partition_that_is_reached_is_said() {
    let mut scene = scene();
    scene.set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(1);
    assert_eq!(progressing(&scene.plan_after(0)), updated(), "b is not available");
    make_available(&mut scene);
    let reached = "CloneSet has been paused due to partition ready";
    let plan = scene.plan_after(0);
    assert_eq!(progressing(&plan), told("True", "ProgressPartitionAvailable", reached));
    let ours = condition(&plan, names::ROLLOUT).unwrap();
    assert_eq!((ours.status.as_str(), ours.message.as_str()), ("False", reached));
}

#[test]
fn our_own_condition_says_what_is_waited_for() {
    let ours = condition(&scene().plan_after(0), names::ROLLOUT).unwrap();
    assert_eq!(
        (ours.status.as_str(), ours.reason.as_str()),
        ("True", "CloneSetUpdated")
    );
    assert!(
        ours.message.starts_with("1 of 2 pods updated; ") && ours.message.contains("1 pod not Ready"),
        "{}",
        ours.message
    );
}

/// The sentence once stood in OpenKruise's condition.
#[test]
fn what_an_earlier_release_wrote_is_replaced_once() {
    for (reason, status, sentence, text) in [
        (
            "CloneSetUpdated",
            "True",
            "CloneSet is progressing: 1 of 2 pods updated; 1 pod not Ready",
            "CloneSet is progressing".to_owned(),
        ),
        (
            "ProgressDeadlineExceeded",
            "False",
            "CloneSet revision web-1 has timed out progressing; CloneSet is progressing: 1 of 2 pods updated",
            format!("CloneSet revision {} has timed out progressing", scene().revision(1)),
        ),
    ] {
        let mut scene = scene();
        scene.set["status"]["conditions"] = json!([{"type": "Progressing", "status": status, "reason": reason,
            "message": sentence, "lastUpdateTime": START, "lastTransitionTime": START}]);
        let plan = scene.plan_after(1);
        assert_eq!(progressing(&plan), told(status, reason, &text));
        let time = condition(&plan, names::PROGRESSING).unwrap().last_update_time.unwrap();
        assert_eq!(time.0.to_string(), START, "nothing else has changed");
        keep(&mut scene, &plan);
        assert_eq!(
            scene.plan_after(2).status,
            plan.status,
            "and then nothing is to be written"
        );
    }
}

/// OpenKruise's sentence about a deadline names the revision that was wanted then.
#[test]
fn kruises_own_sentence_stays() {
    let mut scene = scene();
    let sentence = "CloneSet revision web-older has timed out progressing";
    scene.set["status"]["conditions"] = json!([{"type": "Progressing", "status": "False",
        "reason": "ProgressDeadlineExceeded", "message": sentence, "lastUpdateTime": START, "lastTransitionTime": START}]);
    assert_eq!(progressing(&scene.plan_after(0)).2, sentence);
}

#[test]
fn failures_have_no_reason_as_kruises_have_none() {
    let mut scene = Scene::new(&["app:1", "app:2"], &json!({"podUpdatePolicy": "InPlaceOnly"}));
    scene.pod("a", 0);
    scene.set["spec"]["template"]["spec"]["hostNetwork"] = json!(true);
    let body = crate::workload::revision::object(
        serde_json::from_value::<CloneSet>(scene.set.clone()).unwrap().owner(),
        "other",
        3,
    );
    scene.revisions.push(body);
    let failed = condition(&scene.plan_after(0), names::FAILED_UPDATE).unwrap();
    assert_eq!((failed.status.as_str(), failed.reason.as_str()), ("True", ""));
    assert!(failed.message.contains("spec.hostNetwork"), "{}", failed.message);
}
