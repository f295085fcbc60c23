//! StatefulSets.

use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::case::{Case, NAME, cloneset, condition, image, message, name, ready, restarts};
use crate::process::PATIENCE;

/// A StatefulSet `web` with the pods of the other cases.
fn stateful(replicas: u32, policy: &str) -> Value {
    let mut set = cloneset(replicas);
    set["kind"] = json!("StatefulSet");
    set["spec"]["serviceName"] = json!("peers");
    set["spec"]["updateStrategy"]["rollingUpdate"]["podUpdatePolicy"] = json!(policy);
    set["spec"]["template"]["spec"]["readinessGates"] = json!([{"conditionType": "InPlaceUpdateReady"}]);
    set
}

async fn start(case: &Case, set: &Value) -> Vec<Value> {
    case.looks_at("StatefulSet");
    case.start(set).await
}

fn names(pods: &[Value]) -> Vec<&str> {
    pods.iter().map(name).collect()
}

fn uids(pods: &[Value]) -> Vec<&Value> {
    pods.iter().map(|pod| &pod["metadata"]["uid"]).collect()
}

/// A time that sorts.
fn created(pod: &Value) -> &str {
    pod["metadata"]["creationTimestamp"].as_str().unwrap_or_default()
}

fn revision(pod: &Value) -> &Value {
    &pod["metadata"]["labels"]["controller-revision-hash"]
}

pub(super) async fn pods_of_ordinals_come_and_go_in_order(case: &Case) {
    let pods = start(case, &stateful(3, "ReCreate")).await;
    assert_eq!(names(&pods), ["web-0", "web-1", "web-2"]);
    assert!(pods.is_sorted_by(|a, b| created(a) <= created(b)), "{pods:?}");
    for (index, pod) in pods.iter().enumerate() {
        let labels = &pod["metadata"]["labels"];
        assert_eq!(labels["statefulset.kubernetes.io/pod-name"], name(pod));
        assert_eq!(labels["apps.kubernetes.io/pod-index"], index.to_string());
        assert_eq!(
            (&pod["spec"]["hostname"], &pod["spec"]["subdomain"]),
            (&json!(name(pod)), &json!("peers"))
        );
        assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "StatefulSet");
    }
    let set = case.set().await;
    assert_eq!(revision(&pods[0]), &set["status"]["updateRevision"]);
    assert_eq!(set["status"]["currentRevision"], set["status"]["updateRevision"]);
    assert_eq!(set["status"]["labelSelector"], "app=web");
    let scale = Patch::Merge(json!({"spec": {"replicas": 1}}));
    let sets = case.sets();
    sets.patch_subresource("scale", NAME, &PatchParams::default(), &scale)
        .await
        .expect("a scale");
    // One after the other: while the last one goes, the one before it stays.
    case.until_pods("web-0 alone", |pods| {
        assert!(names(pods).contains(&"web-0"));
        names(pods) == ["web-0"]
    })
    .await;
    case.until("the status", |set| set["status"]["replicas"] == 1).await;
}

pub(super) async fn ordinals_are_updated_in_place_from_the_last_to_the_first(case: &Case) {
    let before = start(case, &stateful(3, "InPlaceIfPossible")).await;
    case.images(&[("app", "app:2")]).await;
    let after = case
        .until_pods("new images in order", |pods| {
            let new: Vec<bool> = pods.iter().map(|pod| image(pod, "app") == "app:2").collect();
            assert!(new.is_sorted(), "{new:?}");
            new == [true; 3]
        })
        .await;
    assert_eq!(uids(&after), uids(&before));
    let set = case.settled().await;
    for pod in &case.pods().await {
        assert_eq!((restarts(pod, "app"), restarts(pod, "log")), (1, 0));
        assert_eq!(revision(pod), &set["status"]["updateRevision"]);
        assert_eq!(pod["metadata"]["labels"]["lifecycle.apps.kruise.io/state"], "Normal");
    }
    assert_eq!(set["status"]["currentRevision"], set["status"]["updateRevision"]);
    assert_eq!(set["status"]["updatedReplicas"], 3);
}

pub(super) async fn ordinals_are_recreated_one_after_the_other(case: &Case) {
    let before = start(case, &stateful(3, "ReCreate")).await;
    case.images(&[("app", "app:2")]).await;
    let all_new = |pods: &[Value]| {
        let away = 3 - pods.iter().filter(|pod| ready(pod)).count();
        assert!(away <= 1, "{away} pods away: {pods:?}");
        pods.len() == 3 && pods.iter().all(|pod| image(pod, "app") == "app:2")
    };
    let after = case.until_pods("new pods", all_new).await;
    assert_eq!(names(&after), names(&before));
    assert!(uids(&after).iter().all(|uid| !uids(&before).contains(uid)));
    case.settled().await;
}

