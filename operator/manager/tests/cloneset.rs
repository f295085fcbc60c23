//! The operator on a real API server, with kubelets played.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test's own words fail the test

mod health;
mod images;
mod losses;
mod play;
mod takeover;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use afloat_api::{CloneSet, RolloutReport};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use play::{Kubelet, PATIENCE, Play, cloneset, settled};
use serde_json::{Value, json};

const QUICK: Kubelet = Kubelet {
    start: Duration::from_millis(30),
};

fn in_place(budget: i32, grace: i32) -> Value {
    json!({"podUpdatePolicy": "InPlaceOnly", "maxUnavailable": budget,
        "inPlaceUpdateStrategy": {"gracePeriodSeconds": grace}})
}

fn image(value: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [
        {"name": "app", "image": value}, {"name": "log", "image": "log:1"}]}}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_updates_in_place_scales_and_rests() {
    let play = Play::start(QUICK).await;
    play.create(cloneset("web", 4, "app:1", in_place(2, 0))).await.unwrap();
    play.until("web", "all pods", settled).await;
    assert_eq!(play.metrics.writes("scale_up"), 4);
    assert_eq!(play.metrics.writes("return"), 4, "two writes per pod created");

    let before = play.list().await;
    play.patch("web", image("app:2")).await;
    let set = play.until("web", "the update", settled).await;
    let after = play.list().await;
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, pod) in &after {
        assert_eq!(pod["metadata"]["uid"], before[name]["metadata"]["uid"]);
        assert_eq!(pod["spec"]["containers"][0]["image"], "app:2");
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 1);
        assert_eq!(
            pod["status"]["containerStatuses"][1]["restartCount"], 0,
            "the other container never notices"
        );
        assert_eq!(
            pod["metadata"]["labels"]["controller-revision-hash"],
            set["status"]["updateRevision"]
        );
    }
    let writes: Vec<_> = ["drain", "update", "return"]
        .iter()
        .map(|why| play.metrics.writes(why))
        .collect();
    assert_eq!(writes, [4, 4, 8], "three writes per pod updated");
    assert_eq!(set["status"]["currentRevision"], set["status"]["updateRevision"]);

    let figures = play.figures();
    for line in [
        "afloat_operator_rollout_seconds_count 1",
        "afloat_operator_pod_phase_seconds_count{phase=\"drain\"} 4",
        "afloat_operator_pod_phase_seconds_count{phase=\"replace\"} 4",
        "afloat_operator_pods{kind=\"CloneSet\",namespace=\"default\",name=\"web\",phase=\"available\"} 4",
        "afloat_operator_pods{kind=\"CloneSet\",namespace=\"default\",name=\"web\",phase=\"outdated\"} 0",
    ] {
        assert!(figures.contains(line), "{line} is missing: {figures}");
    }

    let events: Api<Event> = Api::namespaced(play.client.clone(), "default");
    let updated = ListParams::default().fields("reason=SuccessfulUpdatePodInPlace");
    // They go out beside the rest of the work.
    let end = Instant::now() + PATIENCE;
    let mut told = events.list(&updated).await.unwrap().items;
    while told.len() < 4 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
        told = events.list(&updated).await.unwrap().items;
    }
    assert_eq!(told.len(), 4, "{told:?}");

    // The kind of thing that kubectl scale does.
    play.patch("web", json!({"spec": {"replicas": 1}})).await;
    play.until("web", "scaling down", settled).await;
    play.until_pods("the others' end", |pods| pods.len() == 1).await;

    // What follows the last change may still be on its way; then an idle operator writes nothing.
    let version = async || play.until("web", "rest", settled).await["metadata"]["resourceVersion"].clone();
    let mut versions = vec![version().await];
    loop {
        tokio::time::sleep(Duration::from_millis(800)).await;
        let now = version().await;
        if versions.last() == Some(&now) {
            break;
        }
        versions.push(now);
        assert!(versions.len() < 10, "an idle operator writes: {versions:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_for_the_quiet_period_and_rolls_back_within_it() {
    let play = Play::start(QUICK).await;
    play.create(cloneset("web", 2, "app:1", in_place(1, 1))).await.unwrap();
    play.until("web", "all pods", settled).await;
    let start = std::time::Instant::now();
    play.patch("web", image("app:2")).await;
    play.until("web", "the update", settled).await;
    assert!(
        start.elapsed() > Duration::from_secs(2),
        "two pods one after the other, a second each"
    );

    // Longer than it takes to change one's mind.
    let long = json!({"spec": {"updateStrategy": {"rollingUpdate": in_place(1, 3600)}}});
    play.patch("web", long).await;
    let writes = play.metrics.writes("update");
    play.patch("web", image("app:3")).await;
    play.until("web", "a drain", |set| set["status"]["readyReplicas"] == 1)
        .await;
    play.patch("web", image("app:2")).await;
    play.until("web", "the way back", settled).await;
    assert_eq!(play.metrics.writes("update"), writes, "no image was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_of_the_same_digest_completes() {
    // kruise #635, #1493, #2297
    let play = Play::start(QUICK).await;
    play.create(cloneset("web", 2, "same:1", in_place(1, 0))).await.unwrap();
    play.until("web", "all pods", settled).await;
    play.patch("web", image("same:2")).await;
    play.until("web", "the update", settled).await;
    play.patch("web", image("same:1")).await;
    play.until("web", "the way back", settled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recreates_within_the_budget_and_keeps_the_partition() {
    let play = Play::start(QUICK).await;
    play.create(cloneset(
        "web",
        4,
        "app:1",
        json!({"podUpdatePolicy": "ReCreate", "maxUnavailable": 1, "partition": 2}),
    ))
    .await
    .unwrap();
    play.until("web", "all pods", settled).await;
    let before: BTreeSet<_> = play.list().await.into_keys().collect();
    play.patch("web", image("app:2")).await;
    let done = |set: &Value| {
        set["status"]["observedGeneration"] == set["metadata"]["generation"]
            && set["status"]["updatedAvailableReplicas"] == 2
            && set["status"]["availableReplicas"] == 4
    };
    play.until("web", "the partition", done).await;
    let after: BTreeSet<_> = play.list().await.into_keys().collect();
    assert_eq!(before.intersection(&after).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_operator_continues() {
    let play = Play::start(QUICK).await;
    play.create(cloneset("web", 3, "app:1", in_place(1, 1))).await.unwrap();
    play.until("web", "all pods", settled).await;
    let second = play.operator();
    play.patch("web", image("app:2")).await;
    play.until("web", "a drain", |set| set["status"]["readyReplicas"] == 2)
        .await;
    second.stop().await;
    play.until("web", "the update", settled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_and_hands_over() {
    let play = Play::without_operator(QUICK).await;
    let (first_stop, first) = play.candidate("first");
    play.create(cloneset("web", 2, "app:1", in_place(1, 1))).await.unwrap();
    play.until("web", "all pods", settled).await;
    let (_second_stop, second) = play.candidate("second");
    play.patch("web", image("app:2")).await;
    play.until("web", "a drain", |set| set["status"]["readyReplicas"] == 1)
        .await;
    first_stop.cancel();
    first.await.unwrap().unwrap();
    play.until("web", "the update by the next leader", settled).await;
    assert!(!second.is_finished());

    // Somebody takes the lease away: the leader must stop.
    let leases: Api<Lease> = Api::namespaced(play.client.clone(), "kruise-system");
    let patch = json!({"spec": {"holderIdentity": "thief"}});
    leases
        .patch("kruise-manager", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    let ended = tokio::time::timeout(PATIENCE, second).await.unwrap().unwrap();
    assert!(ended.unwrap_err().to_string().contains("leadership lost"));
}

#[tokio::test(flavor = "multi_thread")]
async fn v1alpha1_is_understood() {
    let play = Play::start(QUICK).await;
    let mut set = cloneset("old", 1, "app:1", json!({}));
    set["apiVersion"] = json!("apps.kruise.io/v1alpha1");
    set["spec"]["updateStrategy"] = json!({"type": "InPlaceOnly", "maxUnavailable": 1});
    // A moment passes until the API server knows the webhook's certificate.
    let mut answer = play.create(set.clone()).await;
    for _ in 0..6000 {
        if answer.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        answer = play.create(set.clone()).await;
    }
    answer.unwrap();
    play.until("old", "the pod", settled).await;
    let before: Vec<_> = play.list().await.into_keys().collect();
    play.patch("old", image("app:2")).await;
    play.until("old", "the update", settled).await;
    assert_eq!(before, play.list().await.into_keys().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_and_names_the_field() {
    let play = Play::start(QUICK).await;
    let refused = |edit: fn(&mut Value)| {
        let mut set = cloneset("bad", 1, "app:1", in_place(1, 0));
        edit(&mut set);
        let play = &play;
        async move {
            match play.create(set).await {
                Err(kube::Error::Api(status)) => (status.code, status.message.clone()),
                other => panic!("not refused: {other:?}"),
            }
        }
    };
    for (what, (code, message), field) in [
        (
            "selector",
            refused(|s| s["spec"]["selector"]["matchLabels"]["app"] = json!("other")).await,
            "spec.selector",
        ),
        (
            "empty selector",
            refused(|s| s["spec"]["selector"] = json!({})).await,
            "spec.selector",
        ),
        (
            "expression",
            refused(|s| {
                s["spec"]["selector"] =
                    json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["x"]}]});
            })
            .await,
            "spec.selector",
        ),
        (
            "replicas",
            refused(|s| s["spec"]["replicas"] = json!(-1)).await,
            "spec.replicas",
        ),
        (
            "surge",
            refused(|s| s["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"] = json!(1)).await,
            "maxSurge",
        ),
        (
            "policy",
            refused(|s| s["spec"]["updateStrategy"]["rollingUpdate"]["podUpdatePolicy"] = json!("Maybe")).await,
            "podUpdatePolicy",
        ),
        (
            "number as text",
            refused(|s| s["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = json!("5")).await,
            "maxUnavailable",
        ),
    ] {
        assert_eq!(code, 422, "{what}: {message}");
        assert!(message.contains(field), "{what}: {message}");
    }
    play.create(cloneset("good", 0, "app:1", in_place(1, 0))).await.unwrap();
    let patch = json!({"spec": {"selector": {"matchLabels": {"app": "good", "more": "x"}},
        "template": {"metadata": {"labels": {"app": "good", "more": "x"}}}}});
    let parameters = kube::api::PatchParams::default();
    let changed = play
        .sets("v1beta1")
        .patch("good", &parameters, &kube::api::Patch::Merge(&patch))
        .await;
    assert!(changed.unwrap_err().to_string().contains("immutable"));
}

/// What a user's controller does with finalizers, by the state of each pod.
async fn hold_and_let_go(play: &Play) {
    for (name, pod) in play.list().await {
        let held = match pod["metadata"]["labels"]["lifecycle.apps.kruise.io/state"].as_str() {
            Some("PreparingNormal" | "Updated") => json!(["example.com/hold"]),
            Some("PreparingUpdate" | "PreparingDelete") => Value::Null,
            _ => continue,
        };
        let patch = Patch::Merge(json!({"metadata": {"finalizers": held}}));
        let _ = play.pods().patch(&name, &PatchParams::default(), &patch).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_and_claims() {
    let play = Play::start(QUICK).await;
    let mut set = cloneset("web", 2, "app:1", in_place(1, 0));
    let hook = json!({"finalizersHandler": ["example.com/hold"], "markPodNotReady": true});
    set["spec"]["lifecycle"] = json!({"preNormal": hook, "inPlaceUpdate": hook, "preDelete": hook});
    set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
    play.create(set).await.unwrap();
    let rest = |set: &Value| settled(set);
    let until = async |what: &str, pass: &dyn Fn(&Value) -> bool| {
        for _ in 0..6000 {
            hold_and_let_go(&play).await;
            let set = serde_json::to_value(play.sets("v1beta1").get("web").await.unwrap()).unwrap();
            if pass(&set) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{what} did not come: {:#?}", play.list().await);
    };
    until("all pods", &rest).await;
    let claims = async || -> BTreeSet<String> {
        let api: Api<k8s_openapi::api::core::v1::PersistentVolumeClaim> =
            Api::namespaced(play.client.clone(), "default");
        let list = api.list(&ListParams::default()).await.unwrap();
        let alive = list
            .into_iter()
            .filter(|claim| claim.metadata.deletion_timestamp.is_none());
        alive.map(|claim| claim.metadata.name.unwrap()).collect::<BTreeSet<_>>()
    };
    let names: BTreeSet<_> = play
        .list()
        .await
        .into_keys()
        .map(|name| format!("data-{name}"))
        .collect();
    assert_eq!(claims().await, names);

    play.patch("web", image("app:2")).await;
    until("the update", &rest).await;
    assert_eq!(play.metrics.writes("update"), 2);
    for pod in play.list().await.into_values() {
        assert_eq!(pod["metadata"]["labels"]["lifecycle.apps.kruise.io/state"], "Normal");
        assert_eq!(pod["metadata"]["finalizers"], json!(["example.com/hold"]), "held again");
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 1);
    }

    let victim = play.list().await.into_keys().next().unwrap();
    play.patch(
        "web",
        json!({"spec": {"replicas": 1, "scaleStrategy": {"podsToDelete": [victim]}}}),
    )
    .await;
    until("scaling down and pruning", &|set| {
        settled(set) && set["spec"]["scaleStrategy"].get("podsToDelete").is_none()
    })
    .await;
    // It goes once its finalizer is gone, and its claim after it.
    let end = Instant::now() + PATIENCE;
    loop {
        hold_and_let_go(&play).await;
        let pods = play.list().await;
        let left: BTreeSet<_> = pods.keys().map(|name| format!("data-{name}")).collect();
        let claims = claims().await;
        if !pods.contains_key(&victim) && claims == left {
            break;
        }
        assert!(Instant::now() < end, "{claims:?} are left of {left:?} without {victim}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Nobody asks for them in vain, and the first rollout after they come is reported.
#[tokio::test(flavor = "multi_thread")]
async fn kinds_that_come_later_are_noticed() {
    let play = Play::without_operator(QUICK).await;
    let crds: Api<CustomResourceDefinition> = Api::all(play.client.clone());
    let ours = |crd: &CustomResourceDefinition| crd.spec.group == "afloat.dev";
    let ours: Vec<_> = afloat_api::crds(&afloat_api::Serving::default())
        .into_iter()
        .filter(ours)
        .collect();
    assert_eq!(ours.len(), 2);
    for crd in &ours {
        crds.delete(crd.metadata.name.as_deref().unwrap(), &DeleteParams::default())
            .await
            .unwrap();
    }
    play.operator();
    play.create(cloneset("web", 1, "app:1", in_place(1, 0))).await.unwrap();
    play.until("web", "all pods", settled).await;
    for crd in &ours {
        crds.create(&PostParams::default(), crd).await.unwrap();
    }
    let reports: Api<RolloutReport> = Api::namespaced(play.client.clone(), "default");
    for round in 2..2000 {
        play.patch("web", image(&format!("app:{round}"))).await;
        play.until("web", "the update", settled).await;
        if !reports.list(&ListParams::default()).await.unwrap().items.is_empty() {
            return;
        }
    }
    panic!("no rollout was reported");
}

/// Nobody asks for it in vain, and its objects are looked after from then on.
#[tokio::test(flavor = "multi_thread")]
async fn a_kind_of_workload_may_come_later() {
    let play = Play::without_operator(QUICK).await;
    let crds: Api<CustomResourceDefinition> = Api::all(play.client.clone());
    let name = "clonesets.apps.kruise.io";
    let all = afloat_api::crds(&afloat_api::Serving::default());
    let crd = all.iter().find(|crd| crd.metadata.name.as_deref() == Some(name));
    crds.delete(name, &DeleteParams::default()).await.unwrap();
    let end = Instant::now() + PATIENCE;
    // A definition ends some time after its deletion, and is served until then.
    let sets: Api<CloneSet> = Api::namespaced(play.client.clone(), "default");
    while sets.list(&ListParams::default()).await.is_ok() || crds.get_opt(name).await.unwrap().is_some() {
        assert!(Instant::now() < end, "the definition does not go");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    play.operator();
    while !play.figures().contains("afloat_operator_leading 1") {
        assert!(Instant::now() < end, "it does not lead: {}", play.figures());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    crds.create(&PostParams::default(), crd.unwrap()).await.unwrap();
    play.create(cloneset("web", 2, "app:1", in_place(1, 0))).await.unwrap();
    play.until("web", "all pods", settled).await;
}
