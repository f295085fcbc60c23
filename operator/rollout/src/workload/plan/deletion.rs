//! The way of a pod that is to be deleted: past its hook, out of service, gone.

use afloat_api::Operation;

use super::planner::Planner;
use crate::action::{Action, Why};
use crate::pod::object::Pod;

impl<'a> Planner<'a> {
    /// The next step of a deletion. Claims that go with the pod are its workload's business.
    pub(crate) fn delete(&mut self, pod: &'a Pod, why: Why) {
        self.scales_down = why == Why::ScaleDown;
        let stays = self.written.contains(pod.name())
            || self.held_from_deletion(pod)
            || self.drains_before_deletion(pod)
            || !self.spend(pod, Operation::Delete);
        self.scales_down = false;
        if stays {
            return;
        }
        let action = Action::DeletePod {
            at: pod.at(),
            why,
            claims: Vec::new(),
        };
        self.write(pod, action);
    }
}
