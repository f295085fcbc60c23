//! Where hooks take part in a plan. A pod that a hook holds is `written` for the rest of the plan, though nothing may be
//! written: nobody else decides about it then.

use afloat_api::{Lifecycle, LifecycleHook, names};

use super::plan::Planner;
use super::waits::Wait;
use crate::pod::lifecycle::{KEY_DELETE, KEY_UPDATE, all_hooked, enter, hooked, marked, state};
use crate::pod::object::Pod;
use crate::pod::state::serve;

impl<'a> Planner<'a> {
    fn hooks(&self) -> Option<&'a Lifecycle> {
        self.seen.cloneset.spec.lifecycle.as_ref()
    }

    pub(super) fn update_hook(&self) -> Option<&'a LifecycleHook> {
        self.hooks()?.in_place_update.as_ref()
    }

    fn delete_hook(&self) -> Option<&'a LifecycleHook> {
        self.hooks()?.pre_delete.as_ref()
    }

    /// Before a deletion: true if a hook holds the pod, or is about to.
    pub(super) fn held_from_deletion(&mut self, pod: &'a Pod) -> bool {
        if !hooked(self.delete_hook(), pod) {
            return false;
        }
        if state(pod) == names::STATE_PREPARING_DELETE {
            self.wait_for(pod, Wait::PreDelete);
        } else if self.spend(pod) {
            self.write(pod, enter(pod, names::STATE_PREPARING_DELETE, None, self.seen.now));
        }
        true
    }

    /// Before an in-place update: None if no hook holds the pod; otherwise whether the budget allows its next step.
    pub(super) fn held_from_update(&mut self, pod: &'a Pod) -> Option<bool> {
        let hook = self.update_hook();
        match state(pod) {
            names::STATE_PREPARING_UPDATE if hooked(hook, pod) => self.wait_for(pod, Wait::InPlaceUpdate),
            names::STATE_PREPARING_UPDATE | names::STATE_UPDATING => return None,
            names::STATE_UPDATED if hook.is_some() => {
                self.write(pod, enter(pod, names::STATE_PREPARING_UPDATE, hook, self.seen.now));
            }
            _ if hooked(hook, pod) => {
                if !self.spend(pod) {
                    return Some(false);
                }
                self.write(pod, enter(pod, names::STATE_PREPARING_UPDATE, None, self.seen.now));
            }
            _ => return None,
        }
        Some(true)
    }

    fn wait_for(&mut self, pod: &'a Pod, hook: Wait) {
        self.waits.pod(hook, || pod.name().to_owned());
        self.written.insert(pod.name());
        if let Some(action) = serve(pod, false, &self.keys(pod), self.seen.now) {
            self.actions.push(action);
        }
    }

    /// Our keys that keep this pod out of service.
    pub(super) fn keys(&self, pod: &Pod) -> Vec<&'static str> {
        let marks = |hook: Option<&LifecycleHook>| hook.is_some_and(|hook| hook.mark_pod_not_ready);
        match state(pod) {
            names::STATE_PREPARING_DELETE if marks(self.delete_hook()) => vec![KEY_DELETE],
            names::STATE_PREPARING_UPDATE if marks(self.update_hook()) => vec![KEY_UPDATE],
            names::STATE_UPDATING if marked(pod, KEY_UPDATE) => vec![KEY_UPDATE],
            _ => Vec::new(),
        }
    }

    /// The next state of a pod that nothing else in this plan is about, and whose update, if any, is complete.
    pub(super) fn go_on(&mut self, pod: &'a Pod) {
        let hook = self.update_hook();
        let back = match hook {
            Some(hook) if !all_hooked(hook, pod) => names::STATE_UPDATED,
            _ => names::STATE_NORMAL,
        };
        let next = match state(pod) {
            names::STATE_PREPARING_NORMAL => {
                let ready = match self.hooks().and_then(|hooks| hooks.pre_normal.as_ref()) {
                    None => pod.spec.node_name.is_some(),
                    Some(hook) => all_hooked(hook, pod),
                };
                if !ready && pod.ready() {
                    self.waits.pod(Wait::PreNormal, || pod.name().to_owned());
                }
                ready.then_some(names::STATE_NORMAL)
            }
            names::STATE_UPDATING => Some(back),
            names::STATE_UPDATED if back == names::STATE_UPDATED => {
                self.waits.pod(Wait::InPlaceUpdate, || pod.name().to_owned());
                None
            }
            names::STATE_UPDATED => Some(names::STATE_NORMAL),
            // No longer to be updated: rolled back, or kept by the partition. A pause is only a pause.
            names::STATE_PREPARING_UPDATE if self.updated(pod) || !self.rollout.paused => Some(back),
            names::STATE_PREPARING_DELETE => {
                // OpenKruise does not change its mind once a pod was marked not ready for its deletion.
                let marks = |hook: &Option<LifecycleHook>| hook.as_ref().is_some_and(|hook| hook.mark_pod_not_ready);
                let hooks = self.hooks();
                if hooks.is_some_and(|hooks| marks(&hooks.pre_delete) || marks(&hooks.in_place_update)) {
                    self.delete(pod, crate::action::Why::ScaleDown);
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
