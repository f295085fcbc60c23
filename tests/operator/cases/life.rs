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
        assert_eq!(
            (&owner["kind"], &owner["uid"]),
            (&json!("CloneSet"), &set["metadata"]["uid"])
        );
        assert_eq!(
            (&owner["controller"], &owner["blockOwnerDeletion"]),
            (&json!(true), &json!(true))
        );
        assert!(
            pod["spec"]["readinessGates"].to_string().contains("InPlaceUpdateReady"),
            "{pod}"
        );
        assert_eq!(condition(pod, "InPlaceUpdateReady")["status"], "True");
        assert_eq!(state(pod), "Normal");
    }
    let revisions = case.list("apps", "v1", "ControllerRevision").await;
    assert_eq!(revisions.iter().map(name).collect::<Vec<_>>(), [revision]);
    assert_eq!(revisions[0]["revision"], 1);
}

pub(super) async fn scale_by_the_subresource(case: &Case) {
    let before = case.start(&cloneset(1)).await;
    for replicas in [3, 2] {
        let patch = json!({"spec": {"replicas": replicas}});
        let answer = case
            .sets()
            .patch_scale(NAME, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        assert_eq!(answer.expect("a scale").spec.unwrap().replicas, Some(replicas));
        case.until("the new number", |set| {
            set["spec"]["replicas"] == replicas && settled(set)
        })
        .await;
        case.until_pods("the pods", |pods| pods.len() == replicas as usize)
            .await;
        let scale = case.sets().get_scale(NAME).await.expect("a scale");
        let status = scale.status.expect("a status");
        assert_eq!(
            (status.replicas, status.selector.as_deref()),
            (replicas, Some("app=web"))
        );
    }
    case.patch(json!({"spec": {"replicas": 0}})).await;
    case.until_pods("no pods", <[Value]>::is_empty).await;
    case.until("none counted", |set| set["status"]["replicas"] == 0 && settled(set))
        .await;
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
    assert!(
        after
            .iter()
            .all(|pod| !old.contains(uid(pod)) && image(pod, "app") == "app:2")
    );
    assert!(after.iter().all(|pod| restarts(pod, "app") == 0));
    let seen = budget.seen(case).await;
    assert!(seen.ready_min >= 2 && seen.pods_max <= 3, "{seen:?}");
}

pub(super) async fn surge_serves_all_the_time(case: &Case) {
    let mut set = cloneset(2);
    set["spec"]["updateStrategy"]["rollingUpdate"] =
        json!({"podUpdatePolicy": "ReCreate", "maxUnavailable": 0, "maxSurge": 1});
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
        case.patch(json!({"spec": {"template": {"metadata": {"labels": labels}}}}))
            .await;
        case.settled().await;
    }
    let newest = case.until("the last label", |set| {
        settled(set) && set["status"]["currentRevision"] == set["status"]["updateRevision"]
    });
    let newest = newest.await["status"]["updateRevision"].clone();
    let mut names;
    let deadline = tokio::time::Instant::now() + crate::process::PATIENCE;
    loop {
        let revisions = case.list("apps", "v1", "ControllerRevision").await;
        names = revisions
            .iter()
            .map(|revision| json!(name(revision)))
            .collect::<Vec<_>>();
        if names.len() <= 3 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{names:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // Two of the past and the present one.
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.contains(&newest) && !names.contains(&first), "{names:?}");
    let after = case.pods().await;
    assert!(same_pods(&before, &after));
    assert_eq!(
        (restarts(&after[0], "app"), &after[0]["metadata"]["labels"]["release"]),
        (0, &json!("4"))
    );
}

/// A pod and its claims have one id; what goes with a pod that is too many are its claims as well.
pub(super) async fn claims_come_and_go_with_their_pods(case: &Case) {
    let mut set = cloneset(2);
    // Nobody gives these volumes on either ground, so the pods have a claim that they do not mount.
    set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}]);
    case.create(&set).await;
    let id = |object: &Value| object["metadata"]["labels"]["apps.kruise.io/cloneset-instance-id"].clone();
    let pods = case.until_pods("two pods", |pods| pods.len() == 2).await;
    let claims = case.until_claims("two claims", |claims| claims.len() == 2).await;
    let mut ids = [pods.iter().map(id).collect::<Vec<_>>(), claims.iter().map(id).collect()];
    ids.iter_mut().for_each(|ids| ids.sort_by_key(Value::to_string));
    assert_eq!(ids[0], ids[1]);
    for claim in &claims {
        assert_eq!(
            json!(name(claim)),
            json!(format!("data-web-{}", id(claim).as_str().unwrap()))
        );
        assert_eq!(claim["metadata"]["ownerReferences"][0]["kind"], "CloneSet");
    }
    let volumes = pods[0]["spec"]["volumes"].to_string();
    assert!(
        volumes.contains(&format!("data-web-{}", id(&pods[0]).as_str().unwrap())),
        "{volumes}"
    );
    case.patch(json!({"spec": {"replicas": 1}})).await;
    let pods = case.until_pods("one pod", |pods| pods.len() == 1).await;
    let claims = case.until_claims("one claim", |claims| claims.len() == 1).await;
    assert_eq!(id(&claims[0]), id(&pods[0]));
    // A claim whose pod somebody else deletes passes to that pod, and goes when it is gone.
    let held = json!({"metadata": {"finalizers": ["test.afloat.dev/held"]}});
    case.patch_pod(name(&pods[0]), held).await;
    case.api("", "v1", "Pod")
        .delete(name(&pods[0]), &Default::default())
        .await
        .expect("deletion");
    let passed = |claims: &[Value]| {
        let claim = claims.iter().find(|claim| id(claim) == id(&pods[0]));
        claim.is_some_and(|claim| claim["metadata"]["ownerReferences"][0]["kind"] == "Pod")
    };
    case.until_claims("the claim passed on", passed).await;
    case.patch_pod(name(&pods[0]), json!({"metadata": {"finalizers": null}}))
        .await;
}

