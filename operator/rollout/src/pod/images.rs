//! Which names a node knows one image by. Two tags of one digest are one image; the runtime may keep reporting a
//! container under either name, and only the node's list of images can say that they are the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{NodeTraffic, PullPhase};
use afloat_words::image::{ImageName, full};
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
    /// Why images could not be pulled, by their full names: out of the node's NodeImage.
    #[serde(skip)]
    pub refused: BTreeMap<String, String>,
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
    /// With what its NodeImage tells: a node's own list is cut off at fifty images, and names those that it has under other names.
    #[must_use]
    pub fn with_pulls(&self, told: &afloat_api::NodeImage) -> Self {
        let mut node = self.clone();
        for (name, image) in &told.spec.images {
            for tag in &image.tags {
                let Some(status) = told.progress(name, &tag.tag, tag.version) else {
                    continue;
                };
                let key = afloat_api::ImageKey {
                    name: name.clone(),
                    tag: tag.tag.clone(),
                };
                let full = full(&key.to_string());
                match status.phase {
                    PullPhase::Succeeded => {
                        let digest = Some(&status.digest).filter(|digest| !digest.is_empty());
                        let id = status.image_id.rsplit('@').next().map(str::to_owned);
                        let digest = digest.map(|digest| format!("{}@{digest}", ImageName::of(name).without_version()));
                        let names = [Some(full), digest, id].into_iter().flatten().collect();
                        node.status.images.push(NodeImage { names });
                    }
                    PullPhase::Failed => drop(node.status.refused.insert(full, status.message.clone())),
                    PullPhase::Waiting | PullPhase::Pulling => {}
                }
            }
        }
        node
    }

    /// Why an image is not here; None: it is.
    pub fn lacks(&self, reference: &str) -> Option<&str> {
        let wanted = ImageName::of(reference).meaning();
        let mut names = self.status.images.iter().flat_map(|image| &image.names);
        if names.any(|name| ImageName::of(name).meaning() == wanted) {
            return None;
        }
        let why = self.status.refused.get(&wanted.to_string()).map(String::as_str);
        Some(why.unwrap_or("it is not pulled yet"))
    }

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

    #[test]
    fn a_node_image_tells_what_the_node_has_not_said() {
        let node = Node::default();
        let told = json!({
            "spec": {"images": {"app": {"tags": [{"tag": "2"}, {"tag": "3"}, {"tag": "4", "version": 1}]}}},
            "status": {"imageStatuses": {"app": {"tags": [
                {"tag": "2", "phase": "Succeeded", "imageID": "app@sha256:c", "digest": "sha256:d"},
                {"tag": "3", "phase": "Failed", "message": "not found"},
                {"tag": "4", "phase": "Succeeded"},
            ]}}},
        });
        let node = node.with_pulls(&serde_json::from_value(told).unwrap());
        assert_eq!(node.lacks("docker.io/library/app:2"), None);
        assert_eq!(node.lacks("app@sha256:d"), None);
        assert_eq!(node.lacks("app:3"), Some("not found"));
        assert_eq!(
            node.lacks("app:4"),
            Some("it is not pulled yet"),
            "that was another version"
        );
        assert!(node.resolves("app:2", "sha256:c") && node.resolves("app:2", "docker.io/library/app@sha256:d"));
    }
}
