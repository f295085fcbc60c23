//! Why a pod is not placed, in the words of Kubernetes' scheduler: users and tools know them.

use std::collections::BTreeMap;
use std::fmt;

/// Why one node cannot take the pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Misfit {
    Unschedulable,
    Taint {
        key: String,
        value: String,
    },
    /// Node selector or affinity.
    Affinity,
    HostPorts,
    TooManyPods,
    /// Too little of this resource.
    Insufficient(String),
    /// A volume that it needs is elsewhere.
    VolumeAffinity,
    /// None of the volumes that would do is there, and none can be made there.
    NoVolume,
}

impl fmt::Display for Misfit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unschedulable => out.write_str("node(s) were unschedulable"),
            Self::Taint { key, value } => write!(out, "node(s) had untolerated taint {{{key}: {value}}}"),
            Self::Affinity => out.write_str("node(s) didn't match Pod's node affinity/selector"),
            Self::HostPorts => out.write_str("node(s) didn't have free ports for the requested pod ports"),
            Self::TooManyPods => out.write_str("Too many pods"),
            Self::Insufficient(resource) => write!(out, "Insufficient {resource}"),
            Self::VolumeAffinity => out.write_str("node(s) had volume node affinity conflict"),
            Self::NoVolume => out.write_str("node(s) didn't find available persistent volumes to bind"),
        }
    }
}

/// Why no node will do, for the sake of one of the pod's claims.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ClaimRefusal {
    #[error("waiting for ephemeral volume controller to create the persistentvolumeclaim \"{0}\"")]
    NotMade(String),
    #[error("persistentvolumeclaim \"{0}\" not found")]
    NotFound(String),
    #[error("persistentvolumeclaim \"{0}\" is being deleted")]
    IsLeaving(String),
    #[error("persistentvolumeclaim \"{claim}\" bound to non-existent persistentvolume \"{volume}\"")]
    VolumeNotFound { claim: String, volume: String },
    #[error("pod has unbound immediate PersistentVolumeClaims")]
    Unbound,
}

/// Why a pod is not placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// So many nodes, none of which is asked.
    Claim { nodes: usize, why: ClaimRefusal },
    /// So many nodes, and what keeps how many of them.
    Nowhere {
        nodes: usize,
        misfits: BTreeMap<Misfit, usize>,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim { nodes, why } => write!(out, "0/{nodes} nodes are available: {why}."),
            Self::Nowhere { nodes: 0, .. } => out.write_str("no nodes available to schedule pods"),
            Self::Nowhere { nodes, misfits } => {
                let mut reasons: Vec<(String, &usize)> =
                    misfits.iter().map(|(why, count)| (why.to_string(), count)).collect();
                reasons.sort();
                let list: Vec<String> = reasons.iter().map(|(why, count)| format!("{count} {why}")).collect();
                write!(out, "0/{nodes} nodes are available: {}.", list.join(", "))
            }
        }
    }
}
