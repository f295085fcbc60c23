//! What an image is called, and what happens where there is none.

use serde_json::Value;

use crate::budget::Budget;
use crate::case::{Case, cloneset, container, image, message, ready, restarts, same_pods, settled};

/// Updates `app` from one name to another; every pod must restart it once, and nothing else.
async fn from_to(case: &Case, from: &str, to: &str) -> (Vec<Value>, Vec<Value>) {
    let mut set = cloneset(2);
    set["spec"]["template"]["spec"]["containers"][0]["image"] = from.into();
    let before = case.start(&set).await;
    case.images(&[("app", to)]).await;
    let set = case.settled().await;
    assert_eq!(set["status"]["currentRevision"], set["status"]["updateRevision"]);
    let after = case.pods().await;
    assert!(same_pods(&before, &after));
    for pod in &after {
        assert_eq!(image(pod, "app"), to);
        assert_eq!((restarts(pod, "app"), restarts(pod, "log")), (1, 0));
    }
    (before, after)
}

/// kruise #635, #1493.
pub(super) async fn same_digest_under_another_tag(case: &Case) {
    let (before, after) = from_to(case, "app:1", "app:one").await;
    assert_eq!(
        container(&before[0], "app")["imageID"],
        container(&after[0], "app")["imageID"]
    );
}

/// kruise #2297.
pub(super) async fn default_registry_spelled_out_and_not(case: &Case) {
    from_to(case, "docker.io/library/app:1", "app:1").await;
}

pub(super) async fn by_digest(case: &Case) {
    let digest = |version| case.ground.add_image(&format!("app:{version}"), "web", version);
    let (first, second) = (digest("1"), digest("2"));
    assert_ne!(first, second);
    from_to(case, &format!("app@{first}"), &format!("app@{second}")).await;
    // And to a tag of the very digest that runs.
    case.images(&[("app", "app:2")]).await;
    case.settled().await;
    assert!(case.pods().await.iter().all(|pod| restarts(pod, "app") == 2));
}

/// Waits until a pod cannot be updated as its image is missing.
async fn stuck(case: &Case, missing: &str) {
    case.ground.no_image(missing);
    case.images(&[("app", missing)]).await;
    case.until_pods("a pod that waits for its image", |pods| {
        let reason = |pod: &Value| container(pod, "app")["state"]["waiting"]["reason"].clone();
        pods.iter()
            .any(|pod| reason(pod) == "ErrImagePull" || reason(pod) == "ImagePullBackOff")
    })
    .await;
    case.until("a sentence about it", |set| message(set).contains("ImagePull"))
        .await;
}

pub(super) async fn missing_then_fixed_forward(case: &Case) {
    let before = case.start(&cloneset(3)).await;
    let budget = Budget::watch(case).await;
    stuck(case, "app:missing").await;
    case.images(&[("app", "app:2")]).await;
    case.settled().await;
    let after = case.pods().await;
    assert!(same_pods(&before, &after));
    assert!(
        after
            .iter()
            .all(|pod| image(pod, "app") == "app:2" && restarts(pod, "log") == 0)
    );
    assert_eq!(
        after.iter().map(|pod| restarts(pod, "app")).sum::<u64>(),
        3,
        "once each"
    );
    let seen = budget.seen(case).await;
    assert!(seen.ready_min >= 2, "{seen:?}");
}

pub(super) async fn missing_then_rolled_back(case: &Case) {
    let before = case.start(&cloneset(3)).await;
    let first = case.set().await["status"]["currentRevision"].clone();
    let budget = Budget::watch(case).await;
    stuck(case, "app:missing-too").await;
    case.images(&[("app", "app:1")]).await;
    let set = case.settled().await;
    assert_eq!(
        (&set["status"]["currentRevision"], &set["status"]["updateRevision"]),
        (&first, &first)
    );
    let after = case.pods().await;
    assert!(same_pods(&before, &after));
    assert!(
        after
            .iter()
            .all(|pod| ready(pod) && image(pod, "app") == "app:1" && restarts(pod, "log") == 0)
    );
    // Only the pod that the missing image was tried on.
    assert_eq!(after.iter().filter(|pod| restarts(pod, "app") > 0).count(), 1);
    let seen = budget.seen(case).await;
    assert!(seen.ready_min >= 2, "{seen:?}");
}

/// kruise #1156: back to the old image as soon as the new one was written, whatever the node has done by then.
pub(super) async fn rolled_back_during_the_pull(case: &Case) {
    let before = case.start(&cloneset(2)).await;
    case.images(&[("app", "app:2")]).await;
    case.until_pods("the new image written", |pods| {
        pods.iter().any(|pod| image(pod, "app") == "app:2")
    })
    .await;
    case.images(&[("app", "app:1")]).await;
    case.until("settled", |set| {
        settled(set) && set["status"]["currentRevision"] == set["status"]["updateRevision"]
    })
    .await;
    let after = case.pods().await;
    assert!(same_pods(&before, &after));
    for pod in &after {
        assert_eq!(image(pod, "app"), "app:1");
        assert!(restarts(pod, "app") <= 2 && restarts(pod, "log") == 0, "{pod}");
        assert_eq!(
            container(pod, "app")["imageID"],
            container(&before[0], "app")["imageID"]
        );
    }
}
