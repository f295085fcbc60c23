//! ImagePullJob and ImageListPullJob: images that nodes are to have before they are needed.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};

use crate::node_image::SandboxConfig;

/// One image, pulled on many nodes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ImagePullJob {
    /// Name, labels, versions.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: ImagePullJobSpec,
    /// How far it is.
    pub status: ImagePullJobStatus,
}

crate::kind!(
    ImagePullJob,
    "apps.kruise.io" / "v1beta1",
    "ImagePullJob",
    "imagepulljobs",
    NamespaceResourceScope
);

/// What an ImagePullJob is to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImagePullJobSpec {
    /// Which image.
    pub image: String,
    /// Where and how.
    #[serde(flatten)]
    pub template: PullTemplate,
}

/// Many images, each of which becomes an ImagePullJob.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ImageListPullJob {
    /// Name, labels, versions.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: ImageListPullJobSpec,
    /// How far it is.
    pub status: ImageListPullJobStatus,
}

crate::kind!(
    ImageListPullJob,
    "apps.kruise.io" / "v1beta1",
    "ImageListPullJob",
    "imagelistpulljobs",
    NamespaceResourceScope
);

/// What an ImageListPullJob is to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageListPullJobSpec {
    /// Which images.
    pub images: Vec<String>,
    /// Where and how, the same for all.
    #[serde(flatten)]
    pub template: PullTemplate,
}

/// Where and how images are pulled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PullTemplate {
    /// Names of secrets in the job's namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pull_secrets: Vec<String>,
    /// Which nodes; with neither this nor a podSelector, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<NodeSelector>,
    /// The nodes of which pods, in the job's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Nodes that pull at the same time; 1. With 0, none begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<IntOrString>,
    /// Limits of one node's pull.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
    /// When the job ends.
    pub completion_policy: CompletionPolicy,
    /// What the pull is accounted to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox_config: Option<SandboxConfig>,
    /// `IfNotPresent` or `Always`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
}

/// Which nodes: by names, or else by labels of their NodeImages, which are those of the nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSelector {
    /// Names of nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// Labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Rules about labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_expressions: Option<Vec<LabelSelectorRequirement>>,
}

impl NodeSelector {
    /// What it says of labels.
    pub fn labels(&self) -> LabelSelector {
        LabelSelector {
            match_labels: self.match_labels.clone(),
            match_expressions: self.match_expressions.clone(),
        }
    }
}

/// Limits of one node's pull.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PullPolicy {
    /// Seconds of one try; 600.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i32>,
    /// Tries after the first one; 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_limit: Option<i32>,
}

/// When a job ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CompletionPolicy {
    /// `Always`: when all nodes have ended; `Never`: nodes that come later pull as well.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Seconds after its start when nodes that have not ended have failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<i64>,
    /// Seconds after its end when it is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds_after_finished: Option<i32>,
}

impl PullTemplate {
    /// Nodes that may pull at the same time; 1 if nothing that can be read is said.
    pub fn parallelism(&self) -> usize {
        match &self.parallelism {
            None => 1,
            Some(IntOrString::Int(number)) => usize::try_from(*number).unwrap_or(0),
            Some(IntOrString::String(text)) => text.parse().unwrap_or(1),
        }
    }

    /// Whether the job never ends by itself.
    pub fn never_ends(&self) -> bool {
        self.completion_policy.kind == "Never"
    }
}

/// How far an ImagePullJob is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImagePullJobStatus {
    /// When it was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Nodes that are to have the image.
    pub desired: i32,
    /// Of those, pulling.
    pub active: i32,
    /// Of those, done.
    pub succeeded: i32,
    /// Of those, given up.
    pub failed: i32,
    /// One sentence; what OpenKruise says stands first.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Names of nodes that have failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed_nodes: Vec<String>,
}

/// How far an ImageListPullJob is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageListPullJobStatus {
    /// When it was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Images.
    pub desired: i32,
    /// Of those, being pulled somewhere.
    pub active: i32,
    /// Of those, ended on all nodes.
    pub completed: i32,
    /// Of those, pulled on all nodes.
    pub succeeded: i32,
    /// Images that have failed on a node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed_image_statuses: Vec<FailedImage>,
}

/// An image that has failed on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FailedImage {
    /// The job that knows more.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image_pull_job: String,
    /// The image.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where to look.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_template_is_read_out_of_the_spec_itself() {
        let spec = json!({
            "image": "nginx", "parallelism": "4", "pullSecrets": ["login"],
            "selector": {"names": ["a"], "matchLabels": {"b": "c"}},
            "completionPolicy": {"type": "Never"},
        });
        let read: ImagePullJobSpec = serde_json::from_value(spec.clone()).unwrap();
        assert_eq!(read.image, "nginx");
        assert_eq!(read.template.parallelism(), 4);
        assert!(read.template.never_ends());
        assert_eq!(serde_json::to_value(read).unwrap(), spec);
    }

    #[test]
    fn one_node_at_a_time_unless_it_is_said() {
        let parallelism = |value: serde_json::Value| {
            let template: PullTemplate = serde_json::from_value(json!({"parallelism": value})).unwrap();
            template.parallelism()
        };
        assert_eq!(PullTemplate::default().parallelism(), 1);
        assert_eq!(
            [json!(0), json!(3), json!(-1), json!("7"), json!("x")].map(parallelism),
            [0, 3, 0, 7, 1]
        );
    }
}
