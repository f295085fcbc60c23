//! Sidecars: init containers that run as long as the pod does (kruise #2362, #1671).

use afloat_api::names;
use serde_json::{Value, json};

use super::containers::{act, state};
use super::{Scene, in_place};

/// Two revisions of a pod with a container `app`, an init container and a sidecar, the second made by an edit, and one pod at
/// the first.
fn scene(edit: impl Fn(&mut Value)) -> Scene {
    let mut scene = Scene::new(&["app:1", "app:2"], &in_place());
    for index in 0..2 {
        let template = &mut scene.revisions[index]["data"]["spec"]["template"];
        template["spec"] = json!({
            "containers": [{"name": "app", "image": "app:1"}],
            "initContainers": [{"name": "setup", "image": "setup:1"}, {"name": "mesh", "image": "mesh:1", "restartPolicy": "Always"}],
        });
        if index == 1 {
            edit(template);
            let mut wanted = template.clone();
            wanted.as_object_mut().unwrap().remove("$patch");
            scene.set["spec"]["template"] = wanted;
        }
    }
    let spec = scene.revisions[0]["data"]["spec"]["template"]["spec"].clone();
    let pod = scene.pod("a", 0);
    for list in ["containers", "initContainers"] {
        pod["spec"][list] = spec[list].clone();
    }
    pod["status"]["initContainerStatuses"] = json!([
        {"name": "setup", "image": "setup:1", "imageID": "id:setup:1", "containerID": "s1", "ready": true, "state": {"terminated": {}}},
        {"name": "mesh", "image": "mesh:1", "imageID": "id:mesh:1", "containerID": "m1", "ready": true, "started": true,
            "state": {"running": {}}},
    ]);
    scene
}

/// The node restarts the sidecar from the pod's spec.
fn restart(scene: &mut Scene, ready: bool) {
    let pod = &mut scene.pods[0];
    let image = pod["spec"]["initContainers"][1]["image"].clone();
    let status = &mut pod["status"]["initContainerStatuses"][1];
    status["containerID"] = json!(format!("{}+", status["containerID"].as_str().unwrap()));
    status["imageID"] = json!(format!("id:{}", image.as_str().unwrap()));
    status["image"] = image;
    status["ready"] = json!(ready);
}

