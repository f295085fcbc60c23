//! A pod, trimmed to the fields that decisions read. Controllers hold thousands of these.

use std::borrow::Cow;
use std::sync::Arc;

use afloat_api::names;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use crate::action::At;
use crate::pod::environment::Environment;
use crate::pod::label::same_revision;
use crate::pod::resources::Resources;
use crate::texts::{Entries, Text};

pub(super) mod incoming;
mod share;
mod sight;

/// A pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// Name and versions.
    pub metadata: Metadata,
    /// The owner that controls the pod.
    pub controller: Option<Controller>,
    /// Labels.
    pub labels: Entries,
    /// Annotations.
    pub annotations: Entries,
    /// What shall run.
    pub spec: PodSpec,
    /// What runs.
    pub status: PodStatus,
}

/// What is read of a pod's metadata, beside labels, annotations and owners: a third of the space of the whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// Namespace.
    pub namespace: Text,
    /// Name; empty only for objects that no server has seen.
    pub name: Text,
    /// UID.
    pub uid: Text,
    /// Version of the object.
    pub resource_version: Text,
    /// Version of its spec, where the server counts them.
    pub generation: Option<i64>,
    /// Since when it exists.
    pub created: Option<Timestamp>,
    /// Somebody has deleted it.
    pub terminating: bool,
    /// Who has to agree before it goes.
    pub finalizers: Box<[Text]>,
}

/// The owner that controls a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Controller {
    /// For example `apps.kruise.io/v1beta1`.
    pub api_version: Text,
    /// For example `CloneSet`.
    pub kind: Text,
    /// Name.
    pub name: Text,
    /// UID.
    pub uid: Text,
}

/// What shall run in a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSpec {
    /// Absent while unscheduled.
    pub node_name: Option<Text>,
    /// The node that it is pinned to by its affinity, if it is.
    pub pinned_to: Option<Text>,
    /// Names and images of the application's containers, and after them of the sidecars: what runs as long as the pod does.
    /// One list for all pods that have the same.
    pub containers: Arc<Vec<Container>>,
    /// Conditions that must be True for the pod to be Ready; in the same way.
    pub readiness_gates: Arc<Vec<ReadinessGate>>,
}

/// A container of the spec.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Unique in the pod.
    pub name: Text,
    /// Reference.
    pub image: Text,
    /// The few variables that matter.
    #[serde(rename = "env")]
    pub environment: Environment,
    /// What it may use.
    pub resources: Resources,
    /// Resources that need a restart to change (KEP-1287): cpu, memory.
    #[serde(rename = "resizePolicy", deserialize_with = "restarting")]
    pub restart_to_resize: Box<[Text]>,
    /// It has a postStart hook.
    #[serde(rename = "lifecycle", deserialize_with = "post_start")]
    pub post_start: bool,
    /// It stands among the init containers and runs as long as the pod does (KEP-753).
    #[serde(rename = "restartPolicy", deserialize_with = "always")]
    pub sidecar: bool,
}

/// One readiness gate.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReadinessGate {
    /// Type of the condition.
    pub condition_type: Text,
}

/// What runs in a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodStatus {
    /// Pending, Running, Succeeded, Failed, Unknown.
    pub phase: Text,
    /// Those that decisions read: Ready, the gates, what becomes of a resize, and of a pod that is not Ready ContainersReady.
    pub conditions: Vec<PodCondition>,
    /// One per started container, and after them one per sidecar.
    pub container_statuses: Vec<ContainerStatus>,
    /// Newest generation that the node's agent has acted on, where it says so.
    pub observed_generation: Option<i64>,
    /// What becomes of a resize, where the node's agent says it in one word: up to Kubernetes 1.32 (`status.resize`: Proposed,
    /// InProgress, Deferred, Infeasible); later ones have conditions.
    pub resize: Option<Text>,
}

