//! Three pods of a kind behind a Service, at the old revision of two.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{Condition, Gates, RolloutReport, Status as _, Steps, names};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::{Value, json};

use crate::action::Action;
use crate::action::patch::{ReportPatch, new_report};
use crate::kinds::{Names, Visit, with};
use crate::pod::images::{Known, Nodes};
use crate::pod::launch::Opened;
use crate::pod::object::Pod;
use crate::pod::server::Server;
use crate::workload::foresight::Foreseen;
use crate::workload::memo::Memo;
use crate::workload::observed::{Observed, Recorded};
use crate::workload::revision::{data, hash, object};
use crate::workload::traffic::Traffic;

const START: &str = "2026-01-01T00:00:00Z";
const NODES: [&str; 3] = ["n0", "n1", "n2"];

/// Pods `web-0` to `web-2`, and a workload that wants them otherwise.
pub(super) struct Scene {
    kind: &'static Names,
    pub(super) set: Value,
    revisions: Vec<Value>,
    pods: Vec<Value>,
    pub(super) reports: Vec<Value>,
    traffic: Traffic,
}

/// A plan, without its kind.
pub(super) struct Told {
    actions: Vec<Action>,
    status: Value,
    conditions: Vec<Condition>,
    pub(super) warnings: Vec<&'static str>,
    pub(super) news: Vec<String>,
    pub(super) observes: bool,
}

impl Told {
    pub(super) fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    pub(super) fn words(&self) -> Vec<String> {
        let word = |action: &Action| match action {
            Action::CreatePod { .. } => "create".to_owned(),
            Action::CreateReport { report } => format!("report {}", report.status.phase.as_str()),
            Action::PatchReport { patch, .. } => match patch {
                ReportPatch::Status(status) => format!("report {}", status.phase.as_str()),
                ReportPatch::Superseded { .. } => "report Superseded".to_owned(),
            },
            Action::DeletePod { at, why, .. }
            | Action::PatchPod { at, why, .. }
            | Action::PatchPodStatus { at, why, .. } => format!("{} {}", why.as_str(), at.name),
            other => format!("{other:?}"),
        };
        self.actions.iter().map(word).collect()
    }
}

/// A revision of the present template, and how the kind's pods are labelled with it.
struct Revision<'a> {
    set: &'a Value,
    number: i64,
}

impl Visit for Revision<'_> {
    type Out = (Value, String);
    fn visit<W: Foreseen>(self) -> Self::Out {
        let set: W = serde_json::from_value(self.set.clone()).unwrap();
        let text = hash(&crate::go::bytes(&data(set.template())), 0);
        let mut revision = object(set.owner(), &text, self.number);
        revision["metadata"]["uid"] = json!(format!("r{}", self.number));
        let name = revision["metadata"]["name"].as_str().unwrap();
        let label = set.naming().label(name, Gates::default()).to_owned();
        (revision, label)
    }
}

struct Planned<'a>(&'a Scene, i64);

impl Visit for Planned<'_> {
    type Out = Told;
    fn visit<W: Foreseen>(self) -> Told {
        fn read<T: serde::de::DeserializeOwned>(values: &[Value]) -> Vec<Arc<T>> {
            let read = |value: &Value| Arc::new(serde_json::from_value(value.clone()).unwrap());
            values.iter().map(read).collect()
        }
        let Self(scene, seconds) = self;
        let set: W = serde_json::from_value(scene.set.clone()).unwrap();
        let known = |name: &&str| {
            let node = json!({"metadata": {"name": name}});
            let node = Arc::new(serde_json::from_value(node).unwrap());
            ((*name).to_owned(), Known { node, report: None })
        };
        let nodes: Nodes = NODES.iter().map(known).collect();
        let plan = set.plan(&Observed {
            pods: &set.roster().with(read::<Pod>(&scene.pods)),
            revisions: &read::<ControllerRevision>(&scene.revisions),
            claims: &[],
            classes: &[],
            now: START.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds),
            seed: 1,
            drained: &BTreeMap::new(),
            nodes: &nodes,
            opened: &Opened::new(),
            traffic: &scene.traffic,
            guards: &[],
            server: Server::default(),
            gates: Gates::default(),
            lacks: &[],
            memo: &Memo::default(),
            recorded: Some(Recorded {
                reports: &read::<RolloutReport>(&scene.reports),
                departed: &BTreeMap::new(),
                writes: 7,
                steps: &Steps::default(),
            }),
        });
        Told {
            conditions: plan.status.conditions().to_vec(),
            status: serde_json::to_value(&plan.status).unwrap(),
            actions: plan.actions,
            warnings: plan.warnings.iter().map(|(reason, _)| *reason).collect(),
            news: plan.news.into_iter().map(|(_, message)| message).collect(),
            observes: plan.observes,
        }
    }
}

