//! What is known before a change, and what is told of it.

use std::fmt;

use afloat_api::Gates;
use afloat_rollout::pod::server::Server;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::image::Images;
use crate::object::Id;

/// What is known before the change.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The object as it is; None if there is none.
    pub old: Option<&'a Value>,
    /// The object as it shall be.
    pub new: &'a Value,
    /// The pods of the namespace, if a cluster was asked.
    pub pods: &'a [Value],
    /// The ControllerRevisions of the namespace, if a cluster was asked.
    pub revisions: &'a [Value],
    /// The ConfigMaps and Secrets that change, as they shall be; a Secret with the UID that it has.
    pub configs: &'a [Value],
    /// The same as they are, if no cluster was asked.
    pub configs_before: &'a [Value],
    /// The PodDisruptionBudgets of the namespace.
    pub budgets: &'a [Value],
    /// What is known of images.
    pub images: &'a Images,
    /// What the cluster lets change on live pods; if none was asked, what the newest does.
    pub server: Server,
    /// Feature gates that the operator runs with.
    pub gates: Gates,
    /// Seconds that pods took in earlier rollouts, newest last; empty if nothing is known.
    pub history: &'a [u64],
    /// The time.
    pub now: Timestamp,
}

/// What becomes of the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// There is no such object: it is created.
    Create,
    /// No pod changes.
    Nothing,
    /// The pods stay, and change where they are.
    InPlace,
    /// The pods are deleted and others created.
    Recreate,
    /// The object is changed and its pods cannot follow.
    Refused,
}

/// What becomes of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContainerChange {
    /// Which.
    pub name: String,
    /// Whether it restarts.
    pub restarts: bool,
    /// Why, or why not.
    pub why: String,
}

/// How long it may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Estimate {
    /// All of it.
    pub seconds: u64,
    /// One pod.
    pub pod_seconds: u64,
    /// Pods one after the other.
    pub rounds: u64,
    /// Whether earlier rollouts say so.
    pub from_history: bool,
    /// What it takes for granted.
    pub assumes: Vec<String>,
}

/// What holds a change up, or part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// This field says so, and nothing happens until it is false.
    Paused(&'static str),
    /// A pod changes when somebody deletes it.
    OnDelete,
    /// Pods with a lower ordinal stay as they are.
    Ordinals(u64),
    /// So many pods stay as they are.
    Kept {
        /// How many.
        kept: usize,
        /// Of how many.
        replicas: usize,
    },
    /// Pods are missing already.
    Unavailable {
        /// How many.
        missing: usize,
        /// Of how many.
        pods: usize,
        /// What is left of the budget.
        free: usize,
        /// The budget.
        max_unavailable: usize,
    },
    /// This pod of a StatefulSet is not ready, and the others wait for it.
    NotReady(String),
    /// No pod may go, and none may come.
    NoRoom,
    /// This PodDisruptionBudget allows no eviction now.
    Budget(String),
    /// What somebody else says of it.
    Said(String),
}

impl Hold {
    /// Whether nothing moves by itself.
    pub(super) fn stops(&self) -> bool {
        matches!(self, Self::Paused(_) | Self::OnDelete | Self::NoRoom)
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused(field) => write!(f, "{field} is true: nothing happens until it is false"),
            Self::OnDelete => write!(f, "updateStrategy OnDelete: a pod changes when somebody deletes it"),
            Self::Ordinals(partition) => {
                write!(f, "partition {partition}: pods with a lower ordinal stay as they are")
            }
            Self::Kept { kept, replicas } => write!(f, "partition keeps {kept} of {replicas} pods as they are"),
            Self::Unavailable {
                missing,
                pods,
                free,
                max_unavailable,
            } => write!(
                f,
                "{missing} of {pods} pods are not available now, which leaves {free} of maxUnavailable {max_unavailable}"
            ),
            Self::NotReady(pod) => write!(
                f,
                "pod {pod} is not ready: OrderedReady waits for it, of a broken template until somebody deletes it (k/k #67250)"
            ),
            Self::NoRoom => write!(f, "maxUnavailable and maxSurge are 0: no pod may go"),
            Self::Budget(name) => write!(
                f,
                "PodDisruptionBudget {name} allows no eviction now (an update does not ask it, a node's drain does)"
            ),
            Self::Said(text) => f.write_str(text),
        }
    }
}

impl Serialize for Hold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a change will do.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// Which object.
    pub object: Id,
    /// What becomes of its pods.
    pub outcome: Outcome,
    /// The field that decides it.
    pub why: String,
    /// What an earlier rollout that still goes on waits for; None if none does.
    pub under_way: Option<String>,
    /// Pods wanted before, if there was an object.
    pub replicas_before: Option<u64>,
    /// Pods wanted.
    pub replicas: u64,
    /// Pods that change.
    pub pods_to_change: u64,
    /// Pods that may be out of service at once.
    pub max_unavailable: u64,
    /// Pods that may exist beyond those wanted.
    pub max_surge: u64,
    /// The pods in the order in which they change; empty if no cluster was asked.
    pub order: Vec<String>,
    /// Those that the operator takes first, at once; empty if no cluster was asked.
    pub first: Vec<String>,
    /// What becomes of the containers.
    pub containers: Vec<ContainerChange>,
    /// What holds the change up.
    pub holds: Vec<Hold>,
    /// How long it may take; None if nothing moves by itself.
    pub estimate: Option<Estimate>,
}
