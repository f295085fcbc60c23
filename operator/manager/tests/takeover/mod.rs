//! Takeover: clusters in which OpenKruise made everything are adopted without a needless write, and OpenKruise finds its
//! place again after us.
//!
//! The fixtures have the form in which OpenKruise and Kubernetes 1.32 store these objects; templates, revisions and
//! their names came out of core/v1's own Go types and defaults. `@-2s@` stands for a time two seconds ago. Those of StatefulSets
//! and DaemonSets are what the manager of OpenKruise 1.9.1 has left on Kubernetes' own API server with played nodes.

mod back;
mod kruise;
mod others;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::play::{Kubelet, Play, settled};
use kruise::{STATE, STATE_KEYS, Set, Step, WEB};

const QUICK: Kubelet = Kubelet {
    start: Duration::from_millis(30),
};

fn fixture(name: &str) -> Value {
    let text = match name {
        "rest" => include_str!("fixtures/rest.json"),
        "alpha" => include_str!("fixtures/alpha.json"),
        "updated" => include_str!("fixtures/updated.json"),
        "older" => include_str!("fixtures/older.json"),
        "grace" => include_str!("fixtures/grace.json"),
        "grace_legacy" => include_str!("fixtures/grace_legacy.json"),
        "written" => include_str!("fixtures/written.json"),
        "written_same" => include_str!("fixtures/written_same.json"),
        "hooks" => include_str!("fixtures/hooks.json"),
        "specified" => include_str!("fixtures/specified.json"),
        "batch" => include_str!("fixtures/batch.json"),
        "environment" => include_str!("fixtures/environment.json"),
        "resources" => include_str!("fixtures/resources.json"),
        other => panic!("no fixture {other}"),
    };
    let ago = Timestamp::now() - SignedDuration::from_secs(2);
    serde_json::from_str(&text.replace("@-2s@", &ago.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())).unwrap()
}

fn api(play: &Play, object: &Value) -> Api<DynamicObject> {
    let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let kind = GroupVersionKind::gvk(group, version, kind);
    Api::namespaced_with(play.client.clone(), "default", &ApiResource::from_gvk(&kind))
}

/// Stores the object with its status; its owner is the one with this uid. Returns the uid that it got.
async fn store(play: &Play, object: &Value, owner: Option<&str>) -> String {
    let mut body = object.clone();
    if body["kind"] == "CloneSet" {
        // No operator converts yet; the takeover starts one before it.
        afloat_api::convert::convert(&mut body, afloat_api::API_VERSION).unwrap();
    }
    let api = api(play, &body);
    for key in ["uid", "creationTimestamp", "generation"] {
        body["metadata"].as_object_mut().unwrap().remove(key);
    }
    if let Some(owner) = owner {
        body["metadata"]["ownerReferences"][0]["uid"] = json!(owner);
    }
    let created = api
        .create(&PostParams::default(), &serde_json::from_value(body).unwrap())
        .await
        .unwrap();
    if object["status"].is_object() {
        let (name, patch) = (created.metadata.name.unwrap(), json!({"status": object["status"]}));
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
    }
    created.metadata.uid.unwrap()
}

/// A cluster as OpenKruise left it, before an operator starts; and the pods by name.
async fn left(name: &str, edit: impl FnOnce(&mut Value)) -> (Play, BTreeMap<String, Value>) {
    let play = Play::without_operator(QUICK).await;
    let held = play.hold_kubelets().await;
    let mut fixture = fixture(name);
    edit(&mut fixture);
    let owner = store(&play, &fixture["cloneset"], None).await;
    for list in ["revisions", "claims", "pods"] {
        for object in fixture[list].as_array().unwrap() {
            store(&play, object, Some(&owner)).await;
        }
    }
    let pods = play.list().await;
    drop(held);
    (play, pods)
}

/// All writes to pods, claims and revisions.
fn writes(play: &Play) -> BTreeMap<&'static str, u64> {
    let reasons = [
        "scale_up",
        "scale_down",
        "specified_delete",
        "recreate",
        "adopt",
        "release",
        "drain",
        "update",
        "return",
        "lifecycle",
        "launch",
        "revision",
        "claim",
        "resize",
        "prune",
        "identity",
        "finished",
    ];
    let counted = reasons.into_iter().map(|reason| (reason, play.metrics.writes(reason)));
    counted.filter(|(_, count)| *count > 0).collect()
}

