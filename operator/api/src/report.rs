//! RolloutReport: what became of one rollout. Written by the operator when a rollout begins, when something is lost and
//! when it ends; kept as long as the revisions of its CloneSet.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// A rollout; named after its revision and the revision's number, as one revision can be rolled out several times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RolloutReport {
    /// Name, owner and version.
    pub metadata: ObjectMeta,
    /// What is known of it.
    pub status: ReportStatus,
}

/// See [`RolloutReport`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReportStatus {
    /// The CloneSet.
    pub workload: String,
    /// The revision that is rolled out.
    pub revision: String,
    /// The revision that all pods had before; empty if it is not known.
    pub from: String,
    /// How far it is.
    pub phase: Phase,
    /// When it was seen first.
    pub started_at: Option<MicroTime>,
    /// When it ended.
    pub ended_at: Option<MicroTime>,
    /// When this was written.
    pub written_at: Option<MicroTime>,
    /// Time from start to end, in seconds with one digit after the point ("12.3s"); empty until then.
    pub duration: String,
    /// Pods of the revision.
    pub updated: usize,
    /// Of those, pods that were there before: changed in place.
    pub kept: usize,
    /// Of those, new pods.
    pub created: usize,
    /// Requests by which the operator changed something.
    pub writes: u64,
    /// How long pods took; only what one operator saw from its beginning to its end.
    pub steps: Steps,
    /// Connections lost, of any kind; None where no agent counts them.
    pub lost: Option<u64>,
    /// The same by kind.
    pub kinds: Lost,
    /// New connections through the proxies of its Services, as far as agents have told.
    pub connections: u64,
    /// What a prober saw, if one reported.
    pub latency: Option<Latency>,
    /// What is known of each node's counters: where the losses were, and what was before.
    pub counters: Vec<Counter>,
    /// The same for connections.
    pub services: Vec<ServiceCounter>,
    /// There were more counters than are kept: more is lost than is said.
    pub truncated: bool,
}

/// How far a rollout is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Pods are being moved to the revision.
    #[default]
    Progressing,
    /// It is held by its user: paused, or all pods updated that the partition allows.
    Paused,
    /// It is held, as more was lost than `afloat.dev/max-loss` allows.
    LossExceeded,
    /// It goes back for the same reason.
    RollingBack,
    /// It went back.
    RolledBack,
    /// All pods have the revision and are available.
    Completed,
    /// Another revision was wanted before it was complete.
    Superseded,
}

impl Phase {
    /// Nothing more is to come, unless the rollout begins again.
    pub fn ended(self) -> bool {
        matches!(self, Self::RolledBack | Self::Completed | Self::Superseded)
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Progressing => "Progressing",
            Self::Paused => "Paused",
            Self::LossExceeded => "LossExceeded",
            Self::RollingBack => "RollingBack",
            Self::RolledBack => "RolledBack",
            Self::Completed => "Completed",
            Self::Superseded => "Superseded",
        }
    }
}

/// Connections lost, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Lost {
    /// Refused.
    pub refused: u64,
    /// Aborted.
    pub reset: u64,
    /// Not answered in time.
    pub timed_out: u64,
}

impl Lost {
    /// Of any kind.
    pub fn total(&self) -> u64 {
        self.refused + self.reset + self.timed_out
    }

    /// Both.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            refused: self.refused + other.refused,
            reset: self.reset + other.reset,
            timed_out: self.timed_out + other.timed_out,
        }
    }
}

/// One pod at one node's proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counter {
    /// The node.
    pub node: String,
    /// The pod's UID.
    pub uid: String,
    /// Its name.
    pub pod: String,
    /// The revision that it had when something was lost last.
    pub revision: String,
    /// What the proxy's counters said last.
    pub seen: Lost,
    /// What of it belongs to the rollout.
    pub lost: Lost,
}

/// One Service at one node's proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceCounter {
    /// The node.
    pub node: String,
    /// The Service's name.
    pub service: String,
    /// What the proxy's counter said last.
    pub seen: u64,
}

/// How long pods took for each step of an update in place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Steps {
    /// Out of service until changed.
    pub drain: Step,
    /// Changed until back in service.
    pub replace: Step,
    /// Back in service until Ready.
    #[serde(rename = "return")]
    pub back: Step,
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Step {
    /// Pods that it was measured of.
    pub pods: u64,
    /// Their mean, in seconds ("1.2s"); empty if there are none.
    pub mean: String,
    /// The longest.
    pub max: String,
}

/// Response times as a prober saw them, before, during and after the rollout: 99th percentiles in seconds ("0.012s").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Latency {
    /// Before the rollout began; empty if nothing was sent then, as with the others.
    pub before: String,
    /// During it.
    pub during: String,
    /// After its end.
    pub after: String,
    /// Requests that the prober sent meanwhile.
    pub requests: u64,
    /// Requests that it lost during the rollout.
    pub lost: u64,
}

/// A duration as reports have it: "12.3s".
pub fn seconds(duration: SignedDuration) -> String {
    let tenths = (duration.as_millis().max(0) + 50) / 100;
    format!("{}.{}s", tenths / 10, tenths % 10)
}

/// Reads what [`seconds`] writes.
pub fn read_seconds(text: &str) -> Option<f64> {
    text.strip_suffix('s')?.parse().ok()
}

crate::kind!(
    RolloutReport,
    "afloat.dev" / "v1alpha1",
    "RolloutReport",
    "rolloutreports",
    NamespaceResourceScope
);
