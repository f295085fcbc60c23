//! Image pull jobs on a real API server, with the operator's rights and nodes that answer when they are told to.

use std::time::Duration;

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::play::{PATIENCE, Play};

struct Stage {
    play: Play,
}

fn api(play: &Play, version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match namespace {
        Some(namespace) => Api::namespaced_with(play.client.clone(), namespace, &resource),
        None => Api::all_with(play.client.clone(), &resource),
    }
}

impl Stage {
    async fn new(nodes: usize) -> Self {
        let stage = Self {
            play: Play::without_operator(crate::QUICK).await,
        };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kruise-daemon-config"}});
        stage.create("v1", "Namespace", None, namespace).await;
        for n in 0..nodes {
            stage.node(&format!("n{n}")).await;
        }
        stage.play.operator();
        stage
    }

    async fn node(&self, name: &str) {
        let node = json!({"metadata": {"name": name, "labels": {"name": name}}});
        self.create("v1", "Node", None, node).await;
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let nodes = api(&self.play, "v1", "Node", None);
        let (params, patch) = (PatchParams::default(), Patch::Merge(&ready));
        nodes.patch_status(name, &params, &patch).await.unwrap();
    }

    async fn create(&self, version: &str, kind: &str, namespace: Option<&str>, mut object: Value) {
        object["apiVersion"] = json!(version);
        object["kind"] = json!(kind);
        let object = serde_json::from_value(object).unwrap();
        let api = api(&self.play, version, kind, namespace);
        api.create(&kube::api::PostParams::default(), &object).await.unwrap();
    }

    async fn job(&self, name: &str, spec: Value) {
        let object = json!({"metadata": {"name": name}, "spec": spec});
        self.create("apps.kruise.io/v1beta1", "ImagePullJob", Some("default"), object)
            .await;
    }

    fn jobs(&self) -> Api<DynamicObject> {
        api(&self.play, "apps.kruise.io/v1beta1", "ImagePullJob", Some("default"))
    }

    async fn all(&self, kind: &str, version: &str, namespace: Option<&str>) -> Vec<Value> {
        let list = api(&self.play, version, kind, namespace)
            .list(&ListParams::default())
            .await
            .unwrap();
        list.iter()
            .map(|object| serde_json::to_value(object).unwrap())
            .collect()
    }

