//! The kinds of handlers and probes.

use serde_json::{Value, json};

use super::{Ground, OBEDIENT, exec, ready, script};
use crate::cluster::condition;

#[test]
fn every_kind_of_probe_asks_as_it_says() {
    let Some(ground) = Ground::new() else { return };
    ground.cluster.build_images();
    let headers = json!([{"name": "X-Custom", "value": "yes"}]);
    let probes = [
        (
            "http",
            json!({"httpGet": {"path": "/", "port": "web", "httpHeaders": headers}}),
            true,
        ),
        ("tcp", json!({"tcpSocket": {"port": 8080}}), true),
        ("grpc", json!({"grpc": {"port": 8080}}), true),
        ("secure", json!({"httpGet": {"port": "web", "scheme": "HTTPS"}}), false),
        ("nobody", json!({"tcpSocket": {"port": 8081}}), false),
        ("away", json!({"httpGet": {"host": "127.0.0.1", "port": 1}}), false),
    ];
    for (name, probe, _) in &probes {
        let mut app = json!({"name": "app", "image": "web:v1", "ports": [{"name": "web", "containerPort": 8080}]});
        app["readinessProbe"] = probe.clone();
        app["readinessProbe"]["periodSeconds"] = 1.into();
        let pod = json!({"containers": [app], "terminationGracePeriodSeconds": 1});
        ground.create(name, pod);
    }
    for (name, _, answers) in &probes {
        if *answers {
            ground.wait("Ready", name, ready);
        } else {
            ground.wait_event(name, "Unhealthy", "Readiness probe failed");
            ground.wait("not Ready", name, |pod| condition(pod, "Ready") == Some("False"));
        }
    }
    let pod = ground.get("http");
    let probe = &pod["spec"]["containers"][0]["readinessProbe"];
    let defaults = json!([
        probe["timeoutSeconds"],
        probe["successThreshold"],
        probe["failureThreshold"]
    ]);
    assert_eq!(defaults, json!([1, 1, 3]));
}

#[test]
fn what_handlers_print_is_told_to_nobody() {
    let Some(ground) = Ground::new() else { return };
    let with = |hooks: Value| {
        let mut app = script("app", OBEDIENT);
        app["lifecycle"] = hooks;
        json!({"containers": [app]})
    };
    ground.create(
        "loud",
        with(json!({
            // No arguments but those of the command.
            "postStart": {"exec": {"command": ["/bin/sh", "-c", "say hook $#; echo pass''word"]}},
            "preStop": exec("echo pass''word; exit 1"),
        })),
    );
    // No time is a time, too.
    let none = json!({"sleep": {"seconds": 0}});
    ground.create("none", with(json!({"postStart": none, "preStop": none})));
    for name in ["loud", "none"] {
        ground.wait("Ready", name, ready);
        ground.wait_said(name, "runs");
    }
    ground.wait_said("loud", "hook 0");
    let log = ground.cluster.kubectl(&["logs", "loud"]);
    for name in ["loud", "none"] {
        ground.delete(name, &[]);
        ground.wait_gone(name);
        assert_eq!(ground.record(name).count("term"), 1);
    }
    ground.wait_event("loud", "FailedPreStopHook", "exited with 1");
    let events = ground.events("loud");
    let told = events.iter().any(|(_, message)| message.contains("password"));
    assert!(!told && !log.contains("password"), "{events:?} {log}");
    let hooks = |name: &str| {
        let events = ground.events(name);
        events.iter().filter(|(reason, _)| reason.contains("Hook")).count()
    };
    assert_eq!(hooks("none"), 0);
}

#[test]
fn only_sidecars_among_init_containers_have_hooks_and_probes() {
    let Some(ground) = Ground::new() else { return };
    let quick = |name: &str| script(name, "say init");
    for (field, value) in [
        ("lifecycle", json!({"preStop": exec("true")})),
        ("readinessProbe", exec("true")),
        ("livenessProbe", exec("true")),
        ("startupProbe", exec("true")),
    ] {
        let mut init = quick("init");
        init[field] = value;
        let pod = ground.pod(
            "bad",
            json!({"initContainers": [init], "containers": [script("app", OBEDIENT)]}),
        );
        let output = ground
            .cluster
            .try_kubectl(&["apply", "-f", "-"], Some(&pod.to_string()));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let place = format!("spec.initContainers[0].{field}");
        assert!(!output.status.success() && said.contains(&place), "{field}: {said}");
    }
}
