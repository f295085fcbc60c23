//! Claims that grow with their templates (`volumeClaimUpdateStrategy: OnPodRollingUpdate`): pod by pod in the order of the update, each within
//! the budget. A pod is updated when its claims ask for enough, and have it or wait for nothing but the pod itself; it is what a volume that
//! can only grow while nobody has it mounted waits for.

use afloat_api::{Operation, names};
use serde_json::Value;

use super::planner::StatefulSetPlanner;
use crate::action::patch::ClaimPatch;
use crate::action::{Action, At};
use crate::workload::claim::Claim;
use crate::workload::waits::Wait;

impl StatefulSetPlanner<'_> {
    /// Asks for more where a template does.
    pub(super) fn grow(&mut self) {
        if self.wishes.rollout.paused || self.base.held_by_loss() {
            return;
        }
        for (ordinal, pod) in &self.wishes.growth.to_ask {
            let claims = self.wishes.claims.at(*ordinal);
            let short = claims.filter(|(template, claim)| !claim.holds(template));
            let asked: Result<Vec<Action>, String> = short
                .map(|(template, claim)| self.ask_for_more(template, claim))
                .collect();
            match asked {
                Err(why) => {
                    self.base.waits.say(why.clone());
                    self.base.warnings.push(("FailedUpdatePVC", why));
                    return;
                }
                Ok(_) if self.base.written.contains(pod.name()) => {}
                Ok(actions) if self.base.spend(pod, Operation::Update) => self.base.actions.extend(actions),
                Ok(_) => self.base.waits.pod(Wait::Budget, || pod.name().to_owned()),
            }
        }
        for pod in &self.wishes.growth.under_way {
            self.base.waits.pod(Wait::Growth, || pod.name().to_owned());
        }
    }

    /// The patch that makes a claim larger, or why it cannot be.
    fn ask_for_more(&self, template: &Value, claim: &Claim) -> Result<Action, String> {
        let name = claim.name();
        if !claim.same_but_size(template) {
            return Err(format!(
                "claim {name} cannot become what its template says, as more than the size differs: delete it, or set \
                 volumeClaimUpdateStrategy to OnDelete"
            ));
        }
        let class = claim.spec.storage_class_name.as_deref();
        let mut classes = self.seen.around.classes.iter();
        let known = classes.find(|known| known.metadata.name.as_deref() == class);
        if let Some(class) = class
            && known.is_some_and(|known| known.allow_volume_expansion != Some(true))
        {
            return Err(format!(
                "claim {name} cannot grow: storage class {class} does not support volume expansion"
            ));
        }
        let set = self.base.seen.owner.name();
        Ok(Action::PatchClaim {
            at: At::of(&claim.metadata),
            patch: ClaimPatch {
                annotations: [(names::CLAIM_OF.to_owned(), Some(set.to_owned()))].into(),
                storage: template.pointer("/spec/resources/requests/storage").cloned(),
                ..ClaimPatch::default()
            },
        })
    }
}
