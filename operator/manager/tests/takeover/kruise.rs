//! OpenKruise as a reader: what its manager would do with a workload's pods, by the rules of the specification
//! (spec/kruise-behaviour.md §7–§9, §13, §16), and a play of it that does so.

use std::collections::BTreeMap;
use std::time::Duration;

use afloat_rollout::go::bytes;
use afloat_rollout::workload::revision::data;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::play::{Play, container_hash};

/// A workload, and how OpenKruise labels its pods.
#[derive(Clone, Copy)]
pub(crate) struct Set {
    pub(crate) kind: &'static str,
    pub(crate) name: &'static str,
    /// With the revision's hash alone, where others have its name.
    hash: bool,
    /// With the hash in a second label.
    twice: bool,
    /// With the state of the pod's life.
    lives: bool,
}

/// The CloneSet of the fixtures.
pub(crate) const WEB: Set = Set {
    kind: "CloneSet",
    name: "web",
    hash: false,
    twice: true,
    lives: true,
};
/// Their StatefulSet.
pub(crate) const DB: Set = Set {
    kind: "StatefulSet",
    name: "db",
    hash: false,
    twice: false,
    lives: true,
};
/// Their DaemonSet.
pub(crate) const AGENT: Set = Set {
    kind: "DaemonSet",
    name: "agent",
    hash: true,
    twice: false,
    lives: false,
};

impl Set {
    /// As labels and records of its pods have a revision.
    pub(crate) fn label(self, revision: &str) -> &str {
        let short = revision.rsplit('-').next().unwrap_or(revision);
        if self.hash { short } else { revision }
    }

    fn labels(self, revision: &str) -> Value {
        let mut labels = json!({REVISION: self.label(revision)});
        if self.twice {
            labels["pod-template-hash"] = json!(revision.rsplit('-').next());
        }
        if self.lives {
            labels[LIFE] = json!("Updating");
        }
        labels
    }

    /// The object.
    pub(crate) async fn get(self, play: &Play) -> Value {
        let object = play.workloads("v1beta1", self.kind).get(self.name).await.unwrap();
        serde_json::to_value(object).unwrap()
    }
}

pub(crate) const STATE: &str = "apps.kruise.io/inplace-update-state";
const GRACE: &str = "apps.kruise.io/inplace-update-grace";
const META: &str = "apps.kruise.io/runtime-containers-meta";
const LIFE: &str = "lifecycle.apps.kruise.io/state";
const REVISION: &str = "controller-revision-hash";
/// The order in which Go writes the state's keys.
pub(crate) const STATE_KEYS: [&str; 11] = [
    "revision",
    "updateTimestamp",
    "lastContainerStatuses",
    "updateEnvFromMetadata",
    "updateResources",
    "updateImages",
    "nextContainerImages",
    "nextContainerRefMetadata",
    "nextContainerResources",
    "preCheckBeforeNext",
    "containerBatchesRecord",
];

/// What the refresh of a pod comes to.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Nothing to do.
    Nothing,
    /// Containers are not complete: stop silently.
    Waits(String),
    /// A quiet period of its own form.
    Grace,
    /// The next containers.
    NextBatch,
    /// The gate is opened.
    Opens,
}

pub(crate) fn annotation<'a>(pod: &'a Value, key: &str, old: &str) -> Option<&'a str> {
    let annotations = &pod["metadata"]["annotations"];
    annotations[key].as_str().or_else(|| annotations[old].as_str())
}

fn state(pod: &Value) -> Option<Value> {
    annotation(pod, STATE, "inplace-update-state").map(|text| serde_json::from_str(text).unwrap())
}

fn condition<'a>(pod: &'a Value, kind: &str) -> &'a Value {
    // A pod whose kubelet has not spoken yet has none.
    let conditions = pod["status"]["conditions"].as_array();
    let found = conditions.and_then(|all| all.iter().find(|condition| condition["type"] == kind));
    found.unwrap_or(&Value::Null)
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = list.as_array().into_iter().flatten().find(|item| item["name"] == name);
    found.unwrap_or(&Value::Null)
}

