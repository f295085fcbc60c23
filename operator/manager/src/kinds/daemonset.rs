//! Advanced DaemonSet: it looks at all nodes, and speaks as the DaemonSet of Kubernetes does, from which OpenKruise has its own.

use afloat_api::DaemonSet;
use afloat_rollout::action::{Action, Why};
use afloat_rollout::pod::images::Node;

use crate::kind::Kind;
use crate::round::told::{Told, normal, warning};

impl Kind for DaemonSet {
    const COMPONENT: &'static str = "daemonset-controller";

    /// What is heard of a node's images or its health moves no daemon.
    const FOLLOWS_NODES: Option<fn(&Node, &Node) -> bool> =
        Some(|old, new| old.spec == new.spec && old.metadata.labels == new.metadata.labels);

    fn done(&self, action: &Action, _: &str) -> Vec<Told> {
        let told = match action {
            Action::CreatePod { pod } => normal("SuccessfulCreate", format!("Created pod: {}", pod.name)),
            Action::DeletePod { at, .. } => normal("SuccessfulDelete", format!("Deleted pod: {}", at.name)),
            Action::PatchPod {
                at, why: Why::Update, ..
            } => normal(
                "SuccessfulUpdatePodInPlace",
                format!("successfully update pod {} in-place", at.name),
            ),
            _ => return Vec::new(),
        };
        vec![told]
    }

    fn refused(&self, action: &Action, revision: &str, error: &str) -> Option<Told> {
        Some(match action {
            Action::CreatePod { .. } => warning("FailedCreate", format!("Error creating: {error}")),
            Action::DeletePod { .. } => warning("FailedDelete", format!("Error deleting: {error}")),
            Action::PatchPod {
                at, why: Why::Update, ..
            }
            | Action::ResizePod { at, .. } => {
                let set = self.metadata.name.as_deref().unwrap_or_default();
                let message = format!(
                    "failed to update pod {} in-place(revision {set}-{revision}): {error}",
                    at.name
                );
                warning("FailedUpdatePodInPlace", message)
            }
            _ => return None,
        })
    }
}
