//! A plan in the making.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::pod::action::Action;
use crate::pod::state::{PodState, PodView};

/// A plan in the making.
pub(super) struct Planner<'a> {
    pub(super) view: PodView<'a>,
    pub(super) now: Timestamp,
    pub(super) actions: Vec<Action>,
    pub(super) wake_at: Option<Timestamp>,
    pub(super) settling: bool,
    pub(super) finished: bool,
}

impl<'a> Planner<'a> {
    pub(super) fn new(view: PodView<'a>, now: Timestamp) -> Self {
        Self {
            view,
            now,
            actions: vec![],
            wake_at: None,
            settling: false,
            finished: false,
        }
    }

    pub(super) fn pod(&self) -> &'a Pod {
        self.view.pod
    }

    pub(super) fn state(&self) -> &'a PodState {
        self.view.state
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// True once `moment` has come; until then the plan is looked at again when it does.
    pub(super) fn reached(&mut self, moment: Timestamp) -> bool {
        if moment <= self.now {
            return true;
        }
        self.wake_at = Some(self.wake_at.map_or(moment, |at| at.min(moment)));
        false
    }
}
