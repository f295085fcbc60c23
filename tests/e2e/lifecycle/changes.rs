//! What may change on a live pod, and what comes of it.

use serde_json::json;

use super::{Ground, OBEDIENT, box_files, build_image, exec, ready, script};
use crate::cluster::{container, wait_until};

#[test]
fn a_live_pod_takes_some_changes_and_refuses_the_others() {
    let Some(ground) = Ground::new() else { return };
    let files = box_files().expect("it was there before");
    build_image(&ground.cluster, "box:2", files.path());
    let mut app = script("app", OBEDIENT);
    app["env"] = json!([{"name": "A", "value": "b"}]);
    ground.create(
        "live",
        json!({"initContainers": [script("init", "say init")], "containers": [app]}),
    );
    let before = ground.wait("Ready", "live", ready);
    ground.wait_said("live", "runs");

    let patch = |patch: &serde_json::Value| {
        let patch = format!("-p={patch}");
        let output = ground
            .cluster
            .try_kubectl(&["patch", "pod", "live", "--type=json", &patch], None);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    };
    let set = |field: &str, value: serde_json::Value| {
        patch(&json!([{"op": "add", "path": format!("/spec/{field}"), "value": value}]))
    };
    assert_eq!(set("activeDeadlineSeconds", 3000.into()), (true, String::new()));
    assert_eq!(set("activeDeadlineSeconds", 2000.into()), (true, String::new()));
    let (done, said) = set("activeDeadlineSeconds", 2500.into());
    assert!(
        !done && said.contains("must be less than or equal to previous value"),
        "{said}"
    );
    let toleration = json!({"key": "example.com/wet", "operator": "Exists"});
    assert_eq!(set("tolerations/-", toleration), (true, String::new()));
    let (done, said) = set("tolerations", json!([]));
    assert!(
        !done && said.contains("existing toleration can not be modified"),
        "{said}"
    );
    for (field, value) in [
        ("nodeName", "elsewhere".into()),
        ("containers/0/command", json!(["/bin/true"])),
        ("containers/0/env/0/value", "c".into()),
        ("hostname", "other".into()),
    ] {
        let (done, said) = set(field, value);
        let told = said.contains("pod updates may not change fields other than");
        assert!(!done && told, "{field}: {said}");
    }

    // The image of an init container that is done restarts nothing; that of an application container only this.
    ground.cluster.kubectl(&["set", "image", "pod/live", "init=box:2"]);
    ground.cluster.kubectl(&["set", "image", "pod/live", "app=box:2"]);
    let after = ground.wait("the new container", "live", |pod| {
        ready(pod) && container(pod, "app")["restartCount"] == 1
    });
    wait_until("the second start", || ground.record("live").count("runs") == 2);
    assert_eq!(ground.record("live").count("init"), 1);
    let init = |pod: &serde_json::Value| pod["status"]["initContainerStatuses"][0]["containerID"].clone();
    assert_eq!(init(&before), init(&after));
    assert_eq!(before["status"]["podIP"], after["status"]["podIP"]);
    assert_eq!(before["spec"]["nodeName"], after["spec"]["nodeName"]);
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);

    // A deadline that is over ends the pod.
    assert_eq!(set("activeDeadlineSeconds", 1.into()), (true, String::new()));
    let pod = ground.wait("Failed", "live", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
    assert_eq!(ground.wait_said("live", "term").count("init"), 1);
}

#[test]
fn another_name_of_the_same_image_is_a_new_container_of_the_same_image() {
    let Some(ground) = Ground::new() else { return };
    let files = box_files().expect("it was there before");
    build_image(&ground.cluster, "also:1", files.path());
    ground.create(
        "names",
        json!({"containers": [script("app", OBEDIENT), script("other", OBEDIENT)]}),
    );
    let before = ground.wait("Ready", "names", ready);
    ground.cluster.kubectl(&["set", "image", "pod/names", "app=also:1"]);
    let after = ground.wait("the new container", "names", |pod| {
        ready(pod) && container(pod, "app")["restartCount"] == 1
    });
    let (old, new) = (container(&before, "app"), container(&after, "app"));
    assert_eq!(old["imageID"], new["imageID"], "imageID is the reliable one");
    assert!(
        new["imageID"].as_str().is_some_and(|id| id.contains("sha256:")),
        "{new}"
    );
    assert_ne!(old["containerID"], new["containerID"]);
    // Which of the names is told is the runtime's affair.
    let names = ["docker.io/library/box:1", "docker.io/library/also:1"];
    assert!(names.contains(&new["image"].as_str().unwrap_or_default()), "{new}");
    assert_eq!(container(&before, "other"), container(&after, "other"));
}

#[test]
fn a_probes_own_grace_period_counts_where_it_kills() {
    let Some(ground) = Ground::new() else { return };
    let deaf = "trap 'say term' TERM; say runs; while :; do sleep 0.1; done";
    let failing = |kind: &str| {
        let mut app = script("app", deaf);
        app[kind] = exec("false");
        app[kind]["periodSeconds"] = 1.into();
        app[kind]["failureThreshold"] = 1.into();
        app[kind]["terminationGracePeriodSeconds"] = 1.into();
        // By the pod's own it would be left alone for an hour.
        json!({"containers": [app], "terminationGracePeriodSeconds": 3600})
    };
    for (name, kind, word) in [
        ("startup", "startupProbe", "Startup"),
        ("liveness", "livenessProbe", "Liveness"),
    ] {
        ground.create(name, failing(kind));
        ground.wait_event(name, "Unhealthy", &format!("{word} probe failed"));
        ground.wait_event(
            name,
            "Killing",
            &format!("Container app failed {} probe", word.to_lowercase()),
        );
    }
    for name in ["startup", "liveness"] {
        wait_until("another start", || ground.record(name).count("runs") >= 2);
        ground.record(name).in_order(&["runs", "term"]);
        ground.delete(name, &["--grace-period=1"]);
    }
}
