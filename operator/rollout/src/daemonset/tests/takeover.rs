//! What OpenKruise has made is taken over as it is: its revisions, whose hash nobody else can compute, and pods in the middle of an update.

use super::*;

/// The scene as OpenKruise leaves it: names and labels have its own hashes.
fn made_by_openkruise(rolling: &Value) -> Scene {
    let mut scene = Scene::new(2, rolling);
    for (revision, hash) in scene.revisions.iter_mut().zip(["7d9f5c4b8", "6b8c9d7f5"]) {
        revision["metadata"]["name"] = json!(format!("log-{hash}"));
        revision["metadata"]["labels"][names::REVISION] = json!(hash);
        // As Go prints the template.
        let template = &mut revision["data"]["spec"]["template"];
        template["metadata"]["creationTimestamp"] = Value::Null;
        template["spec"]["containers"][0]["resources"] = json!({});
    }
    scene.set["status"] = json!({"updateRevision": "6b8c9d7f5", "desiredNumberScheduled": 2, "observedGeneration": 3});
    scene
}

#[test]
fn at_rest_nothing_is_written() {
    let scene = made_by_openkruise(&json!({})).everywhere(NEW);
    assert!(scene.does().is_empty());
    let status = scene.plan().status;
    assert_eq!(
        (status.update_revision.as_str(), status.updated_number_scheduled),
        ("6b8c9d7f5", 2)
    );
}

#[test]
fn an_update_goes_on() {
    let mut scene = made_by_openkruise(&json!({"rollingUpdateType": "InPlaceIfPossible"}));
    scene.pod("n1", OLD);
    let pod = scene.pod("n2", NEW);
    let state = json!({"revision": "6b8c9d7f5", "updateTimestamp": START, "updateImages": true,
        "lastContainerStatuses": {"app": {"imageID": "id:log:1"}}});
    pod["metadata"]["annotations"] = json!({names::INPLACE_STATE: state.to_string()});
    pod["status"]["conditions"] = json!([
        {"type": names::INPLACE_READY, "status": "False", "reason": names::START_INPLACE_UPDATE}, {"type": "Ready", "status": "False"}]);
    pod["status"]["containerStatuses"][0]["image"] = json!("log:1");
    pod["status"]["containerStatuses"][0]["imageID"] = json!("id:log:1");
    assert!(scene.does().is_empty(), "the old container still runs, and one is away");
    let pod = scene.find("n2-new");
    pod["status"]["containerStatuses"][0]["image"] = json!("log:2");
    pod["status"]["containerStatuses"][0]["imageID"] = json!("id:log:2");
    assert_eq!(scene.does(), ["return n2-new"]);
    scene.pods.pop();
    scene.pod("n2", NEW);
    assert_eq!(scene.does(), ["drain n1-old"]);
}

#[test]
fn a_deletion_that_a_hook_holds_goes_on() {
    let mut scene = made_by_openkruise(&json!({})).everywhere(OLD);
    scene.set["spec"]["lifecycle"] = json!({"preDelete": {"finalizersHandler": ["example.com/hold"]}});
    let pod = scene.find("n1-old");
    pod["metadata"]["labels"][names::LIFECYCLE_STATE] = json!(names::STATE_PREPARING_DELETE);
    pod["metadata"]["finalizers"] = json!(["example.com/hold"]);
    assert!(scene.does().is_empty());
    scene.find("n1-old")["metadata"]["finalizers"] = json!([]);
    assert_eq!(scene.does(), ["recreate n1-old"]);
}
