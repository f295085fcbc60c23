//! Which names a node knows one image by. Two tags of one digest are one image; the runtime may keep reporting a
//! container under either name, and only the node's list of images can say that they are the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::NodeTraffic;
use afloat_words::image::ImageName;
use afloat_words::taint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Deserializer};

/// A Node, trimmed to its labels, its taints, its images and whether it is Ready.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Name, labels and version.
    pub metadata: ObjectMeta,
    /// What others say of it.
    pub spec: NodeSpec,
    /// What the node says.
    pub status: NodeStatus,
}

/// What others say of a node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// Which pods it keeps away.
    pub taints: Vec<Taint>,
}

/// A taint of a node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Taint {
    /// Its name.
    pub key: String,
    /// What more it says.
    pub value: String,
    /// NoSchedule, PreferNoSchedule or NoExecute.
    pub effect: String,
}

impl Taint {
    /// As tolerations look at it.
    pub fn words(&self) -> taint::Taint<'_> {
        taint::Taint {
            key: &self.key,
            value: &self.value,
            effect: &self.effect,
        }
    }
}

/// What a node says about its images.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// One entry per image, as far as the node lists them.
    pub images: Vec<NodeImage>,
    /// Whether its condition Ready is True.
    #[serde(rename = "conditions", deserialize_with = "ready")]
    pub ready: bool,
}

/// One condition of a node.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
}

fn ready<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let all = Option::<Vec<Condition>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(all
        .iter()
        .any(|condition| condition.r#type == "Ready" && condition.status == "True"))
}

/// One image of a node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeImage {
    /// Tags and `path@digest`.
    pub names: Vec<String>,
}

afloat_api::kind!(Node, "v1", "Node", "nodes", ClusterResourceScope);

/// A node, and what its agent says.
#[derive(Clone, Debug)]
pub struct Known {
    /// The node.
    pub node: Arc<Node>,
    /// Its agent's report, where there is one.
    pub report: Option<Arc<NodeTraffic>>,
}

impl Known {
    /// The image that a container was started by, in the text of the spec that it was started from.
    pub fn started_by(&self, container_id: &str) -> Option<&str> {
        let report = self.report.as_ref()?;
        report.status.running.get(container_id).map(String::as_str)
    }

    /// The kubelet's hash of what a container was started from.
    pub fn started_from(&self, container_id: &str) -> Option<u64> {
        let report = self.report.as_ref()?;
        report.status.hashes.get(container_id).copied()
    }
}

/// The nodes that a decision may need, by name. A node that is not there says nothing.
pub type Nodes = BTreeMap<String, Known>;

impl Node {
    /// Whether the reference and the image id are one image here.
    pub fn resolves(&self, reference: &str, image_id: &str) -> bool {
        let wanted = ImageName::of(reference);
        let digest = image_id.rsplit('@').next().filter(|digest| digest.contains(':'));
        let Some(digest) = digest else { return false };
        self.status.images.iter().any(|image| {
            image.names.iter().any(|name| ImageName::of(name) == wanted)
                && image
                    .names
                    .iter()
                    .any(|name| name.rsplit_once('@').map_or(name.as_str(), |(_, id)| id) == digest)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_of_one_image() {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n"}, "status": {"images": [
            {"names": ["docker.io/library/app@sha256:1", "docker.io/library/app:1", "docker.io/library/app:2"]},
            {"names": ["docker.io/library/app@sha256:3", "app:3"]},
        ]}}))
        .unwrap();
        for (reference, image_id, same) in [
            ("app:2", "sha256:1", true),
            ("docker.io/app:2", "docker.io/library/app@sha256:1", true),
            ("app:3", "sha256:1", false),
            ("app:4", "sha256:1", false),
            ("app:2", "", false),
            ("app:2", "app:2", false),
        ] {
            assert_eq!(node.resolves(reference, image_id), same, "{reference} as {image_id}");
        }
    }
}
