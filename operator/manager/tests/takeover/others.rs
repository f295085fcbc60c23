//! The same for StatefulSets and DaemonSets, from what the manager of OpenKruise 1.9.1 has written itself, and back.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams};
use serde_json::{Value, json};

use super::back::without_defaults;
use super::kruise::{self, AGENT, DB, Set, Step};
use super::{QUICK, edit, restarts, set_image, store, writes};
use crate::play::Play;

fn fixture(set: Set, name: &str) -> Value {
    let text = match (set.name, name) {
        ("db", "rest") => include_str!("fixtures/statefulset/rest.json"),
        ("db", "written") => include_str!("fixtures/statefulset/written.json"),
        ("db", "updated") => include_str!("fixtures/statefulset/updated.json"),
        ("db", "grace") => include_str!("fixtures/statefulset/grace.json"),
        ("db", "anew") => include_str!("fixtures/statefulset/anew.json"),
        ("agent", "rest") => include_str!("fixtures/daemonset/rest.json"),
        ("agent", "written") => include_str!("fixtures/daemonset/written.json"),
        ("agent", "updated") => include_str!("fixtures/daemonset/updated.json"),
        ("agent", "anew") => include_str!("fixtures/daemonset/anew.json"),
        ("agent", "surge") => include_str!("fixtures/daemonset/surge.json"),
        (set, name) => panic!("no fixture {name} of {set}"),
    };
    serde_json::from_str(text).unwrap()
}

/// A cluster as OpenKruise left it, before an operator starts: the pods' nodes, and the pods by name.
async fn left(set: Set, name: &str, change: impl FnOnce(&mut Value)) -> (Play, BTreeMap<String, Value>) {
    let play = Play::without_operator(QUICK).await;
    let held = play.hold_kubelets().await;
    let mut fixture = fixture(set, name);
    change(&mut fixture);
    let nodes = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Node"));
    let nodes: Api<DynamicObject> = Api::all_with(play.client.clone(), &nodes);
    if set.kind == AGENT.kind {
        // Which would want a pod.
        nodes.delete("node", &DeleteParams::default()).await.unwrap();
    }
    let pods = fixture["pods"].as_array().unwrap();
    let there: BTreeSet<&str> = pods.iter().filter_map(|pod| pod["spec"]["nodeName"].as_str()).collect();
    for node in there.into_iter().chain(["sim-1", "sim-2"]).collect::<BTreeSet<_>>() {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}});
        let node = serde_json::from_value(node).unwrap();
        nodes.create(&PostParams::default(), &node).await.unwrap();
    }
    let owner = store(&play, &fixture["set"], None).await;
    for list in ["revisions", "claims", "pods"] {
        for object in fixture[list].as_array().unwrap() {
            let owned = object["metadata"]["ownerReferences"].is_array();
            store(&play, object, owned.then_some(&*owner)).await;
        }
    }
    let pods = play.list().await;
    drop(held);
    (play, pods)
}

/// The operator has said of the present spec that all of it is there.
fn settled(set: &Value) -> bool {
    let conditions = set["status"]["conditions"].as_array();
    let available = format!("{}Available", set["kind"].as_str().unwrap());
    let said = |condition: &Value| condition["type"] == "afloat.dev/Rollout" && condition["reason"] == *available;
    set["status"]["observedGeneration"] == set["metadata"]["generation"]
        && conditions.is_some_and(|all| all.iter().any(said))
}

async fn until_settled(play: &Play, set: Set, what: &str) -> Value {
    play.until_set(set.kind, set.name, what, settled).await
}

/// Each pod is at the revision that is wanted, as OpenKruise reads it, which has nothing to do.
async fn is_openkruises(play: &Play, set: Set) {
    let revision = kruise::update_revision(play, set).await.metadata.name.unwrap();
    let status = set.get(play).await["status"]["updateRevision"].clone();
    assert_eq!(status, set.label(&revision));
    for (name, pod) in play.list().await {
        let labels = &pod["metadata"]["labels"];
        assert_eq!(labels["controller-revision-hash"], set.label(&revision), "{name}");
        assert!(labels.get("pod-template-hash").is_none(), "{name}");
        assert_eq!(kruise::refresh(&pod), Step::Nothing, "{name}");
        assert!(kruise::completed(&pod), "{name}");
    }
}