/// Kruise's own case: four pods with two claims each, deleted by hand. Their successors have their names and their data, and
/// wait for that until they are gone.
pub(super) async fn claims_are_taken_again_when_pods_are_deleted_by_hand(case: &Case) {
    let claim = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}})
    };
    let mut set = cloneset(4);
    set["spec"]["volumeClaimTemplates"] = json!([claim("data"), claim("log")]);
    set["spec"]["scaleStrategy"] = json!({"enablePVCReuse": true});
    case.create(&set).await;
    let pods = case.until_pods("four pods", |pods| pods.len() == 4).await;
    let claims = case.until_claims("eight claims", |claims| claims.len() == 8).await;
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    for pod in &pods {
        case.patch_pod(name(pod), finalizers(json!(["test.afloat.dev/held"])))
            .await;
        let deletion = case.api("", "v1", "Pod").delete(name(pod), &Default::default()).await;
        deletion.expect("deletion");
    }
    case.looked_at().await;
    let names = |objects: &[Value]| {
        objects
            .iter()
            .map(|object| name(object).to_owned())
            .collect::<BTreeSet<_>>()
    };
    let waiting = case.list("", "v1", "Pod").await;
    assert_eq!(names(&waiting), names(&pods), "nobody comes before they are gone");
    for pod in &pods {
        case.patch_pod(name(pod), finalizers(Value::Null)).await;
    }
    let uids = |objects: &[Value]| {
        objects
            .iter()
            .map(|object| uid(object).to_owned())
            .collect::<BTreeSet<_>>()
    };
    let old = uids(&pods);
    let after = case
        .until_pods("their successors", |pods| {
            pods.len() == 4 && uids(pods).is_disjoint(&old)
        })
        .await;
    assert_eq!(names(&after), names(&pods));
    case.looked_at().await;
    let now = case.until_claims("eight claims", |claims| claims.len() == 8).await;
    assert_eq!(uids(&now), uids(&claims), "the data is the same");

    // Without reuse: new ones at once, and the old ones go with their pods.
    case.patch(json!({"spec": {"scaleStrategy": {"enablePVCReuse": false}}}))
        .await;
    let victim = name(&after[0]);
    case.patch_pod(victim, finalizers(json!(["test.afloat.dev/held"])))
        .await;
    let deletion = case.api("", "v1", "Pod").delete(victim, &Default::default()).await;
    deletion.expect("deletion");
    case.until_claims("claims for the successor, and others passed on", |claims| {
        let passed = |claim: &&Value| claim["metadata"]["ownerReferences"][0]["kind"] == "Pod";
        claims.len() == 10 && claims.iter().filter(passed).count() == 2
    })
    .await;
    case.patch_pod(victim, finalizers(Value::Null)).await;
}