/// §8, the containers: does each run from its spec? None: yes.
fn open(pod: &Value, state: &Value) -> Option<String> {
    let containers = pod["spec"]["containers"].as_array().unwrap();
    let statuses = &pod["status"]["containerStatuses"];
    let meta = annotation(pod, META, "").map(|text| serde_json::from_str::<Value>(text).unwrap());
    let entry = |name: &str| {
        let entry = named(&meta.as_ref()?["containers"], name);
        (entry["containerID"] == named(statuses, name)["containerID"]).then_some(entry)
    };
    if state["updateEnvFromMetadata"] == true
        && !containers
            .iter()
            .all(|c| environment_is_current(pod, c, entry(text(&c["name"]))))
    {
        return Some("environment".into());
    }
    if state["updateResources"] == true {
        for container in containers {
            let actual = &named(statuses, text(&container["name"]))["resources"];
            if ["limits", "requests"]
                .iter()
                .any(|kind| container["resources"].get(kind) != actual.get(kind))
            {
                return Some(format!("resources of {}", container["name"]));
            }
        }
    }
    let current = |container: &Value| {
        let (name, image) = (text(&container["name"]), text(&container["image"]));
        entry(name).is_some_and(|entry| entry["hashes"]["plainHash"] == container_hash(name, image))
    };
    if meta.is_some() && containers.iter().all(current) {
        return None;
    }
    for (name, before) in state["lastContainerStatuses"].as_object().into_iter().flatten() {
        let status = named(statuses, name);
        if status.is_null() {
            return Some(format!("no status of {name}"));
        }
        let wanted = text(&named(&pod["spec"]["containers"], name)["image"]);
        let wanted = if wanted.contains(':') {
            wanted.to_owned()
        } else {
            format!("{wanted}:latest")
        };
        if status["imageID"] == before["imageID"] && status["image"] != wanted {
            return Some(format!("imageID of {name} not changed"));
        }
    }
    None
}

