//! A write that met another one which has nothing to do with it is sent again at once.
//!
//! While a pod is on its way its kubelet writes its status every now and then, without a word about versions, and each such
//! write makes ours one for an old version. To decide anew takes a round with its pause. What the pod looks like now is one
//! request away, and whether the decision stands on that is a pure function ([`afloat_rollout::pod::update::ground`]).

use std::sync::Arc;

use afloat_rollout::action::{Action, At, Why};
use afloat_rollout::pod::Pod;
use afloat_rollout::pod::update::ground::again;
use afloat_rollout::workload::roster::Roster;
use kube::Client;

use super::act::{Outcome, perform, present};
use crate::kind::Kind;
use crate::metrics::Metrics;

/// Tries of one write within one round. Whoever writes a pod that often does not let anybody else.
const TRIES: u32 = 5;

/// The pods of writes that may be sent again, as they were when that was decided.
pub(crate) fn decided(actions: &[Action], pods: &Roster) -> Vec<Arc<Pod>> {
    let changed = actions.iter().filter_map(target);
    changed.filter_map(|at| pods.find(&at.name).cloned()).collect()
}

/// The pod of a write that may be sent again.
fn target(action: &Action) -> Option<&At> {
    match action {
        Action::PatchPod {
            at, why: Why::Update, ..
        }
        | Action::PatchPodStatus {
            at, why: Why::Return, ..
        } => Some(at),
        _ => None,
    }
}

/// Carries out one action. `pods`: what it was decided on.
pub(crate) async fn persist<K: Kind>(
    (client, metrics): (&Client, &Metrics),
    namespace: &str,
    action: &Action,
    pods: &[Arc<Pod>],
) -> Outcome {
    let mut outcome = perform::<K>(client, namespace, action).await;
    let (Outcome::Conflict, Some(at)) = (&outcome, target(action)) else {
        return outcome;
    };
    let Some(decided) = pods.iter().find(|pod| pod.metadata.uid == *at.uid) else {
        return outcome;
    };
    for _ in 1..TRIES {
        let Some(present) = present(client, namespace, &at.name).await else {
            break;
        };
        let Some(moved) = again(action, decided, &present) else {
            break;
        };
        metrics.sent_again();
        outcome = perform::<K>(client, namespace, &moved).await;
        if !matches!(outcome, Outcome::Conflict) {
            break;
        }
    }
    outcome
}
