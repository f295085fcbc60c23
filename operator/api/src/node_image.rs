//! NodeImage: which images one node is to have, and how far it is. The manager writes what is wanted, the agent on the node what is
//! there. Its name is the node's.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Serialize};

/// The images of one node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeImage {
    /// Name, labels (those of the node), versions.
    pub metadata: ObjectMeta,
    /// What the node is to pull.
    pub spec: NodeImageSpec,
    /// How far it is.
    pub status: NodeImageStatus,
}

crate::kind!(
    NodeImage,
    "apps.kruise.io" / "v1beta1",
    "NodeImage",
    "nodeimages",
    ClusterResourceScope
);

/// What a node is to pull.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeImageSpec {
    /// By the name of the image without tag and digest, as users write it: `nginx`, `quay.io/team/web`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, ImageSpec>,
}

/// The tags of one image that a node is to pull.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageSpec {
    /// Secrets with logins of registries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pull_secrets: Vec<SecretReference>,
    /// Tags and digests, in order.
    pub tags: Vec<TagSpec>,
    /// What the pull is accounted to, for runtimes that ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox_config: Option<SandboxConfig>,
}

/// Where a secret is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretReference {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `batch`: it goes with the image; otherwise, the reference goes when the secret has gone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mode: String,
}

/// One tag or digest that a node is to pull.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TagSpec {
    /// A tag, or a digest (`sha256:…`).
    pub tag: String,
    /// When it was asked for: the node has to answer within ten minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    /// Its limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<TagPullPolicy>,
    /// Jobs that want it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Vec<ObjectReference>,
    /// A higher one asks for another pull.
    #[serde(skip_serializing_if = "is_zero")]
    pub version: i64,
    /// [`IF_NOT_PRESENT`]: not if the node has it already; anything else: always.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image_pull_policy: String,
}

/// Of `imagePullPolicy`.
pub const IF_NOT_PRESENT: &str = "IfNotPresent";

/// Limits of one pull.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TagPullPolicy {
    /// Seconds of one try; 600.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i32>,
    /// Tries after the first one; 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_limit: Option<i32>,
    /// Seconds after its end when the entry is removed; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds_after_finished: Option<i32>,
    /// Seconds of all tries together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<i64>,
}

/// Labels and annotations of the sandbox in whose name an image is pulled (CRI's `PodSandboxConfig`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxConfig {
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// How far a node is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeImageStatus {
    /// Tags that it is to have.
    pub desired: i32,
    /// Of those, pulled.
    pub succeeded: i32,
    /// Of those, given up.
    pub failed: i32,
    /// Of those, on the way.
    pub pulling: i32,
    /// Of those, not begun.
    pub waiting: i32,
    /// By the name of the image.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub image_statuses: BTreeMap<String, ImageStatus>,
    /// The first time that nothing was left to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_sync_status: Option<SyncStatus>,
}

/// How far the tags of one image are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageStatus {
    /// In order.
    pub tags: Vec<TagStatus>,
}

/// How far one tag is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TagStatus {
    /// Which.
    pub tag: String,
    /// How far.
    pub phase: PullPhase,
    /// In percent.
    #[serde(skip_serializing_if = "is_zero")]
    pub progress: i32,
    /// When the pull began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The version that was asked for.
    #[serde(skip_serializing_if = "is_zero")]
    pub version: i64,
    /// Name of the image, `@`, and what the node's runtime identifies it by.
    #[serde(rename = "imageID", skip_serializing_if = "String::is_empty")]
    pub image_id: String,
    /// Ours: the digest that the registry has the image under (`sha256:…`), where the runtime knows it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// How far a pull is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPhase {
    /// Its turn has not come.
    #[default]
    Waiting,
    /// On the way.
    Pulling,
    /// The image is on the node.
    Succeeded,
    /// Given up.
    Failed,
}

impl PullPhase {
    /// Whether nothing more comes.
    pub fn ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// See [`NodeImageStatus::first_sync_status`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SyncStatus {
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_at: Option<Time>,
    /// `Succeeded`, or `Failed` if a pull did.
    pub status: String,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl NodeImage {
    /// How far a tag is, if the status speaks of that version of it.
    pub fn progress(&self, image: &str, tag: &str, version: i64) -> Option<&TagStatus> {
        self.status.of(image, tag).filter(|status| status.version == version)
    }
}

impl NodeImageSpec {
    /// A tag of an image.
    pub fn of(&self, image: &str, tag: &str) -> Option<&TagSpec> {
        self.images.get(image)?.tags.iter().find(|spec| spec.tag == tag)
    }
}

impl NodeImageStatus {
    /// A tag of an image, of whatever version.
    pub fn of(&self, image: &str, tag: &str) -> Option<&TagStatus> {
        self.image_statuses
            .get(image)?
            .tags
            .iter()
            .find(|status| status.tag == tag)
    }

    /// Counts the phases of `desired` tags anew.
    pub fn count(&mut self, desired: usize) {
        let tags = || self.image_statuses.values().flat_map(|image| &image.tags);
        let count = |phase| small(tags().filter(|tag| tag.phase == phase).count());
        let [waiting, pulling, succeeded, failed] = [
            PullPhase::Waiting,
            PullPhase::Pulling,
            PullPhase::Succeeded,
            PullPhase::Failed,
        ]
        .map(count);
        self.desired = small(desired);
        (self.waiting, self.pulling) = (waiting, pulling);
        (self.succeeded, self.failed) = (succeeded, failed);
    }
}

fn small(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// As Go's `omitempty` has it.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands a reference
fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn phases_are_counted() {
        let mut status: NodeImageStatus = serde_json::from_value(json!({"imageStatuses": {
            "nginx": {"tags": [{"tag": "1", "phase": "Succeeded"}, {"tag": "2", "phase": "Failed", "version": 3}]},
            "web": {"tags": [{"tag": "1", "phase": "Pulling"}, {"tag": "2", "phase": "Waiting"}]},
        }}))
        .unwrap();
        status.count(5);
        let counts = [
            status.desired,
            status.succeeded,
            status.failed,
            status.pulling,
            status.waiting,
        ];
        assert_eq!(counts, [5, 1, 1, 1, 1]);
        assert_eq!(status.of("nginx", "2").unwrap().version, 3);
        assert!(status.of("nginx", "3").is_none() && status.of("x", "1").is_none());
    }

    #[test]
    fn what_is_written_is_what_openkruise_writes() {
        let wanted = json!({"images": {"nginx": {
            "pullSecrets": [{"namespace": "kruise-daemon-config", "name": "login-1", "mode": "batch"}],
            "tags": [{
                "tag": "1.14", "createdAt": "2026-01-02T03:04:05Z", "version": 2, "imagePullPolicy": "IfNotPresent",
                "pullPolicy": {"timeoutSeconds": 50, "backoffLimit": 2, "ttlSecondsAfterFinished": 570},
                "ownerReferences": [{"apiVersion": "apps.kruise.io/v1beta1", "kind": "ImagePullJob", "name": "a", "namespace": "n", "uid": "u"}],
            }],
            "sandboxConfig": {"labels": {"a": "b"}},
        }}});
        let spec: NodeImageSpec = serde_json::from_value(wanted.clone()).unwrap();
        assert_eq!(serde_json::to_value(spec).unwrap(), wanted);
    }
}