/// Edits the stored object, as a user does.
async fn edit(play: &Play, set: Set, change: impl Fn(&mut Value)) {
    let api = play.workloads("v1beta1", set.kind);
    loop {
        let mut object = set.get(play).await;
        change(&mut object);
        let object = serde_json::from_value::<DynamicObject>(object).unwrap();
        match api.replace(set.name, &PostParams::default(), &object).await {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("{error}"),
        }
    }
}

async fn set_image(play: &Play, set: Set, image: &str) {
    edit(play, set, |set| {
        set["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
    })
    .await;
}

fn restarts(pod: &Value) -> Vec<u64> {
    let statuses = pod["status"]["containerStatuses"].as_array().unwrap();
    statuses
        .iter()
        .map(|status| status["restartCount"].as_u64().unwrap())
        .collect()
}

/// An update of ours on adopted pods: in place, one restart, and OpenKruise can read what we wrote.
async fn updates_in_place(play: &Play) {
    let before = play.list().await;
    let counted = writes(play);
    set_image(play, WEB, "app:9").await;
    let set = play.until("web", "the update by us", settled).await;
    let revision = set["status"]["updateRevision"].as_str().unwrap();
    let found = kruise::update_revision(play, WEB).await;
    assert_eq!(found.metadata.name.as_deref(), Some(revision));
    for (name, pod) in play.list().await {
        let old = &before[&name];
        assert_eq!(pod["metadata"]["uid"], old["metadata"]["uid"]);
        let mut expected = restarts(old);
        expected[0] += 1;
        assert_eq!(restarts(&pod), expected, "{name}");
        let short = revision.rsplit('-').next();
        assert_eq!(pod["metadata"]["labels"]["controller-revision-hash"], revision);
        assert_eq!(pod["metadata"]["labels"]["pod-template-hash"].as_str(), short);
        assert_eq!(kruise::refresh(&pod), Step::Nothing, "{name}");
        assert!(kruise::completed(&pod), "{name}");
        let text = kruise::annotation(&pod, STATE, "").unwrap();
        let places: Vec<_> = STATE_KEYS
            .iter()
            .filter_map(|key| text.find(&format!("\"{key}\":")))
            .collect();
        assert!(places.is_sorted() && places.len() >= 5, "{text}");
        assert!(pod["metadata"]["annotations"].get("inplace-update-state").is_none());
    }
    let more: BTreeMap<_, _> = writes(play)
        .into_iter()
        .map(|(reason, count)| (reason, count - counted.get(reason).copied().unwrap_or(0)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let pods = before.len() as u64;
    let gates = pods; // the gate False, image, gate True
    assert_eq!(more["drain"], gates);
    assert_eq!(more["update"], pods);
    assert_eq!(more["return"], gates);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rests_is_not_touched() {
    for name in ["rest", "alpha", "updated", "older"] {
        let (play, before) = left(name, |_| ()).await;
        let revisions = kruise::revisions(&play).await;
        play.operator();
        let set = play.until("web", name, settled).await;
        let mut status = set["status"].clone();
        status.as_object_mut().unwrap().remove("conditions");
        assert_eq!(status, fixture(name)["cloneset"]["status"], "{name}");
        assert_eq!(play.list().await, before, "{name}");
        assert_eq!(kruise::revisions(&play).await, revisions, "{name}");
        assert_eq!(writes(&play), BTreeMap::new(), "{name}");
        updates_in_place(&play).await;
    }
}

/// What OpenKruise had begun is finished; `expected` are the writes for it, `restarted` tells of each pod's containers
/// whether they had to restart.
async fn finishes(name: &str, expected: &[(&'static str, u64)], restarted: [[u64; 2]; 2]) -> Play {
    let (play, before) = left(name, |_| ()).await;
    let revisions = kruise::revisions(&play).await;
    play.operator();
    play.until("web", name, settled).await;
    assert_eq!(writes(&play), expected.iter().copied().collect(), "{name}");
    assert_eq!(kruise::revisions(&play).await.len(), revisions.len(), "{name}");
    for ((pod, after), restarted) in play.list().await.into_iter().zip(restarted) {
        let expected: Vec<_> = restarts(&before[&pod])
            .iter()
            .zip(restarted)
            .map(|(old, more)| old + more)
            .collect();
        assert_eq!(restarts(&after), expected, "{name}: {pod}");
        assert_eq!(after["metadata"]["uid"], before[&pod]["metadata"]["uid"]);
        assert_eq!(kruise::refresh(&after), Step::Nothing, "{name}: {pod}");
        assert!(kruise::completed(&after), "{name}: {pod}");
        assert_eq!(after["metadata"]["labels"]["lifecycle.apps.kruise.io/state"], "Normal");
    }
    play
}

#[tokio::test(flavor = "multi_thread")]
async fn a_written_image_is_waited_for() {
    // The second pod is ours from the start: three writes.
    let writes = [("drain", 1), ("update", 1), ("return", 2)];
    let play = finishes("written", &writes, [[1, 0], [1, 0]]).await;
    updates_in_place(&play).await;
    let play = finishes("written_same", &writes, [[0, 0], [1, 0]]).await;
    updates_in_place(&play).await;
}

/// OpenKruise opens the gate of a pod first, and tells of its life in another write.
#[tokio::test(flavor = "multi_thread")]
async fn a_life_goes_on() {
    let states = ["PreparingNormal", "Updating"];
    let (play, _) = left("updated", |fixture| {
        for (pod, state) in fixture["pods"].as_array_mut().unwrap().iter_mut().zip(states) {
            pod["metadata"]["labels"]["lifecycle.apps.kruise.io/state"] = json!(state);
        }
    })
    .await;
    play.operator();
    play.until("web", "normal lives", settled).await;
    assert_eq!(writes(&play), [("lifecycle", 2)].into());
    for pod in play.list().await.values() {
        assert_eq!(pod["metadata"]["labels"]["lifecycle.apps.kruise.io/state"], "Normal");
    }
    updates_in_place(&play).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grace_period_goes_on() {
    for name in ["grace", "grace_legacy"] {
        let start = Timestamp::now();
        let writes = [("drain", 1), ("update", 2), ("return", 2)];
        let play = finishes(name, &writes, [[1, 0], [1, 0]]).await;
        for pod in play.list().await.into_values() {
            let metadata = &pod["metadata"];
            assert_eq!(
                (&metadata["labels"]["tier"], &metadata["annotations"]["note"]),
                (&json!("y"), &json!("new"))
            );
        }
        // Two seconds were left of the first pod's four; the second has four of its own.
        let all = Timestamp::now().duration_since(start);
        assert!(all > SignedDuration::from_secs(5), "{all:?}");
        updates_in_place_slowly(&play).await;
    }
}

/// What the new template no longer has stands in the patch that waits with the quiet period.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_grace_period_was_to_remove_goes() {
    let (play, _) = left("grace", |_| ()).await;
    play.operator();
    play.until("web", "both pods", settled).await;
    for (name, pod) in play.list().await {
        assert!(pod["metadata"]["annotations"].get("gone").is_none(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_pull_policy_is_no_difference() {
    let (play, before) = left("rest", |_| ()).await;
    play.operator();
    play.until("web", "adoption", settled).await;
    // The policy that was the default of the first tag stays in the template.
    set_image(&play, WEB, "app:latest").await;
    play.until("web", "the update", settled).await;
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        play.list().await.keys().collect::<Vec<_>>()
    );
}

/// As [`updates_in_place`], without the grace period.
async fn updates_in_place_slowly(play: &Play) {
    let none =
        json!({"spec": {"updateStrategy": {"rollingUpdate": {"inPlaceUpdateStrategy": {"gracePeriodSeconds": 0}}}}});
    play.patch("web", none).await;
    play.until("web", "the new strategy", settled).await;
    updates_in_place(play).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_batches_go_on() {
    let writes = [("drain", 1), ("update", 3), ("return", 2)];
    let play = finishes("batch", &writes, [[0, 1], [1, 1]]).await;
    updates_in_place(&play).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resized_amounts_are_waited_for() {
    let (play, before) = left("resources", |_| ()).await;
    play.operator();
    play.until("web", "the second pod", settled).await;
    for (name, pod) in play.list().await {
        assert_eq!(restarts(&pod), restarts(&before[&name]));
        assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"]["cpu"], "2");
        assert!(kruise::completed(&pod), "{name}");
    }
    updates_in_place(&play).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemons_restart_is_waited_for() {
    let (play, before) = left("environment", |fixture| {
        fixture["cloneset"]["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(1);
    })
    .await;
    play.operator();
    let waits = |set: &Value| {
        let message = set["status"]["conditions"].to_string();
        message.contains("web-c4xk7") || message.contains("new image")
    };
    play.until("web", "its waiting", waits).await;
    assert_eq!(writes(&play), BTreeMap::new());
    // The daemon restarts the container and reports it.
    let held = play.hold_kubelets().await;
    let mut status = before["web-c4xk7"]["status"]["containerStatuses"].clone();
    status[0]["containerID"] = json!("containerd://another");
    status[0]["restartCount"] = json!(1);
    let report = before["web-c4xk7"]["metadata"]["annotations"]["apps.kruise.io/runtime-containers-meta"].as_str();
    let mut report: Value = serde_json::from_str(report.unwrap()).unwrap();
    report["containers"][0]["containerID"] = json!("containerd://another");
    report["containers"][0]["hashes"]["extractedEnvFromMetadataHash"] =
        json!(crate::play::go_hash(r#"[{"name":"MODE","value":"b"}]"#));
    let patch = json!({"metadata": {"annotations": {"apps.kruise.io/runtime-containers-meta": report.to_string()}},
        "status": {"containerStatuses": status}});
    play.pods()
        .patch_status("web-c4xk7", &PatchParams::default(), &Patch::Strategic(&patch))
        .await
        .unwrap();
    let opened = |pod: &Value| {
        pod["metadata"]["name"] == "web-c4xk7"
            && kruise::refresh(pod) == Step::Nothing
            && pod["metadata"]["labels"]["lifecycle.apps.kruise.io/state"] == "Normal"
    };
    let pod = play.until_pod("the gate's opening", opened).await;
    assert!(kruise::completed(&pod));
    // A write is counted once it is answered.
    play.until_pods("the count", |_| !writes(&play).is_empty()).await;
    assert_eq!(writes(&play), [("return", 1)].into());
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_hold_on() {
    let (play, before) = left("hooks", |_| ()).await;
    play.operator();
    let waits = |set: &Value| {
        let message = set["status"]["conditions"].to_string();
        message.contains("hook")
    };
    play.until("web", "its waiting", waits).await;
    assert_eq!(
        play.list().await["web-c4xk7"],
        before["web-c4xk7"],
        "held by the finalizer"
    );
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    play.pods()
        .patch("web-c4xk7", &PatchParams::default(), &free)
        .await
        .unwrap();
    let updated = |pod: &Value| {
        pod["metadata"]["name"] == "web-c4xk7"
            && pod["metadata"]["labels"]["lifecycle.apps.kruise.io/state"] == "Updated"
    };
    let pod = play.until_pod("the update", updated).await;
    assert_eq!(restarts(&pod), [1, 0]);
    // Out of service already, so it may go, too: the hook's key comes beside the other writer's.
    let conditions = &play.list().await["web-m8w2z"]["status"]["conditions"];
    let mut conditions = conditions.as_array().unwrap().iter();
    let gate = conditions
        .find(|condition| condition["type"] == "KruisePodReady")
        .unwrap();
    let keys: Value = serde_json::from_str(gate["message"].as_str().unwrap()).unwrap();
    let other = json!({"userAgent": "ContainerRecreateRequest", "key": "default/x"});
    assert!(
        keys.as_array().unwrap().contains(&other),
        "another writer's key stays: {keys}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn specified_pods_are_replaced() {
    let (play, before) = left("specified", |_| ()).await;
    play.operator();
    let done = |set: &Value| settled(set) && set["spec"]["scaleStrategy"].get("podsToDelete").is_none();
    play.until("web", "new pods", done).await;
    let only_new = |pods: &BTreeMap<String, Value>| pods.keys().all(|name| !before.contains_key(name));
    let pods = play.until_pods("the end of the old ones", only_new).await;
    assert_eq!(kruise::revisions(&play).await.len(), 1);
    for pod in pods.values() {
        assert_eq!(kruise::refresh(pod), Step::Nothing);
    }
}