pub(super) async fn a_partition_keeps_the_first_ordinals(case: &Case) {
    start(case, &stateful(3, "ReCreate")).await;
    let old = case.set().await["status"]["updateRevision"].clone();
    case.rolling(json!({"partition": 2})).await;
    case.images(&[("app", "app:2")]).await;
    let partly = |set: &Value| {
        set["status"]["observedGeneration"] == set["metadata"]["generation"]
            && set["status"]["updatedAvailableReplicas"] == 1
    };
    case.until("one updated", partly).await;
    let images = |pods: &[Value]| pods.iter().map(|pod| image(pod, "app").to_owned()).collect::<Vec<_>>();
    assert_eq!(images(&case.pods().await), ["app:1", "app:1", "app:2"]);
    let first = case.pods().await[0].clone();
    case.api("", "v1", "Pod")
        .delete("web-0", &DeleteParams::default())
        .await
        .expect("deletion");
    let again =
        |pods: &[Value]| pods.len() == 3 && ready(&pods[0]) && pods[0]["metadata"]["uid"] != first["metadata"]["uid"];
    let pods = case.until_pods("another web-0", again).await;
    assert_eq!(images(&pods), ["app:1", "app:1", "app:2"]);
    assert_eq!(revision(&pods[0]), &old, "it was made at the revision that it had");
    case.rolling(json!({"partition": 0})).await;
    case.settled().await;
    assert_eq!(images(&case.pods().await), ["app:2"; 3]);
}

/// kubernetes #67250.
pub(super) async fn a_broken_revision_of_ordinals_is_taken_back(case: &Case) {
    let before = start(case, &stateful(3, "ReCreate")).await;
    let broken = "app:that-was-never-built";
    case.ground.no_image(broken);
    case.images(&[("app", broken)]).await;
    let stuck =
        |pods: &[Value]| pods.len() == 3 && image(&pods[2], "app") == broken && pods[2]["spec"]["nodeName"].is_string();
    let pods = case.until_pods("web-2 stuck", stuck).await;
    assert_eq!(uids(&pods[..2]), uids(&before[..2]), "nobody else was touched");
    case.images(&[("app", "app:1")]).await;
    case.settled().await;
    let after = case.pods().await;
    assert_eq!(uids(&after[..2]), uids(&before[..2]));
    assert_eq!(image(&after[2], "app"), "app:1");
}

pub(super) async fn all_ordinals_at_once(case: &Case) {
    let mut set = stateful(3, "ReCreate");
    set["spec"]["podManagementPolicy"] = json!("Parallel");
    // Nobody becomes Ready: nobody waits for anybody.
    set["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"] = json!(1);
    case.looks_at("StatefulSet");
    case.create(&set).await;
    case.until_pods("three pods", |pods| names(pods) == ["web-0", "web-1", "web-2"])
        .await;
    case.patch(json!({"spec": {"replicas": 0}})).await;
    case.until_pods("no pods", <[Value]>::is_empty).await;
    case.until("the status", |set| set["status"]["replicas"] == 0).await;
}

pub(super) async fn reserved_ordinals_and_a_start(case: &Case) {
    let mut set = stateful(2, "ReCreate");
    set["spec"]["reserveOrdinals"] = json!([0, "2-3"]);
    let pods = start(case, &set).await;
    assert_eq!(names(&pods), ["web-1", "web-4"]);
    case.patch(json!({"spec": {"reserveOrdinals": [1], "ordinals": {"start": 4}}}))
        .await;
    case.until_pods("others", |pods| names(pods) == ["web-4", "web-5"])
        .await;
    case.settled().await;
}

