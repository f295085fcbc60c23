//! Readiness that holds: the next pods wait for it, and so does the way back into service.

use super::*;

/// Two pods, of which `a` has been changed to the second revision, ten seconds after the start.
fn scene(min_ready: i64, hook: bool) -> Scene {
    let mut scene = Scene::new(&["app:1", "app:2"], &in_place());
    scene.pod("a", 1);
    scene.pod("b", 0);
    scene.set["spec"]["minReadySeconds"] = json!(min_ready);
    let ready = "2026-01-01T00:00:10Z";
    if hook {
        for pod in &mut scene.pods {
            pod["spec"]["containers"][0]["lifecycle"] = json!({"postStart": {"exec": {"command": ["true"]}}});
        }
    }
    scene.pods[0]["status"]["conditions"][1]["lastTransitionTime"] = json!(ready);
    scene.pods[0]["status"]["containerStatuses"][0]["state"] = json!({"running": {"startedAt": ready}});
    scene
}

#[test]
fn a_moment_of_readiness_is_none_where_a_hook_may_fail() {
    let scene = scene(0, true);
    for (seconds, expected) in [(10, None), (11, None), (12, None), (13, Some("drain b"))] {
        let plan = scene.plan_after(seconds);
        assert_eq!(words(&plan).first().map(String::as_str), expected, "after {seconds} s");
        let wake = START.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(13);
        assert_eq!(plan.wake_at, expected.is_none().then_some(wake));
    }
    assert_eq!(words(&self::scene(0, false).plan_after(10)), ["drain b"], "no hook");
}

/// All pods have just started: none of them is available, and yet they serve, so that they are not free for the taking.
#[test]
fn who_serves_for_a_moment_only_is_not_taken_out_beyond_the_budget() {
    for policy in ["InPlaceOnly", "ReCreate"] {
        let mut scene = scene(0, true);
        scene.pods[0]["metadata"]["labels"] = scene.pods[1]["metadata"]["labels"].clone();
        scene.pods[0]["spec"]["containers"][0]["image"] = json!("app:1");
        scene.pods[1]["status"] = scene.pods[0]["status"].clone();
        scene.set["spec"]["updateStrategy"]["rollingUpdate"]["podUpdatePolicy"] = json!(policy);
        assert!(words(&scene.plan_after(11)).is_empty(), "{policy}");
        assert_eq!(words(&scene.plan_after(13)).len(), 1, "{policy}");
        // One that fails is free, as ever.
        scene.pods[0]["status"]["conditions"][1]["status"] = json!("False");
        assert_eq!(words(&scene.plan_after(11)).len(), 1, "{policy}");
    }
}

#[test]
fn what_the_node_says_of_a_container_counts_against_the_condition() {
    for (what, field, value, expected) in [
        ("not started", "started", json!(false), None),
        ("started is null", "started", Value::Null, Some("drain b")),
        ("started", "started", json!(true), Some("drain b")),
        ("not ready", "ready", json!(false), None),
        (
            "waiting",
            "state",
            json!({"waiting": {"reason": "PostStartHookError"}}),
            None,
        ),
        ("ended", "state", json!({"terminated": {"exitCode": 1}}), None),
    ] {
        let mut scene = scene(0, false);
        scene.pods[0]["status"]["containerStatuses"][0][field] = value;
        let plan = scene.plan_after(60);
        assert_eq!(words(&plan).first().map(String::as_str), expected, "{what}");
    }
}

#[test]
fn min_ready_seconds_count_from_the_last_start() {
    let mut scene = scene(10, false);
    assert_eq!(words(&scene.plan_after(20)), ["drain b"]);
    scene.pods[0]["status"]["containerStatuses"][0]["state"] =
        json!({"running": {"startedAt": "2026-01-01T00:00:15Z"}});
    assert!(
        words(&scene.plan_after(20)).is_empty(),
        "it was started anew, and Ready never was False"
    );
    assert_eq!(words(&scene.plan_after(25)), ["drain b"]);
}