/// One condition of a pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodCondition {
    /// Which.
    #[serde(rename = "type")]
    pub kind: Text,
    /// True, False or Unknown.
    pub status: Text,
    /// Since when.
    pub last_transition_time: Option<Time>,
    /// One word.
    pub reason: Option<Text>,
    /// One sentence.
    pub message: Option<Text>,
}

fn held<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<Resources>>, D::Error> {
    Ok(Option::deserialize(deserializer)?.map(Arc::new))
}

/// What has to happen so that a container gets another amount of a resource (KEP-1287).
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResizePolicy {
    /// cpu or memory.
    resource_name: Text,
    /// NotRequired or RestartContainer.
    restart_policy: Text,
}

/// The resources whose policy asks for a restart.
fn restarting<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<[Text]>, D::Error> {
    let all = Vec::<ResizePolicy>::deserialize(deserializer)?.into_iter();
    let restarting = all.filter(|policy| policy.restart_policy == "RestartContainer");
    Ok(restarting.map(|policy| policy.resource_name).collect())
}

/// Whether a container's `restartPolicy` is Always.
fn always<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let policy = Option::<Cow<'_, str>>::deserialize(deserializer)?;
    Ok(policy.is_some_and(|policy| policy == "Always"))
}

/// Whether a container's `lifecycle` has a postStart hook.
fn post_start<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Lifecycle {
        post_start: Option<IgnoredAny>,
    }
    let lifecycle = Option::<Lifecycle>::deserialize(deserializer)?;
    Ok(lifecycle.is_some_and(|lifecycle| lifecycle.post_start.is_some()))
}

/// What the node says about a container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// Which.
    pub name: Text,
    /// Reference as the runtime sees it.
    pub image: Text,
    /// What the reference resolved to.
    #[serde(rename = "imageID")]
    pub image_id: Text,
    /// The running container.
    #[serde(rename = "containerID")]
    pub container_id: Option<String>,
    /// How often it was started anew.
    pub restart_count: i32,
    /// Whether it passes its readiness probe.
    pub ready: bool,
    /// Whether it has passed its startup probe; None where the node does not say.
    pub started: Option<bool>,
    /// Waiting, running or terminated.
    pub state: ContainerState,
    /// What it has, where the node says so.
    #[serde(deserialize_with = "held")]
    pub resources: Option<Arc<Resources>>,
    /// Since when this container has been seen ready; None where that was not noted.
    #[serde(skip)]
    pub seen: Option<Sight>,
    /// It is a sidecar's.
    #[serde(skip)]
    pub sidecar: bool,
}

/// What was seen of a ready container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Since when.
    pub since: Timestamp,
    /// It was seen to take the place of another, or to become ready. If not, it may have been so for ever: the operator has just
    /// begun to look.
    pub replaced: bool,
}

/// State of a container; at most one field is set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// Why it does not run yet.
    pub waiting: Option<Waiting>,
    /// Set while it runs.
    pub running: Option<Running>,
    /// It has ended.
    #[serde(deserialize_with = "there")]
    pub terminated: bool,
}

/// Whether anything is there.
fn there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Option::<IgnoredAny>::deserialize(deserializer).map(|found| found.is_some())
}

/// Why a container waits.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// For example ImagePullBackOff.
    pub reason: Option<Text>,
}

/// A running container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Running {
    /// Since when.
    pub started_at: Option<Time>,
}

/// How long readiness has to hold where the kubelet may show it for a moment only: that of a pod with a postStart hook.
///
/// A kubelet starts a container, runs its hook, and kills it if the hook fails; its status says nothing of all this. It
/// reports what its runtime said at its last look (once a second), and to it a container whose hook has failed is running,
/// `started` and `ready` until the runtime says that it has ended (1.32: `kuberuntime_container.go#startContainer`,
/// `prober_manager.go#UpdatePodStatus`, `pleg/generic.go`). Its times do not tell either: a container that takes the place of one
/// that was ready may have been started long before its hook failed, and the pod's conditions have their times from the one before.
/// So it counts from when the operator saw it ([`Pod::look`]). So does a container without a readinessProbe that ends at
/// once, but there a probe or `minReadySeconds` is the user's word on it; nobody's word tells whether a hook is done.
/// Times of a status are cut to whole seconds: what holds for this long was looked at twice.
pub const HOLD: SignedDuration = SignedDuration::from_secs(3);

