//! Changes of some containers of a pod: environment, amounts, order, and those that serve no traffic.

use serde_json::{Value, json};

use super::merge::merge;
use super::{Scene, in_place, sent, words};
use crate::action::Action;
use afloat_api::{InPlaceUpdateState, names};

/// Two revisions of a pod with the containers `app` and `log`, the second made by an edit, and one pod at the first.
pub(super) fn scene(edit: impl Fn(&mut Value)) -> Scene {
    let mut scene = Scene::new(&["app:1", "app:2"], &in_place());
    for index in 0..2 {
        let template = &mut scene.revisions[index]["data"]["spec"]["template"];
        template["spec"]["containers"] = json!([{"name": "app", "image": "app:1"}, {"name": "log", "image": "log:1"}]);
        if index == 1 {
            edit(template);
            let mut wanted = template.clone();
            wanted.as_object_mut().unwrap().remove("$patch");
            scene.set["spec"]["template"] = wanted;
        }
    }
    let containers = scene.revisions[0]["data"]["spec"]["template"]["spec"]["containers"].clone();
    let pod = scene.pod("a", 0);
    pod["spec"]["containers"] = containers;
    let status = |name: &str| {
        json!({"name": name, "image": format!("docker.io/library/{name}:1"), "imageID": format!("id:{name}:1"),
            "containerID": format!("{name}1"), "ready": true, "state": {"running": {}}})
    };
    pod["status"]["containerStatuses"] = json!([status("app"), status("log")]);
    scene
}

/// Applies all writes of a plan to the first pod, as an API server does; the words of the plan.
pub(super) fn act(scene: &mut Scene, seconds: i64) -> Vec<String> {
    let plan = scene.plan_after(seconds);
    for action in &plan.actions {
        match action {
            Action::PatchPod { .. } | Action::PatchPodStatus { .. } | Action::ResizePod { .. } => {
                merge(&mut scene.pods[0], &sent(action));
            }
            _ => {}
        }
    }
    words(&plan)
}

/// The node restarts a container from the pod's spec.
fn restart(scene: &mut Scene, index: usize) {
    let pod = &mut scene.pods[0];
    let image = pod["spec"]["containers"][index]["image"].clone();
    let status = &mut pod["status"]["containerStatuses"][index];
    status["containerID"] = json!(format!("{}+", status["containerID"].as_str().unwrap()));
    status["imageID"] = json!(format!(
        "id:{}",
        afloat_words::image::ImageName::of(image.as_str().unwrap())
    ));
    status["image"] = image;
}

