//! The decision: given a pod, what exists of it, and the moment — what to do now, and when to look again.
//!
//! Pure. A plan is recomputed from what is observed, never resumed: any prefix of its actions may be carried out, and the
//! next plan copes. What must hold in every order of events: at most one live container of a name; preStop before
//! TERM before KILL; nothing is started once the pod is to end; one container's change touches no other.

mod planner;
mod probe;
mod resize;
mod start;
mod stop;
#[cfg(test)]
mod tests;
mod volumes;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;

use self::planner::Planner;
use super::action::Action;
use super::container::security;
use super::state::{PodView, Sandbox};
use super::{progress, spec, status};
use crate::clock::later;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In this order; after a slow one (see [`Action::slow`]) a new plan is to be made.
    pub actions: Vec<Action>,
    /// The agent's own part of the status.
    pub status: PodStatus,
    /// Look again then, if nothing happens before.
    pub wake_at: Option<Timestamp>,
    /// More changes are to be expected within moments: the status may wait for them.
    pub settling: bool,
    /// The pod is over and nothing of it is left: forget it.
    pub finished: bool,
}

/// Makes the plan.
pub fn plan(view: &PodView<'_>, now: Timestamp) -> Plan {
    let mut planner = Planner::new(*view, now);
    planner.decide();
    let status = status::status(view, now);
    let Planner {
        actions,
        wake_at,
        settling,
        finished,
        ..
    } = planner;
    Plan {
        actions,
        status,
        wake_at,
        settling,
        finished,
    }
}

impl Planner<'_> {
    fn decide(&mut self) {
        self.kill_stale();
        if let Some(ending) = self.state().ending {
            let grace_end = ending.deadline;
            if self.stop_all(grace_end) {
                self.take_away();
            }
        } else if self.over() {
            if self.stop_all(later(self.now, spec::grace(self.pod())))
                && progress::is_terminal(self.pod().status.as_ref())
            {
                self.take_away();
            }
        } else if let Some((reason, message)) = security::rejection(self.pod()) {
            self.act(Action::Reject { reason, message });
        } else if self.state().to_admit {
            self.admit();
        } else if !self.deadline_passed() {
            self.live();
        }
        self.probes();
        self.remove_stale();
    }

    /// Nothing is done for a pod before the node has said that it takes it.
    fn admit(&mut self) {
        self.settling = true;
        if self.state().retry_at.is_none_or(|at| self.reached(at)) {
            self.act(Action::Admit);
        }
    }

    /// The pod has come to its end by itself, or failed.
    fn over(&self) -> bool {
        self.state().failed.is_some()
            || progress::is_terminal(self.pod().status.as_ref())
            || progress::outcome(self.pod(), self.state()).is_some()
    }

    fn deadline_passed(&mut self) -> bool {
        let Some(limit) = spec::active_deadline(self.pod()) else {
            return false;
        };
        let started = self
            .pod()
            .status
            .as_ref()
            .and_then(|s| s.start_time.as_ref())
            .map(|time| time.0);
        let Some(started) = started.or(self.state().seen_at) else {
            return false;
        };
        if !self.reached(later(started, limit)) {
            return false;
        }
        let message = "Pod was active on the node longer than the specified deadline".to_owned();
        self.act(Action::Fail {
            reason: "DeadlineExceeded",
            message,
        });
        true
    }

    /// The pod is to run.
    fn live(&mut self) {
        match &self.state().sandbox {
            Sandbox::Ready(_) if self.allocates() => {}
            Sandbox::Ready(_) => {
                self.volumes();
                self.resizes();
                self.stops();
                self.starts();
            }
            Sandbox::Absent => {
                self.settling = true;
                self.act(Action::PrepareSandbox);
            }
            Sandbox::Failed { retry_at, .. } => {
                if self.reached(*retry_at) {
                    self.act(Action::PrepareSandbox);
                }
            }
        }
    }
}
