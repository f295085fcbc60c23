//! Where hooks take part in a plan. A pod that a hook holds is `written` for the rest of the plan, though nothing may be
//! written: nobody else decides about it then.

use afloat_api::{Lifecycle, LifecycleHook, Operation};

use super::planner::Planner;
use crate::pod::lifecycle::{KEY_DELETE, KEY_UPDATE, Next, State, entry, hooked, marked};
use crate::pod::object::Pod;
use crate::pod::service::{live, serve};
use crate::workload::waits::Wait;

impl<'a> Planner<'a> {
    pub(super) fn hooks(&self) -> Option<&'a Lifecycle> {
        self.seen.hooks
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
        if State::of(pod) == State::PreparingDelete {
            self.wait_for(pod, Wait::PreDelete);
        } else if self.spend(pod, Operation::Delete) {
            self.enter(pod, Next::PreparingDelete, None);
        }
        true
    }

    /// Before an in-place update: None if no hook holds the pod; otherwise whether the budget allows its next step.
    pub(super) fn held_from_update(&mut self, pod: &'a Pod) -> Option<bool> {
        let hook = self.update_hook();
        match State::of(pod) {
            State::PreparingUpdate if hooked(hook, pod) => self.wait_for(pod, Wait::InPlaceUpdate),
            State::PreparingUpdate | State::Updating => return None,
            State::Updated if hook.is_some() => {
                self.enter(pod, Next::PreparingUpdate, hook);
            }
            _ if hooked(hook, pod) => {
                if !self.spend(pod, Operation::Update) {
                    return Some(false);
                }
                self.enter(pod, Next::PreparingUpdate, None);
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

    /// Moves a pod on to a state of its life; with `rehook` it is held by that hook again. The mark of a hook comes and
    /// goes with the state: whoever sees that a pod is held finds it out of service, as with OpenKruise.
    pub(super) fn enter(&mut self, pod: &'a Pod, state: Next, rehook: Option<&LifecycleHook>) {
        let keys = match state {
            Next::PreparingDelete if marks(self.delete_hook()) => vec![KEY_DELETE],
            Next::PreparingUpdate if marks(self.update_hook()) => vec![KEY_UPDATE],
            _ => Vec::new(),
        };
        let life = entry(pod, state, rehook, self.seen.now);
        self.write(pod, live(pod, life, false, &keys, self.seen.now));
    }

    /// The same for a pod whose gate opens with it, after its start or its update: no hook marks it then.
    pub(super) fn enter_service(&mut self, pod: &'a Pod, state: Next) {
        let life = entry(pod, state, None, self.seen.now);
        self.write(pod, live(pod, life, true, &[], self.seen.now));
    }

    /// Our keys that keep this pod out of service.
    pub(super) fn keys(&self, pod: &Pod) -> Vec<&'static str> {
        match State::of(pod) {
            State::PreparingDelete if marks(self.delete_hook()) => vec![KEY_DELETE],
            State::PreparingUpdate if marks(self.update_hook()) => vec![KEY_UPDATE],
            State::Updating if marked(pod, KEY_UPDATE) => vec![KEY_UPDATE],
            _ => Vec::new(),
        }
    }
}

fn marks(hook: Option<&LifecycleHook>) -> bool {
    hook.is_some_and(|hook| hook.mark_pod_not_ready)
}
