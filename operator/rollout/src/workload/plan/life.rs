//! On to the next state of a pod's life.

use afloat_api::{LifecycleHook, names};

use super::planner::Planner;
use crate::action::Why;
use crate::pod::lifecycle::{State, all_hooked, enter};
use crate::pod::object::Pod;
use crate::workload::waits::Wait;

impl<'a> Planner<'a> {
    /// The next state of a pod that nothing else in this plan is about, and whose update, if any, is complete.
    pub(super) fn go_on(&mut self, pod: &'a Pod) {
        let hook = self.update_hook();
        let back = match hook {
            Some(hook) if !all_hooked(hook, pod) => names::STATE_UPDATED,
            _ => names::STATE_NORMAL,
        };
        let next = match State::of(pod) {
            State::PreparingNormal => {
                let ready = match self.hooks().and_then(|hooks| hooks.pre_normal.as_ref()) {
                    None => pod.spec.node_name.is_some(),
                    Some(hook) => all_hooked(hook, pod),
                };
                if !ready && pod.ready() {
                    self.waits.pod(Wait::PreNormal, || pod.name().to_owned());
                }
                ready.then_some(names::STATE_NORMAL)
            }
            State::Updating => Some(back),
            State::Updated if back == names::STATE_UPDATED => {
                self.waits.pod(Wait::InPlaceUpdate, || pod.name().to_owned());
                None
            }
            State::Updated => Some(names::STATE_NORMAL),
            // No longer to be updated: rolled back, or kept by the partition. A pause is only a pause.
            State::PreparingUpdate if self.updated(pod) || !self.seen.rollout.paused => Some(back),
            State::PreparingDelete => {
                // OpenKruise does not change its mind once a pod was marked not ready for its deletion.
                let marks = |hook: &Option<LifecycleHook>| hook.as_ref().is_some_and(|hook| hook.mark_pod_not_ready);
                let hooks = self.hooks();
                if hooks.is_some_and(|hooks| marks(&hooks.pre_delete) || marks(&hooks.in_place_update)) {
                    self.delete(pod, Why::ScaleDown);
                    None
                } else {
                    Some(names::STATE_PREPARING_NORMAL)
                }
            }
            _ => None,
        };
        if let Some(next) = next {
            self.write(pod, enter(pod, next, None, self.seen.now));
        }
    }
}
