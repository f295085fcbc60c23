//! Crashes around an update: a restart of the old image is not the end of an update.

use serde_json::{Value, json};

use crate::case::{Case, cloneset, condition, container, image, ready, restarts, same_pods};

/// A quiet period that ends when the case says so, by a shorter one: how long the case takes on its way depends on the machine.
fn quiet(seconds: u32) -> Value {
    json!({"inPlaceUpdateStrategy": {"gracePeriodSeconds": seconds}})
}

/// The old container dies while its pod is out of service and starts again, still old; then the update goes on.
pub(super) async fn old_container_crashes_in_the_grace_period(case: &Case) {
    let mut set = cloneset(1);
    set["spec"]["updateStrategy"]["rollingUpdate"]["inPlaceUpdateStrategy"] = json!({"gracePeriodSeconds": 3600});
    let before = case.start(&set).await;
    case.images(&[("app", "app:2")]).await;
    case.until_pods("the pod out of service", |pods| !ready(&pods[0])).await;
    case.crash(&before[0], "app").await;
    let pods = case
        .until_pods("the old container started again", |pods| restarts(&pods[0], "app") == 1)
        .await;
    assert_eq!(image(&pods[0], "app"), "app:1");
    case.rolling(quiet(0)).await;
    case.settled().await;
    let after = case.pods().await;
    assert!(same_pods(&before, &after));
    assert_eq!((restarts(&after[0], "app"), image(&after[0], "app")), (2, "app:2"));
    assert_ne!(
        container(&after[0], "app")["imageID"],
        container(&before[0], "app")["imageID"]
    );
}

/// The container dies as soon as the new image is written: whether that was the old or the new one, the pod must end with
/// the new one and be in service only then.
pub(super) async fn old_container_crashes_after_the_write(case: &Case) {
    let before = case.start(&cloneset(1)).await;
    let old = container(&before[0], "app")["imageID"].clone();
    for target in ["app:2", "app:3"] {
        case.images(&[("app", target)]).await;
        case.until_pods("the new image written", |pods| image(&pods[0], "app") == target)
            .await;
        case.crash(&before[0], "app").await;
        case.settled().await;
        let after = case.pods().await;
        assert!(same_pods(&before, &after) && ready(&after[0]));
        assert_ne!(container(&after[0], "app")["imageID"], old);
        assert_eq!(condition(&after[0], "InPlaceUpdateReady")["status"], "True");
    }
}

/// The same, made certain: the node has not seen the new image when the old container dies, so the old image starts again
/// with another containerID. The pod must stay out of service until the new one runs.
pub(super) async fn old_image_restarts_before_the_node_sees_the_write(case: &Case) {
    if !case.ground.can_pause_nodes() {
        return;
    }
    let before = case.start(&cloneset(1)).await;
    // Both have one digest: nothing but the name tells the old container from the new one.
    for (number, target) in [(1, "app:one"), (2, "app:2")] {
        let old = case.pods().await;
        case.rolling(quiet(3600)).await;
        case.images(&[("app", target)]).await;
        case.until_pods("the pod out of service", |pods| !ready(&pods[0])).await;
        case.pause_node(&before[0]).await;
        case.rolling(quiet(0)).await;
        case.until_pods("the new image written", |pods| image(&pods[0], "app") == target)
            .await;
        case.crash(&before[0], "app").await;
        let pods = case
            .until_pods("the old image started again", |pods| {
                restarts(&pods[0], "app") == restarts(&old[0], "app") + 1
                    && container(&pods[0], "app")["state"]["running"].is_object()
            })
            .await;
        assert_eq!(
            container(&pods[0], "app")["imageID"],
            container(&old[0], "app")["imageID"]
        );
        case.looked_at().await;
        let pods = case.pods().await;
        assert_eq!(condition(&pods[0], "InPlaceUpdateReady")["status"], "False", "{pods:?}");
        case.resume_node(&before[0]).await;
        case.settled().await;
        let after = case.pods().await;
        assert!(same_pods(&before, &after) && ready(&after[0]));
        assert_eq!(restarts(&after[0], "app"), 2 * number);
    }
}

/// kruise #1156, made certain: the new image is written and taken back before the node has seen either.
pub(super) async fn rolled_back_before_the_node_sees_the_write(case: &Case) {
    if !case.ground.can_pause_nodes() {
        return;
    }
    let before = case.start(&cloneset(1)).await;
    case.rolling(quiet(3600)).await;
    case.images(&[("app", "app:2")]).await;
    case.until_pods("the pod out of service", |pods| !ready(&pods[0])).await;
    case.pause_node(&before[0]).await;
    case.rolling(quiet(0)).await;
    case.until_pods("the new image written", |pods| image(&pods[0], "app") == "app:2")
        .await;
    case.images(&[("app", "app:1")]).await;
    case.until_pods("the old image written", |pods| image(&pods[0], "app") == "app:1")
        .await;
    case.resume_node(&before[0]).await;
    case.settled().await;
    let after = case.pods().await;
    assert!(same_pods(&before, &after) && ready(&after[0]));
    assert_eq!(restarts(&after[0], "app"), 0);
    assert_eq!(
        container(&after[0], "app")["containerID"],
        container(&before[0], "app")["containerID"]
    );
}

/// A crash later is not an update: the container starts again, and the operator has nothing to do.
pub(super) async fn crash_after_completion(case: &Case) {
    case.start(&cloneset(1)).await;
    case.images(&[("app", "app:2")]).await;
    case.settled().await;
    let before = case.pods().await;
    case.crash(&before[0], "app").await;
    let after = case
        .until_pods("the container running again", |pods| {
            restarts(&pods[0], "app") == 2 && ready(&pods[0])
        })
        .await;
    assert!(same_pods(&before, &after));
    assert_eq!(
        condition(&after[0], "InPlaceUpdateReady"),
        condition(&before[0], "InPlaceUpdateReady")
    );
    assert_eq!(
        container(&after[0], "app")["imageID"],
        container(&before[0], "app")["imageID"]
    );
    case.settled().await;
}