pub(super) async fn claims_stay_and_belong_to_whom_the_policy_says(case: &Case) {
    let mut set = stateful(2, "ReCreate");
    set["spec"]["podManagementPolicy"] = json!("Parallel");
    // Nobody gives these volumes on either ground, so nobody waits for them.
    set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}]);
    case.looks_at("StatefulSet");
    case.create(&set).await;
    case.until_pods("two pods", |pods| pods.len() == 2).await;
    let claims = case.until_claims("two claims", |claims| claims.len() == 2).await;
    assert_eq!(names(&claims), ["data-web-0", "data-web-1"]);
    assert!(
        claims
            .iter()
            .all(|claim| claim["metadata"]["ownerReferences"].is_null())
    );
    assert_eq!(claims[0]["metadata"]["labels"], json!({"app": "web"}));
    let pods = case.pods().await;
    assert!(pods[1]["spec"]["volumes"].to_string().contains("\"data-web-1\""));
    case.patch(json!({"spec": {"replicas": 1}})).await;
    case.until_pods("one pod", |pods| pods.len() == 1).await;
    assert_eq!(
        case.until_claims("claims", |_| true).await.len(),
        2,
        "they outlive their pods"
    );
    let policy = json!({"whenDeleted": "Delete", "whenScaled": "Delete"});
    case.patch(json!({"spec": {"replicas": 2, "persistentVolumeClaimRetentionPolicy": policy}}))
        .await;
    let owners = |claim: &Value| -> Vec<String> {
        let owners = claim["metadata"]["ownerReferences"].as_array();
        let kinds = owners
            .into_iter()
            .flatten()
            .map(|owner| owner["kind"].as_str().unwrap_or_default().to_owned());
        kinds.collect()
    };
    let of_set = |claims: &[Value]| claims.iter().all(|claim| owners(claim) == ["StatefulSet"]);
    case.until_claims("claims of the set", of_set).await;
    let pods = case.until_pods("two pods", |pods| pods.len() == 2).await;
    // Held, as it would be gone before anybody could look.
    case.patch_pod("web-1", json!({"metadata": {"finalizers": ["test.afloat.dev/held"]}}))
        .await;
    case.patch(json!({"spec": {"replicas": 1}})).await;
    let of_pod = |claims: &[Value]| {
        claims
            .iter()
            .any(|claim| name(claim) == "data-web-1" && owners(claim) == ["Pod"])
    };
    let claims = case.until_claims("the claim of the pod", of_pod).await;
    assert_eq!(
        claims[1]["metadata"]["ownerReferences"][0]["uid"],
        pods[1]["metadata"]["uid"]
    );
    case.until_pods("web-0 alone", |pods| names(pods) == ["web-0"]).await;
    case.patch_pod("web-1", json!({"metadata": {"finalizers": null}})).await;
}

pub(super) async fn a_claim_that_cannot_grow_is_told_of(case: &Case) {
    let mut set = stateful(1, "ReCreate");
    set["spec"]["volumeClaimUpdateStrategy"] = json!({"type": "OnPodRollingUpdate"});
    set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {
        "storageClassName": "rigid", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}]);
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "rigid"},
        "provisioner": "test.afloat.dev/none", "allowVolumeExpansion": false});
    case.create_global(&class).await;
    case.looks_at("StatefulSet");
    case.create(&set).await;
    case.until_claims("a claim", |claims| claims.len() == 1).await;
    let mut templates = set["spec"]["volumeClaimTemplates"].clone();
    templates[0]["spec"]["resources"]["requests"]["storage"] = json!("2Mi");
    case.patch(json!({"spec": {"volumeClaimTemplates": templates}})).await;
    let told = |set: &Value| message(set).contains("claim data-web-0 cannot grow: storage class rigid");
    let set = case.until("a sentence", told).await;
    assert_eq!(
        set["status"]["volumeClaims"],
        json!([
        {"volumeClaimName": "data", "compatibleReplicas": 0, "compatibleReadyReplicas": 0}])
    );
}

pub(super) async fn a_pod_of_an_ordinal_is_adopted_released_and_replaced(case: &Case) {
    let before = start(case, &stateful(1, "ReCreate")).await;
    let uid = case.set().await["metadata"]["uid"].clone();
    let owned = |pods: &[Value]| {
        pods.iter()
            .any(|pod| pod["metadata"]["ownerReferences"][0]["uid"] == uid)
    };
    case.patch_pod("web-0", json!({"metadata": {"ownerReferences": null}}))
        .await;
    case.until_pods("adopted", owned).await;
    case.patch_pod("web-0", json!({"metadata": {"labels": {"app": null}}}))
        .await;
    case.until_pods("released", |pods| !owned(pods)).await;
    case.patch_pod("web-0", json!({"metadata": {"labels": {"app": "web"}}}))
        .await;
    case.until_pods("adopted again", owned).await;
    assert_eq!(uids(&case.pods().await), uids(&before), "nobody else got its name");
    case.patch_pod(
        "web-0",
        json!({"metadata": {"labels": {"apps.kruise.io/specified-delete": "true"}}}),
    )
    .await;
    let another = |pods: &[Value]| pods.len() == 1 && pods[0]["metadata"]["uid"] != before[0]["metadata"]["uid"];
    case.until_pods("replaced", another).await;
    case.settled().await;
}