/// Since when a pod may count as available.
///
/// Readiness counts from its beginning, or from the last start of a container if that was later: a container may be
/// started anew between two looks of the kubelet, and then Ready never was False. Where a hook may fail it has to be seen
/// for [`HOLD`] at least, and also where it began before the gate was opened: the kubelet may have written it before it
/// saw the gate closed, and is about to take it back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// When it became Ready last.
    pub(crate) ready: Option<Timestamp>,
    /// What it counts from.
    since: Option<Timestamp>,
    /// It has to hold for [`HOLD`].
    holds: bool,
}

impl Readiness {
    /// When it will have held for long enough; None if it has.
    pub(crate) fn held_in(&self, min_ready: SignedDuration, now: Timestamp) -> Option<Timestamp> {
        let time = if self.holds { min_ready.max(HOLD) } else { min_ready };
        if time.is_zero() {
            return None;
        }
        self.since?.checked_add(time).ok().filter(|at| *at > now)
    }
}

impl ContainerStatus {
    /// Runs, has started and is ready, as far as the node says. `started` is null where nobody asks for it; an old kubelet
    /// does not write it.
    pub fn steady(&self) -> bool {
        self.ready && self.started != Some(false) && self.state.waiting.is_none() && !self.state.terminated
    }

    /// Since when it runs.
    pub fn started_at(&self) -> Option<Timestamp> {
        let running = self.state.running.as_ref()?;
        running.started_at.as_ref().map(|time| time.0)
    }
}

impl Pod {
    /// The name; empty only for objects that no server has seen.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// The node that it is on, or is to come to.
    pub fn target(&self) -> Option<&str> {
        let spec = &self.spec;
        spec.node_name.as_deref().or(spec.pinned_to.as_deref())
    }

    /// The pod as it was looked at.
    pub fn at(&self) -> At {
        At {
            name: self.metadata.name.to_string(),
            uid: self.metadata.uid.to_string(),
            resource_version: self.metadata.resource_version.to_string(),
        }
    }

    /// Neither terminating nor finished.
    pub fn active(&self) -> bool {
        !self.metadata.terminating && !matches!(self.status.phase.as_str(), "Failed" | "Succeeded")
    }

    /// Whether nothing has changed that is read here, but for the version: who wrote meanwhile wrote something else.
    pub fn reads_as(&self, before: &Self) -> bool {
        self.metadata.generation == before.metadata.generation
            && self.status == before.status
            && self.is_meant_as(before)
    }

    /// Whether all that others than the node say of it is the same: what it is, what it is to be, and whose it is.
    pub(crate) fn is_meant_as(&self, other: &Self) -> bool {
        let (a, b) = (&self.metadata, &other.metadata);
        a.uid == b.uid
            && a.terminating == b.terminating
            && a.finalizers == b.finalizers
            && self.labels == other.labels
            && self.annotations == other.annotations
            && self.spec == other.spec
            && self.controller == other.controller
    }

    /// One of the conditions.
    pub fn condition(&self, kind: &str) -> Option<&PodCondition> {
        self.status.conditions.iter().find(|condition| condition.kind == kind)
    }

    /// Whether the spec has this readiness gate.
    pub fn has_gate(&self, kind: &str) -> bool {
        self.spec.readiness_gates.iter().any(|gate| gate.condition_type == kind)
    }

    /// Running and Ready, and not out of service for an in-place update.
    pub fn ready(&self) -> bool {
        self.status.phase == "Running"
            && self.condition("Ready").is_some_and(|c| c.status == "True")
            && self.condition(names::INPLACE_READY).is_none_or(|c| c.status != "False")
    }

