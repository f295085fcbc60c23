//! What a write changes, and the JSON that says so to an API server. Whatever is not named stays as it is; each patch
//! carries the UID and the version that it was decided on.

use std::collections::{BTreeMap, BTreeSet};

use afloat_api::{Phase, ReportStatus, RolloutReport, names};
use afloat_words::time::whole_seconds;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use serde_json::{Map, Value, json};

/// An object at the version that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// Name within the namespace of the workload.
    pub name: String,
    /// Guards against a namesake.
    pub uid: String,
    /// Guards against anything seen too late.
    pub resource_version: String,
}

impl At {
    /// From metadata.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
        }
    }
}

/// Labels or annotations to write; None removes one.
pub type Edits = BTreeMap<String, Option<String>>;

/// What changes on a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodPatch {
    /// Labels.
    pub labels: Edits,
    /// Annotations.
    pub annotations: Edits,
    /// Finalizers to add.
    pub finalizers: Vec<String>,
    /// Owners that come or go.
    pub owners: Vec<OwnerEdit>,
    /// New images by container.
    pub images: BTreeMap<String, String>,
    /// New cpu and memory by container, only what changes: `{"limits": {"cpu": "2"}}`.
    pub resources: BTreeMap<String, Value>,
    /// Which of these containers stand among the init containers.
    pub sidecars: BTreeSet<String>,
    /// Conditions of the status.
    pub conditions: Vec<ConditionPatch>,
}

/// An owner that comes or goes.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnerEdit {
    /// One more.
    Add(OwnerReference),
    /// The one with this UID no longer.
    Remove(String),
}

/// One condition of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionPatch {
    /// Its type.
    pub kind: &'static str,
    /// True or False.
    pub status: bool,
    /// One word.
    pub reason: Edit,
    /// One sentence.
    pub message: Edit,
    /// Since when.
    pub since: Timestamp,
}

/// What becomes of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Edit {
    /// It stays.
    #[default]
    Keep,
    /// It goes.
    Remove,
    /// It is this from now on.
    Set(String),
}

/// The new number of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionNumber {
    /// Higher than all others.
    pub number: i64,
    /// Hash of the claims that it is wanted with now; None leaves what is there.
    pub claims: Option<String>,
}

/// What changes on a volume claim.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClaimPatch {
    /// Owners that come or go.
    pub owners: Vec<OwnerEdit>,
    /// Annotations.
    pub annotations: Edits,
    /// The new size.
    pub storage: Option<Value>,
}

/// What changes on the workload itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetPatch {
    /// What is left of `scaleStrategy.podsToDelete`.
    pub pods_to_delete: Vec<String>,
}

/// What changes on a RolloutReport.
#[derive(Clone, Debug, PartialEq)]
pub enum ReportPatch {
    /// All that the operator writes; what others have added stays.
    Status(Box<ReportStatus>),
    /// Another revision was wanted before the rollout was complete.
    Superseded {
        /// When.
        ended_at: MicroTime,
        /// How long it took.
        duration: String,
    },
}

impl PodPatch {
    /// Just these conditions.
    pub fn conditions(conditions: Vec<ConditionPatch>) -> Self {
        Self {
            conditions,
            ..Self::default()
        }
    }

    /// As a strategic merge patch.
    pub fn json(&self, at: &At) -> Value {
        let mut metadata = preconditions(at);
        for (name, edits) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            if !edits.is_empty() {
                metadata.insert(name.into(), json!(edits));
            }
        }
        if !self.finalizers.is_empty() {
            // Merged as a set.
            metadata.insert("finalizers".into(), json!(self.finalizers));
        }
        if !self.owners.is_empty() {
            metadata.insert("ownerReferences".into(), owners(&self.owners));
        }
        let mut patch = json!({"metadata": metadata});
        let (sidecars, containers): (Vec<_>, Vec<_>) = self
            .containers()
            .into_iter()
            .partition(|(name, _)| self.sidecars.contains(*name));
        for (list, of) in [("containers", containers), ("initContainers", sidecars)] {
            if !of.is_empty() {
                patch["spec"][list] = of.into_iter().map(|(_, container)| container).collect();
            }
        }
        if !self.conditions.is_empty() {
            let conditions: Vec<_> = self.conditions.iter().map(ConditionPatch::json).collect();
            patch["status"] = json!({"conditions": conditions});
        }
        patch
    }

    /// What changes of containers, by name.
    fn containers(&self) -> BTreeMap<&str, Value> {
        let mut containers: BTreeMap<&str, Value> = BTreeMap::new();
        for (name, image) in &self.images {
            containers.insert(name, json!({"name": name, "image": image}));
        }
        for (name, resources) in &self.resources {
            containers.entry(name).or_insert_with(|| json!({"name": name}))["resources"] = resources.clone();
        }
        containers
    }
}

