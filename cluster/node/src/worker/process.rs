//! What a worker does with a container that exists: start, signal, remove.

use afloat_runtime::{ContainerState, Exit, RuntimeError};

use super::Worker;
use crate::pod::instance::{HookKind, Why};
use crate::pod::spec;

impl Worker {
    pub(super) async fn start(&mut self, name: &str, id: &str) {
        let mut outcome = self.context.limited(self.context.runtime.start_container(id)).await;
        let mut ended = None;
        if outcome.is_err() {
            // It may run nevertheless, or have run: a second one must not be started beside it, nor work be done twice.
            match self.process(id).await {
                Some(ContainerState::Running) => outcome = Ok(()),
                Some(ContainerState::Exited(exit)) => (outcome, ended) = (Ok(()), Some(exit)),
                Some(ContainerState::Created) | None => {}
            }
        }
        let now = self.context.clock.now();
        match outcome {
            Ok(()) => {
                self.state.started(id, now);
                self.event(Some(name), false, "Started", &format!("Started container {name}"), now);
                if let Some(exit) = ended {
                    self.state.exited(id, exit, None);
                }
            }
            Err(error) => {
                self.event(Some(name), true, "Failed", &format!("Error: {error}"), now);
                let exit = Exit {
                    code: 128,
                    signal: 0,
                    finished_at: now,
                    oom_killed: false,
                };
                self.state.exited(id, exit, Some(error.to_string()));
            }
        }
    }

    /// What the runtime says of a container; None if it cannot tell.
    async fn process(&self, id: &str) -> Option<ContainerState> {
        let all = self.context.limited(self.context.runtime.containers()).await.ok()?;
        let found = all.into_iter().find(|container| container.id == id)?;
        Some(found.state)
    }

    pub(super) fn tell_killing(&self, name: &str, why: Why) {
        // The kubelet's words; it has others for init containers.
        let (noun, then) = if spec::is_init(&self.pod, name) {
            ("Init container", "")
        } else {
            ("Container", ", will be restarted")
        };
        let message = match why {
            Why::PodEnds => format!("Stopping container {name}"),
            Why::DefinitionChanged => format!("{noun} {name} definition changed{then}"),
            Why::LivenessFailed => format!("{noun} {name} failed liveness probe{then}"),
            Why::StartupFailed => format!("{noun} {name} failed startup probe{then}"),
            Why::Resized => format!("Container {name} resize requires restart"),
            Why::PostStartFailed => "FailedPostStartHook".to_owned(),
        };
        self.event(Some(name), false, "Killing", &message, self.context.clock.now());
    }

    pub(super) async fn signal(&mut self, name: &str, id: &str, kill: bool) {
        // A postStart hook must not run on in a container that is told to stop.
        if let Some(hook) = self.hooks.remove(&(id.to_owned(), HookKind::PostStart)) {
            hook.abort();
        }
        let asked = self
            .state
            .instance(name)
            .map(|instance| instance.stop_signal.clone())
            .filter(|s| !s.is_empty());
        let signal = if kill {
            "SIGKILL".to_owned()
        } else {
            asked.unwrap_or_else(|| "SIGTERM".to_owned())
        };
        match self
            .context
            .limited(self.context.runtime.signal_container(id, &signal))
            .await
        {
            Ok(()) => {}
            Err(RuntimeError::NotFound(_)) => self.state.removed(id),
            Err(error) => {
                let pod = spec::full_name(&self.pod);
                tracing::warn!(pod, container = name, signal, %error, "signal not sent");
            }
        }
    }

    pub(super) async fn remove(&mut self, id: &str) {
        if let Err(error) = self.context.limited(self.context.runtime.remove_container(id)).await {
            // The next list of the runtime's containers brings it back, and with it another attempt.
            tracing::warn!(pod = spec::full_name(&self.pod), id, %error, "container not removed");
        }
        self.state.removed(id);
    }
}
