//! On to the next state of a pod's life.

use afloat_api::LifecycleHook;

use super::planner::Planner;
use crate::action::Why;
use crate::pod::lifecycle::{Next, State, all_hooked};
use crate::pod::object::Pod;
use crate::workload::waits::Wait;

impl<'a> Planner<'a> {
    /// The next state of a pod that nothing else in this plan is about, and whose update, if any, is complete.
    pub(super) fn go_on(&mut self, pod: &'a Pod) {
        let next = match State::of(pod) {
            State::PreparingDelete => {
                // OpenKruise does not change its mind once a pod was marked not ready for its deletion.
                let marks = |hook: &Option<LifecycleHook>| hook.as_ref().is_some_and(|hook| hook.mark_pod_not_ready);
                let hooks = self.hooks();
                if hooks.is_some_and(|hooks| marks(&hooks.pre_delete) || marks(&hooks.in_place_update)) {
                    self.delete(pod, Why::ScaleDown);
                    return;
                }
                Some(Next::PreparingNormal)
            }
            _ => self.next_state(pod),
        };
        if let Some(next) = next {
            self.enter(pod, next, None);
        }
    }

    /// Where a pod that stays comes to next, if anywhere.
    pub(super) fn next_state(&mut self, pod: &Pod) -> Option<Next> {
        let back = match self.update_hook() {
            Some(hook) if !all_hooked(hook, pod) => Next::Updated,
            _ => Next::Normal,
        };
        match State::of(pod) {
            State::PreparingNormal => {
                let ready = match self.hooks().and_then(|hooks| hooks.pre_normal.as_ref()) {
                    None => pod.spec.node_name.is_some(),
                    Some(hook) => all_hooked(hook, pod),
                };
                if !ready && pod.ready() {
                    self.waits.pod(Wait::PreNormal, || pod.name().to_owned());
                }
                ready.then_some(Next::Normal)
            }
            State::Updating => Some(back),
            State::Updated if back == Next::Updated => {
                self.waits.pod(Wait::InPlaceUpdate, || pod.name().to_owned());
                None
            }
            State::Updated => Some(Next::Normal),
            // No longer to be updated: rolled back, or kept by the partition. A pause is only a pause.
            State::PreparingUpdate if self.updated(pod) || !self.seen.rollout.paused => Some(back),
            _ => None,
        }
    }

    /// Whether the state of a new pod is told by the write that opens its gate, and not before. OpenKruise writes it as
    /// soon as the pod has a node; a write for that alone is worth it only where a controller of hooks reads it.
    pub(super) fn begins_quietly(&self, pod: &Pod) -> bool {
        State::of(pod) == State::PreparingNormal && self.hooks().is_none_or(|hooks| hooks.is_empty())
    }
}
