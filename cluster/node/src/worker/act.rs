//! What a worker does: one method per action. No decisions here beyond how an error is told.

use jiff::Timestamp;

use super::Worker;
use crate::pod::action::Action;
use crate::pod::instance::{Hook, HookKind};
use crate::pod::spec;

impl Worker {
    pub(super) async fn act(&mut self, action: Action) {
        match action {
            Action::PrepareSandbox => self.prepare_sandbox().await,
            Action::RefreshVolumes => self.refresh_volumes().await,
            Action::MeasureVolumes => self.measure_volumes().await,
            Action::Create { container, attempt } => self.create(&container, attempt).await,
            Action::Allocate { wanted } => self.allocate(wanted),
            Action::Resize { container, id } => self.resize(&container, &id).await,
            Action::Start { container, id } => self.start(&container, &id).await,
            Action::PostStart { container, id } => self.run_hook(&container, id, HookKind::PostStart, None),
            Action::PreStop {
                container,
                id,
                deadline,
            } => self.run_hook(&container, id, HookKind::PreStop, Some(deadline)),
            Action::BeginStop { container, why, .. } => self.tell_killing(&container, why),
            Action::Signal { container, id, kill } => self.signal(&container, &id, kill).await,
            Action::Probe {
                container, id, kind, ..
            } => self.probe(&container, id, kind),
            Action::TellBackOff { container, .. } => {
                let pod = spec::pod_in_message(&self.pod);
                let message = format!("Back-off restarting failed container {container} in pod {pod}");
                self.event(Some(&container), true, "BackOff", &message, self.context.clock.now());
            }
            Action::LookForImage { container } => self.look_for_image(&container).await,
            Action::Remove { id, .. } => self.remove(&id).await,
            Action::Admit => self.admit().await,
            Action::Reject { reason, message } => self.tell_rejection(reason, &message),
            Action::Fail { reason, message } => self.event(None, true, reason, &message, self.context.clock.now()),
            Action::CleanUp => self.clean_up().await,
            Action::DeleteObject => self.delete_object().await,
        }
    }

    /// What has to be known of the state before the action is recorded in it.
    pub(super) fn before(&mut self, action: &Action, now: Timestamp) {
        let Action::Signal { container, id, .. } = action else {
            return;
        };
        let current = self.state.instance(container).filter(|instance| instance.id == *id);
        let Some(stop) = current.and_then(|instance| instance.stop.as_ref()) else {
            return;
        };
        if stop.pre_stop == Hook::Running {
            if let Some(hook) = self.hooks.remove(&(id.clone(), HookKind::PreStop)) {
                hook.abort();
            }
            let message = "PreStopHook failed: it did not end within the grace period";
            self.event(Some(container), true, HookKind::PreStop.failed(), message, now);
            self.state.hook_done(id, HookKind::PreStop, false);
        }
    }
}
