//! What the loop asks of a kind of workload beside what is decided on it ([`Foreseen`]): whose its objects are, and how it speaks.

use afloat_rollout::action::Action;
use afloat_rollout::pod::images::Node;
use afloat_rollout::workload::foresight::Foreseen;

use crate::kept::Group;
use crate::round::told::{self, Told};

/// A kind of workload that the operator looks after.
pub(crate) trait Kind: Foreseen {
    /// Who its events come from.
    const COMPONENT: &'static str;

    /// Where nodes coming, going and changing ask for a round of all its objects: whether a node says the same as before.
    const FOLLOWS_NODES: Option<fn(&Node, &Node) -> bool> = None;

    /// Under what its claims are found: those that it controls, unless the kind says otherwise.
    fn claims(&self) -> Vec<Group> {
        vec![self.metadata().uid.as_deref().unwrap_or_default().into()]
    }

    /// The events that tell of an action that was carried out. `revision`: name of the revision that pods are updated to.
    fn done(&self, action: &Action, revision: &str) -> Vec<Told> {
        told::done(action, revision)
    }

    /// The event that tells of an action that the API server refused, if any.
    fn refused(&self, action: &Action, revision: &str, error: &str) -> Option<Told> {
        told::refused(action, revision, error)
    }
}
