//! Updates of a pod's containers beyond their images: environment, amounts, order.

use serde_json::{Value, json};

use crate::case::{Case, NAME, cloneset, container, image, name, restarts, same_pods};

pub(super) async fn environment_from_metadata_restarts_once(case: &Case) {
    let mut set = cloneset(2);
    let template = &mut set["spec"]["template"];
    template["metadata"]["annotations"] = json!({"version": "one"});
    let from = json!({"fieldRef": {"fieldPath": "metadata.annotations['version']"}});
    let environment = template["spec"]["containers"][0]["env"].as_array_mut();
    environment
        .expect("a list")
        .push(json!({"name": "VERSION", "valueFrom": from}));
    let before = case.start(&set).await;
    let version = |version: &str| json!({"spec": {"template": {"metadata": {"annotations": {"version": version}}}}});
    case.patch(version("two")).await;
    case.settled().await;
    let after = case.pods().await;
    assert!(same_pods(&before, &after));
    for (old, new) in before.iter().zip(&after) {
        assert_eq!(new["metadata"]["annotations"]["version"], "two");
        assert_eq!((restarts(new, "app"), restarts(new, "log")), (1, 0));
        assert_eq!(container(new, "app")["imageID"], container(old, "app")["imageID"]);
    }

    // With the image it is one restart, too (kruise #1239).
    let mut both = version("three");
    let mut containers = set["spec"]["template"]["spec"]["containers"].clone();
    containers[0]["image"] = json!("app:2");
    both["spec"]["template"]["spec"] = json!({"containers": containers});
    case.patch(both).await;
    case.settled().await;
    let last = case.pods().await;
    assert!(same_pods(&before, &last));
    for pod in &last {
        assert_eq!(pod["metadata"]["annotations"]["version"], "three");
        assert_eq!((restarts(pod, "app"), restarts(pod, "log")), (2, 0));
        assert_eq!(image(pod, "app"), "app:2");
    }
}

pub(super) async fn resources_change_without_a_restart(case: &Case) {
    let amounts = |cpu: &str, memory: &str| json!({"requests": {"cpu": cpu}, "limits": {"cpu": "2", "memory": memory}});
    let mut set = cloneset(2);
    let containers = &mut set["spec"]["template"]["spec"]["containers"];
    containers[0]["resources"] = amounts("10m", "256Mi");
    let mut containers = containers.clone();
    let before = case.start(&set).await;
    containers[0]["resources"] = amounts("20m", "512Mi");
    case.patch(json!({"spec": {"template": {"spec": {"containers": containers}}}}))
        .await;
    case.settled().await;
    let after = case.pods().await;
    assert!(same_pods(&before, &after));
    for pod in &after {
        let app = container(pod, "app");
        assert_eq!(app["resources"]["limits"]["memory"], "512Mi", "{app}");
        assert_eq!(app["resources"]["requests"]["cpu"], "20m", "{app}");
        assert_eq!((restarts(pod, "app"), restarts(pod, "log")), (0, 0));
    }
}

pub(super) async fn containers_start_in_their_order(case: &Case) {
    let mut set = cloneset(1);
    set["spec"]["template"]["metadata"]["annotations"] = json!({"apps.kruise.io/container-launch-priority": "Ordered"});
    let before = case.start(&set).await;
    let completed =
        |pod: &Value| pod["metadata"]["annotations"]["apps.kruise.io/container-launch-priority-completed"] == "true";
    case.until_pods("the note that all have started", |pods| pods.iter().all(completed))
        .await;
    // A container waits for its own key: simulated nodes do not, but the operator has to write them all the same.
    let barriers = case.list("", "v1", "ConfigMap").await;
    let barrier = format!("{}-barrier", name(&before[0]));
    let barrier = barriers.iter().find(|map| name(map) == barrier).expect("a barrier");
    assert_eq!(
        barrier["metadata"]["ownerReferences"][0]["uid"],
        before[0]["metadata"]["uid"]
    );
    let started = |pod: &Value, name: &str| {
        let at = &container(pod, name)["state"]["running"]["startedAt"];
        at.as_str().map(str::to_owned)
    };
    assert!(started(&before[0], "app") <= started(&before[0], "log"));

    case.images(&[("app", "app:2"), ("log", "log:2")]).await;
    case.settled().await;
    let after = case.pods().await;
    assert!(same_pods(&before, &after), "{NAME} was recreated");
    assert_eq!((restarts(&after[0], "app"), restarts(&after[0], "log")), (1, 1));
    assert!(started(&after[0], "app") <= started(&after[0], "log"));
}
