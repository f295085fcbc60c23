//! The part of the plan that is about volumes.

use super::planner::Planner;
use crate::pod::action::Action;

impl Planner<'_> {
    /// Before containers are started: they shall see the newest.
    pub(super) fn volumes(&mut self) {
        let volumes = self.state().volumes.clone();
        if let Some(message) = volumes.excess {
            return self.act(Action::Fail {
                reason: "Evicted",
                message,
            });
        }
        let due = volumes.stale || volumes.renew_at.is_some_and(|at| self.reached(at));
        if due && volumes.retry_at.is_none_or(|at| self.reached(at)) {
            self.act(Action::RefreshVolumes);
        }
        if volumes.measure_at.is_some_and(|at| self.reached(at)) {
            self.act(Action::MeasureVolumes);
        }
    }
}