pub(super) fn state(scene: &Scene) -> InPlaceUpdateState {
    let text = scene.pods[0]["metadata"]["annotations"][names::INPLACE_STATE]
        .as_str()
        .unwrap();
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_container_that_serves_no_traffic_restarts_without_a_drain() {
    // kruise #1808
    let mut scene = scene(|template| {
        template["spec"]["containers"][1]["image"] = json!("log:2");
        template["metadata"]["annotations"] = json!({"drain.afloat.dev/log": "Skip"});
    });
    assert_eq!(act(&mut scene, 0), ["update a"]);
    assert_eq!(scene.pods[0]["spec"]["containers"][1]["image"], "log:2");
    let labels = &scene.pods[0]["metadata"]["labels"];
    assert_eq!(
        labels[names::LIFECYCLE_STATE],
        "Updating",
        "it counts against the budget"
    );
    assert!(act(&mut scene, 1).is_empty(), "the node is at work");
    restart(&mut scene, 1);
    assert_eq!(act(&mut scene, 2), ["lifecycle a"]);
    assert_eq!(scene.pods[0]["metadata"]["labels"][names::LIFECYCLE_STATE], "Normal");
    assert!(act(&mut scene, 3).is_empty());

    let mut other = self::scene(|template| {
        template["spec"]["containers"][0]["image"] = json!("app:2");
        template["spec"]["containers"][1]["image"] = json!("log:2");
        template["metadata"]["annotations"] = json!({"drain.afloat.dev/log": "Skip"});
    });
    assert_eq!(act(&mut other, 0), ["drain a"], "the other container serves");
}

#[test]
fn environment_from_metadata_restarts_its_container_once() {
    // kruise #1239: image and environment together are one restart.
    let from = |field: &str| json!([{"name": "V", "valueFrom": {"fieldRef": {"fieldPath": field}}}]);
    let edit = |template: &mut Value| {
        template["metadata"]["annotations"] = json!({"v": "2"});
    };
    let mut scene = scene(edit);
    for revision in &mut scene.revisions {
        revision["data"]["spec"]["template"]["spec"]["containers"][0]["env"] = from("metadata.annotations['v']");
    }
    scene.set["spec"]["template"]["spec"]["containers"][0]["env"] = from("metadata.annotations['v']");
    assert_eq!(act(&mut scene, 0), ["drain a"]);
    assert_eq!(act(&mut scene, 0), ["update a"]);
    assert_eq!(scene.pods[0]["metadata"]["annotations"]["v"], "2");
    assert_eq!(
        scene.pods[0]["spec"]["containers"][0]["image"], "docker.io/library/app:1",
        "the same image, written so that the node restarts the container"
    );
    assert_eq!(scene.pods[0]["spec"]["containers"][1]["image"], "log:1");
    assert!(state(&scene).update_env_from_metadata);
    assert!(act(&mut scene, 1).is_empty(), "the node is at work");
    let started = json!({"running": {"startedAt": "2026-01-01T00:00:02Z"}});
    let status = &mut scene.pods[0]["status"]["containerStatuses"][0];
    status["containerID"] = json!("app2");
    status["state"] = started;
    assert!(act(&mut scene, 3).is_empty(), "it may be the old one after a crash");
    assert_eq!(act(&mut scene, 8), ["return a"]);
}

#[test]
fn amounts_change_without_a_drain_and_through_their_own_subresource() {
    let amounts = |cpu: &str| json!({"limits": {"cpu": "1"}, "requests": {"cpu": cpu}});
    let mut scene = scene(|template| template["spec"]["containers"][0]["resources"] = amounts("500m"));
    scene.revisions[0]["data"]["spec"]["template"]["spec"]["containers"][0]["resources"] = amounts("250m");
    scene.pods[0]["spec"]["containers"][0]["resources"] = amounts("250m");
    scene.pods[0]["status"]["containerStatuses"][0]["resources"] = amounts("250m");
    assert_eq!(act(&mut scene, 0), ["update a"]);
    assert!(state(&scene).update_resources && !state(&scene).update_images);
    assert_eq!(act(&mut scene, 0), ["resize a"]);
    assert_eq!(scene.pods[0]["spec"]["containers"][0]["resources"], amounts("500m"));
    scene.pods[0]["status"]["conditions"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "PodResizePending", "status": "True", "reason": "Infeasible", "message": "too much"}));
    let plan = scene.plan();
    assert!(plan.actions.is_empty());
    let message = &plan.status.conditions[0].message;
    assert!(
        message.contains("1 pod not resized yet: container app of a (PodResizePending Infeasible: too much)"),
        "{message}"
    );
    scene.pods[0]["status"]["conditions"].as_array_mut().unwrap().pop();
    scene.pods[0]["status"]["resize"] = json!("Deferred");
    let plan = scene.plan();
    let message = &plan.status.conditions[0].message;
    assert!(
        message.contains("1 pod not resized yet: container app of a (status.resize Deferred)"),
        "up to Kubernetes 1.32: {message}"
    );
    scene.pods[0]["status"]["resize"] = json!("");
    scene.pods[0]["status"]["containerStatuses"][0]["resources"] = amounts("0.5");
    assert_eq!(act(&mut scene, 1), ["lifecycle a"]);
    assert!(act(&mut scene, 2).is_empty());
}

#[test]
fn a_resize_that_was_cut_off_is_not_forgotten_by_the_next_update() {
    let amounts = |cpu: &str| json!({"requests": {"cpu": cpu}});
    let mut scene = scene(|template| template["spec"]["containers"][0]["resources"] = amounts("500m"));
    // The pod has the label of the first revision, whose amounts it never got.
    scene.revisions[0]["data"]["spec"]["template"]["spec"]["containers"][0]["resources"] = amounts("500m");
    scene.revisions[1]["data"]["spec"]["template"]["metadata"]["annotations"] = json!({"x": "y"});
    scene.set["spec"]["template"]["metadata"]["annotations"] = json!({"x": "y"});
    scene.pods[0]["spec"]["containers"][0]["resources"] = amounts("250m");
    scene.pods[0]["metadata"]["labels"][names::LIFECYCLE_STATE] = json!("Updating");
    let begun = InPlaceUpdateState {
        update_resources: true,
        ..InPlaceUpdateState::default()
    };
    scene.pods[0]["metadata"]["annotations"][names::INPLACE_STATE] = json!(serde_json::to_string(&begun).unwrap());
    assert_eq!(act(&mut scene, 0), ["update a"]);
    assert_eq!(act(&mut scene, 0), ["resize a"]);
}

