//! Updates in place: who goes when, and what holds them back.

use serde_json::{Value, json};

use crate::budget::Budget;
use crate::case::{
    Case, NAME, cloneset, condition, container, image, message, name, ready, reason, restarts, same_pods, settled,
};

/// Label by which the hook of these cases holds a pod.
const HOLD: &str = "test.afloat.dev/hold";

fn lifecycle(pod: &Value) -> &str {
    pod["metadata"]["labels"]["lifecycle.apps.kruise.io/state"]
        .as_str()
        .unwrap_or_default()
}

/// Pods with that image in their spec.
fn with_image(pods: &[Value], wanted: &str) -> usize {
    pods.iter().filter(|pod| image(pod, "app") == wanted).count()
}

pub(super) async fn in_place_within_the_budget(case: &Case) {
    let mut set = cloneset(4);
    set["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = json!("50%");
    let before = case.start(&set).await;
    let budget = Budget::watch(case).await;
    case.images(&[("app", "app:2")]).await;
    let set = case.settled().await;
    assert_eq!(set["status"]["currentRevision"], set["status"]["updateRevision"]);
    let after = case.pods().await;
    assert!(same_pods(&before, &after));
    for (old, new) in before.iter().zip(&after) {
        assert_eq!((image(new, "app"), lifecycle(new)), ("app:2", "Normal"));
        assert_eq!(new["status"]["podIP"], old["status"]["podIP"]);
        assert_eq!(new["spec"]["nodeName"], old["spec"]["nodeName"]);
        assert_eq!(
            new["metadata"]["labels"]["controller-revision-hash"],
            set["status"]["updateRevision"]
        );
        assert_eq!((restarts(new, "app"), restarts(new, "log")), (1, 0));
        assert_ne!(container(new, "app")["imageID"], container(old, "app")["imageID"]);
        assert_ne!(
            container(new, "app")["containerID"],
            container(old, "app")["containerID"]
        );
        assert_eq!(
            container(new, "log")["containerID"],
            container(old, "log")["containerID"]
        );
    }
    let seen = budget.seen(case).await;
    assert!(seen.ready_min >= 2 && seen.pods_max == 4, "{seen:?}");
}

pub(super) async fn several_containers_restart_once_each(case: &Case) {
    let before = case.start(&cloneset(2)).await;
    let budget = Budget::watch(case).await;
    case.images(&[("app", "app:2"), ("log", "log:2")]).await;
    case.settled().await;
    let after = case.pods().await;
    assert!(same_pods(&before, &after));
    for pod in &after {
        assert_eq!((image(pod, "app"), image(pod, "log")), ("app:2", "log:2"));
        assert_eq!((restarts(pod, "app"), restarts(pod, "log")), (1, 1));
    }
    assert!(budget.seen(case).await.ready_min >= 1);
}

pub(super) async fn labels_change_without_a_restart(case: &Case) {
    let before = case.start(&cloneset(2)).await;
    let budget = Budget::watch(case).await;
    let metadata = json!({"labels": {"app": NAME, "tier": "front"}, "annotations": {"note": "x"}});
    case.patch(json!({"spec": {"template": {"metadata": metadata}}})).await;
    case.settled().await;
    let after = case.pods().await;
    assert!(same_pods(&before, &after));
    for pod in &after {
        assert_eq!(pod["metadata"]["labels"]["tier"], "front");
        assert_eq!(pod["metadata"]["annotations"]["note"], "x");
        assert_eq!((restarts(pod, "app"), restarts(pod, "log")), (0, 0));
    }
    assert_eq!(budget.seen(case).await.ready_min, 2, "nothing had to leave service");
}

/// kruise #2369's counterpart: with no budget but a surge, extra pods come first and the old ones are updated in place
/// behind them.
pub(super) async fn surge_first_and_then_in_place(case: &Case) {
    let mut set = cloneset(2);
    let rolling = json!({"podUpdatePolicy": "InPlaceIfPossible", "maxUnavailable": 0, "maxSurge": 1});
    set["spec"]["updateStrategy"]["rollingUpdate"] = rolling;
    let before = case.start(&set).await;
    let budget = Budget::watch(case).await;
    case.images(&[("app", "app:2")]).await;
    case.settled().await;
    let after = case.until_pods("two pods", |pods| pods.len() == 2).await;
    assert!(with_image(&after, "app:2") == 2);
    assert!(
        after.iter().any(|pod| before.iter().any(|old| name(old) == name(pod))),
        "one stayed, updated in place"
    );
    let seen = budget.seen(case).await;
    assert!(seen.ready_min >= 2 && seen.pods_max == 3, "{seen:?}");
}

/// A change that a live pod cannot take recreates it, where that is allowed.
pub(super) async fn recreated_where_in_place_is_impossible(case: &Case) {
    let before = case.start(&cloneset(2)).await;
    let budget = Budget::watch(case).await;
    case.patch(json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 4}}}}))
        .await;
    case.settled().await;
    let after = case.until_pods("two pods", |pods| pods.len() == 2).await;
    assert!(after.iter().all(|pod| before.iter().all(|old| name(old) != name(pod))));
    assert!(
        after
            .iter()
            .all(|pod| pod["spec"]["terminationGracePeriodSeconds"] == 4)
    );
    assert!(budget.seen(case).await.ready_min >= 1);
}

