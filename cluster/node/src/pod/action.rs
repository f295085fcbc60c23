//! What a plan may ask for.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceRequirements;

use super::instance::Why;
use super::spec::ProbeKind;

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make volumes and network.
    PrepareSandbox,
    /// Bring the files of volumes up to date, and renew tokens.
    RefreshVolumes,
    /// Look whether an emptyDir is larger than it may be.
    MeasureVolumes,
    /// Make a container.
    Create {
        /// Its name.
        container: String,
        /// Its number among those of that name.
        attempt: u32,
    },
    /// Ask the node for other resources for the pod's containers.
    Allocate {
        /// By container, all of them.
        wanted: BTreeMap<String, ResourceRequirements>,
    },
    /// Give a running container what the node has granted it.
    Resize {
        /// Its name.
        container: String,
        /// Its id.
        id: String,
    },
    /// Let its process go.
    Start {
        /// Its name.
        container: String,
        /// Its id.
        id: String,
    },
    /// Run its postStart hook.
    PostStart {
        /// Its name.
        container: String,
        /// Its id.
        id: String,
    },
    /// Decide that it is to stop (event `Killing`).
    BeginStop {
        /// Its name.
        container: String,
        /// Its id.
        id: String,
        /// For the event.
        why: Why,
        /// When its grace is over.
        deadline: Timestamp,
        /// It has a preStop hook to run.
        pre_stop: bool,
    },
    /// Run its preStop hook, no longer than until `deadline`.
    PreStop {
        /// Its name.
        container: String,
        /// Its id.
        id: String,
        /// When its grace is over.
        deadline: Timestamp,
    },
    /// Ask it to stop, or kill it.
    Signal {
        /// Its name.
        container: String,
        /// Its id.
        id: String,
        /// SIGKILL instead of its stop signal.
        kill: bool,
    },
    /// Ask a probe's question.
    Probe {
        /// Its name.
        container: String,
        /// Its id.
        id: String,
        /// Which.
        kind: ProbeKind,
        /// When to ask again.
        period: Duration,
    },
    /// Say that it waits for its back-off.
    TellBackOff {
        /// Its name.
        container: String,
        /// Its id.
        id: String,
    },
    /// Look whether an image that was missing has come.
    LookForImage {
        /// Its name.
        container: String,
    },
    /// Take an ended or never started container away.
    Remove {
        /// Its name.
        container: String,
        /// Its id.
        id: String,
    },
    /// Ask whether the node takes the pod, which has not run here yet.
    Admit,
    /// The node does not take it.
    Reject {
        /// `status.reason`.
        reason: &'static str,
        /// Why, as the event has it.
        message: String,
    },
    /// The pod as a whole fails.
    Fail {
        /// `status.reason`.
        reason: &'static str,
        /// `status.message`.
        message: String,
    },
    /// Take network and volumes away.
    CleanUp,
    /// Delete the API object.
    DeleteObject,
}

impl Action {
    /// The world may have changed when it is done: plan anew.
    pub fn slow(&self) -> bool {
        !matches!(
            self,
            Self::BeginStop { .. } | Self::Probe { .. } | Self::TellBackOff { .. }
        )
    }
}