impl ConditionPatch {
    fn json(&self) -> Value {
        let status = if self.status { "True" } else { "False" };
        let mut condition =
            json!({"type": self.kind, "status": status, "lastTransitionTime": whole_seconds(self.since)});
        for (name, edit) in [("reason", &self.reason), ("message", &self.message)] {
            match edit {
                Edit::Keep => {}
                Edit::Remove => condition[name] = Value::Null,
                Edit::Set(text) => condition[name] = json!(text),
            }
        }
        condition
    }
}

impl RevisionNumber {
    /// As a merge patch.
    pub fn json(&self, at: &At) -> Value {
        let mut metadata = preconditions(at);
        if let Some(claims) = &self.claims {
            metadata.insert("annotations".into(), json!({names::CLAIMS_HASH: claims}));
        }
        json!({"metadata": metadata, "revision": self.number})
    }
}

impl ClaimPatch {
    /// Just these owners.
    pub fn owners(owners: Vec<OwnerEdit>) -> Self {
        Self {
            owners,
            ..Self::default()
        }
    }

    /// As a strategic merge patch.
    pub fn json(&self, at: &At) -> Value {
        let mut metadata = preconditions(at);
        if !self.owners.is_empty() {
            metadata.insert("ownerReferences".into(), owners(&self.owners));
        }
        if !self.annotations.is_empty() {
            metadata.insert("annotations".into(), json!(self.annotations));
        }
        let mut patch = json!({"metadata": metadata});
        if let Some(storage) = &self.storage {
            patch["spec"] = json!({"resources": {"requests": {"storage": storage}}});
        }
        patch
    }
}

impl SetPatch {
    /// As a merge patch.
    pub fn json(&self, at: &At) -> Value {
        let kept = if self.pods_to_delete.is_empty() {
            Value::Null
        } else {
            json!(self.pods_to_delete)
        };
        json!({"metadata": preconditions(at), "spec": {"scaleStrategy": {"podsToDelete": kept}}})
    }
}

impl ReportPatch {
    /// As a merge patch.
    pub fn json(&self, at: &At) -> Value {
        let status = match self {
            Self::Status(status) => written(status),
            Self::Superseded { ended_at, duration } => json!({
                "phase": Phase::Superseded, "endedAt": ended_at, "writtenAt": ended_at, "duration": duration,
            }),
        };
        json!({"metadata": preconditions(at), "status": status})
    }
}

/// The object that creates a report.
pub fn new_report(report: &RolloutReport) -> Value {
    let mut status = written(&report.status);
    if let Some(status) = status.as_object_mut() {
        status.retain(|_, value| !value.is_null());
    }
    json!({
        "apiVersion": <RolloutReport as k8s_openapi::Resource>::API_VERSION,
        "kind": <RolloutReport as k8s_openapi::Resource>::KIND,
        "metadata": report.metadata,
        "status": status,
    })
}

/// What the operator says of a rollout: a prober's figures are the prober's.
fn written(status: &ReportStatus) -> Value {
    let mut status = json!(status);
    if let Some(status) = status.as_object_mut() {
        status.remove("latency");
    }
    status
}

fn preconditions(at: &At) -> Map<String, Value> {
    let mut metadata = Map::new();
    metadata.insert("uid".into(), json!(at.uid));
    metadata.insert("resourceVersion".into(), json!(at.resource_version));
    metadata
}