/// Where it is not allowed, the CloneSet says which field is in the way, and nothing happens.
pub(super) async fn in_place_only_says_what_is_in_the_way(case: &Case) {
    let mut set = cloneset(2);
    set["spec"]["updateStrategy"]["rollingUpdate"]["podUpdatePolicy"] = json!("InPlaceOnly");
    let before = case.start(&set).await;
    case.patch(json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 4}}}}))
        .await;
    case.until("a condition that names the field", |set| {
        let failed = condition(set, "FailedUpdate");
        failed["status"] == "True" && failed["message"].to_string().contains("terminationGracePeriodSeconds")
    })
    .await;
    case.patch(json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 5}}}}))
        .await;
    let set = case.settled().await;
    assert!(condition(&set, "FailedUpdate").is_null());
    let after = case.pods().await;
    assert!(same_pods(&before, &after));
    assert!(after.iter().all(|pod| restarts(pod, "app") == 0));
}

pub(super) async fn on_delete(case: &Case) {
    let mut set = cloneset(2);
    set["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    let before = case.start(&set).await;
    case.images(&[("app", "app:2")]).await;
    case.looked_at().await;
    assert_eq!(with_image(&case.pods().await, "app:1"), 2);
    case.api("", "v1", "Pod")
        .delete(name(&before[0]), &Default::default())
        .await
        .expect("deletion");
    let after = case
        .until_pods("another pod in its place", |pods| {
            pods.len() == 2 && pods.iter().all(ready) && with_image(pods, "app:2") == 1
        })
        .await;
    assert!(
        after
            .iter()
            .any(|pod| name(pod) == name(&before[1]) && restarts(pod, "app") == 0)
    );
}

pub(super) async fn partition_and_then_the_rest(case: &Case) {
    let mut set = cloneset(3);
    set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(2);
    let before = case.start(&set).await;
    case.images(&[("app", "app:2")]).await;
    let set = case
        .until("one pod updated", |set| reason(set) == "ProgressPartitionAvailable")
        .await;
    assert_eq!(
        (
            &set["status"]["updatedReplicas"],
            &set["status"]["expectedUpdatedReplicas"]
        ),
        (&json!(1), &json!(1))
    );
    assert_ne!(set["status"]["currentRevision"], set["status"]["updateRevision"]);
    let pods = case.pods().await;
    assert_eq!(pods.iter().map(|pod| restarts(pod, "app")).sum::<u64>(), 1);
    assert_eq!(with_image(&pods, "app:2"), 1);
    case.rolling(json!({"partition": 0})).await;
    let set = case.settled().await;
    assert_eq!(set["status"]["currentRevision"], set["status"]["updateRevision"]);
    let after = case.pods().await;
    assert!(same_pods(&before, &after) && with_image(&after, "app:2") == 3);
    assert!(after.iter().all(|pod| restarts(pod, "app") == 1));
}

pub(super) async fn paused(case: &Case) {
    let before = case.start(&cloneset(2)).await;
    case.rolling(json!({"paused": true})).await;
    case.images(&[("app", "app:2")]).await;
    // Scaling goes on: the new pod has the new image.
    case.patch(json!({"spec": {"replicas": 3}})).await;
    case.until("a pause with three pods", |set| {
        reason(set) == "CloneSetPaused"
            && set["status"]["observedGeneration"] == set["metadata"]["generation"]
            && set["status"]["availableReplicas"] == 3
    })
    .await;
    let pods = case.pods().await;
    assert!(before.iter().all(|old| {
        pods.iter()
            .any(|pod| name(pod) == name(old) && image(pod, "app") == "app:1")
    }));
    assert_eq!(pods.iter().map(|pod| restarts(pod, "app")).sum::<u64>(), 0);
    case.rolling(json!({"paused": false})).await;
    case.settled().await;
    assert_eq!(with_image(&case.pods().await, "app:2"), 3);
}

pub(super) async fn grace_period(case: &Case) {
    let mut set = cloneset(1);
    set["spec"]["updateStrategy"]["rollingUpdate"]["inPlaceUpdateStrategy"] = json!({"gracePeriodSeconds": 3600});
    case.start(&set).await;
    case.images(&[("app", "app:2")]).await;
    let pods = case.until_pods("the pod out of service", |pods| !ready(&pods[0])).await;
    // Out of service with the old image: whoever still sends requests is answered.
    assert_eq!(image(&pods[0], "app"), "app:1");
    assert_eq!(condition(&pods[0], "InPlaceUpdateReady")["status"], "False");
    // It has an end.
    case.rolling(json!({"inPlaceUpdateStrategy": {"gracePeriodSeconds": 2}}))
        .await;
    case.settled().await;
    assert_eq!(restarts(&case.pods().await[0], "app"), 1);
}

/// kruise #2269: the update is called off while the pod is out of service with its old image.
pub(super) async fn rolled_back_in_the_grace_period(case: &Case) {
    let mut set = cloneset(2);
    // Far longer than the test waits for anything.
    set["spec"]["updateStrategy"]["rollingUpdate"]["inPlaceUpdateStrategy"] = json!({"gracePeriodSeconds": 3600});
    let before = case.start(&set).await;
    case.images(&[("app", "app:2")]).await;
    case.until_pods("a pod out of service", |pods| pods.iter().any(|pod| !ready(pod)))
        .await;
    case.images(&[("app", "app:1")]).await;
    let set = case.settled().await;
    assert_eq!(set["status"]["currentRevision"], set["status"]["updateRevision"]);
    let after = case.pods().await;
    assert!(same_pods(&before, &after));
    assert!(after.iter().all(|pod| restarts(pod, "app") == 0 && ready(pod)));
}

pub(super) async fn a_hook_by_label_holds_the_update(case: &Case) {
    let mut set = cloneset(2);
    set["spec"]["lifecycle"] = json!({"inPlaceUpdate": {"labelsHandler": {HOLD: "yes"}}});
    set["spec"]["template"]["metadata"]["labels"][HOLD] = json!("yes");
    let before = case.start(&set).await;
    let budget = Budget::watch(case).await;
    case.images(&[("app", "app:2")]).await;
    for _ in &before {
        let pods = case
            .until_pods("a pod that is held", |pods| {
                pods.iter().any(|pod| lifecycle(pod) == "PreparingUpdate")
            })
            .await;
        let held: Vec<_> = pods.iter().filter(|pod| lifecycle(pod) == "PreparingUpdate").collect();
        assert_eq!(held.len(), 1, "the budget is one");
        assert_eq!(image(held[0], "app"), "app:1");
        case.until("a sentence about the hook", |set| {
            message(set).contains("hook inPlaceUpdate")
        })
        .await;
        case.patch_pod(name(held[0]), json!({"metadata": {"labels": {HOLD: null}}}))
            .await;
        let updated = |pods: &[Value]| {
            let pod = pods.iter().find(|pod| name(pod) == name(held[0]));
            pod.is_some_and(|pod| lifecycle(pod) == "Updated" && image(pod, "app") == "app:2" && ready(pod))
        };
        case.until_pods("the pod updated, to be held again", updated).await;
        case.patch_pod(name(held[0]), json!({"metadata": {"labels": {HOLD: "yes"}}}))
            .await;
    }
    case.settled().await;
    let after = case
        .until_pods("normal life", |pods| pods.iter().all(|pod| lifecycle(pod) == "Normal"))
        .await;
    assert!(same_pods(&before, &after));
    assert!(after.iter().all(|pod| restarts(pod, "app") == 1));
    assert!(budget.seen(case).await.ready_min >= 1);
}

pub(super) async fn a_hook_by_finalizer_holds_the_update(case: &Case) {
    let mut set = cloneset(1);
    set["spec"]["lifecycle"] = json!({"inPlaceUpdate": {"finalizersHandler": [HOLD], "markPodNotReady": true}});
    let before = case.start(&set).await;
    let hold = json!({"metadata": {"finalizers": [HOLD]}});
    case.patch_pod(name(&before[0]), hold.clone()).await;
    case.images(&[("app", "app:2")]).await;
    let pods = case
        .until_pods("the pod held and out of service", |pods| {
            lifecycle(&pods[0]) == "PreparingUpdate" && !ready(&pods[0])
        })
        .await;
    assert_eq!(image(&pods[0], "app"), "app:1");
    assert_eq!(restarts(&pods[0], "app"), 0);
    case.patch_pod(name(&before[0]), json!({"metadata": {"finalizers": null}}))
        .await;
    case.until_pods("the pod updated", |pods| {
        image(&pods[0], "app") == "app:2" && lifecycle(&pods[0]) == "Updated"
    })
    .await;
    case.patch_pod(name(&before[0]), hold).await;
    case.settled().await;
    let after = case
        .until_pods("normal life", |pods| lifecycle(&pods[0]) == "Normal" && ready(&pods[0]))
        .await;
    assert!(same_pods(&before, &after) && restarts(&after[0], "app") == 1);
    case.patch_pod(name(&before[0]), json!({"metadata": {"finalizers": null}}))
        .await;
}

pub(super) async fn rolled_back_while_a_hook_holds(case: &Case) {
    let mut set = cloneset(2);
    set["spec"]["lifecycle"] = json!({"inPlaceUpdate": {"labelsHandler": {HOLD: "yes"}, "markPodNotReady": true}});
    set["spec"]["template"]["metadata"]["labels"][HOLD] = json!("yes");
    let before = case.start(&set).await;
    case.images(&[("app", "app:2")]).await;
    case.until_pods("a pod held and out of service", |pods| {
        pods.iter()
            .any(|pod| lifecycle(pod) == "PreparingUpdate" && !ready(pod))
    })
    .await;
    case.images(&[("app", "app:1")]).await;
    case.settled().await;
    let after = case
        .until_pods("normal life", |pods| pods.iter().all(|pod| lifecycle(pod) == "Normal"))
        .await;
    assert!(same_pods(&before, &after));
    assert!(after.iter().all(|pod| restarts(pod, "app") == 0 && ready(pod)));
    assert!(settled(&case.set().await));
}
