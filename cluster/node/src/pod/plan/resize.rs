//! The part of the plan that is about resources that change while a pod lives (KEP-1287).

use super::planner::Planner;
use crate::pod::action::Action;
use crate::pod::resize::{self, Requirements};
use crate::pod::spec;

impl Planner<'_> {
    /// Asks the node for what the spec has come to want. False: there is nothing to ask for now.
    pub(super) fn allocates(&mut self) -> bool {
        let (pod, state) = (self.pod(), self.state());
        let mut all = spec::all_containers(pod);
        let changed = all.any(|c| !resize::same(&resize::wanted(c), &resize::allocated(c, state)));
        let wanted: Requirements = spec::all_containers(pod)
            .map(|c| (c.name.clone(), resize::wanted(c)))
            .collect();
        let ask = match &state.pending {
            None => changed,
            // A wish that was taken back needs no answer any more.
            Some(pending) if !changed || pending.wanted != wanted => true,
            Some(pending) => pending.retry_at.is_some_and(|at| self.reached(at)),
        };
        if ask {
            self.settling = true;
            self.act(Action::Allocate { wanted });
        }
        ask
    }

    /// Gives running containers what was granted, where that needs no restart.
    pub(super) fn resizes(&mut self) {
        for container in resize::resizable(self.pod()) {
            let state = self.state();
            let Some(instance) = resize::late(container, state) else {
                continue;
            };
            if instance.stop.is_some() || resize::needs_restart(container, instance, state) {
                continue;
            }
            if let Some((_, retry_at)) = &instance.resize_failed {
                if !self.reached(*retry_at) {
                    continue;
                }
            } else {
                self.settling = true;
            }
            self.act(Action::Resize {
                container: container.name.clone(),
                id: instance.id.clone(),
            });
        }
    }
}
