//! Termination: grace, signals, exit codes and reasons.

use serde_json::json;

use super::{Ground, OBEDIENT, exec, ready, script, state};
use crate::cluster::container;

/// Ignores the stop signal, and says `tick` for as long as it lives.
const STUBBORN: &str = "trap 'say term' TERM; say runs; while :; do say tick; sleep 0.1; done";

#[test]
fn the_grace_period_is_shared_by_hook_and_signal() {
    let Some(ground) = Ground::new() else { return };
    // 4 s of grace, of which the hook takes 3.
    let mut app = script("app", STUBBORN);
    app["lifecycle"]["preStop"] = exec("say hook-begins; sleep 3; say hook-ends");
    ground.create(
        "shared",
        json!({"containers": [app], "terminationGracePeriodSeconds": 4}),
    );
    // A hook that outlives the grace period gets one extension of 2 s, and then nothing helps.
    let mut app = script("app", STUBBORN);
    app["lifecycle"]["preStop"] = exec("say hook-begins; while :; do say hook; sleep 0.1; done");
    ground.create(
        "longer",
        json!({"containers": [app], "terminationGracePeriodSeconds": 10}),
    );
    for name in ["shared", "longer"] {
        ground.wait("it runs", name, ready);
        ground.wait_said(name, "tick");
        ground.delete(name, &[]);
    }
    ground.wait_gone("shared");
    ground.wait_gone("longer");

    let record = ground.record("shared");
    record.in_order(&["hook-begins", "hook-ends", "term"]);
    let (begun, left) = (record.at("hook-begins"), record.last("tick") - record.at("term"));
    assert!(record.at("term") - begun >= 3.0, "{record:?}");
    // One second is left for the process; never less than 2 are given. It had at least most of one.
    assert!(left >= 0.7, "{left} s between the signal and the end: {record:?}");
    assert!(record.last("tick") - begun >= 3.7, "{record:?}");

    let record = ground.record("longer");
    let begun = record.at("hook-begins");
    // The hook begins a moment after the grace period does.
    assert!(
        record.last("hook") - begun >= 7.0,
        "the hook had its grace period: {record:?}"
    );
    assert!(
        record.last("tick") - begun >= 10.0,
        "and the extension followed: {record:?}"
    );
    ground.wait_event("longer", "FailedPreStopHook", "");
}

#[test]
fn containers_stop_side_by_side() {
    let Some(ground) = Ground::new() else { return };
    let slow = |name: &str| {
        let text = format!(
            "trap 'say {name}-term; sleep 2; say {name}-end; exit 0' TERM; say {name}-runs; while :; do sleep 0.1; done"
        );
        script(name, &text)
    };
    ground.create("two", json!({"containers": [slow("a"), slow("b")]}));
    ground.wait("both run", "two", ready);
    for word in ["a-runs", "b-runs"] {
        ground.wait_said("two", word);
    }
    ground.delete("two", &[]);
    ground.wait_gone("two");
    let record = ground.record("two");
    record.in_order(&["a-term", "b-end"]);
    record.in_order(&["b-term", "a-end"]);
}

#[test]
fn a_second_delete_shortens_the_grace_and_force_does_not_wait() {
    let Some(ground) = Ground::new() else { return };
    for name in ["shortened", "forced"] {
        ground.create(
            name,
            json!({"containers": [script("app", STUBBORN)], "terminationGracePeriodSeconds": 3600}),
        );
    }
    for name in ["shortened", "forced"] {
        ground.wait("it runs", name, ready);
        ground.wait_said(name, "tick");
        ground.delete(name, &[]);
        ground.wait_said(name, "term");
        let pod = ground.get(name);
        assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 3600);
    }
    // Shorter, never longer.
    ground.delete("shortened", &["--grace-period=1"]);
    ground.wait_gone("shortened");
    ground.delete("forced", &["--grace-period=0", "--force"]);
    assert!(
        ground.cluster.get(&["pod", "forced"]).is_none(),
        "the object goes at once"
    );
    // Its processes go, too.
    let mut last = 0;
    crate::cluster::wait_until("the end of the process", || {
        std::thread::sleep(std::time::Duration::from_millis(500));
        let now = ground.record("forced").count("tick");
        std::mem::replace(&mut last, now) == now
    });
}