#[test]
fn a_sidecar_changes_in_place_and_the_pod_stays() {
    let mut scene = scene(|template| template["spec"]["initContainers"][1]["image"] = json!("mesh:2"));
    assert_eq!(act(&mut scene, 0), ["drain a"]);
    assert_eq!(act(&mut scene, 0), ["update a"]);
    let spec = &scene.pods[0]["spec"];
    assert_eq!(spec["initContainers"][1]["image"], "mesh:2");
    assert_eq!(spec["containers"], json!([{"name": "app", "image": "app:1"}]));
    assert_eq!(
        state(&scene).last_container_statuses,
        Some(Default::default()),
        "OpenKruise would look for it among the application's containers without end"
    );
    let from = scene.pods[0]["metadata"]["annotations"][names::INPLACE_FROM]
        .as_str()
        .unwrap();
    assert!(
        from.contains(r#""mesh":{"containerID":"m1","ran":"mesh:1","images":["mesh:1"],"imageID":"id:mesh:1"}"#),
        "{from}"
    );
    assert!(act(&mut scene, 1).is_empty(), "the node is at work");
    restart(&mut scene, true);
    assert_eq!(act(&mut scene, 2), ["return a"]);
    assert!(act(&mut scene, 3).is_empty());
}

/// It crashed before the node saw the new image: the old one runs again.
#[test]
fn a_sidecar_that_crashed_is_not_the_new_one() {
    let mut scene = scene(|template| template["spec"]["initContainers"][1]["image"] = json!("mesh:2"));
    assert_eq!(act(&mut scene, 0), ["drain a"]);
    assert_eq!(act(&mut scene, 0), ["update a"]);
    scene.pods[0]["status"]["initContainerStatuses"][1]["containerID"] = json!("m2");
    assert!(act(&mut scene, 60).is_empty());
    restart(&mut scene, true);
    assert_eq!(act(&mut scene, 61), ["return a"]);
}

#[test]
fn a_pod_whose_sidecar_is_not_ready_does_not_count_as_available() {
    let mut scene = scene(|template| template["spec"]["initContainers"][1]["image"] = json!("mesh:2"));
    scene.pod("b", 0);
    scene.pods[0]["status"]["initContainerStatuses"][1]["ready"] = json!(false);
    // Its condition Ready has more authors than the kubelet; `b` serves, and the budget of one is spent.
    assert_eq!(scene.plan().status.available_replicas, 1);
    assert_eq!(act(&mut scene, 0), ["drain a"]);
}

#[test]
fn an_older_cluster_recreates_the_pod() {
    for (minor, word) in [(31, "recreate a"), (32, "drain a")] {
        let mut scene = scene(|template| template["spec"]["initContainers"][1]["image"] = json!("mesh:2"));
        scene.server.minor = minor;
        assert_eq!(act(&mut scene, 0), [word]);
    }
    let mut scene = scene(|template| template["spec"]["initContainers"][0]["image"] = json!("setup:2"));
    assert_eq!(act(&mut scene, 0), ["recreate a"], "it would not run again");
}

#[test]
fn a_sidecar_goes_before_the_application_where_that_has_an_order() {
    let mut scene = scene(|template| {
        template["spec"]["initContainers"][1]["image"] = json!("mesh:2");
        template["spec"]["containers"] = json!([{"name": "app", "image": "app:2"}, {"name": "log", "image": "log:2"}]);
    });
    let barrier = |priority: i32| json!([{"name": names::LAUNCH_BARRIER, "valueFrom": {"configMapKeyRef": {"name": "b", "key": format!("p_{priority}")}}}]);
    let containers = json!([{"name": "app", "image": "app:1"}, {"name": "log", "image": "log:1"}]);
    scene.revisions[0]["data"]["spec"]["template"]["spec"]["containers"] = containers.clone();
    let pod = &mut scene.pods[0];
    pod["spec"]["containers"] = containers;
    pod["spec"]["containers"][0]["env"] = barrier(0);
    pod["spec"]["containers"][1]["env"] = barrier(1);
    pod["metadata"]["annotations"][names::LAUNCH_COMPLETED] = json!("true");
    let mut log = pod["status"]["containerStatuses"][0].clone();
    log["name"] = json!("log");
    pod["status"]["containerStatuses"].as_array_mut().unwrap().push(log);
    assert_eq!(act(&mut scene, 0), ["drain a"]);
    assert_eq!(act(&mut scene, 0), ["update a"]);
    assert_eq!(scene.pods[0]["spec"]["containers"][0]["image"], "app:1");
    let status = &mut scene.pods[0]["status"]["containerStatuses"][1];
    (status["image"], status["imageID"], status["containerID"]) = (json!("log:2"), json!("id:log:2"), json!("l2"));
    restart(&mut scene, false);
    assert!(act(&mut scene, 1).is_empty(), "it runs and is not Ready");
    scene.pods[0]["status"]["initContainerStatuses"][1]["ready"] = json!(true);
    assert_eq!(act(&mut scene, 2), ["update a"]);
    assert_eq!(scene.pods[0]["spec"]["containers"][0]["image"], "app:2");
}

#[test]
fn a_sidecar_takes_environment_from_metadata_too() {
    let env = json!([{"name": "V", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['v']"}}}]);
    let mut scene = scene(|template| template["metadata"]["annotations"] = json!({"v": "2"}));
    for revision in &mut scene.revisions {
        revision["data"]["spec"]["template"]["spec"]["initContainers"][1]["env"] = env.clone();
    }
    scene.set["spec"]["template"]["spec"]["initContainers"][1]["env"] = env;
    assert_eq!(act(&mut scene, 0), ["drain a"]);
    assert_eq!(act(&mut scene, 0), ["update a"]);
    assert_eq!(
        scene.pods[0]["spec"]["initContainers"][1]["image"],
        "docker.io/library/mesh:1"
    );
}

#[test]
fn a_sidecar_is_resized_from_1_33_on() {
    let amounts = |cpu: &str| json!({"requests": {"cpu": cpu}});
    for (minor, word) in [(32, "recreate a"), (33, "update a")] {
        let mut scene = scene(|template| template["spec"]["initContainers"][1]["resources"] = amounts("500m"));
        scene.revisions[0]["data"]["spec"]["template"]["spec"]["initContainers"][1]["resources"] = amounts("250m");
        scene.pods[0]["spec"]["initContainers"][1]["resources"] = amounts("250m");
        scene.pods[0]["status"]["initContainerStatuses"][1]["resources"] = amounts("250m");
        scene.server.minor = minor;
        assert_eq!(act(&mut scene, 0), [word]);
        if minor == 32 {
            continue;
        }
        assert_eq!(act(&mut scene, 0), ["resize a"]);
        assert_eq!(scene.pods[0]["spec"]["initContainers"][1]["resources"], amounts("500m"));
        assert!(act(&mut scene, 1).is_empty(), "the node is at work");
        scene.pods[0]["status"]["initContainerStatuses"][1]["resources"] = amounts("500m");
        assert_eq!(act(&mut scene, 2), ["lifecycle a"]);
    }
}