/// A kubelet that has not seen the gate closed writes Ready once more; the gate is opened again at once, for a rollback.
#[test]
fn a_ready_from_before_the_gate_was_opened_has_to_hold() {
    let mut scene = scene(0, false);
    scene.pods[0]["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-01-01T00:00:10Z");
    assert_eq!(
        words(&scene.plan_after(10)),
        ["drain b"],
        "both in one second: as usual"
    );
    scene.pods[0]["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-01-01T00:00:12Z");
    assert!(words(&scene.plan_after(12)).is_empty());
    assert!(words(&scene.plan_after(14)).is_empty());
    assert_eq!(words(&scene.plan_after(15)), ["drain b"]);
}

#[test]
fn a_pod_returns_once_the_hook_of_its_new_container_cannot_have_failed() {
    for hook in [false, true] {
        let mut scene = scene(0, hook);
        let state = json!({"revision": scene.revision(1), "updateTimestamp": START, "updateImages": true,
            "lastContainerStatuses": {"app": {"imageID": "id:app:1"}}});
        let from = json!({"app": {"containerID": "c0", "ran": "app:1", "images": ["app:1"]}});
        let annotations = json!({names::INPLACE_STATE: state.to_string(), names::INPLACE_FROM: from.to_string()});
        scene.pods[0]["metadata"]["annotations"] = annotations;
        scene.pods[0]["status"]["conditions"][0]["status"] = json!("False");
        let early: &[&str] = if hook { &[] } else { &["return a"] };
        assert_eq!(words(&scene.plan_after(11)), early, "hook: {hook}");
        assert_eq!(words(&scene.plan_after(13)), ["return a"], "hook: {hook}");
        scene.pods[0]["status"]["containerStatuses"][0]["state"] = json!({"waiting": {"reason": "PostStartHookError"}});
        let later: &[&str] = if hook { &[] } else { &["return a"] };
        assert_eq!(words(&scene.plan_after(60)), later, "hook: {hook}");
    }
}

/// A hook that takes ten seconds may fail after ten seconds: what counts is since when the container is said to be ready.
#[test]
fn the_next_container_waits_for_a_hook_that_may_fail_late() {
    let mut scene = scene(0, true);
    let state = json!({"revision": scene.revision(1), "updateTimestamp": START, "updateImages": true,
        "lastContainerStatuses": {"app": {"imageID": "id:app:1"}}});
    let from = json!({"app": {"containerID": "c0", "ran": "app:1", "images": ["app:1"]}});
    scene.pods[0]["metadata"]["annotations"] =
        json!({names::INPLACE_STATE: state.to_string(), names::INPLACE_FROM: from.to_string()});
    for condition in scene.pods[0]["status"]["conditions"].as_array_mut().unwrap() {
        condition["status"] = json!("False");
    }
    let ready = |status: &str| json!({"type": "ContainersReady", "status": status, "lastTransitionTime": "2026-01-01T00:00:20Z"});
    let last = scene.pods[0]["status"]["conditions"].as_array().unwrap().len();
    scene.pods[0]["status"]["conditions"]
        .as_array_mut()
        .unwrap()
        .push(ready("True"));
    for (seconds, expected) in [(13, false), (20, false), (22, false), (23, true)] {
        let words = words(&scene.plan_after(seconds));
        assert_eq!(words == ["return a"], expected, "after {seconds} s: {words:?}");
    }
    // While the hook goes on it is not said to be ready, however long ago it was started.
    scene.pods[0]["status"]["conditions"][last] = ready("False");
    scene.pods[0]["status"]["containerStatuses"][0]["ready"] = json!(false);
    assert!(words(&scene.plan_after(60)).is_empty());
    scene.pods[0]["status"]["containerStatuses"][0]["ready"] = json!(true);
    // Another container that is not ready is no reason to wait for ever.
    scene.pods[0]["status"]["conditions"][last] = ready("False");
    assert_eq!(words(&scene.plan_after(13)), ["return a"]);
}
