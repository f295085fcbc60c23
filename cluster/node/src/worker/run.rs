//! The loop of one pod: observe, plan, act, and tell.

use std::time::Duration;

use jiff::Timestamp;

use super::Worker;
use super::tell::Told;
use crate::clock::since;
use crate::pod::plan::{Plan, plan};
use crate::pod::spec;
use crate::pod::state::PodView;

/// Look again at least this often: a safety net, not a mechanism.
const IDLE: Duration = Duration::from_secs(60);

impl Worker {
    /// Runs until nothing of the pod is left.
    pub(crate) async fn work_until_gone(mut self) {
        let now = self.context.clock.now();
        self.state.observe_deletion(&self.pod, now);
        loop {
            self.read_mail();
            self.hear_last_words().await;
            self.give_up_pulls();
            while self.tasks.try_join_next().is_some() {}
            let now = self.context.clock.now();
            let view = PodView {
                pod: &self.pod,
                state: &self.state,
                host_ip: self.context.options.node_ip,
            };
            let plan = plan(&view, now);
            if plan.finished {
                break;
            }
            let again = match self.tell(&plan, now).await {
                Told::Written => continue,
                Told::Later(at) => at,
            };
            if plan.actions.is_empty() {
                self.sleep(now, [plan.wake_at, again]).await;
            } else {
                self.carry_out(plan).await;
            }
        }
        self.forget().await;
    }

    async fn carry_out(&mut self, plan: Plan) {
        for action in plan.actions {
            let now = self.context.clock.now();
            let slow = action.slow();
            tracing::trace!(pod = spec::full_name(&self.pod), ?action, "act");
            self.before(&action, now);
            self.state.begin(&action, now);
            self.act(action).await;
            if slow {
                break;
            }
        }
    }

    async fn sleep(&self, now: Timestamp, moments: [Option<Timestamp>; 2]) {
        let until = moments.into_iter().flatten().min();
        let wait = until.map_or(IDLE, |at| since(at, now).min(IDLE));
        let _ = tokio::time::timeout(wait, self.mailbox.wait()).await;
    }

    async fn forget(&mut self) {
        if let Err(error) = self.context.runtime.unmount_below(&self.dirs.root).await {
            tracing::warn!(pod = spec::full_name(&self.pod), %error, "a deleted pod's memory remains");
        }
        let dirs = self.dirs.clone();
        let removed = tokio::task::spawn_blocking(move || crate::volume::remove(&dirs, true)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(pod = spec::full_name(&self.pod), %error, "files of a deleted pod remain");
        }
    }
}