impl Scene {
    /// `rolling`: its `updateStrategy.rollingUpdate`.
    pub(super) fn new(kind: &'static Names, rolling: &Value, annotations: &Value) -> Self {
        let mut set = json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "set", "resourceVersion": "1", "generation": 1,
                "annotations": annotations},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": ""}]}},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            },
        });
        if !kind.per_node {
            set["spec"]["replicas"] = json!(NODES.len());
        }
        let (mut revisions, mut labels) = (Vec::new(), Vec::new());
        for (number, image) in [(1, "app:1"), (2, "app:2")] {
            set["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
            let (revision, label) = with(kind.kind, Revision { set: &set, number }).unwrap();
            revisions.push(revision);
            labels.push(label);
        }
        let name = revisions[0]["metadata"]["name"].clone();
        // As it was told before the new template came.
        set["status"] = match kind.per_node {
            true => json!({"updateRevision": labels[0], "desiredNumberScheduled": NODES.len()}),
            false => json!({"currentRevision": name, "updateRevision": name}),
        };
        let pods = (0..NODES.len()).map(|index| pod(kind, index, &labels[0])).collect();
        let mut scene = Self {
            kind,
            set,
            revisions,
            pods,
            reports: Vec::new(),
            traffic: Traffic::default(),
        };
        scene.count(100, &[]);
        scene
    }

    pub(super) fn named(&self, revision: usize) -> Value {
        self.revisions[revision]["metadata"]["name"].clone()
    }

    fn find(&mut self, name: &str) -> &mut Value {
        let mut pods = self.pods.iter_mut();
        pods.find(|pod| pod["metadata"]["name"] == name).unwrap()
    }

    /// What one node's proxy counts: connections to the Service, and of each pod how many were reset; it sends to all of them.
    pub(super) fn count(&mut self, connections: u64, reset: &[(&str, u64)]) {
        let said = |pod: &Value| {
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            let reset = reset.iter().find(|(other, _)| *other == name);
            let reset = reset.map_or(0, |(_, count)| *count);
            let said = json!({"pod": format!("n/{name}"), "applied": 6, "ready": true, "routed": true, "reset": reset});
            (pod["metadata"]["uid"].as_str().unwrap().to_owned(), said)
        };
        let pods: BTreeMap<String, Value> = self.pods.iter().map(said).collect();
        let status = json!({"synced": true, "pods": pods, "services": {"n/web": connections}});
        self.report(&[("one", status)]);
    }

    /// What the nodes' proxies say.
    pub(super) fn report(&mut self, nodes: &[(&str, Value)]) {
        let service = json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {"selector": {"app": "web"}}});
        self.traffic.services = vec![Arc::new(serde_json::from_value(service).unwrap())];
        let read = |(node, status): &(&str, Value)| {
            let report = serde_json::from_value(json!({"status": status})).unwrap();
            ((*node).to_owned(), Some(Arc::new(report)))
        };
        self.traffic.nodes = nodes.iter().map(read).collect();
    }

    pub(super) fn plan(&self, seconds: i64) -> Told {
        with(self.kind.kind, Planned(self, seconds)).unwrap()
    }

    /// The pod that a plan is about first.
    pub(super) fn first(&self, told: &Told) -> String {
        let words = told.words();
        let number = words.iter().find_map(|word| Some(word.split_once(" web-")?.1));
        let number = number.unwrap_or_else(|| panic!("{}: no pod in {words:?}", self.kind.kind));
        format!("web-{number}")
    }

    /// What the API server makes of a plan's reports, of its patches of pods' statuses, and of its status.
    pub(super) fn carry_out(&mut self, told: &Told) {
        for action in &told.actions {
            match action {
                Action::CreateReport { report } => {
                    let mut body = new_report(report);
                    body["metadata"]["uid"] = body["metadata"]["name"].clone();
                    body["metadata"]["resourceVersion"] = json!("1");
                    self.reports.push(body);
                }
                Action::PatchReport { at, patch } => {
                    let mut all = self.reports.iter_mut();
                    let report = all.find(|report| report["metadata"]["name"] == *at.name).unwrap();
                    for (key, value) in patch.json(at)["status"].as_object().unwrap() {
                        report["status"][key] = value.clone();
                    }
                }
                Action::PatchPodStatus { at, patch, .. } => {
                    let patch = patch.json(at);
                    let conditions = self.find(&at.name)["status"]["conditions"].as_array_mut().unwrap();
                    for new in patch["status"]["conditions"].as_array().unwrap() {
                        conditions.retain(|old| old["type"] != new["type"]);
                        conditions.push(new.clone());
                    }
                }
                _ => {}
            }
        }
        self.set["status"] = told.status.clone();
    }

    /// The pod has come to the new revision, and serves.
    pub(super) fn move_on(&mut self, name: &str) {
        let new = Revision {
            set: &self.set,
            number: 2,
        };
        let (_, label) = with(self.kind.kind, new).unwrap();
        let pod = self.find(name);
        pod["metadata"]["labels"][names::REVISION] = json!(label);
        pod["metadata"]["annotations"][names::INPLACE_STATE] = json!(json!({"revision": label}).to_string());
        pod["spec"]["containers"][0]["image"] = json!("app:2");
        pod["status"] = serves("app:2");
    }
}

/// A pod that serves.
fn pod(kind: &Names, index: usize, label: &str) -> Value {
    let name = format!("web-{index}");
    json!({
        "metadata": {
            "name": name, "namespace": "n", "uid": format!("u{index}"), "resourceVersion": "5", "generation": 1,
            "labels": {"app": "web", names::REVISION: label, names::LIFECYCLE_STATE: "Normal",
                names::POD_NAME: name, names::POD_INDEX: index.to_string()},
            "annotations": {},
            "ownerReferences": [{"apiVersion": "apps.kruise.io/v1beta1", "kind": kind.kind, "name": "web",
                "uid": "set", "controller": true}],
        },
        "spec": {"nodeName": NODES[index], "containers": [{"name": "app", "image": "app:1"}],
            "readinessGates": [{"conditionType": names::INPLACE_READY}]},
        "status": serves("app:1"),
    })
}

fn serves(image: &str) -> Value {
    json!({
        "phase": "Running",
        "conditions": [
            {"type": names::INPLACE_READY, "status": "True"},
            {"type": "Ready", "status": "True", "lastTransitionTime": START},
        ],
        "containerStatuses": [{"name": "app", "image": image, "imageID": format!("id:{image}"), "containerID": "c1",
            "ready": true, "state": {"running": {}}}],
    })
}
