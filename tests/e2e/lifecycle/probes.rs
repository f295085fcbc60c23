//! Startup, liveness and readiness probes, and what makes a pod Ready.

use serde_json::{Value, json};

use super::{Ground, OBEDIENT, exec, ready, script};
use crate::cluster::{condition, container};

/// A probe every second that says its name and then succeeds if the file is there.
fn probe(name: &str, file: &str) -> Value {
    let mut probe = exec(&format!("say {name}; test -e /record/{file}"));
    probe["periodSeconds"] = 1.into();
    // The machine may have much else to do, and then a probe takes long.
    probe["timeoutSeconds"] = 60.into();
    probe
}

#[test]
fn liveness_and_readiness_wait_for_startup() {
    let Some(ground) = Ground::new() else { return };
    let mut app = script("app", OBEDIENT);
    app["startupProbe"] = probe("startup", "started");
    app["startupProbe"]["failureThreshold"] = 1000.into();
    app["livenessProbe"] = probe("liveness", "started");
    app["readinessProbe"] = probe("readiness", "ready");
    ground.create("slow", json!({"containers": [app]}));
    crate::cluster::wait_until("several tries", || ground.record("slow").count("startup") >= 3);
    let pod = ground.wait("a status", "slow", |pod| container(pod, "app")["started"].is_boolean());
    assert_eq!(container(&pod, "app")["started"], false);
    assert!(!ready(&pod), "readiness starts as failure");
    let record = ground.record("slow");
    assert_eq!(
        (record.count("liveness"), record.count("readiness")),
        (0, 0),
        "{record:?}"
    );

    ground.put("slow", "started");
    ground.wait_said("slow", "liveness");
    ground.wait_said("slow", "readiness");
    let pod = ground.wait("started", "slow", |pod| container(pod, "app")["started"] == true);
    assert!(!ready(&pod));
    let before = ground.record("slow").count("startup");
    ground.put("slow", "ready");
    let pod = ground.wait("Ready", "slow", ready);
    assert_eq!(container(&pod, "app")["restartCount"], 0);
    assert_eq!(ground.record("slow").count("startup"), before, "startup is over");
}

#[test]
fn only_readiness_changes_endpoints_and_only_liveness_restarts() {
    let Some(ground) = Ground::new() else { return };
    let mut app = script("app", OBEDIENT);
    app["readinessProbe"] = probe("readiness", "ready");
    app["readinessProbe"]["failureThreshold"] = 1.into();
    app["livenessProbe"] = probe("liveness", "alive");
    app["livenessProbe"]["failureThreshold"] = 2.into();
    app["livenessProbe"]["initialDelaySeconds"] = 2.into();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "both"},
        "spec": {"selector": {"case": "both"}, "ports": [{"port": 80}]}});
    ground.cluster.apply(&service.to_string());
    let pod = ground.pod("both", json!({"containers": [app, script("other", OBEDIENT)]}));
    ground.put("both", "alive");
    ground.put("both", "ready");
    ground.cluster.apply(&pod.to_string());
    let slices = ["endpointslices", "-l", "kubernetes.io/service-name=both"];
    let is_ready = |wanted: bool| {
        move |list: &Value| list.pointer("/items/0/endpoints/0/conditions/ready") == Some(&wanted.into())
    };
    ground.wait("Ready", "both", ready);
    ground.cluster.wait("the endpoint", &slices, is_ready(true));

    let file = |name: &str| ground.records.path().join("both").join(name);
    std::fs::remove_file(file("ready")).expect("our own file");
    let pod = ground.wait("not Ready", "both", |pod| !ready(pod));
    assert_eq!(condition(&pod, "ContainersReady"), Some("False"));
    ground.cluster.wait("no endpoint", &slices, is_ready(false));
    ground.wait_event("both", "Unhealthy", "Readiness probe failed");
    assert_eq!(container(&ground.get("both"), "app")["restartCount"], 0);

    std::fs::remove_file(file("alive")).expect("our own file");
    ground.wait_event("both", "Unhealthy", "Liveness probe failed");
    ground.wait_event("both", "Killing", "Container app failed liveness probe");
    ground.put("both", "alive");
    ground.put("both", "ready");
    let pod = ground.wait("one restart", "both", |pod| {
        ready(pod) && container(pod, "app")["restartCount"].as_u64() >= Some(1)
    });
    assert_eq!(container(&pod, "other")["restartCount"], 0);
    let record = ground.record("both");
    // initialDelaySeconds counts from the start of the container.
    assert!(record.at("liveness") - record.at("runs") >= 1.9, "{record:?}");
}

