//! Mistakes that the checks must find: each changes what the planner is told, what it says, or how that is carried out.

use std::sync::Arc;

use afloat_api::{CloneSet, names};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::control::Plan;
use super::object::{TIMES, now};
use crate::world::{Bug, object};
use afloat_rollout::action::patch::{ConditionPatch, Edit};
use afloat_rollout::action::{Action, Why};
use afloat_rollout::pod::drain::Drain;
use afloat_rollout::pod::object::Pod;

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    Nothing,
    /// One that the random worlds have too.
    Known(Bug),
    /// Own writes are not waited for; versions guard them still.
    OwnWritesUnseen,
    /// Own writes are not waited for, and no version guards them.
    Unguarded,
    /// Writes do not carry the version that they were decided on.
    NoVersion,
    /// A terminating pod that is still Ready counts as available.
    TerminatingIsAvailable,
    /// A terminating pod is taken for gone, and its successor as available at once.
    NewIsAvailable,
    /// Complete as soon as the status names another imageID (OpenKruise's rule), which it may do late, or never; and sidecars are
    /// not looked at.
    ImageIdAlone,
    /// Complete if the image is one that ran before.
    RollbackIsDone,
    /// A quiet period for another revision counts.
    AnyDrainCounts,
    /// The first write is left out: images change in service.
    NoDrain,
    /// Each container is written, whether it changed or not.
    OtherContainer,
    /// The images are not those of the revision that the label names.
    OldImage,
    /// Pods are deleted where they could change in place.
    ReCreates,
    /// What the nodes say about containers is not read.
    Deaf,
    /// A pod that came back is taken out again.
    Restless,
    /// Back in service together with the change of the images.
    ReturnWithUpdate,
    /// No wake-up at the end of a quiet period.
    Sleeps,
    /// A container that was started long ago has been ready for long.
    StartIsReady,
    /// The readiness of a moment counts, whatever hooks there are.
    MomentIsReady,
}

impl Planted {
    pub(super) fn waits(self) -> bool {
        !matches!(self, Self::OwnWritesUnseen | Self::Unguarded)
    }

    pub(super) fn guards(self) -> bool {
        self != Self::Unguarded
    }

    /// What the planner is told.
    pub(super) fn mislead(self, set: &mut CloneSet, pods: &mut [Arc<Pod>]) {
        let update = set.status.update_revision.clone();
        match self {
            Self::Known(bug) => object::mislead(bug, set, pods, now()),
            Self::TerminatingIsAvailable => edit(pods, |pod| pod.metadata.terminating = false),
            Self::NewIsAvailable => edit(pods, |pod| {
                if pod.status.phase == "Pending" {
                    pod.status.phase = "Running".into();
                    let all = ["Ready", names::INPLACE_READY, names::KRUISE_POD_READY];
                    let all = all.map(|kind| json!({"type": kind, "status": "True"}));
                    pod.status.conditions = serde_json::from_value(json!(all)).unwrap();
                }
            }),
            Self::ImageIdAlone => edit(pods, |pod| object::forget(pod, names::INPLACE_FROM)),
            Self::RollbackIsDone => edit(pods, |pod| {
                let origins = afloat_api::origins(&pod.annotations);
                let back = |container: &afloat_rollout::pod::object::Container| {
                    origins
                        .get(container.name.as_str())
                        .is_some_and(|origin| origin.images.iter().any(|image| container.image == *image))
                };
                if pod.spec.containers.iter().any(back) {
                    object::forget(pod, names::INPLACE_STATE);
                }
            }),
            Self::AnyDrainCounts => edit(pods, |pod| {
                let drain = Drain::of(pod);
                let gate = pod
                    .status
                    .conditions
                    .iter_mut()
                    .find(|c| c.kind == names::INPLACE_READY);
                if let (Some(drain), Some(gate)) = (drain, gate) {
                    let drain = Drain {
                        revision: update.clone(),
                        ..drain
                    };
                    gate.message = Some(drain.to_string().as_str().into());
                }
            }),
            Self::NoDrain => edit(pods, |pod| {
                if !pod.at_revision(&update) {
                    pod.status.conditions.retain(|c| c.kind != names::INPLACE_READY);
                    let drain = Drain {
                        revision: update.clone(),
                        since: TIMES[2].parse().unwrap(),
                        ready_at: None,
                    };
                    let gate = json!([{"type": names::INPLACE_READY, "status": "False", "message": drain.to_string()}]);
                    let gate: Vec<_> = serde_json::from_value(gate).unwrap();
                    pod.status.conditions.extend(gate);
                }
            }),
            Self::ReCreates => {
                if let Some(rolling) = set.spec.update_strategy.rolling_update.as_mut() {
                    rolling.pod_update_policy = Some("ReCreate".into());
                    rolling.max_unavailable = Some(IntOrString::Int(1));
                }
            }
            Self::MomentIsReady => edit(pods, |pod| {
                let containers = Arc::make_mut(&mut pod.spec.containers).iter_mut();
                containers.for_each(|container| container.post_start = false);
            }),
            Self::StartIsReady => edit(pods, |pod| {
                let statuses = pod.status.container_statuses.iter_mut();
                statuses.for_each(|status| status.seen = None);
            }),
            Self::Deaf => edit(pods, |pod| pod.status.container_statuses.clear()),
            _ => {}
        }
    }

    /// What becomes of its plan.
    pub(super) fn distort(self, plan: &mut Plan, set: &CloneSet, pods: &[Arc<Pod>]) {
        match self {
            Self::Sleeps => plan.wake_at = None,
            Self::Restless => {
                let idle = pods.iter().find(|_| plan.actions.is_empty());
                if let Some(pod) = idle.filter(|pod| pod.ready()) {
                    let update = &set.status.update_revision;
                    plan.actions
                        .push(afloat_rollout::pod::service::leave_service(pod, update, false, now()));
                }
            }
            _ => {}
        }
        for action in &mut plan.actions {
            if self == Self::NoVersion {
                match action {
                    Action::PatchPod { at, .. } | Action::PatchPodStatus { at, .. } => at.resource_version.clear(),
                    _ => {}
                }
            }
            let Action::PatchPod {
                at,
                patch,
                why: Why::Update,
            } = action
            else {
                continue;
            };
            let present = pods.iter().find(|pod| pod.name() == at.name);
            let image = |index: usize| present.map(|pod| pod.spec.containers[index].image.clone());
            match self {
                Self::OtherContainer => drop(patch.images.insert("log".to_owned(), "log:3".to_owned())),
                Self::OldImage => {
                    let image = image(0).unwrap_or_default().to_string();
                    patch.images = [("app".to_owned(), image)].into();
                }
                Self::ReturnWithUpdate => patch.conditions.push(ConditionPatch {
                    kind: names::INPLACE_READY,
                    status: true,
                    reason: Edit::Keep,
                    message: Edit::Keep,
                    since: now(),
                }),
                _ => {}
            }
        }
    }
}

fn edit(pods: &mut [Arc<Pod>], change: impl Fn(&mut Pod)) {
    for pod in pods {
        change(Arc::make_mut(pod));
    }
}
