//! Advanced DaemonSets.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::case::{Case, NAME, cloneset, container, image, name, ready, restarts, same_pods, uid};
use crate::process::PATIENCE;

/// A DaemonSet of the pods that a CloneSet of these tests has.
fn daemon_set(rolling: &Value) -> Value {
    let spec = &cloneset(0)["spec"];
    json!({
        "apiVersion": "apps.kruise.io/v1beta1", "kind": "DaemonSet", "metadata": {"name": NAME},
        "spec": {"selector": spec["selector"], "template": spec["template"],
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}},
    })
}

fn daemon_sets(case: &Case, version: &str) -> Api<DynamicObject> {
    case.api("apps.kruise.io", version, "DaemonSet")
}

async fn get(case: &Case) -> Value {
    let set = daemon_sets(case, "v1beta1").get(NAME).await.expect("the DaemonSet");
    serde_json::to_value(set).expect("JSON")
}

async fn until(case: &Case, what: &str, wish: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let set = get(case).await;
        if wish(&set) {
            return set;
        }
        if Instant::now() > deadline {
            panic!("waited in vain for {what}: {set:#}\n{:#?}", case.pods().await);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Every node that should have a pod has an available one of the newest revision, and there is no other.
async fn settled(case: &Case) -> Vec<Value> {
    let all = |set: &Value| {
        let status = &set["status"];
        let number = |field: &str| status[field].as_i64().unwrap_or(0);
        status["observedGeneration"] == set["metadata"]["generation"]
            && [
                "currentNumberScheduled",
                "updatedNumberScheduled",
                "numberAvailable",
                "numberReady",
            ]
            .iter()
            .all(|field| number(field) == number("desiredNumberScheduled"))
    };
    let set = until(case, "the DaemonSet settled", all).await;
    let desired = set["status"]["desiredNumberScheduled"].as_u64().unwrap_or(0);
    case.until_pods("one pod per node", |pods| {
        pods.len() as u64 == desired && nodes_of(pods).len() == pods.len() && pods.iter().all(ready)
    })
    .await
}

async fn start(case: &Case, set: &Value) -> Vec<Value> {
    case.create(set).await;
    settled(case).await
}

async fn patch(case: &Case, patch: &Value) {
    let api = daemon_sets(case, "v1beta1");
    let answer = api.patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await;
    answer.unwrap_or_else(|error| panic!("{error}: {patch}"));
}

async fn give_image(case: &Case, wanted: &str) {
    let mut containers = get(case).await["spec"]["template"]["spec"]["containers"].clone();
    containers[0]["image"] = json!(wanted);
    patch(
        case,
        &json!({"spec": {"template": {"spec": {"containers": containers}}}}),
    )
    .await;
}

fn node(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap_or_default()
}

fn nodes_of(pods: &[Value]) -> BTreeSet<&str> {
    pods.iter().map(node).filter(|node| !node.is_empty()).collect()
}

fn nodes(case: &Case) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Node"));
    Api::all_with(case.ground.client.clone(), &resource)
}

async fn node_names(case: &Case) -> Vec<String> {
    let list = nodes(case).list(&ListParams::default()).await.expect("nodes");
    let mut names: Vec<String> = list.into_iter().filter_map(|node| node.metadata.name).collect();
    names.sort();
    names
}

pub(super) async fn a_daemon_on_every_node(case: &Case) {
    let pods = start(case, &daemon_set(&json!({}))).await;
    let wanted = node_names(case).await;
    assert_eq!(nodes_of(&pods).into_iter().collect::<Vec<_>>(), wanted);
    let hash = get(case).await["status"]["updateRevision"].clone();
    for pod in &pods {
        assert_eq!(pod["metadata"]["labels"]["controller-revision-hash"], hash);
        // The gate for updates in place would only be in the way; this one is everybody's.
        let gates = &pod["spec"]["readinessGates"];
        assert_eq!(gates, &json!([{"conditionType": "KruisePodReady"}]), "{pod}");
        let owner = &pod["metadata"]["ownerReferences"][0];
        assert_eq!(
            (&owner["kind"], &owner["apiVersion"]),
            (&json!("DaemonSet"), &json!("apps.kruise.io/v1beta1"))
        );
    }
    let revisions = case.list("apps", "v1", "ControllerRevision").await;
    assert_eq!(revisions.len(), 1);
    assert_eq!(revisions[0]["metadata"]["labels"]["controller-revision-hash"], hash);
    let api = case.api("", "v1", "Pod");
    api.delete(name(&pods[0]), &DeleteParams::default())
        .await
        .expect("deletion");
    let before: BTreeSet<&str> = pods.iter().map(uid).collect();
    let after = case
        .until_pods("another pod", |now| {
            now.len() == pods.len() && now.iter().all(ready) && now.iter().any(|pod| !before.contains(uid(pod)))
        })
        .await;
    assert_eq!(nodes_of(&after), nodes_of(&pods));
}

pub(super) async fn daemons_change_in_place(case: &Case) {
    let before = start(case, &daemon_set(&json!({"rollingUpdateType": "InPlaceIfPossible"}))).await;
    give_image(case, "app:2").await;
    let after = settled(case).await;
    assert!(same_pods(&before, &after));
    let hash = get(case).await["status"]["updateRevision"].clone();
    for pod in &after {
        assert_eq!(image(pod, "app"), "app:2");
        assert_eq!((restarts(pod, "app"), restarts(pod, "log")), (1, 0));
        let labels = &pod["metadata"]["labels"];
        assert_eq!(labels["controller-revision-hash"], hash);
        assert!(
            labels["lifecycle.apps.kruise.io/state"].is_null() && labels["pod-template-hash"].is_null(),
            "{labels}"
        );
        assert_ne!(
            container(pod, "app")["imageID"],
            container(&before[0], "app")["imageID"]
        );
    }
    // One after the other: each began when the one before was back.
    let mut times: Vec<(&str, &str)> = after
        .iter()
        .map(|pod| {
            let conditions = pod["status"]["conditions"].as_array().expect("conditions");
            let gate = conditions
                .iter()
                .find(|one| one["type"] == "InPlaceUpdateReady")
                .expect("the gate");
            (gate["lastTransitionTime"].as_str().expect("a time"), node(pod))
        })
        .collect();
    times.sort_unstable();
    let order: Vec<&str> = times.iter().map(|(_, node)| *node).collect();
    if times.windows(2).all(|pair| pair[0].0 < pair[1].0) {
        assert!(
            order.windows(2).all(|pair| pair[0] > pair[1]),
            "the last name first: {order:?}"
        );
    }
    let message = format!("successfully update pod {} in-place", name(&after[0]));
    case.until_event(&message, |event| {
        event["note"] == message || event["message"] == message
    })
    .await;
}

pub(super) async fn daemons_surge_on_their_node(case: &Case) {
    let mut set = daemon_set(&json!({"maxSurge": 1, "maxUnavailable": 0}));
    set["spec"]["minReadySeconds"] = json!(1);
    let before = start(case, &set).await;
    give_image(case, "app:2").await;
    let old: BTreeSet<&str> = before.iter().map(uid).collect();
    // At every moment each node has a Ready pod, and no more than two.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let pods = case.pods().await;
        for wanted in nodes_of(&before) {
            let here: Vec<&Value> = pods.iter().filter(|pod| node(pod) == wanted).collect();
            assert!(here.len() <= 2 && here.iter().any(|pod| ready(pod)), "{here:#?}");
        }
        if pods.iter().all(|pod| !old.contains(uid(pod))) {
            break;
        }
        assert!(Instant::now() < deadline, "{pods:#?}");
        sleep(Duration::from_millis(20)).await;
    }
    let after = settled(case).await;
    assert!(after.iter().all(|pod| image(pod, "app") == "app:2"));
}

