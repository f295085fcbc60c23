//! The doing of a resize: ask the node, tell the runtime.

use super::{RETRY, Worker};
use crate::clock::later;
use crate::pod::resize::{self, Requirements};
use crate::pod::spec;
use crate::pod::state::{NotGranted, Pending};

impl Worker {
    pub(crate) fn allocate(&mut self, wanted: Requirements) {
        let amount = resize::requests(&self.pod, &wanted);
        match self.context.allocate(spec::uid(&self.pod), amount) {
            Ok(()) => self.state.granted(wanted),
            Err((reason, message)) => {
                // Who leaves meanwhile makes room; the node itself does not grow.
                let retry_at = (reason == NotGranted::Deferred).then(|| later(self.context.clock.now(), RETRY));
                self.state.pending = Some(Pending {
                    reason,
                    message,
                    wanted,
                    retry_at,
                });
            }
        }
    }

    pub(crate) async fn resize(&mut self, name: &str, id: &str) {
        let Some(container) = spec::find(&self.pod, name) else {
            return;
        };
        let (granted, limits) = resize::granted_limits(container, &self.state);
        let outcome = self
            .context
            .limited(self.context.runtime.update_container(id, &limits))
            .await;
        let retry_at = later(self.context.clock.now(), RETRY);
        let outcome = outcome.map(|()| granted).map_err(|error| {
            tracing::debug!(pod = spec::full_name(&self.pod), container = name, %error, "not resized");
            (error.to_string(), retry_at)
        });
        self.state.resized(id, outcome);
    }
}
