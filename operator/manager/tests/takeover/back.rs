//! And back: wherever our operator stops, OpenKruise goes on from there.

use serde_json::{Value, json};

use super::kruise::{self, Step, WEB};
use super::{edit, left, restarts, set_image, writes};
use crate::play::{Play, settled};

/// The rest of an update by OpenKruise: every pod in place, each container restarted once.
async fn kruise_finishes(play: &Play, started: [u64; 2]) -> Vec<String> {
    let told = kruise::takes_over(play, WEB).await;
    for (name, pod) in play.list().await {
        assert_eq!(restarts(&pod), started, "{name}: {told:?}");
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn from_rest() {
    let (play, _) = left("rest", |_| ()).await;
    let ours = play.operator();
    play.until("web", "adoption", settled).await;
    set_image(&play, WEB, "app:9").await;
    play.until("web", "the update by us", settled).await;
    ours.stop().await;
    assert_eq!(
        kruise::takes_over(&play, WEB).await,
        Vec::<String>::new(),
        "nothing to do"
    );
    // OpenKruise makes the revision of a new template itself; the play leaves that to us, and the rest to it.
    let ours = play.operator();
    let held = play.hold_kubelets().await;
    set_image(&play, WEB, "app:2").await;
    play.until_pod("the new image", |pod| pod["spec"]["containers"][0]["image"] == "app:2")
        .await;
    ours.stop().await;
    drop(held);
    kruise_finishes(&play, [2, 0]).await;
}

/// As OpenKruise's webhook stores it: images of containers are pulled always.
fn pulled_always(fixture: &mut Value) {
    let always = |template: &mut Value| {
        for container in template["spec"]["containers"].as_array_mut().unwrap() {
            container["imagePullPolicy"] = json!("Always");
        }
    };
    for revision in fixture["revisions"].as_array_mut().unwrap() {
        always(&mut revision["data"]["spec"]["template"]);
    }
    always(&mut fixture["cloneset"]["spec"]["template"]);
}

/// What somebody has in a repository, who lets defaults be defaults.
pub(super) fn without_defaults(value: &mut Value) {
    let defaults = [
        ("imagePullPolicy", json!("Always")),
        ("terminationMessagePath", json!("/dev/termination-log")),
        ("terminationMessagePolicy", json!("File")),
        ("protocol", json!("TCP")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("restartPolicy", json!("Always")),
        ("schedulerName", json!("default-scheduler")),
        ("securityContext", json!({})),
        ("terminationGracePeriodSeconds", json!(30)),
        ("failureThreshold", json!(3)),
        ("successThreshold", json!(1)),
        ("timeoutSeconds", json!(1)),
        ("scheme", json!("HTTP")),
        ("apiVersion", json!("v1")),
        // As Go prints what is not there.
        ("resources", json!({})),
        ("creationTimestamp", Value::Null),
    ];
    match value {
        Value::Object(map) => {
            map.retain(|key, value| !defaults.iter().any(|(name, default)| name == key && default == value));
            map.values_mut().for_each(without_defaults);
        }
        Value::Array(items) => items.iter_mut().for_each(without_defaults),
        _ => {}
    }
}

/// `kubectl apply` of the manifest that everybody had all along, then of the same with another image.
#[tokio::test(flavor = "multi_thread")]
async fn manifests_without_defaults_restart_nothing_in_either_direction() {
    let (play, before) = left("rest", pulled_always).await;
    let revisions = kruise::revisions(&play).await;
    let ours = play.operator();
    play.until("web", "adoption", settled).await;
    edit(&play, WEB, |set| without_defaults(&mut set["spec"]["template"])).await;
    let set = play.until("web", "the manifest", settled).await;
    assert_eq!(play.list().await, before);
    assert_eq!(kruise::revisions(&play).await, revisions);
    assert_eq!(writes(&play), std::collections::BTreeMap::new());
    // What OpenKruise tells revisions by is there again.
    let template = &set["spec"]["template"]["spec"];
    assert_eq!(template["containers"][0]["imagePullPolicy"], "Always", "{template:#}");
    let found = kruise::update_revision(&play, WEB).await;
    assert_eq!(found.metadata.name.as_deref(), set["status"]["updateRevision"].as_str());

    edit(&play, WEB, |set| {
        let template = &mut set["spec"]["template"];
        without_defaults(template);
        template["spec"]["containers"][0]["image"] = json!("app:9");
    })
    .await;
    play.until("web", "the first image after the takeover", settled).await;
    for (name, pod) in play.list().await {
        assert_eq!(pod["metadata"]["uid"], before[&name]["metadata"]["uid"]);
        assert_eq!(restarts(&pod), [restarts(&before[&name])[0] + 1, 0], "{name}");
    }
    ours.stop().await;
    assert_eq!(
        kruise::takes_over(&play, WEB).await,
        Vec::<String>::new(),
        "nothing to do"
    );
}

/// Our drain looks to OpenKruise like a pod that was forgotten: it opens the gate, then updates the pod by itself.
#[tokio::test(flavor = "multi_thread")]
async fn from_the_middle_of_a_drain() {
    for name in ["rest", "updated"] {
        let long = json!({"gracePeriodSeconds": 3600});
        let (play, before) = left(name, |fixture| {
            fixture["cloneset"]["spec"]["updateStrategy"]["rollingUpdate"]["inPlaceUpdateStrategy"] = long;
        })
        .await;
        let ours = play.operator();
        play.until("web", "adoption", settled).await;
        set_image(&play, WEB, "app:9").await;
        play.until("web", "a drain", |set| set["status"]["readyReplicas"] == 1)
            .await;
        ours.stop().await;
        let pods = play.list().await;
        let drained: Vec<_> = pods
            .values()
            .filter(|pod| kruise::refresh(pod) == Step::Opens)
            .collect();
        assert_eq!(drained.len(), 1);
        let started = restarts(before.values().next().unwrap());
        let told = kruise_finishes(&play, [started[0] + 1, 0]).await;
        assert!(told[0].starts_with("opened"), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_after_the_write_of_the_image() {
    let (play, _) = left("updated", |_| ()).await;
    let ours = play.operator();
    play.until("web", "adoption", settled).await;
    let held = play.hold_kubelets().await;
    set_image(&play, WEB, "app:9").await;
    let pod = play
        .until_pod("the new image", |pod| pod["spec"]["containers"][0]["image"] == "app:9")
        .await;
    ours.stop().await;
    assert!(
        matches!(kruise::refresh(&pod), Step::Waits(_)),
        "{:?}",
        kruise::refresh(&pod)
    );
    drop(held);
    let told = kruise_finishes(&play, [2, 0]).await;
    assert!(told[0].starts_with("opened"), "{told:?}");
}

/// A pod that has just been created has the state that OpenKruise gives it, and OpenKruise leads it on from there.
#[tokio::test(flavor = "multi_thread")]
async fn from_before_a_new_pod_is_ready() {
    let (play, before) = left("rest", |_| ()).await;
    let ours = play.operator();
    play.until("web", "adoption", settled).await;
    let held = play.hold_kubelets().await;
    play.patch("web", json!({"spec": {"replicas": before.len() + 1}})).await;
    let new = play
        .until_pod("a new pod", |pod| {
            !before.contains_key(pod["metadata"]["name"].as_str().unwrap())
        })
        .await;
    ours.stop().await;
    assert_eq!(
        new["metadata"]["labels"]["lifecycle.apps.kruise.io/state"],
        "PreparingNormal"
    );
    drop(held);
    let name = new["metadata"]["name"].as_str().unwrap();
    let told = kruise::takes_over(&play, WEB).await;
    assert!(told.contains(&format!("normal {name}")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_between_two_batches() {
    let (play, _) = left("batch", |_| ()).await;
    let ours = play.operator();
    play.until("web", "adoption", settled).await;
    let held = play.hold_kubelets().await;
    let before = play.list().await;
    // Both images in one template.
    super::edit(&play, WEB, |set| {
        let containers = &mut set["spec"]["template"]["spec"]["containers"];
        containers[0]["image"] = json!("app:9");
        containers[1]["image"] = json!("log:9");
    })
    .await;
    let waits = |pod: &Value| {
        let text = kruise::annotation(pod, kruise::STATE, "").unwrap_or_default();
        text.contains("nextContainerImages")
    };
    let pod = play.until_pod("the first batch", waits).await;
    ours.stop().await;
    assert!(matches!(kruise::refresh(&pod), Step::Waits(_)));
    drop(held);
    let told = kruise::takes_over(&play, WEB).await;
    assert!(told.iter().any(|what| what.starts_with("next batch")), "{told:?}");
    for (name, pod) in play.list().await {
        let expected: Vec<_> = restarts(&before[&name]).iter().map(|count| count + 1).collect();
        assert_eq!(restarts(&pod), expected, "{name}: {told:?}");
    }
}
