//! postStart and preStop.

use serde_json::json;

use super::{Ground, OBEDIENT, exec, ready, script, state};
use crate::cluster::container;

#[test]
fn post_start_runs_beside_the_entrypoint_and_holds_up_what_follows() {
    let Some(ground) = Ground::new() else { return };
    let mut first = script("first", "say entrypoint; sleep 1000");
    first["lifecycle"]["postStart"] =
        exec("say hook-begins; until test -e /record/go; do sleep 0.1; done; say hook-ends");
    let second = script("second", "say second; sleep 1000");
    ground.create("blocked", json!({"containers": [first, second]}));

    // Concurrent with the entrypoint; meanwhile neither is this container Running nor is the next one there.
    ground.wait_said("blocked", "entrypoint");
    ground.wait_said("blocked", "hook-begins");
    let pod = ground.wait("a status", "blocked", |pod| state(pod, "first").0 == "waiting");
    assert_eq!(pod["status"]["phase"], "Pending");
    assert_eq!(state(&pod, "first").1["reason"], "ContainerCreating");
    assert_eq!(ground.record("blocked").count("second"), 0);

    ground.put("blocked", "go");
    ground.wait("all running", "blocked", ready);
    ground
        .wait_said("blocked", "second")
        .in_order(&["hook-begins", "hook-ends", "second"]);
}

#[test]
fn a_post_start_that_fails_kills_its_container() {
    let Some(ground) = Ground::new() else { return };
    let mut app = script("app", OBEDIENT);
    app["lifecycle"]["postStart"] = exec("test -e /record/fixed");
    // Accepted by the API, and never works.
    let mut socket = script("app", OBEDIENT);
    socket["lifecycle"]["postStart"] = json!({"tcpSocket": {"port": 1}});
    ground.create(
        "fails",
        json!({"containers": [app, script("other", "say other; sleep 1000")]}),
    );
    ground.create("socket", json!({"containers": [socket]}));

    ground.wait_event("fails", "FailedPostStartHook", "");
    ground.wait_event("fails", "Killing", "FailedPostStartHook");
    ground.wait_event("socket", "FailedPostStartHook", "");
    ground.put("fails", "fixed");
    let pod = ground.wait("another try", "fails", ready);
    assert!(container(&pod, "app")["restartCount"].as_u64() >= Some(1), "{pod}");
    assert_eq!(container(&pod, "other")["restartCount"], 0);
    assert_eq!(ground.record("fails").count("other"), 1);
}

#[test]
fn pre_stop_ends_before_the_stop_signal() {
    let Some(ground) = Ground::new() else { return };
    let mut app = script("app", OBEDIENT);
    app["lifecycle"]["preStop"] = exec("say hook-begins; sleep 1; say hook-ends");
    let mut pause = script("app", OBEDIENT);
    pause["lifecycle"]["preStop"] = json!({"sleep": {"seconds": 2}});
    let mut broken = script("app", OBEDIENT);
    broken["lifecycle"]["preStop"] = exec("say tried; false");
    // Not called for a container that has ended.
    let mut ended = script("app", "say runs");
    ended["lifecycle"]["preStop"] = exec("say hook-begins");
    ground.create("exec", json!({"containers": [app]}));
    ground.create("pause", json!({"containers": [pause]}));
    ground.create("broken", json!({"containers": [broken]}));
    ground.create(
        "ended",
        json!({"containers": [ended, script("b", OBEDIENT)], "restartPolicy": "Never"}),
    );
    for name in ["exec", "pause", "broken"] {
        ground.wait("it runs", name, ready);
        ground.wait_said(name, "runs");
    }
    ground.wait("its end", "ended", |pod| state(pod, "app").0 == "terminated");
    ground.wait("the other one", "ended", |pod| state(pod, "b").0 == "running");
    ground.cluster.kubectl(&["exec", "pause", "--", "say", "deleted"]);
    for name in ["exec", "pause", "broken", "ended"] {
        ground.delete(name, &[]);
    }
    for name in ["exec", "pause", "broken", "ended"] {
        ground.wait_gone(name);
    }
    let record = ground.record("exec");
    record.in_order(&["runs", "hook-begins", "hook-ends", "term"]);
    let record = ground.record("pause");
    assert!(record.at("term") - record.at("deleted") >= 2.0, "{record:?}");
    // The container is stopped all the same.
    ground.record("broken").in_order(&["tried", "term"]);
    ground.wait_event("broken", "FailedPreStopHook", "");
    let record = ground.record("ended");
    assert_eq!(
        (record.count("hook-begins"), record.count("term")),
        (0, 1),
        "{record:?}"
    );
}

#[test]
fn pre_stop_runs_for_one_container_that_is_replaced_too() {
    let Some(ground) = Ground::new() else { return };
    let files = super::box_files().expect("it was there before");
    super::build_image(&ground.cluster, "box:2", files.path());
    let mut app = script("app", OBEDIENT);
    app["lifecycle"]["preStop"] = exec("say hook");
    app["livenessProbe"] = exec("! test -e /record/sick");
    app["livenessProbe"]["periodSeconds"] = 1.into();
    // The machine may have much else to do, and then a probe takes long.
    app["livenessProbe"]["timeoutSeconds"] = 60.into();
    app["livenessProbe"]["failureThreshold"] = 1.into();
    ground.create(
        "one",
        json!({"containers": [app, script("other", "say other; sleep 1000")]}),
    );
    let before = ground.wait("it runs", "one", ready);
    ground.wait_said("one", "runs");

    ground.cluster.kubectl(&["set", "image", "pod/one", "app=box:2"]);
    let after = ground.wait("the new container", "one", |pod| {
        ready(pod) && container(pod, "app")["restartCount"] == 1
    });
    ground.record("one").in_order(&["runs", "hook", "term"]);
    ground.wait_event("one", "Killing", "definition changed, will be restarted");
    crate::cluster::wait_until("the second start", || ground.record("one").count("runs") == 2);

    ground.put("one", "sick");
    ground.wait_event("one", "Unhealthy", "Liveness probe failed");
    ground.wait_event("one", "Killing", "failed liveness probe, will be restarted");
    crate::cluster::wait_until("the third start", || ground.record("one").count("runs") >= 3);
    let record = ground.record("one");
    assert!(record.count("hook") >= 2 && record.count("term") >= 2, "{record:?}");
    assert_eq!(record.count("other"), 1);
    assert_eq!(container(&before, "other"), container(&after, "other"));
    assert_eq!(before["status"]["podIP"], after["status"]["podIP"]);
}
