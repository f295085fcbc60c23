//! How the nodes behave, and who is told what they do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How the nodes behave.
#[derive(Clone)]
pub struct Options {
    /// How many nodes; at least 1.
    pub nodes: u32,
    /// What each has: whole CPUs, and memory in GiB. A resize that asks for more is refused; a new pod is not, which is a
    /// scheduler's business.
    pub room: (u32, u32),
    /// Their names are this, a dash and a number from 1.
    pub name: String,
    /// From a container's creation until it runs; one without a readiness probe is ready then.
    pub start: Duration,
    /// From then on until its readiness probe, if it has one, has passed.
    pub probe: Duration,
    /// From the decision to stop a container until it has ended.
    pub stop: Duration,
    /// Until a change of `resources` that needs no restart has been carried out.
    pub resize: Duration,
    /// Play scheduler, too: bind pods that have no node.
    pub bind: bool,
    /// Bind only pods with this `schedulerName`; None: all. For clusters that have a scheduler of their own.
    pub scheduler_name: Option<String>,
    /// Look at this namespace only; None: all.
    pub namespace: Option<String>,
    /// Report `observedGeneration`, as kubelets from 1.33 on do where the feature is enabled; and say by a condition that a
    /// resize cannot be (`PodResizePending`), where those before write `status.resize`.
    pub observed_generation: bool,
    /// The name that a container's status shows.
    pub reported: Reported,
    /// How often a pod's status is written.
    pub statuses: Statuses,
    /// Requests under way at most.
    pub parallel: usize,
    /// Called whenever a container starts.
    pub on_start: Option<Hook>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 1,
            room: (10_000, 10_240),
            name: "sim".into(),
            start: Duration::ZERO,
            probe: Duration::ZERO,
            stop: Duration::ZERO,
            resize: Duration::from_millis(20),
            bind: true,
            scheduler_name: None,
            namespace: None,
            observed_generation: false,
            reported: Reported::default(),
            statuses: Statuses::default(),
            parallel: 64,
            on_start: None,
        }
    }
}

/// Which name `status.containerStatuses[].image` shows where several have one digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reported {
    /// The first that the node knew the image by, as containerd does: it may never be the one in the spec.
    #[default]
    FirstKnown,
    /// The one that the container was started with.
    Requested,
}

/// How often a pod's status is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Statuses {
    /// What comes together is one write: as few as a kubelet could do with.
    #[default]
    Merged,
    /// A write for each step, as kubelets do where the machine is not too slow: the pod is being created, its sandbox is there, its
    /// containers run, they are ready; a container has ended; all have, before the pod is gone. The next step waits for the write.
    /// They tell of volume mounts, too, as kubelets from 1.31 on do.
    EachStep,
}

/// Called whenever a container starts.
pub type Hook = Arc<dyn Fn(&Started<'_>) + Send + Sync>;

/// The start of a container, as its runtime sees it. This is when environment from labels and annotations is read.
#[derive(Clone, Debug)]
pub struct Started<'a> {
    /// Of the pod.
    pub namespace: &'a str,
    /// Of the pod.
    pub pod: &'a str,
    /// Its node.
    pub node: &'a str,
    /// Name of the container.
    pub container: &'a str,
    /// Reference that it is started from.
    pub image: &'a str,
    /// How often it was started before.
    pub restarts: u32,
    /// The pod's labels now.
    pub labels: &'a BTreeMap<String, String>,
    /// The pod's annotations now.
    pub annotations: &'a BTreeMap<String, String>,
}
