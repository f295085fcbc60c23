//! An in-place update replaces one container and nothing else.

use serde_json::{Value, json};

use crate::cluster::{Cluster, cloneset, condition, container, settled, wait_until};
use crate::load::{Load, request};

fn items(list: &Value) -> Vec<Value> {
    let mut items = list["items"].as_array().cloned().unwrap_or_default();
    items.sort_by_key(|p| p["metadata"]["name"].as_str().map(str::to_owned));
    items
}

/// Waits for an event with these words.
fn told(cluster: &Cluster, words: &str) {
    wait_until(words, || cluster.kubectl(&["get", "events"]).contains(words));
}

#[test]
fn a_container_is_replaced_and_the_pod_stays() {
    let Some(cluster) = Cluster::boot(2) else { return };
    cluster.build_images();
    cluster.apply(&cloneset("web", 3));
    cluster.wait("3 pods Ready", &["clonesets", "web"], |c| settled(c, 3));
    let before = items(&cluster.get(&["pods", "-l", "app=web"]).unwrap());
    assert_eq!(before.len(), 3);

    cluster.kubectl(&[
        "patch",
        "clonesets",
        "web",
        "--type=json",
        r#"-p=[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"web:v2"}]"#,
    ]);
    cluster.wait("all pods updated", &["clonesets", "web"], |c| {
        settled(c, 3) && c["status"]["updateRevision"] == c["status"]["currentRevision"]
    });
    let after = items(&cluster.get(&["pods", "-l", "app=web"]).unwrap());

    assert_eq!(after.len(), 3);
    for (old, new) in before.iter().zip(&after) {
        for path in ["/metadata/uid", "/metadata/name", "/status/podIP", "/spec/nodeName"] {
            assert_eq!(old.pointer(path), new.pointer(path), "{path}");
        }
        assert_eq!(new.pointer("/spec/containers/0/image").unwrap(), "web:v2");
        assert_ne!(
            container(old, "web")["containerID"],
            container(new, "web")["containerID"]
        );
        assert_ne!(container(old, "web")["imageID"], container(new, "web")["imageID"]);
        assert_eq!(container(new, "web")["restartCount"], 1);
        assert_eq!(
            container(old, "collector")["containerID"],
            container(new, "collector")["containerID"]
        );
        assert_eq!(container(new, "collector")["restartCount"], 0);
        assert_eq!(condition(new, "InPlaceUpdateReady"), Some("True"));
        assert_eq!(condition(new, "Ready"), Some("True"));
    }
}

