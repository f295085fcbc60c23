//! ContainerRecreateRequests: containers of a pod start anew where they are.

use serde_json::{Value, json};

use super::{Ground, exec, ready, script};
use crate::cluster::{container, wait_until};

/// Says that it runs, and stays until it is asked to stop, and says that too.
fn stays(name: &str) -> Value {
    let text = format!("trap 'say {name}-term; exit 0' TERM; say {name}-runs; while :; do sleep 0.1; done");
    script(name, &text)
}

impl Ground {
    fn recreate(&self, name: &str, pod: &str, containers: &[&str], edit: impl FnOnce(&mut Value)) {
        self.cluster.wait_webhooks();
        let containers: Vec<_> = containers.iter().map(|name| json!({"name": name})).collect();
        let mut request = json!({
            "apiVersion": "apps.kruise.io/v1alpha1", "kind": "ContainerRecreateRequest", "metadata": {"name": name},
            "spec": {"podName": pod, "containers": containers, "strategy": {}},
        });
        edit(&mut request["spec"]);
        self.cluster.apply(&request.to_string());
    }

    fn wait_request(&self, what: &str, name: &str, wish: impl Fn(&Value) -> bool) -> Value {
        self.cluster.wait(what, &["crr", name], wish)
    }
}

fn over(request: &Value) -> bool {
    request["status"]["phase"] == "Completed" && request["metadata"]["labels"]["crr.apps.kruise.io/active"].is_null()
}

#[test]
fn containers_come_back_in_order_after_their_hooks() {
    let Some(ground) = Ground::new() else { return };
    let mut app = stays("app");
    app["lifecycle"]["preStop"] = exec("say hook-begins; sleep 1; say hook-ends");
    let spec = json!({"containers": [app, stays("log"), stays("other")], "terminationGracePeriodSeconds": 10});
    ground.create("ordered", spec);
    let before = ground.wait("the pod Ready", "ordered", ready);

    ground.recreate("r", "ordered", &["app", "log"], |spec| {
        spec["strategy"] = json!({"orderedRecreate": true, "minStartedSeconds": 1});
        spec["ttlSecondsAfterFinished"] = json!(600);
    });
    // What a webhook puts in is there with the answer.
    let request = ground.cluster.get(&["crr", "r"]).expect("the request");
    let labels = &request["metadata"]["labels"];
    assert_eq!(labels["crr.apps.kruise.io/pod-uid"], before["metadata"]["uid"]);
    assert_eq!(labels["crr.apps.kruise.io/node-name"], before["spec"]["nodeName"]);
    let first = &request["spec"]["containers"][0];
    assert_eq!(
        first["statusContext"]["containerID"],
        container(&before, "app")["containerID"]
    );
    assert_eq!(request["spec"]["strategy"]["failurePolicy"], "Fail");

    let request = ground.wait_request("the end", "r", over);
    assert_eq!(
        request["status"]["containerRecreateStates"],
        json!([{"name": "app", "phase": "Succeeded", "isKilled": true},
            {"name": "log", "phase": "Succeeded", "isKilled": true}])
    );
    wait_until("the second start of the last", || {
        ground.record("ordered").count("log-runs") == 2
    });
    let record = ground.record("ordered");
    record.in_order(&["hook-begins", "hook-ends", "app-term", "log-term"]);
    assert!(record.last("app-runs") < record.at("log-term"), "{record:?}");
    assert_eq!(
        (
            record.count("app-runs"),
            record.count("log-runs"),
            record.count("other-runs")
        ),
        (2, 2, 1)
    );
    let after = ground.get("ordered");
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["status"]["podIP"], before["status"]["podIP"]);
    for (name, restarts) in [("app", 1), ("log", 1), ("other", 0)] {
        assert_eq!(container(&after, name)["restartCount"], restarts, "{name}");
    }

    // Its time is over.
    let patch = json!({"spec": {"ttlSecondsAfterFinished": 0}}).to_string();
    let refused = ground
        .cluster
        .try_kubectl(&["patch", "crr", "r", "--type=merge", "-p", &patch], None);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("spec of ContainerRecreateRequest is immutable"), "{why}");
    ground.recreate("short", "ordered", &["other"], |spec| {
        spec["ttlSecondsAfterFinished"] = json!(0);
    });
    wait_until("the request to go", || ground.cluster.get(&["crr", "short"]).is_none());
    wait_until("its second start", || ground.record("ordered").count("other-runs") == 2);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let Some(ground) = Ground::new() else { return };
    ground.create("pod", json!({"containers": [stays("app")]}));
    ground.wait("the pod Ready", "pod", ready);
    ground.cluster.wait_webhooks();
    let refused = |pod: &str, container: &str| {
        let request = json!({
            "apiVersion": "apps.kruise.io/v1beta1", "kind": "ContainerRecreateRequest", "metadata": {"name": "bad"},
            "spec": {"podName": pod, "containers": [{"name": container}]},
        });
        let output = ground
            .cluster
            .try_kubectl(&["create", "-f", "-"], Some(&request.to_string()));
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let why = refused("pod", "other");
    assert!(why.contains("container other not found in Pod"), "{why}");
    let why = refused("nobody", "app");
    assert!(why.contains("no found Pod named nobody"), "{why}");
}

