//! What a plan asks for. Every write names the version of the object that it was decided on, so that a decision on an
//! old view fails with a conflict instead of taking effect.

use serde_json::Value;

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
    pub fn of(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Self {
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
        }
    }
}

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
}

impl Why {
    /// As a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScaleUp => "scale_up",
            Self::ScaleDown => "scale_down",
            Self::Specified => "specified_delete",
            Self::ReCreate => "recreate",
            Self::Adopt => "adopt",
            Self::Release => "release",
            Self::Drain => "drain",
            Self::Update => "update",
            Self::Return => "return",
            Self::Lifecycle => "lifecycle",
            Self::Launch => "launch",
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
        number: i64,
    },
    /// Delete a revision that no pod uses.
    DeleteRevision {
        /// Which.
        at: At,
    },
    /// Create a pod.
    CreatePod {
        /// The object, with its name.
        body: Value,
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
    /// Strategic merge patch of a claim; the patch carries the preconditions.
    PatchClaim {
        /// Which.
        at: At,
        /// The patch.
        patch: Value,
    },
    /// Delete a claim that no pod has.
    DeleteClaim {
        /// Which.
        at: At,
    },
    /// Merge patch of the workload itself; the patch carries the preconditions.
    PatchSet {
        /// Which.
        at: At,
        /// The patch.
        patch: Value,
    },
    /// Strategic merge patch of a pod; the patch carries the preconditions.
    PatchPod {
        /// Which.
        at: At,
        /// The patch.
        patch: Value,
        /// Why.
        why: Why,
    },
    /// Strategic merge patch of a pod's `resize` subresource; the patch carries the preconditions.
    ResizePod {
        /// Which.
        at: At,
        /// The patch.
        patch: Value,
    },
    /// Let the containers of a pod that have this launch priority start: add the data of `body`, a ConfigMap that the
    /// pod owns, creating it if it is not there. It may be done twice.
    OpenBarrier {
        /// The ConfigMap with the one key to add.
        body: Value,
        /// Of the pod.
        uid: String,
        /// The priority.
        priority: i32,
    },
    /// Strategic merge patch of a pod's status; the patch carries the preconditions.
    PatchPodStatus {
        /// Which.
        at: At,
        /// The patch.
        patch: Value,
        /// Why.
        why: Why,
    },
    /// Create a RolloutReport, or merge into the one that is there.
    WriteReport {
        /// Which, if it is there.
        at: Option<At>,
        /// The object, or the patch, which carries the preconditions.
        body: Value,
    },
    /// Delete a RolloutReport.
    DeleteReport {
        /// Which.
        at: At,
    },
}
