//! What a plan asks for. Every write names the version of the object that it was decided on, so that a decision on an
//! old view fails with a conflict instead of taking effect. What is changed has a type ([`patch`]); it becomes JSON where
//! it is sent.

use afloat_api::RolloutReport;
use serde_json::Value;

mod new_pod;
pub mod patch;

pub use new_pod::NewPod;
pub use patch::At;
use patch::{ClaimPatch, PodPatch, ReportPatch, RevisionNumber, SetPatch};

/// Why a pod is written: for events and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// More pods are wanted.
    ScaleUp,
    /// Fewer pods are wanted.
    ScaleDown,
    /// Somebody asked for exactly this pod's deletion.
    Specified,
    /// The pod is replaced by one of the new revision.
    ReCreate,
    /// The pod is over, and another one takes its name and its claims.
    Finished,
    /// An orphan that matches the selector.
    Adopt,
    /// A pod that no longer matches the selector.
    Release,
    /// Out of service before its images change.
    Drain,
    /// New images, labels, annotations.
    Update,
    /// Back to service.
    Return,
    /// Another state of its life, for hooks to see.
    Lifecycle,
    /// All its containers have been let start, in their order.
    Launch,
    /// The labels by which a pod of an ordinal is found.
    Identity,
}

impl Why {
    /// As a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScaleUp => "scale_up",
            Self::ScaleDown => "scale_down",
            Self::Specified => "specified_delete",
            Self::ReCreate => "recreate",
            Self::Finished => "finished",
            Self::Adopt => "adopt",
            Self::Release => "release",
            Self::Drain => "drain",
            Self::Update => "update",
            Self::Return => "return",
            Self::Lifecycle => "lifecycle",
            Self::Launch => "launch",
            Self::Identity => "identity",
        }
    }
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create a ControllerRevision.
    CreateRevision {
        /// The object.
        body: Value,
    },
    /// Make a revision the newest.
    NumberRevision {
        /// Which.
        at: At,
        /// Its new number.
        number: RevisionNumber,
    },
    /// Delete a revision that no pod uses.
    DeleteRevision {
        /// Which.
        at: At,
    },
    /// Create a pod.
    CreatePod {
        /// Which.
        pod: NewPod,
    },
    /// Delete a pod, and then, if that took effect, its claims: a claim must never go under a pod that stays.
    DeletePod {
        /// Which.
        at: At,
        /// Why.
        why: Why,
        /// Claims that go with it.
        claims: Vec<At>,
    },
    /// Create a volume claim.
    CreateClaim {
        /// The object, with its name.
        body: Value,
    },
    /// Strategic merge patch of a claim.
    PatchClaim {
        /// Which.
        at: At,
        /// What changes.
        patch: ClaimPatch,
    },
    /// Delete a claim that no pod has.
    DeleteClaim {
        /// Which.
        at: At,
    },
    /// Merge patch of the workload itself.
    PatchSet {
        /// Which.
        at: At,
        /// What changes.
        patch: SetPatch,
    },
    /// Strategic merge patch of a pod.
    PatchPod {
        /// Which.
        at: At,
        /// What changes.
        patch: PodPatch,
        /// Why.
        why: Why,
    },
    /// Strategic merge patch of a pod's `resize` subresource.
    ResizePod {
        /// Which.
        at: At,
        /// What changes.
        patch: PodPatch,
    },
    /// Let the containers of a pod that have this launch priority start: add one key to a ConfigMap that the pod owns,
    /// creating it if it is not there. It may be done twice.
    OpenBarrier {
        /// Name of the pod.
        pod: String,
        /// Its namespace.
        namespace: String,
        /// Its UID.
        uid: String,
        /// The priority.
        priority: i32,
    },
    /// Strategic merge patch of a pod's status.
    PatchPodStatus {
        /// Which.
        at: At,
        /// What changes.
        patch: PodPatch,
        /// Why.
        why: Why,
    },
    /// Create a RolloutReport.
    CreateReport {
        /// The object.
        report: Box<RolloutReport>,
    },
    /// Merge patch of a RolloutReport.
    PatchReport {
        /// Which.
        at: At,
        /// What changes.
        patch: ReportPatch,
    },
    /// Delete a RolloutReport.
    DeleteReport {
        /// Which.
        at: At,
    },
}