#[test]
fn a_gate_without_a_condition_counts_as_false() {
    let Some(ground) = Ground::new() else { return };
    let gates = json!([{"conditionType": "example.com/balanced"}]);
    ground.create(
        "gated",
        json!({"containers": [script("app", OBEDIENT)], "readinessGates": gates}),
    );
    let pod = ground.wait("ContainersReady", "gated", |pod| {
        condition(pod, "ContainersReady") == Some("True")
    });
    assert!(!ready(&pod));
    let conditions = pod["status"]["conditions"].as_array().expect("a list");
    let why = conditions.iter().find(|c| c["type"] == "Ready").expect("it is there");
    assert_eq!(why["reason"], "ReadinessGatesNotReady");

    let set = |status: &str| {
        let patch = json!({"status": {"conditions": [{"type": "example.com/balanced", "status": status}]}});
        let patch = format!("-p={patch}");
        ground
            .cluster
            .kubectl(&["patch", "pod", "gated", "--subresource=status", &patch]);
    };
    set("True");
    ground.wait("Ready", "gated", ready);
    // What others wrote stays: the agent writes its own conditions beside it.
    set("False");
    let pod = ground.wait("not Ready", "gated", |pod| !ready(pod));
    assert_eq!(condition(&pod, "example.com/balanced"), Some("False"));
    assert_eq!(condition(&pod, "ContainersReady"), Some("True"));
}

#[test]
fn readiness_is_asked_while_terminating_and_liveness_is_not() {
    let Some(ground) = Ground::new() else { return };
    let mut app = script("app", OBEDIENT);
    app["readinessProbe"] = probe("readiness", "ready");
    app["livenessProbe"] = probe("liveness", "ready");
    let wait = "say hook-begins; until test -e /record/go; do sleep 0.1; done; say hook-ends";
    app["lifecycle"]["preStop"] = exec(wait);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "going"},
        "spec": {"selector": {"case": "going"}, "ports": [{"port": 80}]}});
    ground.cluster.apply(&service.to_string());
    let pod = ground.pod(
        "going",
        json!({"containers": [app], "terminationGracePeriodSeconds": 600}),
    );
    ground.put("going", "ready");
    ground.cluster.apply(&pod.to_string());
    ground.wait("Ready", "going", ready);
    ground.wait_said("going", "liveness");

    ground.delete("going", &[]);
    let begun = ground.wait_said("going", "hook-begins").at("hook-begins");
    // ready=false and terminating=true at once; serving says what readiness says.
    let slices = ["endpointslices", "-l", "kubernetes.io/service-name=going"];
    ground.cluster.wait("a terminating endpoint", &slices, |list| {
        list.pointer("/items/0/endpoints/0/conditions")
            == Some(&json!({"ready": false, "serving": true, "terminating": true}))
    });
    let since = |word: &str| {
        let record = ground.record("going");
        record
            .times(word)
            .into_iter()
            .filter(|time| *time > begun + 1.0)
            .count()
    };
    crate::cluster::wait_until("readiness goes on", || since("readiness") >= 3);
    assert_eq!(since("liveness"), 0);
    ground.put("going", "go");
    ground.wait_gone("going");
    ground.record("going").in_order(&["hook-begins", "hook-ends", "term"]);
}

#[test]
fn a_probe_that_never_answers_has_failed_when_its_time_is_over() {
    let Some(ground) = Ground::new() else { return };
    // Takes a connection, and that is all it does.
    let mut silent = script("silent", "sleep 1000 | nc -l -p 8080 > /dev/null");
    silent["readinessProbe"] = json!({"httpGet": {"port": 8080}, "periodSeconds": 1, "timeoutSeconds": 1});
    let mut stuck = script("stuck", OBEDIENT);
    stuck["livenessProbe"] = exec("say asked; sleep 1000");
    for (field, value) in [("periodSeconds", 1), ("timeoutSeconds", 1), ("failureThreshold", 2)] {
        stuck["livenessProbe"][field] = value.into();
    }
    let pod = json!({"containers": [silent, stuck, script("other", "sleep 1000")], "terminationGracePeriodSeconds": 1});
    ground.create("never", pod);
    ground.wait_event("never", "Unhealthy", "context deadline exceeded");
    ground.wait_event("never", "Unhealthy", "command timed out");
    ground.wait_event("never", "Killing", "Container stuck failed liveness probe");
    let pod = ground.wait("a restart", "never", |pod| {
        container(pod, "stuck")["restartCount"].as_u64() >= Some(1)
    });
    let record = ground.record("never");
    assert!(record.count("asked") >= 2, "twice in vain: {record:?}");
    // Nobody else waits for it.
    assert_eq!(container(&pod, "other")["ready"], true);
    assert_eq!(container(&pod, "silent")["restartCount"], 0);
    ground.delete("never", &[]);
    ground.wait_gone("never");
}
