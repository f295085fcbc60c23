//! Changes of some containers of a pod: environment from metadata, launch order, and what serves no traffic.

use serde_json::{Value, json};

use crate::cluster::{Cluster, cloneset, container, settled, wait_until};

fn web(edit: impl FnOnce(&mut Value)) -> String {
    let mut set: Value = serde_json::from_str(&cloneset("web", 1)).expect("our own JSON");
    edit(&mut set["spec"]["template"]);
    set.to_string()
}

fn patch(cluster: &Cluster, template: &Value) {
    let patch = json!({"spec": {"template": template}}).to_string();
    cluster.kubectl(&["patch", "clonesets", "web", "--type=merge", "-p", &patch]);
}

fn pod(cluster: &Cluster) -> Value {
    cluster.wait("one pod", &["pods", "-l", "app=web"], |list| {
        list["items"].as_array().is_some_and(|pods| pods.len() == 1)
    })["items"][0]
        .clone()
}

fn settle(cluster: &Cluster) -> Value {
    cluster.wait("the pod updated and Ready", &["clonesets", "web"], |set| {
        settled(set, 1)
    });
    pod(cluster)
}

fn started<'a>(pod: &'a Value, name: &str) -> &'a str {
    container(pod, name)["state"]["running"]["startedAt"]
        .as_str()
        .expect("it runs")
}

#[test]
fn environment_from_metadata_takes_effect_with_one_restart() {
    let Some(cluster) = Cluster::boot(1) else { return };
    cluster.build_images();
    cluster.apply(&web(|template| {
        template["metadata"]["annotations"] = json!({"version": "one"});
        let from = json!({"fieldRef": {"fieldPath": "metadata.annotations['version']"}});
        template["spec"]["containers"][0]["env"] = json!([{"name": "APP_VERSION", "valueFrom": from}]);
    }));
    let before = settle(&cluster);
    let name = before["metadata"]["name"].as_str().expect("a name");
    let says = |version: &str| {
        // What it writes is in its log a moment later.
        wait_until(&format!("version {version} in the log"), || {
            let log = cluster.kubectl(&["logs", name, "-c", "web"]);
            log.contains(&format!("version {version}\n"))
        });
    };
    says("one");

    patch(&cluster, &json!({"metadata": {"annotations": {"version": "two"}}}));
    let after = settle(&cluster);
    says("two");
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(container(&after, "web")["restartCount"], 1);
    assert_eq!(
        container(&after, "web")["imageID"],
        container(&before, "web")["imageID"]
    );
    assert_eq!(
        container(&after, "collector")["containerID"],
        container(&before, "collector")["containerID"]
    );

    // kruise #1239: with the image it is one restart, too.
    let change = json!([
        {"op": "replace", "path": "/spec/template/metadata/annotations/version", "value": "three"},
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "web:v2"},
    ]);
    cluster.kubectl(&["patch", "clonesets", "web", "--type=json", "-p", &change.to_string()]);
    let last = settle(&cluster);
    says("three");
    assert_eq!(container(&last, "web")["restartCount"], 2);
    assert_eq!(last["metadata"]["uid"], before["metadata"]["uid"]);
}

#[test]
fn containers_start_and_are_updated_in_their_order() {
    let Some(cluster) = Cluster::boot(1) else { return };
    cluster.build_images();
    cluster.apply(&web(|template| {
        template["metadata"]["annotations"] = json!({"apps.kruise.io/container-launch-priority": "Ordered"});
        template["spec"]["containers"][0]["env"] = json!([{"name": "APP_START_MS", "value": "1500"}]);
    }));
    let first = settle(&cluster);
    assert!(started(&first, "web") < started(&first, "collector"), "{first:#}");
    let completed =
        |pod: &Value| pod["metadata"]["annotations"]["apps.kruise.io/container-launch-priority-completed"] == "true";
    cluster.wait("the note that all have started", &["pods", "-l", "app=web"], |list| {
        completed(&list["items"][0])
    });

    let change = json!([
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "web:v2"},
        {"op": "replace", "path": "/spec/template/spec/containers/1/image", "value": "docker.io/library/collector:v1"},
    ]);
    cluster.kubectl(&["patch", "clonesets", "web", "--type=json", "-p", &change.to_string()]);
    let second = settle(&cluster);
    assert_eq!(second["metadata"]["uid"], first["metadata"]["uid"]);
    for name in ["web", "collector"] {
        assert_eq!(container(&second, name)["restartCount"], 1, "{name}");
    }
    assert!(started(&second, "web") < started(&second, "collector"), "{second:#}");
}

#[test]
fn a_container_that_serves_no_traffic_needs_no_drain() {
    // kruise #1808
    let Some(cluster) = Cluster::boot(1) else { return };
    cluster.build_images();
    cluster.apply(&web(|template| {
        template["metadata"]["annotations"] = json!({"drain.afloat.dev/collector": "Skip"});
    }));
    let before = settle(&cluster);
    let change = json!([
        {"op": "replace", "path": "/spec/template/spec/containers/1/image", "value": "docker.io/library/collector:v1"},
    ]);
    cluster.kubectl(&["patch", "clonesets", "web", "--type=json", "-p", &change.to_string()]);
    let normal = |pod: &Value| pod["metadata"]["labels"]["lifecycle.apps.kruise.io/state"] == "Normal";
    cluster.wait("the collector restarted", &["pods", "-l", "app=web"], |list| {
        let pod = &list["items"][0];
        container(pod, "collector")["restartCount"] == 1 && normal(pod)
    });
    let after = settle(&cluster);
    assert_eq!(
        container(&after, "web")["containerID"],
        container(&before, "web")["containerID"]
    );
    let gate = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions
            .into_iter()
            .find(|condition| condition["type"] == "InPlaceUpdateReady")
    };
    assert_eq!(gate(&after), gate(&before), "it never left service");
}
