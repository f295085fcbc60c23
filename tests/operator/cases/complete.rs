//! Crashes around an update: a restart of the old image is not the end of an update.

use serde_json::json;

use crate::case::{Case, cloneset, condition, container, image, name, ready, restarts, same_pods};

/// The old container dies while its pod is out of service and starts again, still old; then the update goes on.
pub(super) async fn old_container_crashes_in_the_grace_period(case: &Case) {
    let mut set = cloneset(1);
    set["spec"]["updateStrategy"]["rollingUpdate"]["inPlaceUpdateStrategy"] = json!({"gracePeriodSeconds": 5});
    let before = case.start(&set).await;
    case.images(&[("app", "app:2")]).await;
    case.until_pods("the pod out of service", |pods| !ready(&pods[0])).await;
    case.ground.crash(name(&before[0]), "app");
    let pods = case.until_pods("the old container started again", |pods| restarts(&pods[0], "app") == 1).await;
    assert_eq!(image(&pods[0], "app"), "app:1", "too slow a machine for this grace period");
    case.settled().await;
    let after = case.pods().await;
    assert!(same_pods(&before, &after));
    assert_eq!((restarts(&after[0], "app"), image(&after[0], "app")), (2, "app:2"));
    assert_ne!(container(&after[0], "app")["imageID"], container(&before[0], "app")["imageID"]);
}

/// The container dies as soon as the new image is written: whether that was the old or the new one, the pod must end with
/// the new one and be in service only then.
pub(super) async fn old_container_crashes_after_the_write(case: &Case) {
    let before = case.start(&cloneset(1)).await;
    let old = container(&before[0], "app")["imageID"].clone();
    // Another name of the same image, so that nothing but names tells the old container from the new one.
    for target in ["app:2", "app:3"] {
        case.images(&[("app", target)]).await;
        case.until_pods("the new image written", |pods| image(&pods[0], "app") == target).await;
        case.ground.crash(name(&before[0]), "app");
        case.settled().await;
        let after = case.pods().await;
        assert!(same_pods(&before, &after) && ready(&after[0]));
        assert_ne!(container(&after[0], "app")["imageID"], old);
        assert_eq!(condition(&after[0], "InPlaceUpdateReady")["status"], "True");
    }
}

/// A crash later is not an update: the container starts again, and the operator has nothing to do.
pub(super) async fn crash_after_completion(case: &Case) {
    case.start(&cloneset(1)).await;
    case.images(&[("app", "app:2")]).await;
    case.settled().await;
    let before = case.pods().await;
    case.ground.crash(name(&before[0]), "app");
    let after = case
        .until_pods("the container running again", |pods| restarts(&pods[0], "app") == 2 && ready(&pods[0]))
        .await;
    assert!(same_pods(&before, &after));
    assert_eq!(condition(&after[0], "InPlaceUpdateReady"), condition(&before[0], "InPlaceUpdateReady"));
    assert_eq!(container(&after[0], "app")["imageID"], container(&before[0], "app")["imageID"]);
    case.settled().await;
}
