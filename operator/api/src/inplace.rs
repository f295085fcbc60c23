//! The in-place protocol as it stands in pod annotations: what is being changed, and what was there before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names;

/// Labels or annotations, whatever they are kept in.
pub trait Texts {
    /// The value of a key.
    fn text(&self, key: &str) -> Option<&str>;
}

impl Texts for BTreeMap<String, String> {
    fn text(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

/// Content of [`names::INPLACE_STATE`], key for key as OpenKruise writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InPlaceUpdateState {
    /// Name of the revision that the pod is updated to.
    pub revision: String,
    /// RFC 3339, UTC, whole seconds: the start of the update.
    pub update_timestamp: String,
    /// Per changed container what ran before; null until the images are written.
    pub last_container_statuses: Option<BTreeMap<String, LastContainerStatus>>,
    /// Environment from metadata changes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub update_env_from_metadata: bool,
    /// Resources change.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub update_resources: bool,
    /// Images change.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub update_images: bool,
    /// Images of later batches, by container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub next_container_images: BTreeMap<String, String>,
    /// Labels and annotations of later batches that containers take environment from, by container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub next_container_ref_metadata: BTreeMap<String, RefMetadata>,
    /// Resources of later batches, by container; only the values that change.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub next_container_resources: BTreeMap<String, serde_json::Value>,
    /// What must hold before the next batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_check_before_next: Option<PreCheck>,
    /// Batches written so far.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub container_batches_record: Vec<serde_json::Value>,
}

/// Labels and annotations, in the form of Go's ObjectMeta.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RefMetadata {
    /// Always null; Go's encoder writes it.
    pub creation_timestamp: Option<String>,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What must hold before the next batch of containers is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PreCheck {
    /// These are Ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub containers_required_ready: Vec<String>,
}

/// What ran in a container before its image was changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LastContainerStatus {
    /// As the runtime reported it.
    #[serde(rename = "imageID", skip_serializing_if = "String::is_empty")]
    pub image_id: String,
}

impl InPlaceUpdateState {
    /// Whether later batches of containers wait.
    pub fn waits(&self) -> bool {
        !(self.next_container_images.is_empty()
            && self.next_container_ref_metadata.is_empty()
            && self.next_container_resources.is_empty())
    }

    /// Reads the state from a pod's annotations, the old key as a fallback. Text that cannot be read counts as absent:
    /// it then neither blocks the pod's return to service nor a new update.
    pub fn read(annotations: &impl Texts) -> Option<Self> {
        let text = annotations
            .text(names::INPLACE_STATE)
            .or_else(|| annotations.text(names::INPLACE_STATE_LEGACY))?;
        serde_json::from_str(text).ok()
    }
}

/// Content of [`names::INPLACE_GRACE`], as far as it is needed to continue an update that OpenKruise began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdateSpec {
    /// Name of the revision that the pod is updated to.
    pub revision: String,
    /// New images by container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub container_images: BTreeMap<String, String>,
    /// Labels and annotations that containers take environment from, by container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub container_ref_metadata: BTreeMap<String, RefMetadata>,
    /// New resources by container; only the values that change.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub container_resources: BTreeMap<String, serde_json::Value>,
    /// Base64 of a strategic merge patch with the labels and annotations to write; null removes one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta_data_patch: Option<String>,
    /// Length of the quiet period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_seconds: Option<i64>,
}

impl UpdateSpec {
    /// Whether the pod carries the annotation at all, readable or not.
    pub fn present(annotations: &impl Texts) -> bool {
        annotations.text(names::INPLACE_GRACE).is_some() || annotations.text(names::INPLACE_GRACE_LEGACY).is_some()
    }

    /// Reads it, the old key as a fallback.
    pub fn read(annotations: &impl Texts) -> Option<Self> {
        let text = annotations
            .text(names::INPLACE_GRACE)
            .or_else(|| annotations.text(names::INPLACE_GRACE_LEGACY))?;
        serde_json::from_str(text).ok()
    }
}

/// Where a container came from when its image was changed: an entry of [`names::INPLACE_FROM`].
///
/// OpenKruise records only the image id, from which it cannot be told whether a container was started from the new
/// spec when two tags have one digest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerOrigin {
    /// The container that ran when the image was written.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// Image that the status named then.
    pub ran: String,
    /// Images that stood in the spec since the container was last known to match it, oldest first: a status that names
    /// one of these may still be on its way out.
    pub images: Vec<String>,
    /// Of a sidecar the image as the runtime reported it. OpenKruise looks for what its own record
    /// ([`InPlaceUpdateState::last_container_statuses`]) names among the application's containers, and would wait for ever.
    #[serde(rename = "imageID", skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
}

/// Reads [`names::INPLACE_FROM`]; empty if absent or unreadable.
pub fn origins(annotations: &impl Texts) -> BTreeMap<String, ContainerOrigin> {
    annotations
        .text(names::INPLACE_FROM)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// The text of [`names::INPLACE_FROM`].
pub fn write_origins(origins: &BTreeMap<String, ContainerOrigin>) -> String {
    serde_json::to_string(origins).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_has_kruises_keys() {
        let state = InPlaceUpdateState {
            revision: "web-abc".into(),
            update_timestamp: "2026-01-02T03:04:05Z".into(),
            last_container_statuses: Some(
                [(
                    "app".into(),
                    LastContainerStatus {
                        image_id: "sha256:1".into(),
                    },
                )]
                .into(),
            ),
            update_images: true,
            ..Default::default()
        };
        assert_eq!(
            serde_json::to_string(&state).unwrap(),
            r#"{"revision":"web-abc","updateTimestamp":"2026-01-02T03:04:05Z","lastContainerStatuses":{"app":{"imageID":"sha256:1"}},"updateImages":true}"#
        );
        let waiting = InPlaceUpdateState::default();
        assert!(
            serde_json::to_string(&waiting)
                .unwrap()
                .contains(r#""lastContainerStatuses":null"#)
        );
    }

    #[test]
    fn the_legacy_key_is_a_fallback() {
        let old: BTreeMap<String, String> = [(
            names::INPLACE_STATE_LEGACY.to_owned(),
            r#"{"revision":"old"}"#.to_owned(),
        )]
        .into();
        assert_eq!(InPlaceUpdateState::read(&old).unwrap().revision, "old");
        let broken: BTreeMap<String, String> = [(names::INPLACE_STATE.to_owned(), "{".to_owned())].into();
        assert_eq!(InPlaceUpdateState::read(&broken), None);
    }
}
