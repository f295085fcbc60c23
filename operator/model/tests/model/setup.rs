//! The worlds: how many pods, which revisions, which settings, who may do what.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{CloneSet, names};
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::{Value, json};

use super::state::{NONE, Spec};
use afloat_rollout::go::bytes;
use afloat_rollout::pod::images::{Known, Nodes};
use afloat_rollout::workload::kind::Workload as _;
use afloat_rollout::workload::revision::{data, hash, name, object};

/// Label that holds a pod back, of all hooks of these worlds.
pub(super) const HOOK_UPDATE: &str = "hook/update";
pub(super) const HOOK_DELETE: &str = "hook/delete";

/// One world.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) name: &'static str,
    pub(super) replicas: u8,
    pub(super) policy: &'static str,
    pub(super) max_unavailable: u8,
    pub(super) max_surge: u8,
    pub(super) partition: u8,
    /// With a quiet period of [`GRACE`] seconds.
    pub(super) grace: bool,
    /// With hooks before updates and deletions.
    pub(super) hooks: bool,
    /// Images of the two containers, by revision.
    pub(super) images: [[&'static str; 2]; 3],
    /// Number of revisions that the user goes back and forth between.
    pub(super) targets: u8,
    /// How often the user changes the CloneSet; [`UNLIMITED`] is as often as they like.
    pub(super) edits: u8,
    /// The user also pauses and resumes.
    pub(super) pauses: bool,
    /// The user also scales between `replicas` and this.
    pub(super) other_replicas: u8,
    /// The user also deletes pods.
    pub(super) deletions: bool,
    /// The user also asks for the deletion of pods.
    pub(super) specified: bool,
    /// Containers crash.
    pub(super) crashes: bool,
    /// Number of pods that the controller sees an old version of at the same time.
    pub(super) lag: usize,
    /// The controller may see an old version of the CloneSet.
    pub(super) set_lag: bool,
    /// Nodes take each of their steps by itself.
    pub(super) fine: bool,
    /// The node lists "app:2" and "app:3" as one image; the runtime reports it as "app:2", whatever it was started as.
    pub(super) one_image: bool,
    /// The second container is a sidecar.
    pub(super) sidecar: bool,
    /// The first container has a postStart hook.
    pub(super) post_start: bool,
    /// Nodes say which generation they have acted on (KEP-5067).
    pub(super) tells_generation: bool,
    /// Revisions that no pod uses are deleted at once.
    pub(super) forgets: bool,
    /// Begins without pods, not at rest.
    pub(super) from_nothing: bool,
    /// Pods that may be there at a time, terminating ones among them.
    pub(super) slots: usize,
}

pub(super) const GRACE: i64 = 3;
pub(super) const UNLIMITED: u8 = u8::MAX;

const IMAGES: [[&str; 2]; 3] = [["app:1", "log:1"], ["app:2", "log:1"], ["app:3", "log:3"]];

impl Setup {
    /// Pods that change in place, one of which may be away; nothing goes wrong.
    pub(super) fn calm(name: &'static str, replicas: u8) -> Self {
        Self {
            name,
            replicas,
            policy: "InPlaceIfPossible",
            max_unavailable: 1,
            max_surge: 0,
            partition: 0,
            grace: false,
            hooks: false,
            images: IMAGES,
            targets: 3,
            edits: UNLIMITED,
            pauses: false,
            other_replicas: replicas,
            deletions: false,
            specified: false,
            crashes: false,
            lag: 0,
            set_lag: false,
            fine: false,
            one_image: false,
            sidecar: false,
            post_start: false,
            tells_generation: true,
            forgets: false,
            from_nothing: false,
            slots: usize::from(replicas),
        }
    }

    /// Whether `status.currentRevision` matters: new pods may get that revision.
    pub(super) fn creates(&self) -> bool {
        !self.in_place()
            || self.deletions
            || self.specified
            || self.other_replicas != self.replicas
            || self.from_nothing
    }

    pub(super) fn in_place(&self) -> bool {
        self.policy != "ReCreate"
    }

    /// Whether time makes a difference beyond the quiet period.
    pub(super) fn settles(&self) -> bool {
        self.one_image || !self.tells_generation || self.post_start
    }

    /// The image as the runtime tells it apart.
    pub(super) fn digest<'a>(&self, image: &'a str) -> &'a str {
        if self.one_image && image == "app:3" {
            "app:2"
        } else {
            image
        }
    }

    fn template(&self, revision: u8) -> Value {
        let [app, log] = self.images[usize::from(revision)];
        let mut labels = json!({"app": "web"});
        if self.hooks {
            labels[HOOK_UPDATE] = json!("on");
            labels[HOOK_DELETE] = json!("on");
        }
        let mut template = json!({
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "app", "image": app}, {"name": "log", "image": log}]},
        });
        if self.sidecar {
            template["spec"]["containers"].as_array_mut().unwrap().pop();
            template["spec"]["initContainers"] = json!([
                {"name": "log", "image": log, "imagePullPolicy": "IfNotPresent", "restartPolicy": "Always"}]);
        }
        if self.post_start {
            template["spec"]["containers"][0]["lifecycle"] = json!({"postStart": {"exec": {"command": ["warm-up"]}}});
        }
        template
    }

    pub(super) fn revision_name(&self, revision: u8) -> String {
        name("web", &hash(&bytes(&data(&self.template(revision))), 0))
    }

    /// Which revision has this name.
    pub(super) fn revision(&self, name: &str) -> u8 {
        (0..3)
            .find(|index| self.revision_name(*index) == name)
            .unwrap_or_else(|| panic!("revision {name:?}"))
    }

    pub(super) fn set(&self, spec: Spec) -> CloneSet {
        let mut set = json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "set", "resourceVersion": "1", "generation": 1},
            "spec": {
                "replicas": spec.replicas,
                "selector": {"matchLabels": {"app": "web"}},
                "template": self.template(spec.target),
                "revisionHistoryLimit": if self.forgets { 0 } else { 10 },
                "updateStrategy": {"rollingUpdate": {
                    "podUpdatePolicy": self.policy,
                    "maxUnavailable": self.max_unavailable,
                    "maxSurge": self.max_surge,
                    "partition": self.partition,
                    "paused": spec.paused,
                    "inPlaceUpdateStrategy": {"gracePeriodSeconds": if self.grace { GRACE } else { 0 }},
                }},
            },
            "status": {"updateRevision": self.revision_name(spec.target)},
        });
        if spec.current != NONE {
            set["status"]["currentRevision"] = json!(self.revision_name(spec.current));
        }
        if self.hooks {
            set["spec"]["lifecycle"] = json!({
                "inPlaceUpdate": {"labelsHandler": {HOOK_UPDATE: "on"}},
                "preDelete": {"labelsHandler": {HOOK_DELETE: "on"}},
            });
        }
        serde_json::from_value(set).unwrap()
    }

    pub(super) fn revisions(&self, ranks: [u8; 3]) -> Vec<Arc<ControllerRevision>> {
        let present = (0..3_u8).filter(|index| ranks[usize::from(*index)] > 0);
        let one = |index: u8| {
            let mut set = CloneSet::default();
            set.metadata.name = Some("web".into());
            set.metadata.uid = Some("set".into());
            set.spec.template = self.template(index);
            let text = hash(&bytes(&data(&set.spec.template)), 0);
            let mut value = object(set.owner(), &text, i64::from(ranks[usize::from(index)]));
            value["metadata"]["uid"] = json!(format!("r{index}"));
            value["metadata"]["resourceVersion"] = json!("1");
            Arc::new(serde_json::from_value(value).unwrap())
        };
        present.map(one).collect()
    }

    pub(super) fn nodes(&self) -> Nodes {
        if !self.one_image {
            return BTreeMap::new();
        }
        let node = json!({"metadata": {"name": "node"}, "status": {"images": [
            {"names": ["app@sha256:app:2", "app:2", "app:3"]}, {"names": ["app@sha256:app:1", "app:1"]}]}});
        let node = Arc::new(serde_json::from_value(node).unwrap());
        [("node".to_owned(), Known { node, report: None })].into()
    }

    /// A user's hook: which labels a pod in this state of its life gets next.
    pub(super) fn hook(&self, state: Option<&str>) -> Option<Value> {
        if !self.hooks {
            return None;
        }
        match state? {
            names::STATE_PREPARING_UPDATE => Some(json!({HOOK_UPDATE: null})),
            names::STATE_UPDATED => Some(json!({HOOK_UPDATE: "on"})),
            names::STATE_PREPARING_DELETE => Some(json!({HOOK_DELETE: null})),
            _ => None,
        }
    }
}
