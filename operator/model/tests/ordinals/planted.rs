//! Mistakes that the checks must find: each changes what the planner is told, or what becomes of its plan.

use std::sync::Arc;

use afloat_api::{StatefulSet, StatefulSetStatus, names};
use afloat_rollout::action::{Action, Why};
use afloat_rollout::pod::object::Pod;
use afloat_rollout::workload::observed::Plan;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    Nothing,
    /// One pod more may go.
    BudgetPlusOne,
    /// The partition is forgotten.
    NoPartition,
    /// Nobody waits for anybody.
    NoOrder,
    /// The first is updated first.
    FirstFirst,
    /// Who is going is taken for gone.
    GoneEarly,
    /// Who is going is taken for available.
    TerminatingIsAvailable,
    /// Own writes are not waited for.
    OwnWritesUnseen,
    /// Writes take effect on whatever there is.
    Unguarded,
    /// A pod that is over is left alone.
    KeepsFinished,
    /// A pod that does not work waits for the others, as with Kubernetes.
    HaltsOnBroken,
    /// Ordinals begin one later than they are to.
    OneLater,
    /// Reserved ordinals are used.
    Reserved,
    /// New pods have the newest revision wherever they are.
    AlwaysNewest,
}

impl Planted {
    pub(super) fn waits(self) -> bool {
        self != Self::OwnWritesUnseen
    }

    pub(super) fn guards(self) -> bool {
        self != Self::Unguarded && self != Self::OwnWritesUnseen
    }

    /// What the planner is told.
    pub(super) fn mislead(self, set: &mut StatefulSet, pods: &mut Vec<Arc<Pod>>) {
        let rolling = set.spec.update_strategy.rolling_update.get_or_insert_default();
        match self {
            Self::BudgetPlusOne => {
                if let Some(IntOrString::Int(budget)) = &mut rolling.max_unavailable {
                    *budget += 1;
                }
            }
            Self::NoPartition => rolling.partition = None,
            Self::NoOrder => set.spec.pod_management_policy = Some("Parallel".into()),
            Self::FirstFirst => {
                let first = json!({"priorityStrategy": {"weightPriority": [
                    {"weight": 1, "matchSelector": {"matchLabels": {names::POD_INDEX: "0"}}}]}});
                rolling.unordered_update = serde_json::from_value(first).unwrap();
            }
            Self::GoneEarly => pods.retain(|pod| !pod.metadata.terminating),
            Self::TerminatingIsAvailable => {
                for pod in pods {
                    Arc::make_mut(pod).metadata.terminating = false;
                }
            }
            Self::OneLater => set.spec.ordinals.get_or_insert_default().start += 1,
            Self::Reserved => set.spec.reserve_ordinals = None,
            Self::AlwaysNewest => set.status.current_revision = set.status.update_revision.clone(),
            _ => {}
        }
    }

    /// What becomes of its plan.
    pub(super) fn distort(self, plan: &mut Plan<StatefulSetStatus>, pods: &[Arc<Pod>]) {
        let broken = |name: &str| pods.iter().any(|pod| pod.name() == name && !pod.ready());
        match self {
            Self::KeepsFinished => plan
                .actions
                .retain(|action| !matches!(action, Action::DeletePod { why: Why::Finished, .. })),
            Self::HaltsOnBroken => plan.actions.retain(
                |action| !matches!(action, Action::DeletePod { at, why: Why::ReCreate, .. } if broken(&at.name)),
            ),
            _ => {}
        }
    }
}