#[test]
fn a_deadline_ends_the_request_and_not_what_it_has_begun() {
    let Some(ground) = Ground::new() else { return };
    let mut app = stays("app");
    app["lifecycle"]["preStop"] = exec("say hook-begins; until test -e /record/go; do sleep 0.1; done");
    let spec = json!({"containers": [app, stays("log")], "terminationGracePeriodSeconds": 60});
    ground.create("late", spec);
    ground.wait("the pod Ready", "late", ready);
    ground.recreate("r", "late", &["app", "log"], |spec| {
        // Time enough to begin, on a machine that has much else to do.
        spec["activeDeadlineSeconds"] = json!(15);
    });
    let request = ground.wait_request("the deadline", "r", over);
    assert_eq!(
        request["status"]["message"],
        "recreating has exceeded the activeDeadlineSeconds"
    );
    assert_eq!(
        request["status"]["containerRecreateStates"],
        json!([{"name": "app", "phase": "Pending"}, {"name": "log", "phase": "Pending"}])
    );
    ground.put("late", "go");
    let pod = ground.wait("the container to be back", "late", |pod| {
        container(pod, "app")["restartCount"] == 1 && ready(pod)
    });
    assert_eq!(container(&pod, "log")["restartCount"], 0);
    ground.wait_request("word of it", "r", |request| {
        request["status"]["containerRecreateStates"]
            == json!([{"name": "app", "phase": "Recreating", "isKilled": true}, {"name": "log", "phase": "Pending"}])
    });
}

#[test]
fn a_pod_that_goes_ends_its_requests() {
    let Some(ground) = Ground::new() else { return };
    let mut app = stays("app");
    app["lifecycle"]["preStop"] = exec("say hook-begins; until test -e /record/go; do sleep 0.1; done");
    let spec = json!({"containers": [app], "terminationGracePeriodSeconds": 60});
    ground.create("goes", spec);
    ground.wait("the pod Ready", "goes", ready);
    ground.recreate("r", "goes", &["app"], |_| ());
    ground.recreate("second", "goes", &["app"], |_| ());
    ground.wait_said("goes", "hook-begins");
    ground.wait_request("its turn to come", "second", |request| {
        request["status"]["phase"] == "Pending"
    });
    ground.delete("goes", &[]);
    for name in ["r", "second"] {
        let request = ground.wait_request("the end", name, over);
        assert_eq!(request["status"]["message"], "pod has gone", "{name}");
    }
    ground.put("goes", "go");
    ground.wait_gone("goes");
}