/// An update of ours on adopted pods: in place, one restart, three writes a pod.
async fn updates_in_place(play: &Play, set: Set) {
    let (before, counted) = (play.list().await, writes(play));
    set_image(play, set, "app:9").await;
    until_settled(play, set, "the update by us").await;
    is_openkruises(play, set).await;
    let after = play.list().await;
    assert!(after.keys().eq(before.keys()), "{:?}", after.keys());
    for (name, pod) in after {
        let old = &before[&name];
        assert_eq!(pod["metadata"]["uid"], old["metadata"]["uid"]);
        assert_eq!(restarts(&pod), [restarts(old)[0] + 1, restarts(old)[1]], "{name}");
    }
    for reason in ["drain", "update", "return"] {
        let more = writes(play)[reason] - counted.get(reason).copied().unwrap_or(0);
        assert_eq!(more, before.len() as u64, "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rests_is_not_touched() {
    for set in [DB, AGENT] {
        for name in ["rest", "updated"] {
            let (play, before) = left(set, name, |_| ()).await;
            let revisions = kruise::revisions(&play).await;
            play.operator();
            let object = until_settled(&play, set, name).await;
            let mut status = object["status"].clone();
            let fields = status.as_object_mut().unwrap();
            fields.remove("conditions");
            if set.kind == AGENT.kind {
                // Which is left out there.
                assert_eq!(fields.remove("numberUnavailable"), Some(json!(0)));
            }
            let mut expected = fixture(set, name)["set"]["status"].clone();
            // It was created with all its changes.
            expected["observedGeneration"] = object["metadata"]["generation"].clone();
            assert_eq!(status, expected, "{name}");
            assert_eq!(play.list().await, before, "{name}");
            assert_eq!(kruise::revisions(&play).await, revisions, "{name}");
            assert_eq!(writes(&play), BTreeMap::new(), "{name}");
            updates_in_place(&play, set).await;
        }
    }
}

/// What OpenKruise had begun in place is finished. `expected` are the writes for it; every pod's first container restarts once.
async fn finishes(set: Set, name: &str, expected: &[(&'static str, u64)]) {
    // Those that are ours from the start need not wait as long.
    let (play, before) = left(set, name, |fixture| {
        let rolling = &mut fixture["set"]["spec"]["updateStrategy"]["rollingUpdate"];
        rolling.as_object_mut().unwrap().remove("inPlaceUpdateStrategy");
    })
    .await;
    let revisions = kruise::revisions(&play).await;
    play.operator();
    until_settled(&play, set, name).await;
    assert_eq!(writes(&play), expected.iter().copied().collect(), "{name}");
    assert_eq!(kruise::revisions(&play).await.len(), revisions.len(), "{name}");
    is_openkruises(&play, set).await;
    for (pod, after) in play.list().await {
        let old = &before[&pod];
        assert_eq!(after["metadata"]["uid"], old["metadata"]["uid"]);
        assert_eq!(
            restarts(&after),
            [restarts(old)[0] + 1, restarts(old)[1]],
            "{name}: {pod}"
        );
    }
    updates_in_place(&play, set).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_in_place_goes_on() {
    // Of the first pod only its return is left.
    finishes(DB, "written", &[("drain", 2), ("update", 2), ("return", 3)]).await;
    finishes(AGENT, "written", &[("drain", 1), ("update", 1), ("return", 2)]).await;
    // Its quiet period is over.
    finishes(DB, "grace", &[("drain", 2), ("update", 3), ("return", 3)]).await;
}

/// What OpenKruise had begun by making pods anew is finished: its own new pod stays, and each of the others is made anew once.
async fn makes_anew(set: Set, name: &str, replaced: usize) {
    let (play, before) = left(set, name, |_| ()).await;
    let revisions = kruise::revisions(&play).await;
    play.operator();
    until_settled(&play, set, name).await;
    assert_eq!(kruise::revisions(&play).await.len(), revisions.len(), "{name}");
    is_openkruises(&play, set).await;
    let uids = |pods: &BTreeMap<String, Value>| -> BTreeSet<String> {
        let uid = |pod: &Value| pod["metadata"]["uid"].as_str().unwrap().to_owned();
        pods.values().map(uid).collect()
    };
    let after = play.list().await;
    let new = uids(&after).difference(&uids(&before)).count();
    assert_eq!(new, replaced, "{name}");
    let theirs = before
        .values()
        .find(|pod| pod["spec"].get("nodeName").is_none())
        .unwrap();
    assert!(
        uids(&after).contains(theirs["metadata"]["uid"].as_str().unwrap()),
        "{name}"
    );
    assert_eq!(
        writes(&play).get("recreate").copied(),
        Some(before.len() as u64 - 1),
        "{name}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_are_made_anew_go_on() {
    makes_anew(DB, "anew", 2).await;
    makes_anew(AGENT, "anew", 1).await;
    // Two old ones and a new one: the other node gets its own.
    makes_anew(AGENT, "surge", 1).await;
}

/// `kubectl apply` of the manifest that everybody had all along.
#[tokio::test(flavor = "multi_thread")]
async fn manifests_without_defaults_restart_nothing() {
    for set in [DB, AGENT] {
        let (play, before) = left(set, "updated", |_| ()).await;
        let revisions = kruise::revisions(&play).await;
        let ours = play.operator();
        until_settled(&play, set, "adoption").await;
        edit(&play, set, |set| without_defaults(&mut set["spec"]["template"])).await;
        until_settled(&play, set, "the manifest").await;
        assert_eq!(play.list().await, before);
        assert_eq!(kruise::revisions(&play).await, revisions);
        assert_eq!(writes(&play), BTreeMap::new());
        ours.stop().await;
        assert_eq!(kruise::takes_over(&play, set).await, [""; 0], "nothing to do");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openkruise_takes_back_what_rests() {
    for set in [DB, AGENT] {
        let (play, _) = left(set, "rest", |_| ()).await;
        let ours = play.operator();
        until_settled(&play, set, "adoption").await;
        updates_in_place(&play, set).await;
        ours.stop().await;
        assert_eq!(kruise::takes_over(&play, set).await, [""; 0], "nothing to do");
    }
}

/// Wherever we stop in the middle of an update, OpenKruise ends it, with one restart a pod.
#[tokio::test(flavor = "multi_thread")]
async fn openkruise_takes_back_an_update_after_the_write_of_the_image() {
    for set in [DB, AGENT] {
        let (play, before) = left(set, "updated", |_| ()).await;
        let ours = play.operator();
        until_settled(&play, set, "adoption").await;
        set_image(&play, set, "app:9").await;
        let held = play.hold_kubelets().await;
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
        given_back(&play, set, &before).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openkruise_takes_back_an_update_in_the_middle_of_a_drain() {
    let (play, before) = left(DB, "updated", |fixture| {
        let rolling = &mut fixture["set"]["spec"]["updateStrategy"]["rollingUpdate"];
        rolling["inPlaceUpdateStrategy"] = json!({"gracePeriodSeconds": 3600});
    })
    .await;
    let ours = play.operator();
    until_settled(&play, DB, "adoption").await;
    set_image(&play, DB, "app:9").await;
    play.until_set(DB.kind, DB.name, "a drain", |set| set["status"]["readyReplicas"] == 2)
        .await;
    ours.stop().await;
    given_back(&play, DB, &before).await;
}

async fn given_back(play: &Play, set: Set, before: &BTreeMap<String, Value>) {
    let told = kruise::takes_over(play, set).await;
    assert!(told[0].starts_with("opened"), "{told:?}");
    for (name, pod) in play.list().await {
        let old = &before[&name];
        assert_eq!(pod["metadata"]["uid"], old["metadata"]["uid"], "{name}");
        assert_eq!(
            restarts(&pod),
            [restarts(old)[0] + 1, restarts(old)[1]],
            "{name}: {told:?}"
        );
    }
}
