//! An in-place update replaces one container and nothing else.

use serde_json::Value;

use crate::cluster::{Cluster, cloneset, condition, container, settled};

fn items(list: &Value) -> Vec<Value> {
    let mut items = list["items"].as_array().cloned().unwrap_or_default();
    items.sort_by_key(|p| p["metadata"]["name"].as_str().map(str::to_owned));
    items
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
    let events = cluster.kubectl(&["get", "events"]);
    assert!(events.contains("web:missing"), "{events}");
    image("web:v1");
    cluster.wait("the pod Ready again", &["clonesets", "web"], |c| settled(c, 1));
}