/// In either version.
pub(super) async fn stateful_sets_look_as_openkruise_leaves_them(case: &Case) {
    let mut set = stateful(0, "ReCreate");
    let template = set["spec"]["template"].clone();
    set["spec"] = json!({"selector": {"matchLabels": {"app": NAME}}, "template": template, "replicas": 0});
    case.looks_at("StatefulSet");
    let created = case.create(&set).await;
    let spec = &created["spec"];
    assert_eq!(
        spec["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {
            "partition": 0, "maxUnavailable": 1, "podUpdatePolicy": "ReCreate", "minReadySeconds": 0}})
    );
    assert_eq!(
        (&spec["podManagementPolicy"], &spec["revisionHistoryLimit"]),
        (&json!("OrderedReady"), &json!(10))
    );
    assert_eq!(
        spec["persistentVolumeClaimRetentionPolicy"],
        json!({"whenDeleted": "Retain", "whenScaled": "Retain"})
    );
    assert_eq!(spec["volumeClaimUpdateStrategy"], json!({"type": "OnDelete"}));
    if !case.ground.converts() {
        return;
    }
    let alphas = case.api("apps.kruise.io", "v1alpha1", "StatefulSet");
    // The operator tells the API server of its webhook, definition after definition.
    let served = async {
        while alphas.get(NAME).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, served).await.expect("v1alpha1 is served");
    let reserve = Patch::Merge(json!({"spec": {"reserveOrdinals": [1, "3-4"]}}));
    alphas
        .patch(NAME, &PatchParams::default(), &reserve)
        .await
        .expect("a patch");
    let rolling = Patch::Merge(json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 3}}}}));
    alphas
        .patch(NAME, &PatchParams::default(), &rolling)
        .await
        .expect("a patch");
    let beta = case.set().await;
    assert_eq!(
        beta["spec"]["reserveOrdinals"],
        json!([1, "3-4"]),
        "v1alpha1 loses nothing"
    );
    assert_eq!(beta["spec"]["updateStrategy"]["rollingUpdate"]["partition"], 3);
}

pub(super) async fn bad_stateful_sets_are_refused_by_name(case: &Case) {
    case.looks_at("StatefulSet");
    for (path, value, said) in [
        ("/spec/replicas", json!(-1), "spec.replicas"),
        ("/spec/podManagementPolicy", json!("Random"), "podManagementPolicy"),
        ("/spec/reserveOrdinals", json!([-1]), "reserveOrdinals"),
        ("/spec/reserveOrdinals", json!(["x"]), "reserveOrdinals"),
        (
            "/spec/updateStrategy/rollingUpdate/maxUnavailable",
            json!(0),
            "maxUnavailable",
        ),
        (
            "/spec/updateStrategy/rollingUpdate/maxUnavailable",
            json!("0%"),
            "maxUnavailable",
        ),
        (
            "/spec/updateStrategy/rollingUpdate/minReadySeconds",
            json!(301),
            "minReadySeconds",
        ),
        (
            "/spec/updateStrategy/rollingUpdate/unorderedUpdate",
            json!({}),
            "Parallel",
        ),
        (
            "/spec/updateStrategy/type",
            json!("OnDelete"),
            "only allowed for updateStrategy 'RollingUpdate'",
        ),
        (
            "/spec/template/spec/readinessGates",
            json!([]),
            "must contain InPlaceUpdateReady",
        ),
        (
            "/spec/template/spec/activeDeadlineSeconds",
            json!(5),
            "activeDeadlineSeconds",
        ),
        ("/spec/template/spec/restartPolicy", json!("Never"), "restartPolicy"),
        (
            "/spec/persistentVolumeClaimRetentionPolicy",
            json!({"whenScaled": "Keep"}),
            "whenScaled",
        ),
        ("/spec/ordinals", json!({"start": -1}), "start"),
    ] {
        let mut set = stateful(1, "InPlaceIfPossible");
        let (parent, field) = path.rsplit_once('/').expect("a path");
        set.pointer_mut(parent).expect("a parent")[field] = value.clone();
        let error = case.try_create(&set).await.expect_err(path);
        assert!(error.contains(said), "{path}: {value}: {error}");
    }
    case.create(&stateful(0, "ReCreate")).await;
    for (patch, said) in [
        (json!({"serviceName": "others"}), "serviceName is immutable"),
        (
            json!({"podManagementPolicy": "Parallel"}),
            "podManagementPolicy is immutable",
        ),
        (
            json!({"selector": {"matchLabels": {"app": "web", "a": "b"}}}),
            "selector",
        ),
    ] {
        let error = case.try_patch(&json!({"spec": patch})).await.expect_err("a refusal");
        assert!(error.contains(said), "{error}");
    }
    assert!(condition(&case.set().await, "FailedUpdatePod").is_null());
    // A policy takes a moment until an API server heeds it.
    let reversed = json!({"spec": {"reserveOrdinals": [7, "8-9", "5-2"]}});
    let error = case.until_refused(&reversed).await;
    assert!(
        error.contains("spec.reserveOrdinals: invalid range 5-2: it goes"),
        "{error}"
    );
    let ranges = json!({"spec": {"reserveOrdinals": [7, "8-9", "10-10"]}});
    case.try_patch(&ranges).await.expect("ranges that go upwards");
}