#[test]
fn an_image_that_is_missing_is_reported_and_the_way_back_is_open() {
    let Some(cluster) = Cluster::boot(1) else { return };
    cluster.build_images();
    cluster.apply(&cloneset("web", 1));
    cluster.wait("the pod Ready", &["clonesets", "web"], |c| settled(c, 1));
    let image = |name: &str| {
        let patch =
            format!(r#"-p=[{{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"{name}"}}]"#);
        cluster.kubectl(&["patch", "clonesets", "web", "--type=json", &patch]);
    };
    image("web:missing");
    cluster.wait("ImagePullBackOff", &["pods", "-l", "app=web"], |list| {
        list["items"].as_array().is_some_and(|pods| {
            pods.iter()
                .any(|p| container(p, "web")["state"]["waiting"]["reason"] == "ImagePullBackOff")
        })
    });
    told(&cluster, "web:missing");
    image("web:v1");
    cluster.wait("the pod Ready again", &["clonesets", "web"], |c| settled(c, 1));
}

/// A container may look well while its hook fails: the rollout stands at the pod that cannot start, and the way back is open.
#[test]
fn a_post_start_that_fails_stops_the_rollout_at_its_first_pod() {
    let Some(cluster) = Cluster::boot(1) else { return };
    cluster.build_images();
    // Serves as the others do, and does not have the program that the hook runs.
    let file = format!("{}=/renamed", crate::cluster::AFLOAT);
    let entrypoint = ["--entrypoint", "/renamed", "--entrypoint", "app", "--entrypoint", "web"];
    cluster.image(
        &[
            &["build", "web:broken", "--libraries", "--file", &file][..],
            &entrypoint,
        ]
        .concat(),
    );
    let mut set: Value = serde_json::from_str(&cloneset("web", 3)).unwrap();
    let app = &mut set["spec"]["template"]["spec"]["containers"][0];
    app["lifecycle"] = serde_json::json!({"postStart": {"exec": {"command": ["/afloat", "--version"]}}});
    cluster.apply(&set.to_string());
    cluster.wait("3 pods Ready", &["clonesets", "web"], |c| settled(c, 3));

    let image = |name: &str| {
        let patch =
            format!(r#"-p=[{{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"{name}"}}]"#);
        cluster.kubectl(&["patch", "clonesets", "web", "--type=json", &patch]);
    };
    image("web:broken");
    let broken = |pod: &Value| pod.pointer("/spec/containers/0/image").unwrap() == "web:broken";
    let list = cluster.wait("the second failure", &["pods", "-l", "app=web"], |list| {
        items(list)
            .iter()
            .any(|pod| broken(pod) && container(pod, "web")["restartCount"].as_u64() > Some(1))
    });
    told(&cluster, "FailedPostStartHook");
    for pod in items(&list) {
        let ready = condition(&pod, "Ready") == Some("True");
        assert_eq!(ready, !broken(&pod), "{pod}");
    }
    let changed = items(&list).iter().filter(|pod| broken(pod)).count();
    assert_eq!(changed, 1, "{list}");

    image("web:v1");
    cluster.wait("3 pods Ready again", &["clonesets", "web"], |c| settled(c, 3));
}

/// The status of the pod's only init container.
fn sidecar(pod: &Value) -> &Value {
    &pod["status"]["initContainerStatuses"][0]
}

/// The sidecar is what serves: it is replaced in a pod that is out of service, and the application beside it never stops.
#[test]
fn a_sidecar_is_replaced_alone_and_no_request_is_lost() {
    let Some(cluster) = Cluster::boot_with(2, &["--proxy-lag=500ms"]) else {
        return;
    };
    cluster.build_images();
    let mut set: Value = serde_json::from_str(&cloneset("web", 3)).unwrap();
    let spec = &mut set["spec"]["template"]["spec"];
    let mut web = spec["containers"].as_array_mut().unwrap().remove(0);
    web["restartPolicy"] = json!("Always");
    spec["initContainers"] = json!([web]);
    cluster.apply(&set.to_string());
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}});
    cluster.apply(&service.to_string());
    cluster.wait("3 pods Ready", &["clonesets", "web"], |c| settled(c, 3));
    let before = items(&cluster.get(&["pods", "-l", "app=web"]).unwrap());
    let service = cluster.get(&["services", "web"]).unwrap();
    let port = u16::try_from(service["spec"]["ports"][0]["nodePort"].as_u64().unwrap()).unwrap();
    wait_until("an answer", || request(port));

    let load = Load::start(port);
    let patch = r#"-p=[{"op":"replace","path":"/spec/template/spec/initContainers/0/image","value":"web:v2"}]"#;
    cluster.kubectl(&["patch", "clonesets", "web", "--type=json", patch]);
    cluster.wait("all pods updated", &["clonesets", "web"], |c| {
        settled(c, 3) && c["status"]["updateRevision"] == c["status"]["currentRevision"]
    });
    let (answered, lost) = load.finish();
    assert_eq!(lost, 0, "of {answered}");

    let after = items(&cluster.get(&["pods", "-l", "app=web"]).unwrap());
    assert_eq!(after.len(), 3);
    for (old, new) in before.iter().zip(&after) {
        for path in ["/metadata/uid", "/metadata/name", "/status/podIP", "/spec/nodeName"] {
            assert_eq!(old.pointer(path), new.pointer(path), "{path}");
        }
        assert_eq!(sidecar(new)["restartCount"], 1);
        assert_ne!(sidecar(old)["imageID"], sidecar(new)["imageID"]);
        assert_eq!(sidecar(new)["ready"], true);
        assert_eq!(
            container(old, "collector")["containerID"],
            container(new, "collector")["containerID"]
        );
    }
    told(&cluster, "Init container web definition changed");
}
