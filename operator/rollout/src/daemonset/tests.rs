//! Situations of a DaemonSet and what the plan makes of them. The interleavings are in the package `afloat-model`.

mod placing;
mod prewarm;
mod surging;
mod takeover;
mod updating;

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{DaemonSet, DaemonSetStatus, Gates, names};
use afloat_words::daemon::pinned_to;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::NodeAffinity;
use serde_json::{Value, json};

use crate::action::Action;
use crate::pod::images::{Known, Nodes};
use crate::pod::launch::Opened;
use crate::pod::object::Pod;
use crate::pod::server::Server;
use crate::workload::kind::Workload as _;
use crate::workload::memo::Memo;
use crate::workload::observed::Observed;
use crate::workload::revision::{data, hash, object};
use crate::workload::traffic::Traffic;

type Plan = crate::workload::observed::Plan<DaemonSetStatus>;

const START: &str = "2026-01-01T00:00:00Z";

/// A DaemonSet with an old and a wanted revision, of another image each.
struct Scene {
    set: Value,
    revisions: Vec<Value>,
    nodes: BTreeMap<String, Value>,
    pods: Vec<Value>,
    memo: Memo,
}

/// Place of a revision.
const OLD: usize = 0;
const NEW: usize = 1;

impl Scene {
    /// On so many nodes, n1 and on.
    fn new(nodes: usize, rolling: &Value) -> Self {
        let set = json!({
            "metadata": {"name": "log", "namespace": "n", "uid": "set", "resourceVersion": "1", "generation": 3},
            "spec": {
                "selector": {"matchLabels": {"app": "log"}},
                "template": {"metadata": {"labels": {"app": "log"}}, "spec": {"containers": [{"name": "app", "image": ""}]}},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            },
        });
        let node = |number: usize| {
            let name = format!("n{number}");
            (
                name.clone(),
                json!({"metadata": {"name": name, "labels": {"zone": if number.is_multiple_of(2) { "even" } else { "odd" }}}}),
            )
        };
        let mut scene = Self {
            set,
            revisions: Vec::new(),
            nodes: (1..=nodes).map(node).collect(),
            pods: Vec::new(),
            memo: Memo::default(),
        };
        for image in ["log:1", "log:2"] {
            scene.template()["containers"][0]["image"] = json!(image);
            scene.add_revision();
        }
        scene
    }

    fn template(&mut self) -> &mut Value {
        &mut self.set["spec"]["template"]["spec"]
    }

    /// The revision of the present template.
    fn add_revision(&mut self) {
        let set: DaemonSet = serde_json::from_value(self.set.clone()).unwrap();
        let text = hash(&crate::go::bytes(&data(&set.spec.template)), 0);
        let number = self.revisions.len() + 1;
        let mut revision = object(set.owner(), &text, i64::try_from(number).unwrap());
        revision["metadata"]["uid"] = json!(format!("r{number}"));
        self.revisions.push(revision);
    }

    fn hash(&self, revision: usize) -> String {
        self.revisions[revision]["metadata"]["labels"][names::REVISION]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// An available pod on a node, at a revision, of the name `<node>-<old or new>`.
    fn pod(&mut self, node: &str, revision: usize) -> &mut Value {
        let name = format!("{node}-{}", ["old", "new"][revision]);
        let image = format!("log:{}", revision + 1);
        self.pods.push(json!({
            "metadata": {
                "name": name, "namespace": "n", "uid": name, "resourceVersion": "5", "generation": 1,
                "creationTimestamp": format!("2025-12-0{}T00:00:00Z", revision + 1),
                "labels": {"app": "log", names::REVISION: self.hash(revision)}, "annotations": {},
                "ownerReferences": [{"apiVersion": "apps.kruise.io/v1alpha1", "kind": "DaemonSet", "name": "log",
                    "uid": "set", "controller": true}],
            },
            "spec": {"nodeName": node, "containers": [{"name": "app", "image": image}],
                "readinessGates": [{"conditionType": names::INPLACE_READY}]},
            "status": {
                "phase": "Running",
                "conditions": [
                    {"type": names::INPLACE_READY, "status": "True"},
                    {"type": "Ready", "status": "True", "lastTransitionTime": START},
                ],
                "containerStatuses": [{"name": "app", "image": image, "imageID": format!("id:{image}"), "containerID": "c1",
                    "ready": true, "state": {"running": {}}}],
            },
        }));
        self.pods.last_mut().unwrap()
    }

    /// An old pod on each node.
    fn everywhere(mut self, revision: usize) -> Self {
        for node in self.nodes.keys().cloned().collect::<Vec<_>>() {
            self.pod(&node, revision);
        }
        self
    }

    fn find(&mut self, name: &str) -> &mut Value {
        self.pods
            .iter_mut()
            .find(|pod| pod["metadata"]["name"] == name)
            .unwrap()
    }

    fn plan_after(&self, seconds: i64) -> Plan {
        let set: DaemonSet = serde_json::from_value(self.set.clone()).unwrap();
        let pods = self
            .pods
            .iter()
            .map(|pod| Arc::<Pod>::new(serde_json::from_value(pod.clone()).unwrap()));
        let revisions = self.revisions.iter();
        let revisions: Vec<Arc<ControllerRevision>> = revisions
            .map(|revision| Arc::new(serde_json::from_value(revision.clone()).unwrap()))
            .collect();
        let known = |(name, node): (&String, &Value)| {
            let node = Arc::new(serde_json::from_value(node.clone()).unwrap());
            (name.clone(), Known { node, report: None })
        };
        let nodes: Nodes = self.nodes.iter().map(known).collect();
        set.plan(&Observed {
            pods: &set.roster().with(pods),
            revisions: &revisions,
            claims: &[],
            classes: &[],
            now: START.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds),
            seed: 1,
            drained: &BTreeMap::new(),
            nodes: &nodes,
            opened: &Opened::new(),
            traffic: &Traffic::default(),
            guards: &[],
            lacks: &[],
            server: Server::default(),
            gates: Gates::default(),
            memo: &self.memo,
            recorded: None,
        })
    }

    fn plan(&self) -> Plan {
        self.plan_after(3600)
    }

    /// What is done now, one word per action.
    fn does(&self) -> Vec<String> {
        words(&self.plan())
    }
}

/// The node that a new pod is for.
fn node_of(body: &Value) -> String {
    let affinity: NodeAffinity = serde_json::from_value(body["spec"]["affinity"]["nodeAffinity"].clone()).unwrap();
    pinned_to(&affinity).unwrap().to_owned()
}

/// What a plan does: why and to whom, or where.
fn words(plan: &Plan) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::CreateRevision { .. } => "create revision".to_owned(),
        Action::CreatePod { pod } => format!("create on {}", node_of(&pod.body())),
        Action::DeletePod { at, why, .. }
        | Action::PatchPod { at, why, .. }
        | Action::PatchPodStatus { at, why, .. } => format!("{} {}", why.as_str(), at.name),
        other => format!("{other:?}"),
    };
    plan.actions.iter().map(word).collect()
}

fn taint(key: &str, effect: &str) -> Value {
    json!({"taints": [{"key": key, "effect": effect}]})
}