#[test]
fn a_cluster_without_resize_recreates() {
    let amounts = |cpu: &str| json!({"requests": {"cpu": cpu}});
    let mut scene = scene(|template| template["spec"]["containers"][0]["resources"] = amounts("500m"));
    scene.revisions[0]["data"]["spec"]["template"]["spec"]["containers"][0]["resources"] = amounts("250m");
    scene.server.resizes = false;
    assert_eq!(act(&mut scene, 0), ["recreate a"]);
}

#[test]
fn containers_of_a_higher_priority_are_updated_first() {
    let barrier = |priority: i32| json!([{"name": names::LAUNCH_BARRIER, "valueFrom": {"configMapKeyRef": {"name": "b", "key": format!("p_{priority}")}}}]);
    let mut scene = scene(|template| {
        template["spec"]["containers"][0]["image"] = json!("app:2");
        template["spec"]["containers"][1]["image"] = json!("log:2");
    });
    scene.pods[0]["spec"]["containers"][0]["env"] = barrier(0);
    scene.pods[0]["spec"]["containers"][1]["env"] = barrier(1);
    scene.pods[0]["metadata"]["annotations"][names::LAUNCH_COMPLETED] = json!("true");
    assert_eq!(act(&mut scene, 0), ["drain a"]);
    assert_eq!(act(&mut scene, 0), ["update a"]);
    assert_eq!(scene.pods[0]["spec"]["containers"][1]["image"], "log:2");
    assert_eq!(scene.pods[0]["spec"]["containers"][0]["image"], "app:1");
    assert_eq!(
        state(&scene).next_container_images,
        [("app".to_owned(), "app:2".to_owned())].into()
    );
    assert!(act(&mut scene, 1).is_empty());
    restart(&mut scene, 1);
    scene.pods[0]["status"]["containerStatuses"][1]["ready"] = json!(false);
    let plan = scene.plan();
    assert!(plan.actions.is_empty());
    let message = &plan.status.conditions[0].message;
    assert!(
        message.contains("updated in part: a waits until its container log is Ready"),
        "{message}"
    );
    scene.pods[0]["status"]["containerStatuses"][1]["ready"] = json!(true);
    assert_eq!(act(&mut scene, 2), ["update a"]);
    let state = state(&scene);
    assert_eq!(scene.pods[0]["spec"]["containers"][0]["image"], "app:2");
    assert!(!state.waits() && state.container_batches_record.len() == 2 && state.pre_check_before_next.is_none());
    assert!(act(&mut scene, 3).is_empty());
    restart(&mut scene, 0);
    assert_eq!(act(&mut scene, 4), ["return a"]);
}

#[test]
fn what_waits_for_a_batch_is_not_forgotten_by_the_next_update() {
    let mut scene = scene(|template| {
        template["spec"]["containers"][1]["image"] = json!("log:3");
    });
    // Of the revision whose label it has, the pod has only the first batch.
    scene.revisions[0]["data"]["spec"]["template"]["spec"]["containers"][0]["image"] = json!("app:2");
    scene.revisions[1]["data"]["spec"]["template"]["spec"]["containers"][0]["image"] = json!("app:2");
    scene.set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("app:2");
    let begun = InPlaceUpdateState {
        next_container_images: [("app".to_owned(), "app:2".to_owned())].into(),
        ..InPlaceUpdateState::default()
    };
    scene.pods[0]["metadata"]["annotations"][names::INPLACE_STATE] = json!(serde_json::to_string(&begun).unwrap());
    assert_eq!(act(&mut scene, 0), ["drain a"]);
    assert_eq!(act(&mut scene, 0), ["update a"]);
    assert_eq!(scene.pods[0]["spec"]["containers"][0]["image"], "app:2");
    assert_eq!(scene.pods[0]["spec"]["containers"][1]["image"], "log:3");
}

#[test]
fn the_last_available_pod_is_warned_of_or_waits_for_a_surge() {
    let mut scene = scene(|template| template["spec"]["containers"][0]["image"] = json!("app:2"));
    let plan = scene.plan();
    assert_eq!(words(&plan), ["drain a"]);
    assert_eq!(plan.warnings[0].0, "LastAvailablePod");
    scene.set["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"] = json!(1);
    let plan = scene.plan();
    assert_eq!(words(&plan), ["create"]);
    let message = &plan.status.conditions[0].message;
    assert!(
        message.contains("kept until another is available (maxSurge): a"),
        "{message}"
    );
}
