//! Situations and what the plan makes of them. The interleavings are in the package `afloat-model`.

mod claims;
mod life;
mod prewarm;
mod scale;
mod update;

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{Gates, StatefulSet, StatefulSetStatus, names};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::{Value, json};

use crate::action::Action;
use crate::pod::images::Nodes;
use crate::pod::launch::Opened;
use crate::pod::object::Pod;
use crate::pod::server::Server;
use crate::workload::claim::{Claim, StorageClass};
use crate::workload::kind::Workload;
use crate::workload::memo::Memo;
use crate::workload::observed::{Observed, Plan};
use crate::workload::revision::{data, hash, object};
use crate::workload::traffic::Traffic;

const START: &str = "2026-01-01T00:00:00Z";

/// A StatefulSet of three with revisions for two images, the second of which is wanted.
struct Scene {
    set: Value,
    revisions: Vec<Value>,
    pods: Vec<Value>,
    claims: Vec<Value>,
    classes: Vec<Value>,
    nodes: Nodes,
    gates: Gates,
}

impl Scene {
    /// `rolling`: its `updateStrategy.rollingUpdate`.
    fn new(rolling: &Value) -> Self {
        let mut scene = Self {
            set: json!({
                "metadata": {"name": "web", "namespace": "n", "uid": "set", "resourceVersion": "1", "generation": 1},
                "spec": {
                    "replicas": 3, "serviceName": "peers",
                    "selector": {"matchLabels": {"app": "web"}},
                    "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": ""}]}},
                    "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
                },
            }),
            revisions: Vec::new(),
            pods: Vec::new(),
            claims: Vec::new(),
            classes: Vec::new(),
            nodes: Nodes::default(),
            gates: Gates::default(),
        };
        for (index, image) in ["old", "new"].iter().enumerate() {
            scene.set["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
            let set: StatefulSet = serde_json::from_value(scene.set.clone()).unwrap();
            let text = hash(&crate::go::bytes(&data(&set.spec.template)), 0);
            let mut revision = object(set.owner(), &text, i64::try_from(index).unwrap() + 1);
            revision["metadata"]["uid"] = json!(format!("r{index}"));
            scene.revisions.push(revision);
        }
        scene.set["status"] = json!({"currentRevision": scene.revision("old")});
        scene
    }

    /// The same with pods at these ordinals that are available at the old revision.
    fn with_old(rolling: &Value, ordinals: &[u32]) -> Self {
        let mut scene = Self::new(rolling);
        for ordinal in ordinals {
            scene.pod(*ordinal, "old");
        }
        scene
    }

    fn spec(mut self, field: &str, value: Value) -> Self {
        self.set["spec"][field] = value;
        self
    }

    fn revision(&self, image: &str) -> String {
        let index = usize::from(image == "new");
        self.revisions[index]["metadata"]["name"].as_str().unwrap().to_owned()
    }

    /// An available pod.
    fn pod(&mut self, ordinal: u32, image: &str) -> &mut Value {
        let name = format!("web-{ordinal}");
        self.pods.push(json!({
            "metadata": {
                "name": name, "namespace": "n", "uid": format!("u{ordinal}"), "resourceVersion": "5", "generation": 1,
                "labels": {"app": "web", names::REVISION: self.revision(image), names::LIFECYCLE_STATE: "Normal",
                    names::POD_NAME: name, names::POD_INDEX: ordinal.to_string()},
                "annotations": {},
                "ownerReferences": [{"apiVersion": "apps.kruise.io/v1beta1", "kind": "StatefulSet", "name": "web",
                    "uid": "set", "controller": true}],
            },
            "spec": {"nodeName": "node", "containers": [{"name": "app", "image": image}],
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

    fn of(&mut self, ordinal: u32) -> &mut Value {
        let name = format!("web-{ordinal}");
        let mut pods = self.pods.iter_mut();
        pods.find(|pod| pod["metadata"]["name"] == name.as_str()).unwrap()
    }

    fn break_pod(&mut self, ordinal: u32) -> &mut Self {
        self.of(ordinal)["status"]["conditions"][1]["status"] = json!("False");
        self
    }

    fn terminate(&mut self, ordinal: u32) -> &mut Self {
        self.of(ordinal)["metadata"]["deletionTimestamp"] = json!(START);
        self
    }

    /// The claim of an ordinal that asks for and has this much, of class `fast`.
    fn claim(&mut self, ordinal: u32, asked: &str, has: &str) -> &mut Value {
        self.claims.push(json!({
            "metadata": {"name": format!("data-web-{ordinal}"), "namespace": "n", "uid": format!("c{ordinal}"), "resourceVersion": "3"},
            "spec": {"storageClassName": "fast", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": asked}}},
            "status": {"capacity": {"storage": has}},
        }));
        self.claims.last_mut().unwrap()
    }

    /// A claim of 1Gi for each pod.
    fn with_claims(mut self) -> Self {
        self.set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
        self
    }

    fn plan(&self) -> Plan<StatefulSetStatus> {
        self.plan_after(600)
    }

    fn plan_after(&self, seconds: i64) -> Plan<StatefulSetStatus> {
        fn all<T: serde::de::DeserializeOwned>(values: &[Value]) -> Vec<Arc<T>> {
            let read = |value: &Value| Arc::new(serde_json::from_value(value.clone()).unwrap());
            values.iter().map(read).collect()
        }
        let set: StatefulSet = serde_json::from_value(self.set.clone()).unwrap();
        let now = START.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds);
        set.plan(&Observed {
            pods: &set.roster().with(all::<Pod>(&self.pods)),
            revisions: &all::<ControllerRevision>(&self.revisions),
            claims: &all::<Claim>(&self.claims),
            classes: &all::<StorageClass>(&self.classes),
            now,
            seed: 1,
            drained: &BTreeMap::new(),
            nodes: &self.nodes,
            opened: &Opened::default(),
            traffic: &Traffic::default(),
            guards: &[],
            lacks: &[],
            server: Server::default(),
            gates: self.gates,
            memo: &Memo::default(),
            recorded: None,
        })
    }

    /// What the plan writes, in few words.
    fn said(&self) -> Vec<String> {
        let plan = self.plan();
        plan.actions.iter().map(|action| self.words(action)).collect()
    }

    fn words(&self, action: &Action) -> String {
        match action {
            Action::CreatePod { pod } => {
                let body = pod.body();
                let old = body["metadata"]["labels"][names::REVISION] == self.revision("old").as_str();
                format!("create {} {}", pod.name, if old { "old" } else { "new" })
            }
            Action::DeletePod { at, why, .. } => format!("delete {} {}", at.name, why.as_str()),
            Action::PatchPod { at, why, .. } | Action::PatchPodStatus { at, why, .. } => {
                format!("patch {} {}", at.name, why.as_str())
            }
            Action::CreateClaim { body } => format!("create claim {}", body["metadata"]["name"].as_str().unwrap()),
            Action::PatchClaim { at, .. } => format!("patch claim {}", at.name),
            other => format!("{other:?}"),
        }
    }

    fn waits(&self) -> String {
        let plan = self.plan();
        let mut conditions = plan.status.conditions.iter();
        let rollout = conditions.find(|condition| condition.kind == names::ROLLOUT);
        rollout.map(|condition| condition.message.clone()).unwrap_or_default()
    }
}

fn recreate() -> Value {
    json!({"podUpdatePolicy": "ReCreate"})
}

fn in_place() -> Value {
    json!({"podUpdatePolicy": "InPlaceIfPossible"})
}