fn environment_is_current(pod: &Value, container: &Value, entry: Option<&Value>) -> bool {
    let Some(entry) = entry else { return false };
    let mut list = BTreeMap::new();
    for variable in container["env"].as_array().into_iter().flatten() {
        let path = variable["valueFrom"]["fieldRef"]["fieldPath"]
            .as_str()
            .unwrap_or_default();
        if let Some(key) = path
            .strip_prefix("metadata.annotations['")
            .and_then(|rest| rest.strip_suffix("']"))
        {
            list.insert(text(&variable["name"]), pod["metadata"]["annotations"][key].clone());
        }
    }
    let list: Vec<_> = list
        .into_iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let text = if list.is_empty() {
        "null".to_owned()
    } else {
        json!(list).to_string()
    };
    entry["hashes"]["extractedEnvFromMetadataHash"] == crate::play::go_hash(&text)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn waits_for_batch(state: &Value) -> bool {
    [
        "nextContainerImages",
        "nextContainerRefMetadata",
        "nextContainerResources",
    ]
    .iter()
    .any(|key| state[key].as_object().is_some_and(|map| !map.is_empty()))
}

/// §8: whether OpenKruise takes the last update for complete.
pub(crate) fn completed(pod: &Value) -> bool {
    annotation(pod, GRACE, "inplace-update-grace").is_none()
        && state(pod).is_none_or(|state| !waits_for_batch(&state) && open(pod, &state).is_none())
}

/// §7.
pub(crate) fn refresh(pod: &Value) -> Step {
    if annotation(pod, GRACE, "inplace-update-grace").is_some() {
        return Step::Grace;
    }
    if let Some(state) = state(pod) {
        if let Some(open) = open(pod, &state) {
            return Step::Waits(open);
        }
        if waits_for_batch(&state) {
            let required = state["preCheckBeforeNext"]["containersRequiredReady"].as_array();
            let unready = |name: &&Value| named(&pod["status"]["containerStatuses"], text(name))["ready"] != true;
            return match required.into_iter().flatten().find(unready) {
                Some(name) => Step::Waits(format!("{name} to be Ready")),
                None => Step::NextBatch,
            };
        }
    }
    let gates = pod["spec"]["readinessGates"].as_array().into_iter().flatten();
    let gated = gates
        .into_iter()
        .any(|gate| gate["conditionType"] == "InPlaceUpdateReady");
    let gate = condition(pod, "InPlaceUpdateReady");
    if gated && (gate["status"] != "True" || !text(&gate["reason"]).is_empty() || !text(&gate["message"]).is_empty()) {
        return Step::Opens;
    }
    Step::Nothing
}

/// Whether the pod counts as being at a revision (§4.4).
pub(crate) fn at_revision(pod: &Value, revision: &str) -> bool {
    let label = text(&pod["metadata"]["labels"][REVISION]);
    label == revision || label.rsplit('-').next() == revision.rsplit('-').next()
}

pub(crate) async fn revisions(play: &Play) -> Vec<ControllerRevision> {
    let api: Api<ControllerRevision> = Api::namespaced(play.client.clone(), "default");
    let mut list = api.list(&ListParams::default()).await.unwrap().items;
    list.sort_by_key(|revision| revision.revision);
    list
}

/// The revision that OpenKruise finds for the stored template: equal byte by byte, or it would create another, and every
/// pod would be outdated.
pub(crate) async fn update_revision(play: &Play, set: Set) -> ControllerRevision {
    let set = set.get(play).await;
    let wanted = bytes(&data(&set["spec"]["template"]));
    let revisions = revisions(play).await;
    let mut equal = revisions
        .iter()
        .rev()
        .filter(|revision| bytes(&revision.data.as_ref().unwrap().0) == wanted);
    equal.next().cloned().unwrap_or_else(|| {
        let known: Vec<_> = revisions
            .iter()
            .map(|r| String::from_utf8(bytes(&r.data.as_ref().unwrap().0)).unwrap())
            .collect();
        panic!(
            "OpenKruise would create a revision:\n{}\n{known:#?}",
            String::from_utf8(wanted.clone()).unwrap()
        )
    })
}

/// Whether the pod is Normal from now on: it has been changed, or it has got a node.
fn lives_on(pod: &Value) -> bool {
    match text(&pod["metadata"]["labels"][LIFE]) {
        "Updating" => completed(pod),
        "PreparingNormal" => pod["spec"]["nodeName"].is_string(),
        _ => false,
    }
}

/// Lets the played manager work until all pods are updated and in service; returns what it did, in order.
pub(crate) async fn takes_over(play: &Play, set: Set) -> Vec<String> {
    let mut told = Vec::new();
    for _ in 0..9000 {
        let done = round(play, set).await;
        let revision = update_revision(play, set).await.metadata.name.unwrap();
        let pods = play.list().await;
        let rests = |pod: &Value| {
            at_revision(pod, &revision)
                && completed(pod)
                && condition(pod, "Ready")["status"] == "True"
                && ["", "Normal"].contains(&text(&pod["metadata"]["labels"][LIFE]))
        };
        if done.is_empty() && pods.values().all(rests) {
            return told;
        }
        told.extend(done);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("OpenKruise is stuck after {told:#?}: {:#?}", play.list().await);
}

/// What OpenKruise's controller for it does about the gate that pods of all its kinds have: it is open unless somebody closed it.
async fn open_for_all(play: &Play, pod: &Value) {
    let gates = pod["spec"]["readinessGates"].as_array();
    let has = gates.is_some_and(|gates| gates.iter().any(|gate| gate["conditionType"] == "KruisePodReady"));
    if has && condition(pod, "KruisePodReady").is_null() {
        status(play, pod, &json!([{"type": "KruisePodReady", "status": "True"}])).await;
    }
}

/// One reconcile: refresh all, then, if nothing was done, update one pod within a budget of one.
async fn round(play: &Play, set: Set) -> Vec<String> {
    let mut did = Vec::new();
    let pods = play.list().await;
    for (name, pod) in &pods {
        open_for_all(play, pod).await;
        match refresh(pod) {
            Step::Opens => {
                let gate = json!([{"type": "InPlaceUpdateReady", "status": "True", "reason": null, "message": null}]);
                status(play, pod, &gate).await;
                did.push(format!("opened {name}"));
            }
            Step::NextBatch => {
                let state = state(pod).unwrap();
                let images = state["nextContainerImages"].clone();
                let revision = text(&state["revision"]);
                write(play, set, pod, revision, &images, &state["lastContainerStatuses"]).await;
                did.push(format!("next batch of {name}"));
            }
            Step::Grace => panic!("a quiet period in OpenKruise's form is not played"),
            Step::Waits(_) | Step::Nothing if lives_on(pod) => {
                merge(play, pod, json!({"labels": {LIFE: "Normal"}}), Value::Null).await;
                did.push(format!("normal {name}"));
            }
            Step::Waits(_) | Step::Nothing => {}
        }
    }
    if !did.is_empty() {
        return did;
    }
    let revision = update_revision(play, set).await;
    let update = revision.metadata.name.clone().unwrap();
    let available = |pod: &Value| {
        condition(pod, "Ready")["status"] == "True" && ["", "Normal"].contains(&text(&pod["metadata"]["labels"][LIFE]))
    };
    let unavailable = pods.values().filter(|pod| !available(pod)).count();
    let candidate = |pod: &&Value| !at_revision(pod, &update) && (unavailable == 0 || !available(pod));
    // From the largest ordinal down; the others have no order that matters here.
    let Some(pod) = pods.values().rev().find(candidate) else {
        return did;
    };
    let old = revisions(play).await.into_iter();
    let mut old = old.filter(|old| at_revision(pod, old.metadata.name.as_deref().unwrap()));
    let old = old.next().expect("a known revision, or the pod would be recreated");
    let images = images(&old.data.unwrap().0, &revision.data.unwrap().0);
    status(
        play,
        pod,
        &json!([{"type": "InPlaceUpdateReady", "status": "False", "reason": "StartInPlaceUpdate"}]),
    )
    .await;
    let pod = serde_json::to_value(play.pods().get(text(&pod["metadata"]["name"])).await.unwrap()).unwrap();
    write(play, set, &pod, &update, &images, &Value::Null).await;
    did.push(format!("updated {}", text(&pod["metadata"]["name"])));
    did
}

/// §5: the images by container, if nothing else differs.
fn images(old: &Value, new: &Value) -> Value {
    let containers = |data: &Value| {
        data["spec"]["template"]["spec"]["containers"]
            .as_array()
            .unwrap()
            .clone()
    };
    let mut same = old.clone();
    let mut images = json!({});
    for (index, (before, after)) in containers(old).iter().zip(containers(new)).enumerate() {
        if before["image"] != after["image"] {
            images[text(&before["name"])] = after["image"].clone();
            same["spec"]["template"]["spec"]["containers"][index]["image"] = after["image"].clone();
        }
    }
    assert_eq!(&same, new, "OpenKruise could not update this in place");
    images
}

/// §6.3: labels, state and images in one update.
async fn write(play: &Play, set: Set, pod: &Value, revision: &str, images: &Value, last: &Value) {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut last = last.as_object().cloned().unwrap_or_default();
    for name in images.as_object().unwrap().keys() {
        let status = named(&pod["status"]["containerStatuses"], name);
        last.entry(name.clone())
            .or_insert(json!({"imageID": status["imageID"]}));
    }
    let names: Vec<_> = images.as_object().unwrap().keys().collect();
    let state = json!({"revision": set.label(revision), "updateTimestamp": now, "lastContainerStatuses": last, "updateImages": true,
        "containerBatchesRecord": [{"timestamp": now, "containers": names}]});
    let metadata = json!({
        "labels": set.labels(revision),
        "annotations": {STATE: state.to_string(), "inplace-update-state": null},
    });
    let list: Vec<_> = images
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, image)| json!({"name": name, "image": image}))
        .collect();
    merge(play, pod, metadata, json!({"containers": list})).await;
}

async fn merge(play: &Play, pod: &Value, mut metadata: Value, spec: Value) {
    metadata["resourceVersion"] = pod["metadata"]["resourceVersion"].clone();
    let mut patch = json!({"metadata": metadata});
    if !spec.is_null() {
        patch["spec"] = spec;
    }
    // A conflict: the next round looks again.
    let _ = play
        .pods()
        .patch(
            text(&pod["metadata"]["name"]),
            &PatchParams::default(),
            &Patch::Strategic(&patch),
        )
        .await;
}

async fn status(play: &Play, pod: &Value, conditions: &Value) {
    let name = text(&pod["metadata"]["name"]);
    let patch = json!({"metadata": {"resourceVersion": pod["metadata"]["resourceVersion"]}, "status": {"conditions": conditions}});
    let _ = play
        .pods()
        .patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch))
        .await;
}