    async fn until(&self, what: &str, kind: &str, pass: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let (version, namespace) = match kind {
            "NodeImage" => ("apps.kruise.io/v1beta1", None),
            "Secret" => ("v1", Some("kruise-daemon-config")),
            _ => ("apps.kruise.io/v1beta1", Some("default")),
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let all = self.all(kind, version, namespace).await;
            if pass(&all) {
                return all;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}: {all:#?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What nodes are asked for and have not answered: node, image, tag and version.
    async fn asked(&self) -> Vec<(String, String, String, i64)> {
        let mut open = Vec::new();
        for node in self.all("NodeImage", "apps.kruise.io/v1beta1", None).await {
            for (image, entry) in node["spec"]["images"].as_object().into_iter().flatten() {
                for tag in entry["tags"].as_array().unwrap() {
                    let (name, version) = (tag["tag"].as_str().unwrap(), tag["version"].as_i64().unwrap_or(0));
                    let told = node["status"]["imageStatuses"][image]["tags"]
                        .as_array()
                        .into_iter()
                        .flatten();
                    let mut told = told.filter(|told| told["version"].as_i64().unwrap_or(0) == version);
                    if !told.any(|told| told["tag"] == name) {
                        let node = node["metadata"]["name"].as_str().unwrap().to_owned();
                        open.push((node, image.clone(), name.to_owned(), version));
                    }
                }
            }
        }
        open
    }

    async fn until_asked(&self, count: usize) -> Vec<(String, String, String, i64)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let asked = self.asked().await;
            if asked.len() == count {
                return asked;
            }
            assert!(Instant::now() < deadline, "{count} were to be asked for: {asked:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn answer(&self, (node, image, tag, version): &(String, String, String, i64), phase: &str) {
        let now = afloat_words::time::whole_seconds(jiff::Timestamp::now());
        let told = json!({"tag": tag, "phase": phase, "version": version, "completionTime": now,
            "message": if phase == "Failed" { "manifest unknown" } else { "" }});
        let status = json!({"status": {"desired": 1, "imageStatuses": {image: {"tags": [told]}}}});
        let nodes = api(&self.play, "apps.kruise.io/v1beta1", "NodeImage", None);
        let (params, patch) = (PatchParams::default(), Patch::Merge(&status));
        nodes.patch_status(node, &params, &patch).await.unwrap();
    }
}

fn named<'a>(all: &'a [Value], name: &str) -> &'a Value {
    all.iter()
        .find(|object| object["metadata"]["name"] == name)
        .unwrap_or(&Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_asks_nodes_one_after_the_other_and_goes_when_its_time_has_come() {
    let stage = Stage::new(3).await;
    stage
        .until("NodeImages of all nodes that are Ready", "NodeImage", |all| {
            all.len() == 3 && named(all, "n1")["metadata"]["labels"] == json!({"name": "n1"})
        })
        .await;
    let policy = json!({"type": "Always", "ttlSecondsAfterFinished": 0});
    stage
        .job(
            "a",
            json!({"image": "web:1", "parallelism": 2, "completionPolicy": policy}),
        )
        .await;
    let asked = stage.until_asked(2).await;
    stage.answer(&asked[0], "Failed").await;
    let next = stage.until_asked(2).await;
    assert!(!next.contains(&asked[0]));
    let jobs = stage
        .until("the failure", "ImagePullJob", |all| {
            let status = &named(all, "a")["status"];
            status["failed"] == 1 && status["active"] == 2
        })
        .await;
    let status = &named(&jobs, "a")["status"];
    assert_eq!([&status["desired"], &status["active"], &status["succeeded"]], [3, 2, 0]);
    assert_eq!(
        status["message"],
        "job is running, progress 33.3%; failed on n0: manifest unknown"
    );
    for one in &next {
        stage.answer(one, "Succeeded").await;
    }
    stage
        .until("the end of the job", "ImagePullJob", <[Value]>::is_empty)
        .await;
    stage
        .until("nothing to be wanted any more", "NodeImage", |all| {
            all.iter()
                .all(|node| node["spec"].get("images").is_none_or(|images| images == &json!({})))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_deleted_fails_by_its_name() {
    let stage = Stage::new(2).await;
    stage.until("NodeImages", "NodeImage", |all| all.len() == 2).await;
    stage.job("a", json!({"image": "web:1", "parallelism": 2})).await;
    let asked = stage.until_asked(2).await;
    let nodes = api(&stage.play, "v1", "Node", None);
    nodes.delete("n1", &DeleteParams::default()).await.unwrap();
    stage.until("one NodeImage", "NodeImage", |all| all.len() == 1).await;
    stage.answer(&asked[0], "Succeeded").await;
    let jobs = stage
        .until("the end of the job", "ImagePullJob", |all| {
            !named(all, "a")["status"]["completionTime"].is_null()
        })
        .await;
    let status = &named(&jobs, "a")["status"];
    assert_eq!(
        (&status["failedNodes"], &status["succeeded"], &status["desired"]),
        (&json!(["n1"]), &json!(1), &json!(2))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_follow_their_source_and_go_with_the_job() {
    let stage = Stage::new(1).await;
    let secret = |data: &str| {
        json!({"metadata": {"name": "login"}, "type": "kubernetes.io/dockercfg",
        "data": {".dockercfg": data}})
    };
    stage.create("v1", "Secret", Some("default"), secret("e30=")).await;
    let policy = json!({"type": "Never"});
    stage
        .job(
            "a",
            json!({"image": "web:1", "pullSecrets": ["login"], "completionPolicy": policy}),
        )
        .await;
    stage.until_asked(1).await;
    let copies = stage.until("a copy", "Secret", |all| all.len() == 1).await;
    assert_eq!(copies[0]["data"][".dockercfg"], "e30=");
    let secrets = api(&stage.play, "v1", "Secret", Some("default"));
    let (params, other) = (PatchParams::default(), json!({"data": {".dockercfg": "eyJhIjp7fX0="}}));
    secrets.patch("login", &params, &Patch::Merge(&other)).await.unwrap();
    stage
        .until("the copy to follow", "Secret", |all| {
            all.iter().any(|copy| copy["data"][".dockercfg"] == "eyJhIjp7fX0=")
        })
        .await;
    stage.jobs().delete("a", &DeleteParams::default()).await.unwrap();
    stage.until("no copy", "Secret", <[Value]>::is_empty).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_has_a_job_for_each_image_and_pods_tell_where() {
    let stage = Stage::new(2).await;
    let pod = json!({"metadata": {"name": "p", "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": "web:1"}]}});
    stage.create("v1", "Pod", Some("default"), pod).await;
    let spec = json!({"images": ["web:1", "db:1"], "parallelism": 2, "podSelector": {"matchLabels": {"app": "web"}}});
    stage
        .create(
            "apps.kruise.io/v1alpha1",
            "ImageListPullJob",
            Some("default"),
            json!({"metadata": {"name": "l"}, "spec": spec}),
        )
        .await;
    let asked = stage.until_asked(2).await;
    assert!(asked.iter().all(|(node, ..)| node == "n1"), "{asked:?}");
    for (one, phase) in asked.iter().zip(["Succeeded", "Failed"]) {
        stage.answer(one, phase).await;
    }
    let lists = stage
        .until("the end of the list", "ImageListPullJob", |all| {
            !named(all, "l")["status"]["completionTime"].is_null()
        })
        .await;
    let status = &named(&lists, "l")["status"];
    assert_eq!(
        [&status["desired"], &status["completed"], &status["succeeded"]],
        [2, 2, 1]
    );
    assert_eq!(status["failedImageStatuses"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_may_not_say_is_refused() {
    let stage = Stage::new(0).await;
    for (spec, says) in [
        (json!({"image": "Web"}), "spec.image"),
        (
            json!({"image": "web", "selector": {"names": ["a", "a"]}}),
            "spec.selector.names[1]",
        ),
        (
            json!({"image": "web", "selector": {"names": ["a"], "matchLabels": {"a": "b"}}}),
            "both names and labelSelector",
        ),
        (
            json!({"image": "web", "selector": {}, "podSelector": {}}),
            "both selector and podSelector",
        ),
        (json!({"image": "web", "parallelism": "50%"}), "spec.parallelism"),
        (
            json!({"image": "web", "completionPolicy": {"type": "Soon"}}),
            "spec.completionPolicy.type",
        ),
        (
            json!({"image": "web", "completionPolicy": {"type": "Never", "ttlSecondsAfterFinished": 1}}),
            "only work with Always",
        ),
        (
            json!({"image": "web", "completionPolicy": {"activeDeadlineSeconds": 10}}),
            "must be greater than",
        ),
    ] {
        let job = json!({"apiVersion": "apps.kruise.io/v1beta1", "kind": "ImagePullJob", "metadata": {"name": "a"}, "spec": spec});
        let job = serde_json::from_value(job).unwrap();
        let refused = stage
            .jobs()
            .create(&kube::api::PostParams::default(), &job)
            .await
            .unwrap_err();
        assert!(refused.to_string().contains(says), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_whose_image_cannot_be_pulled_stops_before_its_first_pod() {
    let stage = Stage::new(0).await;
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let nodes = api(&stage.play, "v1", "Node", None);
    nodes
        .patch_status("node", &PatchParams::default(), &Patch::Merge(&ready))
        .await
        .unwrap();
    let mut set = crate::play::cloneset("web", 4, "app:1", crate::in_place(2, 0));
    set["metadata"]["annotations"] = json!({"afloat.dev/prewarm": "Required"});
    stage.play.create(set).await.unwrap();
    stage.play.until("web", "all pods", crate::play::settled).await;
    stage.play.patch("web", crate::image("app:2")).await;
    let asked = stage.until_asked(1).await;
    assert_eq!(
        (asked[0].0.as_str(), asked[0].1.as_str(), asked[0].2.as_str()),
        ("node", "app", "2")
    );
    stage.answer(&asked[0], "Failed").await;
    let says = |set: &Value, words: &str| {
        let mut conditions = set["status"]["conditions"].as_array().into_iter().flatten();
        conditions.any(|one| {
            one["type"] == "afloat.dev/Rollout" && one["message"].as_str().is_some_and(|text| text.contains(words))
        })
    };
    let why = "4 pods to update held by afloat.dev/prewarm";
    let held = stage
        .play
        .until("web", "the reason", |set| {
            says(set, why) && says(set, "manifest unknown")
        })
        .await;
    assert_eq!(
        (&held["status"]["readyReplicas"], &held["status"]["updatedReplicas"]),
        (&json!(4), &json!(0))
    );
    // Somebody has mended the registry: the node tells of a pull that went well, and the rollout goes on.
    stage.answer(&asked[0], "Succeeded").await;
    stage
        .play
        .until("web", "the end of the rollout", crate::play::settled)
        .await;
    stage
        .until("no job any more", "ImagePullJob", <[Value]>::is_empty)
        .await;
}

/// A workload of two pods, or of one for the only node.
fn workload(kind: &str, image: &str) -> Value {
    let rolling = match kind {
        "DaemonSet" => json!({"rollingUpdateType": "Standard"}),
        _ => json!({"podUpdatePolicy": "InPlaceIfPossible"}),
    };
    let mut set = json!({
        "metadata": {"name": "web", "annotations": {"afloat.dev/prewarm": "Required"}},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": image}]}},
        },
    });
    if kind == "StatefulSet" {
        set["spec"]["replicas"] = json!(2);
        set["spec"]["serviceName"] = json!("web");
        set["spec"]["template"]["spec"]["readinessGates"] = json!([{"conditionType": "InPlaceUpdateReady"}]);
    }
    set
}

/// So many pods are updated and available, as the status tells of the present spec.
fn updated(set: &Value, count: u32) -> bool {
    let status = &set["status"];
    let fields = match set["kind"].as_str() {
        Some("DaemonSet") => ["updatedNumberScheduled", "numberAvailable"],
        _ => ["updatedReplicas", "availableReplicas"],
    };
    status["observedGeneration"] == set["metadata"]["generation"] && fields.iter().all(|field| status[field] == count)
}

#[tokio::test(flavor = "multi_thread")]
async fn rollouts_of_each_kind_warm_their_nodes_and_wait_for_that() {
    for (kind, count, stays) in [("StatefulSet", 2, true), ("DaemonSet", 1, false)] {
        let stage = Stage::new(0).await;
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let (params, merge) = (PatchParams::default(), Patch::Merge(&ready));
        let nodes = api(&stage.play, "v1", "Node", None);
        nodes.patch_status("node", &params, &merge).await.unwrap();
        let version = "apps.kruise.io/v1beta1";
        stage
            .create(version, kind, Some("default"), workload(kind, "app:1"))
            .await;
        let first = |all: &[Value]| all.first().cloned().unwrap_or_default();
        stage.until("all pods", kind, |all| updated(&first(all), count)).await;
        let uids = |pods: std::collections::BTreeMap<String, Value>| -> Vec<Value> {
            pods.into_values().map(|pod| pod["metadata"]["uid"].clone()).collect()
        };
        let before = uids(stage.play.list().await);
        assert_eq!(before.len(), count as usize, "{kind}");

        let sets = api(&stage.play, version, kind, Some("default"));
        let patch = Patch::Merge(json!({"spec": workload(kind, "app:2")["spec"]}));
        sets.patch("web", &params, &patch).await.unwrap();
        let asked = stage.until_asked(1).await;
        let place = (asked[0].0.as_str(), asked[0].1.as_str(), asked[0].2.as_str());
        assert_eq!(place, ("node", "app", "2"), "{kind}");
        stage.answer(&asked[0], "Failed").await;
        let says = |set: &Value, words: &str| {
            let mut conditions = set["status"]["conditions"].as_array().into_iter().flatten();
            conditions.any(|one| one["message"].as_str().is_some_and(|text| text.contains(words)))
        };
        let held = format!("{count} pod");
        stage
            .until("the reason", kind, |all| {
                let set = first(all);
                says(&set, &held) && says(&set, "held by afloat.dev/prewarm") && says(&set, "manifest unknown")
            })
            .await;
        assert_eq!(uids(stage.play.list().await), before, "{kind}: nobody has left");
        stage.answer(&asked[0], "Succeeded").await;
        stage
            .until("the end of the rollout", kind, |all| updated(&first(all), count))
            .await;
        assert_eq!(uids(stage.play.list().await) == before, stays, "{kind}");
        stage
            .until("no job any more", "ImagePullJob", <[Value]>::is_empty)
            .await;
    }
}
