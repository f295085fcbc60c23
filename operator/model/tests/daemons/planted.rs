//! Mistakes that the checks must find: each changes what the planner is told, what it says, or how that is carried out.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{DaemonSet, names};
use afloat_words::daemon::pin;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::control::Plan;
use super::setup::node_name;
use afloat_rollout::action::{Action, Why};
use afloat_rollout::pod::images::Nodes;
use afloat_rollout::pod::object::Pod;

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    Nothing,
    /// One more node may be without a pod that serves.
    BudgetPlusOne,
    /// One more extra pod than is allowed.
    SurgePlusOne,
    NoPartition,
    NoHooks,
    /// What taints say is not read.
    BlindToTaints,
    /// Pods on their way out are taken for gone.
    TerminatingIsGone,
    /// Extra pods are for any node.
    SurgeElsewhere,
    /// A new pod counts as available at once.
    NewIsAvailable,
    /// Own writes are not waited for.
    OwnWritesUnseen,
    /// Pods that failed are left.
    FailedIsRunning,
    /// Pods are replaced that could change in place.
    ReCreates,
    /// Of two pods on a node both stay.
    TwoStay,
    /// A pod that is prepared for its deletion is forgotten.
    PreparedIsForgotten,
    /// Who is there is deleted, too.
    DeletesAll,
}

impl Planted {
    pub(super) fn waits(self) -> bool {
        self != Self::OwnWritesUnseen
    }

    /// What the planner is told.
    pub(super) fn mislead(self, set: &mut DaemonSet, pods: &mut Vec<Arc<Pod>>, nodes: &mut Nodes) {
        let more = |setting: &mut Option<IntOrString>| {
            if let Some(IntOrString::Int(number)) = setting {
                *number += 1;
            }
        };
        let Some(rolling) = set.spec.update_strategy.rolling_update.as_mut() else {
            return;
        };
        match self {
            Self::BudgetPlusOne => more(&mut rolling.max_unavailable),
            Self::SurgePlusOne => more(&mut rolling.max_surge),
            Self::NoPartition => rolling.partition = None,
            Self::ReCreates => rolling.rolling_update_type = None,
            Self::NoHooks => set.spec.lifecycle = None,
            Self::BlindToTaints => {
                for known in nodes.values_mut() {
                    Arc::make_mut(&mut known.node).spec.taints.clear();
                }
            }
            Self::TerminatingIsGone => pods.retain(|pod| !pod.metadata.terminating),
            Self::NewIsAvailable => edit(pods, |pod| {
                if pod.status.phase == "Pending" {
                    pod.status.phase = "Running".into();
                    pod.status.conditions =
                        serde_json::from_value(json!([{"type": "Ready", "status": "True"}])).unwrap();
                }
            }),
            Self::FailedIsRunning => edit(pods, |pod| {
                if pod.status.phase == "Failed" {
                    pod.status.phase = "Running".into();
                }
            }),
            Self::PreparedIsForgotten => edit(pods, |pod| {
                let all = ["app", "hold", names::REVISION].into_iter();
                let kept = all.filter_map(|key| Some((key.to_owned(), pod.labels.get(key)?.to_owned())));
                pod.labels = kept.collect::<BTreeMap<_, _>>().into();
            }),
            _ => {}
        }
    }

    /// What becomes of its plan.
    pub(super) fn distort(self, plan: &mut Plan) {
        match self {
            Self::SurgeElsewhere => {
                let updated = plan.status.updated_number_scheduled > 0;
                for action in plan.actions.iter_mut().filter(|_| updated) {
                    if let Action::CreatePod { pod } = action {
                        let mut own = json!(pod.own);
                        pin(&mut own, &node_name(0));
                        pod.own = own.as_object().cloned().unwrap_or_default();
                    }
                }
            }
            Self::TwoStay => plan.actions.retain(|action| {
                !matches!(
                    action,
                    Action::DeletePod {
                        why: Why::ReCreate | Why::ScaleDown,
                        ..
                    }
                )
            }),
            Self::DeletesAll => {
                for action in &mut plan.actions {
                    if let Action::PatchPodStatus {
                        at, why: Why::Drain, ..
                    } = action
                    {
                        *action = Action::DeletePod {
                            at: at.clone(),
                            why: Why::Specified,
                            claims: Vec::new(),
                        };
                    }
                }
            }
            _ => {}
        }
    }
}

fn edit(pods: &mut [Arc<Pod>], change: impl Fn(&mut Pod)) {
    for pod in pods {
        change(Arc::make_mut(pod));
    }
}
