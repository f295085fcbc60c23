//! The end of containers and pods, as it is told: termination messages, and the last event of a pod that goes.

use serde_json::{Value, json};

use super::{Ground, OBEDIENT, ready, script, state};
use crate::cluster::wait_until;

/// The message with which a container ended.
fn message<'a>(pod: &'a Value, container: &str) -> &'a str {
    let (kind, end) = state(pod, container);
    assert_eq!(kind, "terminated", "{container}: {pod}");
    end["message"].as_str().unwrap_or_default()
}

#[test]
fn a_container_says_why_it_ended() {
    let Some(ground) = Ground::new() else { return };
    let fallback = |name: &str, text: &str| {
        let mut container = script(name, text);
        container["terminationMessagePolicy"] = "FallbackToLogsOnError".into();
        container
    };
    let mut own = script("own", "echo mine > /why/me; exit 0");
    own["terminationMessagePath"] = "/why/me".into();
    own["securityContext"] = json!({"runAsUser": 1000, "readOnlyRootFilesystem": true});
    // A link in its place, to a file that its container may not read, cannot be: it is a mount.
    let evil = "ln -sf /proc/1/environ /dev/termination-log; echo -n tea > /dev/termination-log; exit 1";
    let long = "/bin/busybox yes | /bin/busybox head -c 6000 > /dev/termination-log";
    ground.create(
        "said",
        json!({"restartPolicy": "Never", "containers": [
            script("file", "echo -n 'no tea' > /dev/termination-log; exit 3"), own,
            fallback("logs", "echo 'looking for tea'; echo 'out of tea'; exit 1"), fallback("fine", "echo tea; exit 0"),
            fallback("both", "echo log; echo -n file > /dev/termination-log; exit 1"),
            fallback("evil", evil), script("long", long), script("silent", "exit 0")]}),
    );
    let pod = ground.wait("its end", "said", |pod| pod["status"]["phase"] == "Failed");
    for (container, expected) in [
        ("file", "no tea"),
        ("own", "mine\n"),
        ("logs", "looking for tea\nout of tea\n"),
        ("fine", ""),
        ("both", "file"),
        ("evil", "tea"),
        ("silent", ""),
    ] {
        assert_eq!(message(&pod, container), expected, "{container}");
    }
    // Eight containers share 12 KiB.
    assert_eq!(message(&pod, "long").len(), 1536);

    // One that is started again tells of its last end, and begins with an empty file.
    let again = "test -s /dev/termination-log && exit 9; read n < /record/n; echo $((n+1)) > /record/n; \
                 echo -n $n > /dev/termination-log; test $n = 1 && exit 1; say runs; while :; do sleep 0.1; done";
    std::fs::create_dir_all(ground.records.path().join("again")).expect("our own folder");
    std::fs::write(ground.records.path().join("again/n"), "1\n").expect("our own folder");
    ground.create("again", json!({"containers": [script("app", again)]}));
    ground.wait_said("again", "runs");
    let pod = ground.wait("it runs", "again", ready);
    let last = &crate::cluster::container(&pod, "app")["lastState"]["terminated"];
    assert_eq!(
        (&last["exitCode"], &last["message"]),
        (&json!(1), &json!("1")),
        "{last}"
    );
}

#[test]
fn the_last_event_of_a_pod_says_how_it_ended() {
    let Some(ground) = Ground::new() else { return };
    let mut spec =
        json!({"containers": [script("a", OBEDIENT), script("b", OBEDIENT)], "terminationGracePeriodSeconds": 5});
    ground.create("good", spec.clone());
    spec["containers"][1] = script("b", "trap 'exit 7' TERM; say runs; while :; do sleep 0.1; done");
    ground.create("bad", spec);
    let mut missing = script("a", "exit 0");
    (missing["image"], missing["imagePullPolicy"]) = ("nowhere:1".into(), "Never".into());
    ground.create("never", json!({"containers": [missing]}));
    ground.wait("it waits", "never", |pod| state(pod, "a").0 == "waiting");
    for (name, phase, ends) in [
        ("good", "Succeeded", json!([[0, "Completed"], [0, "Completed"]])),
        ("bad", "Failed", json!([[0, "Completed"], [7, "Error"]])),
        ("never", "Failed", json!([[137, "ContainerStatusUnknown"]])),
    ] {
        let version = if name == "never" {
            ground.get(name)
        } else {
            wait_until("both to run", || ground.record(name).count("runs") >= 2);
            ground.wait("it runs", name, ready)
        };
        let version = version["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        ground.delete(name, &[]);
        ground.wait_gone(name);
        let watch = format!(
            "/api/v1/namespaces/default/pods?watch=1&resourceVersion={version}&timeoutSeconds=2&fieldSelector=metadata.name%3D{name}"
        );
        let events = ground.cluster.kubectl(&["get", "--raw", &watch]);
        let events: Vec<Value> = events
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let last = events.last().expect("an event about its end");
        assert_eq!(last["type"], "DELETED", "{name}: {events:?}");
        let status = &last["object"]["status"];
        assert_eq!(status["phase"], phase, "{name}: {status}");
        let entries = status["containerStatuses"].as_array().cloned().unwrap_or_default();
        let told: Vec<Value> = entries
            .iter()
            .map(|entry| &entry["state"]["terminated"])
            .map(|end| json!([end["exitCode"], end["reason"]]))
            .collect();
        assert_eq!(json!(told), ends, "{name}: {status}");
    }
}
