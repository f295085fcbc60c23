//! How a worker learns what ended containers have left to be read.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::Container;

use super::{Worker, blocking};
use crate::pod::container::termination;
use crate::pod::ephemeral;
use crate::pod::instance::Instance;
use crate::server::log_file;
use crate::volume::termination_log;

impl Worker {
    /// Before anybody is told of the end: both belong into one status.
    pub(super) async fn hear_last_words(&mut self) {
        for (name, instance) in self.state.unread() {
            let container = ephemeral::find(&self.pod, &name).map(Cow::into_owned);
            let words = match container {
                Some(container) => self.last_words(&container, &instance).await,
                None => String::new(),
            };
            self.state.heard(&instance.id, words);
        }
    }

    async fn last_words(&self, container: &Container, instance: &Instance) -> String {
        if termination::path(container).is_some() {
            let path = self.dirs.termination_log(&container.name, instance.attempt);
            let shown = path.display().to_string();
            let read =
                blocking(move || termination_log::read(&path, termination::FILE_BYTES).map_err(|e| e.to_string()));
            match read.await {
                Err(error) => return format!("Error on reading termination log {shown}: {error}"),
                Ok(bytes) if !bytes.is_empty() => return String::from_utf8_lossy(&bytes).into_owned(),
                Ok(_) => {}
            }
        }
        if !termination::falls_back_to_logs(container, instance) {
            return String::new();
        }
        let log = self.dirs.log(&container.name, instance.attempt);
        let last = log_file::last(&log, termination::LOG_LINES, termination::LOG_BYTES).await;
        last.unwrap_or_else(|error| format!("Error on reading termination message from logs: {error}"))
    }
}