fn owners(edits: &[OwnerEdit]) -> Value {
    let edits = edits.iter().map(|edit| match edit {
        OwnerEdit::Add(owner) => json!(owner),
        OwnerEdit::Remove(uid) => json!({"$patch": "delete", "uid": uid}),
    });
    Value::Array(edits.collect())
}

#[cfg(test)]
mod tests {
    use afloat_api::names;

    use super::*;

    fn at() -> At {
        At {
            name: "web-1".into(),
            uid: "u".into(),
            resource_version: "7".into(),
        }
    }

    #[test]
    fn only_what_changes_is_sent() {
        let patch = PodPatch::default().json(&at());
        assert_eq!(patch, json!({"metadata": {"uid": "u", "resourceVersion": "7"}}));
        let patch = PodPatch {
            labels: [("gone".to_owned(), None), ("tier".to_owned(), Some("front".to_owned()))].into(),
            images: [("app".to_owned(), "app:2".to_owned())].into(),
            resources: [("log".to_owned(), json!({"limits": {"cpu": "2"}}))].into(),
            owners: vec![OwnerEdit::Remove("old".to_owned())],
            ..PodPatch::default()
        };
        assert_eq!(
            patch.json(&at()),
            json!({
                "metadata": {"uid": "u", "resourceVersion": "7", "labels": {"gone": null, "tier": "front"},
                    "ownerReferences": [{"$patch": "delete", "uid": "old"}]},
                "spec": {"containers": [
                    {"name": "app", "image": "app:2"}, {"name": "log", "resources": {"limits": {"cpu": "2"}}}]},
            })
        );
    }

    #[test]
    fn sidecars_stand_among_the_init_containers() {
        let patch = PodPatch {
            images: [
                ("app".to_owned(), "app:2".to_owned()),
                ("mesh".to_owned(), "mesh:2".to_owned()),
            ]
            .into(),
            sidecars: ["mesh".to_owned()].into(),
            ..PodPatch::default()
        };
        assert_eq!(
            patch.json(&at())["spec"],
            json!({"containers": [{"name": "app", "image": "app:2"}], "initContainers": [{"name": "mesh", "image": "mesh:2"}]})
        );
    }

    #[test]
    fn a_claim_grows_without_a_word_about_its_owners() {
        let patch = ClaimPatch {
            storage: Some(json!("2Gi")),
            ..ClaimPatch::default()
        };
        assert_eq!(
            patch.json(&at()),
            json!({"metadata": {"uid": "u", "resourceVersion": "7"},
                "spec": {"resources": {"requests": {"storage": "2Gi"}}}})
        );
    }

    #[test]
    fn texts_of_a_condition_stay_go_or_change() {
        let patch = PodPatch::conditions(vec![ConditionPatch {
            kind: names::INPLACE_READY,
            status: true,
            reason: Edit::Remove,
            message: Edit::Keep,
            since: "2026-01-01T00:00:00.25Z".parse().unwrap(),
        }]);
        assert_eq!(
            patch.json(&at())["status"],
            json!({"conditions": [{"type": names::INPLACE_READY, "status": "True", "reason": null,
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
        );
    }

    #[test]
    fn an_emptied_list_is_removed() {
        let patch = |names: &[&str]| {
            let pods_to_delete = names.iter().map(|name| (*name).to_owned()).collect();
            SetPatch { pods_to_delete }.json(&at())["spec"]["scaleStrategy"]["podsToDelete"].clone()
        };
        assert_eq!((patch(&[]), patch(&["a"])), (Value::Null, json!(["a"])));
    }

    #[test]
    fn a_probers_figures_are_left_alone() {
        let patch = ReportPatch::Status(Box::default()).json(&at());
        assert!(patch["status"].get("latency").is_none());
        assert_eq!(patch["status"]["lost"], Value::Null);
        let report = new_report(&RolloutReport::default());
        assert!(report["status"].get("lost").is_none());
        assert_eq!(report["kind"], "RolloutReport");
    }
}
