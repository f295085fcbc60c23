//! Pods come and go.

use std::collections::BTreeSet;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::budget::Budget;
use crate::case::{Case, NAME, cloneset, condition, image, name, ready, restarts, same_pods, settled, uid};

pub(super) async fn created_pods_have_what_others_rely_on(case: &Case) {
    let pods = case.start(&cloneset(3)).await;
    let set = case.set().await;
    assert_eq!(pods.len(), 3);
    let revision = set["status"]["updateRevision"].as_str().unwrap();
    assert_eq!(set["status"]["currentRevision"], revision);
    assert_eq!(set["status"]["labelSelector"], format!("app={NAME}"));
    for pod in &pods {
        assert!(ready(pod) && name(pod).starts_with("web-"), "{pod}");
        let labels = &pod["metadata"]["labels"];
        assert_eq!(labels["app"], NAME);
        assert_eq!(labels["controller-revision-hash"], revision);
        let owner = &pod["metadata"]["ownerReferences"][0];
        assert_eq!((&owner["kind"], &owner["uid"]), (&json!("CloneSet"), &set["metadata"]["uid"]));
        assert_eq!((&owner["controller"], &owner["blockOwnerDeletion"]), (&json!(true), &json!(true)));
        assert!(pod["spec"]["readinessGates"].to_string().contains("InPlaceUpdateReady"), "{pod}");
        assert_eq!(condition(pod, "InPlaceUpdateReady")["status"], "True");
    }
    let revisions = case.list("apps", "v1", "ControllerRevision").await;
    assert_eq!(revisions.iter().map(name).collect::<Vec<_>>(), [revision]);
    assert_eq!(revisions[0]["revision"], 1);
}

pub(super) async fn scale_by_the_subresource(case: &Case) {
    let before = case.start(&cloneset(1)).await;
    for replicas in [3, 2] {
        let patch = json!({"spec": {"replicas": replicas}});
        let answer = case.sets().patch_scale(NAME, &PatchParams::default(), &Patch::Merge(&patch)).await;
        assert_eq!(answer.expect("a scale").spec.unwrap().replicas, Some(replicas));
        case.until("the new number", |set| set["spec"]["replicas"] == replicas && settled(set)).await;
        case.until_pods("the pods", |pods| pods.len() == replicas as usize).await;
        let scale = case.sets().get_scale(NAME).await.expect("a scale");
        let status = scale.status.expect("a status");
        assert_eq!((status.replicas, status.selector.as_deref()), (replicas, Some("app=web")));
    }
    case.patch(json!({"spec": {"replicas": 0}})).await;
    case.until_pods("no pods", <[Value]>::is_empty).await;
    case.until("none counted", |set| set["status"]["replicas"] == 0 && settled(set)).await;
    assert_eq!(before.len(), 1);
}

pub(super) async fn pods_to_delete_go_first(case: &Case) {
    let before = case.start(&cloneset(3)).await;
    let victim = name(&before[1]);
    let patch = json!({"spec": {"replicas": 2, "scaleStrategy": {"podsToDelete": [victim]}}});
    case.patch(patch).await;
    let after = case.until_pods("two pods", |pods| pods.len() == 2).await;
    assert!(same_pods(&[before[0].clone(), before[2].clone()], &after), "{after:?}");
    // A name whose pod is gone is taken out, or a new pod of that name would go as well.
    case.until("an empty list", |set| {
        let list = &set["spec"]["scaleStrategy"]["podsToDelete"];
        (list.is_null() || list == &json!([])) && settled(set)
    })
    .await;
}

pub(super) async fn a_pod_marked_for_deletion_is_replaced(case: &Case) {
    let before = case.start(&cloneset(2)).await;
    let label = json!({"metadata": {"labels": {"apps.kruise.io/specified-delete": "true"}}});
    case.patch_pod(name(&before[0]), label).await;
    let after = case
        .until_pods("another pod", |pods| {
            pods.len() == 2 && pods.iter().all(|pod| ready(pod) && uid(pod) != uid(&before[0]))
        })
        .await;
    assert!(after.iter().any(|pod| uid(pod) == uid(&before[1])));
    case.settled().await;
}

pub(super) async fn recreate_within_the_budget(case: &Case) {
    let mut set = cloneset(3);
    set["spec"]["updateStrategy"]["rollingUpdate"]["podUpdatePolicy"] = json!("ReCreate");
    let before = case.start(&set).await;
    let budget = Budget::watch(case).await;
    case.images(&[("app", "app:2")]).await;
    case.settled().await;
    let after = case.until_pods("three pods", |pods| pods.len() == 3).await;
    let old: BTreeSet<_> = before.iter().map(uid).collect();
    assert!(after.iter().all(|pod| !old.contains(uid(pod)) && image(pod, "app") == "app:2"));
    assert!(after.iter().all(|pod| restarts(pod, "app") == 0));
    let seen = budget.seen(case).await;
    assert!(seen.ready_min >= 2 && seen.pods_max <= 3, "{seen:?}");
}

pub(super) async fn surge_serves_all_the_time(case: &Case) {
    let mut set = cloneset(2);
    set["spec"]["updateStrategy"]["rollingUpdate"] = json!({"podUpdatePolicy": "ReCreate", "maxUnavailable": 0, "maxSurge": 1});
    let before = case.start(&set).await;
    let budget = Budget::watch(case).await;
    case.images(&[("app", "app:2")]).await;
    case.settled().await;
    let after = case.until_pods("two pods", |pods| pods.len() == 2).await;
    assert!(after.iter().all(|pod| image(pod, "app") == "app:2"));
    assert!(after.iter().all(|pod| before.iter().all(|old| uid(old) != uid(pod))));
    let seen = budget.seen(case).await;
    assert!(seen.ready_min >= 2 && seen.pods_max == 3, "{seen:?}");
}

pub(super) async fn history_is_truncated(case: &Case) {
    let mut set = cloneset(1);
    set["spec"]["revisionHistoryLimit"] = json!(2);
    let before = case.start(&set).await;
    let first = case.set().await["status"]["updateRevision"].clone();
    for number in 1..=4 {
        // Labels cost no restart.
        let labels = json!({"app": NAME, "release": number.to_string()});
        case.patch(json!({"spec": {"template": {"metadata": {"labels": labels}}}})).await;
        case.settled().await;
    }
    let deadline = "the surplus to go";
    let newest = case.until(deadline, |set| settled(set) && set["status"]["currentRevision"] == set["status"]["updateRevision"]);
    let newest = newest.await["status"]["updateRevision"].clone();
    let mut names;
    loop {
        let revisions = case.list("apps", "v1", "ControllerRevision").await;
        names = revisions.iter().map(|revision| json!(name(revision))).collect::<Vec<_>>();
        if names.len() <= 3 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // Two of the past and the present one.
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.contains(&newest) && !names.contains(&first), "{names:?}");
    let after = case.pods().await;
    assert!(same_pods(&before, &after));
    assert_eq!((restarts(&after[0], "app"), &after[0]["metadata"]["labels"]["release"]), (0, &json!("4")));
}