#[test]
fn how_a_container_ended_is_told() {
    let Some(ground) = Ground::new() else { return };
    let cases = [
        ("well", "exit 0", 0, "Completed", "Succeeded"),
        ("badly", "exit 3", 3, "Error", "Failed"),
    ];
    for (name, text, ..) in cases {
        ground.create(
            name,
            json!({"containers": [script("app", text)], "restartPolicy": "Never"}),
        );
    }
    for (name, _, code, reason, phase) in cases {
        let pod = ground.wait("its end", name, |pod| {
            state(pod, "app").0 == "terminated" && pod["status"]["phase"] != "Running"
        });
        let end = state(&pod, "app").1;
        assert_eq!(
            (&end["exitCode"], &end["reason"]),
            (&code.into(), &reason.into()),
            "{name}: {end}"
        );
        assert_eq!(pod["status"]["phase"], phase, "{name}");
        assert!(end["startedAt"].is_string() && end["finishedAt"].is_string(), "{end}");
    }

    // Killed when its grace period was over, because another image is wanted.
    let files = super::box_files().expect("it was there before");
    super::build_image(&ground.cluster, "box:2", files.path());
    ground.create(
        "killed",
        json!({"containers": [script("app", STUBBORN)], "terminationGracePeriodSeconds": 1}),
    );
    ground.wait_said("killed", "tick");
    ground.wait("it runs", "killed", ready);
    ground.cluster.kubectl(&["set", "image", "pod/killed", "app=box:2"]);
    let pod = ground.wait("the next container", "killed", |pod| {
        container(pod, "app")["restartCount"] == 1
    });
    let end = &container(&pod, "app")["lastState"]["terminated"];
    assert_eq!(
        (&end["exitCode"], &end["reason"]),
        (&json!(137), &json!("Error")),
        "{end}"
    );
    ground.record("killed").in_order(&["runs", "term"]);
}

#[test]
fn the_image_or_the_pod_chooses_the_stop_signal() {
    let Some(ground) = Ground::new() else { return };
    let mut app = script(
        "app",
        "trap 'say usr1; exit 0' USR1; trap 'say term' TERM; say runs; while :; do sleep 0.1; done",
    );
    app["lifecycle"]["stopSignal"] = "SIGUSR1".into();
    let files = super::box_files().expect("it was there before");
    let file = format!("{}=/bin", files.path().display());
    let build = [
        "build",
        "signalled:1",
        "--file",
        &file,
        "--env",
        "PATH=/bin",
        "--stop-signal",
        "SIGUSR2",
    ];
    ground.cluster.image(&build);
    let mut image = script(
        "c",
        "trap 'say usr2; exit 0' USR2; trap 'say term' TERM; say waits; while :; do sleep 0.1; done",
    );
    image["image"] = "signalled:1".into();
    ground.create(
        "signal",
        json!({"os": {"name": "linux"}, "containers": [app, script("b", OBEDIENT), image]}),
    );
    ground.wait("it runs", "signal", ready);
    ground.wait_said("signal", "waits");
    crate::cluster::wait_until("both others", || ground.record("signal").count("runs") == 2);
    ground.delete("signal", &[]);
    ground.wait_gone("signal");
    let record = ground.record("signal");
    let counts = ["usr1", "usr2", "term"].map(|word| record.count(word));
    assert_eq!(counts, [1, 1, 1], "{record:?}");
}

#[test]
fn a_container_that_takes_too_much_memory_is_said_to_be_oom_killed() {
    let Some(ground) = Ground::new() else { return };
    let node = ground.cluster.get(&["node", "node-1"]).expect("it is there");
    if crate::cluster::condition(&node, "CgroupsUnavailable") != Some("False") {
        eprintln!("skipped: this machine enforces no limits");
        return;
    }
    let mut greedy = script("app", "say runs; x=0123456789abcdef; while :; do x=$x$x; done");
    greedy["resources"] = json!({"limits": {"memory": "32Mi"}});
    ground.create(
        "greedy",
        json!({"containers": [greedy, script("other", OBEDIENT)], "restartPolicy": "Never"}),
    );
    let pod = ground.wait("its end", "greedy", |pod| state(pod, "app").0 == "terminated");
    let end = state(&pod, "app").1;
    assert_eq!((&end["exitCode"], &end["reason"]), (&json!(137), &json!("OOMKilled")));
    assert_eq!(state(&pod, "other").0, "running");
    ground.delete("greedy", &[]);
    ground.wait_gone("greedy");
}

#[test]
fn without_a_word_the_grace_is_half_a_minute() {
    let Some(ground) = Ground::new() else { return };
    ground.create("plain", json!({"containers": [script("app", OBEDIENT)]}));
    let pod = ground.wait("it runs", "plain", ready);
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 30);
    ground.wait_said("plain", "runs");
    let line = || {
        ground
            .cluster
            .try_kubectl(&["get", "pod", "plain", "--no-headers"], None)
    };
    ground.delete("plain", &[]);
    // The last word is the pod's: it is gone only when its containers have ended.
    ground.wait_gone("plain");
    assert_eq!(ground.record("plain").count("term"), 1);
    assert!(!line().status.success());
}