    /// When the pod became Ready.
    pub fn ready_since(&self) -> Option<Timestamp> {
        self.condition("Ready")
            .and_then(|c| c.last_transition_time.as_ref())
            .map(|time| time.0)
    }

    /// Since when all its containers are ready, whatever its gates say; None while one is not.
    pub fn containers_ready_since(&self) -> Option<Timestamp> {
        let condition = self.condition("ContainersReady").or_else(|| self.condition("Ready"));
        let condition = condition.filter(|c| c.status == "True")?;
        condition.last_transition_time.as_ref().map(|time| time.0)
    }

    /// Whether a hook lets the pod take part.
    pub fn in_normal_state(&self) -> bool {
        self.labels
            .get(names::LIFECYCLE_STATE)
            .is_none_or(|state| state.is_empty() || state == names::STATE_NORMAL)
    }

    /// Whether it counts as available: active, Ready for that long and by what the node says of each container, and not
    /// held by a hook.
    pub fn available(&self, min_ready: SignedDuration, now: Timestamp) -> bool {
        self.active()
            && self.ready()
            && self.in_normal_state()
            && self.steady()
            && self.available_in(min_ready, now).is_none()
    }

    /// Whether it serves, and is not believed yet ([`HOLD`]): it does not count as available, and is not free to be taken out
    /// either, as OpenKruise takes pods that are not.
    pub fn unproven(&self, min_ready: SignedDuration, now: Timestamp) -> bool {
        let long_enough = |since: Timestamp| since.checked_add(min_ready).is_ok_and(|at| at <= now);
        self.active()
            && self.ready()
            && self.in_normal_state()
            && self.steady()
            && self.ready_since().is_none_or(long_enough)
            && self.available_in(min_ready, now).is_some()
    }

    /// For a Ready pod, when it will have been Ready for long enough; None if it already has.
    pub fn available_in(&self, min_ready: SignedDuration, now: Timestamp) -> Option<Timestamp> {
        self.held_in(min_ready, now)
    }

    /// Whether nothing that the node says of a container speaks against the condition Ready. They come in one write from
    /// a kubelet, but Ready has more authors than that.
    pub fn steady(&self) -> bool {
        self.status.container_statuses.iter().all(ContainerStatus::steady)
    }

    fn held_in(&self, min_ready: SignedDuration, now: Timestamp) -> Option<Timestamp> {
        self.readiness().held_in(min_ready, now)
    }

    /// Since when it may count as available.
    pub(crate) fn readiness(&self) -> Readiness {
        let ready = self.ready_since();
        let gate = self
            .condition(names::INPLACE_READY)
            .filter(|gate| gate.status == "True");
        let opened = gate
            .and_then(|gate| gate.last_transition_time.as_ref())
            .map(|time| time.0);
        let reopened = opened.filter(|opened| ready.is_some_and(|ready| ready < *opened));
        let hooked = self.spec.containers.iter().any(|container| container.post_start);
        let starts = self
            .status
            .container_statuses
            .iter()
            .filter_map(ContainerStatus::started_at);
        let seen = self.status.container_statuses.iter().filter_map(|status| status.seen);
        let seen = seen.filter(|seen| seen.replaced).map(|seen| seen.since);
        Readiness {
            ready,
            since: starts.chain(seen).chain(ready).chain(reopened).max(),
            holds: hooked || reopened.is_some(),
        }
    }

    /// A container of the spec.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.spec.containers.iter().find(|container| container.name == name)
    }

    /// What the node says about a container.
    pub fn container_status(&self, name: &str) -> Option<&ContainerStatus> {
        self.status.container_statuses.iter().find(|status| status.name == name)
    }

    /// Whether the revision label means this revision: the full name, or the same last segment, so that OpenKruise's
    /// long and short forms both work.
    pub fn at_revision(&self, revision: &str) -> bool {
        self.labels
            .get(names::REVISION)
            .is_some_and(|label| same_revision(label, revision))
    }
}