pub(super) async fn daemons_are_where_they_suit(case: &Case) {
    let mut set = daemon_set(&json!({}));
    let key = format!("{}.test.afloat.dev/colour", case.namespace);
    set["spec"]["template"]["spec"]["nodeSelector"] = json!({&key: "blue"});
    case.create(&set).await;
    until(case, "a status", |set| set["status"]["observedGeneration"] == 1).await;
    assert!(case.pods().await.is_empty());
    let node = node_names(case).await.remove(0);
    let colour = async |value: Value| {
        let patch = json!({"metadata": {"labels": {&key: value}}});
        let answer = nodes(case)
            .patch(&node, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        answer.expect("the node");
    };
    colour(json!("blue")).await;
    case.until_pods("a pod on the blue node", |pods| pods.len() == 1 && ready(&pods[0]))
        .await;
    colour(json!("green")).await;
    case.until_pods("no pod", <[Value]>::is_empty).await;
    until(case, "the status", |set| set["status"]["desiredNumberScheduled"] == 0).await;
    patch(
        case,
        &json!({"spec": {"template": {"spec": {"nodeSelector": {&key: "green"}}}}}),
    )
    .await;
    assert_eq!(settled(case).await.len(), 1);
    colour(Value::Null).await;
}

pub(super) async fn a_daemon_that_fails_is_replaced(case: &Case) {
    let pods = start(case, &daemon_set(&json!({}))).await;
    let failed = &pods[0];
    let api = case.api("", "v1", "Pod");
    let patch = json!({"status": {"phase": "Failed"}});
    api.patch_status(name(failed), &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .expect("the status");
    let after = case
        .until_pods("another pod", |now| {
            now.len() == pods.len() && now.iter().all(|pod| ready(pod) && uid(pod) != uid(failed))
        })
        .await;
    assert_eq!(nodes_of(&after), nodes_of(&pods));
    let wanted = format!(
        "Found failed daemon pod {}/{} on node {}, will try to kill it",
        case.namespace,
        name(failed),
        node(failed)
    );
    let told =
        |event: &Value| event["reason"] == "FailedDaemonPod" && (event["message"] == wanted || event["note"] == wanted);
    case.until_event("the failed pod", told).await;
}

pub(super) async fn a_hook_holds_a_daemon(case: &Case) {
    let mut set = daemon_set(&json!({"rollingUpdateType": "InPlaceIfPossible", "maxUnavailable": 1}));
    set["spec"]["lifecycle"] = json!({"preDelete": {"labelsHandler": {"hold": "true"}}});
    set["spec"]["template"]["metadata"]["labels"]["hold"] = json!("true");
    let before = start(case, &set).await;
    let mut containers = get(case).await["spec"]["template"]["spec"]["containers"].clone();
    containers[1]["env"] = json!([{"name": "MORE", "value": "x"}]);
    patch(
        case,
        &json!({"spec": {"template": {"spec": {"containers": containers}}}}),
    )
    .await;
    let prepares = |pod: &&Value| pod["metadata"]["labels"]["lifecycle.apps.kruise.io/state"] == "PreparingDelete";
    let held = case
        .until_pods("one that is held", |pods| pods.iter().filter(prepares).count() == 1)
        .await;
    assert!(same_pods(&before, &held));
    let one = held.iter().find(prepares).expect("one");
    case.patch_pod(name(one), json!({"metadata": {"labels": {"hold": null}}}))
        .await;
    let hash = get(case).await["status"]["updateRevision"].clone();
    let updated = |pod: &&Value| pod["metadata"]["labels"]["controller-revision-hash"] == hash;
    case.until_pods("one new pod and the next one held", |pods| {
        pods.iter().filter(updated).count() == 1 && pods.iter().filter(prepares).count() == 1
    })
    .await;
}

pub(super) async fn daemon_sets_are_openkruises(case: &Case) {
    let bare = |strategy: Value| {
        let mut set = daemon_set(&json!({}));
        set["spec"]["updateStrategy"] = strategy;
        set["spec"]["template"]["spec"]["nodeSelector"] = json!({"nowhere.test.afloat.dev": "x"});
        set
    };
    let mut without = bare(json!({}));
    without["spec"]
        .as_object_mut()
        .expect("a spec")
        .remove("updateStrategy");
    let made = case.create(&without).await;
    let spec = &made["spec"];
    assert_eq!(
        (&spec["burstReplicas"], &spec["revisionHistoryLimit"]),
        (&json!(250), &json!(10))
    );
    assert_eq!(
        spec["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"rollingUpdateType": "Standard", "maxUnavailable": 1, "maxSurge": 0}})
    );
    assert!(
        spec["template"]["spec"]["restartPolicy"].is_null(),
        "its template is left as it is written"
    );
    let rolling = |settings: Value| json!({"type": "RollingUpdate", "rollingUpdate": settings});
    for (strategy, why) in [
        (
            rolling(json!({"maxUnavailable": 1, "maxSurge": 1})),
            "maxSurge: may not be set when maxUnavailable is non-zero",
        ),
        (
            rolling(json!({"maxUnavailable": 0})),
            "maxUnavailable: cannot be 0 when maxSurge is 0",
        ),
        (
            rolling(json!({"maxSurge": "0%"})),
            "maxUnavailable: cannot be 0 when maxSurge is 0",
        ),
        (
            rolling(json!({"rollingUpdateType": "InPlaceIfPossible", "maxSurge": 1, "maxUnavailable": 0})),
            "maxSurge: must be 0 for InPlaceIfPossible type",
        ),
        (
            rolling(json!({"maxUnavailable": "101%"})),
            "spec.updateStrategy.rollingUpdate.maxUnavailable",
        ),
        (
            rolling(json!({"rollingUpdateType": "InPlaceOnly"})),
            "spec.updateStrategy.rollingUpdate.rollingUpdateType",
        ),
        (json!({"type": "Sometimes"}), "spec.updateStrategy.type"),
    ] {
        let refused = case.try_create(&bare(strategy.clone())).await.expect_err("refused");
        assert!(refused.contains(why), "{strategy}: {refused}");
    }
    let mut other = bare(json!({}));
    other["spec"]["lifecycle"] = json!({"inPlaceUpdate": {"labelsHandler": {"a": "b"}}});
    let refused = case.try_create(&other).await.expect_err("refused");
    assert!(
        refused.contains("inPlaceUpdate hook has not supported yet"),
        "{refused}"
    );
    let mut other = bare(json!({}));
    other["spec"]["template"]["spec"]["activeDeadlineSeconds"] = json!(5);
    let refused = case.try_create(&other).await.expect_err("refused");
    assert!(
        refused.contains("activeDeadlineSeconds in DaemonSet is not Supported"),
        "{refused}"
    );
    let selector = json!({"spec": {"selector": {"matchLabels": {"app": "other"}}}});
    let api = daemon_sets(case, "v1beta1");
    let refused = api
        .patch(NAME, &PatchParams::default(), &Patch::Merge(&selector))
        .await
        .expect_err("refused");
    assert!(refused.to_string().contains("spec.selector is immutable"), "{refused}");
}

pub(super) async fn both_versions_are_one_daemon_set(case: &Case) {
    if !case.ground.converts() {
        return;
    }
    let mut set = daemon_set(&json!({"rollingUpdateType": "Surging"}));
    set["apiVersion"] = json!("apps.kruise.io/v1alpha1");
    set["metadata"]["annotations"] = json!({"daemonset.kruise.io/progressive-create-pod": "true"});
    case.create_converted(&set).await;
    settled(case).await;
    let beta = get(case).await;
    let rolling = &beta["spec"]["updateStrategy"]["rollingUpdate"];
    assert_eq!(
        rolling,
        &json!({"rollingUpdateType": "Standard", "maxSurge": 1, "maxUnavailable": 0})
    );
    assert_eq!(beta["spec"]["scaleStrategy"], json!({"partitionedScaling": true}));
    let alpha = daemon_sets(case, "v1alpha1").get(NAME).await.expect("the DaemonSet");
    assert_eq!(alpha.data["status"]["daemonSetHash"], beta["status"]["updateRevision"]);
    assert!(alpha.data["spec"]["scaleStrategy"].is_null());
    let annotations = alpha.metadata.annotations.unwrap_or_default();
    assert_eq!(annotations["daemonset.kruise.io/progressive-create-pod"], "true");
}