/// The state that other controllers wait for: as Kruise's own case, with a scheduler that nobody is.
pub(super) async fn a_pending_pod_prepares_for_its_normal_life(case: &Case) {
    let mut set = cloneset(1);
    set["spec"]["template"]["spec"]["schedulerName"] = json!("unschedulable");
    case.create(&set).await;
    let pending = case.until_pods("a pod", |pods| pods.len() == 1).await;
    case.looked_at().await;
    let pods = case.pods().await;
    assert_eq!(
        (pods[0]["status"]["phase"].as_str(), state(&pods[0])),
        (Some("Pending"), "PreparingNormal")
    );
    let since = &pods[0]["metadata"]["annotations"]["lifecycle.apps.kruise.io/timestamp"];
    assert!(since.as_str().is_some_and(|text| text.ends_with('Z')), "{since}");
    case.patch(json!({"spec": {"template": {"spec": {"schedulerName": "default-scheduler"}}}}))
        .await;
    case.settled().await;
    let pods = case.pods().await;
    assert_ne!(uid(&pods[0]), uid(&pending[0]));
    assert_eq!(state(&pods[0]), "Normal");
}

fn state(pod: &Value) -> &str {
    pod["metadata"]["labels"]["lifecycle.apps.kruise.io/state"]
        .as_str()
        .unwrap_or_default()
}

/// A pod that others made and that matches becomes one of the set's; one whose labels no longer match is let go.
pub(super) async fn pods_are_adopted_and_released(case: &Case) {
    let pods = case.start(&cloneset(2)).await;
    case.patch_pod(name(&pods[0]), json!({"metadata": {"labels": {"app": "other"}}}))
        .await;
    let owned = |pod: &Value| !pod["metadata"]["ownerReferences"].is_null();
    case.until_pods("one released and one in its place", |now| {
        now.len() == 3 && now.iter().all(|pod| owned(pod) == (name(pod) != name(&pods[0]))) && now.iter().all(ready)
    })
    .await;
    case.patch_pod(name(&pods[0]), json!({"metadata": {"labels": {"app": NAME}}}))
        .await;
    // Adopted, it is one too many.
    case.until_pods("two pods, all the set's", |now| now.len() == 2 && now.iter().all(owned))
        .await;
    case.settled().await;
}

/// A template that the API server refuses: the reason is told by an event, and the way back is open.
pub(super) async fn a_pod_that_is_refused_is_told_by_an_event(case: &Case) {
    let mut set = cloneset(1);
    set["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("Sometimes");
    case.create(&set).await;
    let event = case
        .until_event("the refusal", |event| event["reason"] == "FailedCreate")
        .await;
    assert!(event["message"].to_string().contains("imagePullPolicy"), "{event}");
    assert_eq!(event["type"], "Warning");
    assert!(case.pods().await.is_empty());
    let mut containers = set["spec"]["template"]["spec"]["containers"].clone();
    containers[0]["imagePullPolicy"] = json!("IfNotPresent");
    case.patch(json!({"spec": {"template": {"spec": {"containers": containers}}}}))
        .await;
    case.settled().await;
}

pub(super) async fn a_hook_holds_the_deletion(case: &Case) {
    let mut set = cloneset(2);
    set["spec"]["lifecycle"] = json!({"preDelete": {"labelsHandler": {"test.afloat.dev/keep": "yes"}}});
    set["spec"]["template"]["metadata"]["labels"]["test.afloat.dev/keep"] = json!("yes");
    case.start(&set).await;
    case.patch(json!({"spec": {"replicas": 1}})).await;
    let state = |pod: &Value| pod["metadata"]["labels"]["lifecycle.apps.kruise.io/state"].clone();
    let pods = case
        .until_pods("a pod that is held", |pods| {
            pods.iter().any(|pod| state(pod) == "PreparingDelete")
        })
        .await;
    assert_eq!(pods.len(), 2);
    case.looked_at().await;
    assert_eq!(case.pods().await.len(), 2);
    let held = pods.iter().find(|pod| state(pod) == "PreparingDelete").unwrap();
    case.patch_pod(
        name(held),
        json!({"metadata": {"labels": {"test.afloat.dev/keep": null}}}),
    )
    .await;
    let pods = case.until_pods("one pod", |pods| pods.len() == 1).await;
    assert_ne!(uid(&pods[0]), uid(held));
    case.settled().await;
}

pub(super) async fn a_pod_is_available_only_after_min_ready_seconds(case: &Case) {
    let mut set = cloneset(1);
    set["spec"]["minReadySeconds"] = json!(3600);
    case.create(&set).await;
    let set = case
        .until("a pod that is Ready and not yet available", |set| {
            set["status"]["readyReplicas"] == 1
        })
        .await;
    assert_eq!(set["status"]["availableReplicas"], 0);
    case.patch(json!({"spec": {"minReadySeconds": 3}})).await;
    case.settled().await;
}
