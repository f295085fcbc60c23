//! What a worker hears: newer objects, ends of containers, hooks, probes and pulls.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::Worker;
use crate::mailbox::Message;
use crate::pod::probe::Answer;
use crate::pod::spec;

impl Worker {
    pub(super) fn read_mail(&mut self) {
        let news = self.mailbox.take();
        let now = self.context.clock.now();
        if let Some(pod) = news.pod {
            self.take_pod(*pod);
            self.state.observe_deletion(&self.pod, now);
        }
        for message in news.messages {
            self.take_message(message, now);
        }
        if let Some(list) = news.listed {
            self.state.listed(list);
        }
        if news.sources_changed {
            self.state.volumes.changed();
        }
        if news.gone {
            self.state.observe_gone(now);
        }
    }

    /// Never goes back behind our own last write.
    pub(super) fn take_pod(&mut self, pod: Pod) {
        let version = |pod: &Pod| {
            pod.metadata
                .resource_version
                .as_deref()
                .and_then(|rv| rv.parse::<u64>().ok())
        };
        if let (Some(new), Some(old)) = (version(&pod), version(&self.pod))
            && new < old
        {
            return;
        }
        if crate::volume::downward_changed(&self.pod, &pod) {
            self.state.volumes.changed();
        }
        self.pod = Arc::new(pod);
        self.context.publish(&self.pod);
    }

    fn take_message(&mut self, message: Message, now: Timestamp) {
        match message {
            Message::Exited { id, exit } => self.state.exited(&id, exit, None),
            Message::Hook { id, kind, result } => {
                self.hooks.remove(&(id.clone(), kind));
                let name = self.name_of(&id);
                if let (Err(error), Some(name)) = (&result, &name) {
                    let message = format!("{} failed: {error}", kind.name());
                    self.event(Some(name), true, kind.failed(), &message, now);
                }
                self.state.hook_done(&id, kind, result.is_ok());
            }
            Message::Pulled { container, end } => self.pull_ended(&container, *end, now),
            Message::Probe { id, kind, answer } => {
                let Some(name) = self.name_of(&id) else { return };
                let timing = spec::find(&self.pod, &name)
                    .and_then(|c| spec::probe(c, kind))
                    .map(spec::timing);
                let (reason, text) = match &answer {
                    Answer::Success => ("", String::new()),
                    Answer::Warning(text) => ("ProbeWarning", format!("{kind} probe warning: {text}")),
                    Answer::Failure(text) => ("Unhealthy", format!("{kind} probe failed: {text}")),
                    Answer::Error(text) => ("Unhealthy", format!("{kind} probe errored: {text}")),
                };
                let period = timing.map_or(Duration::ZERO, |timing| timing.period);
                if !reason.is_empty() && self.state.worth_telling(&id, kind, now, period) {
                    self.event(Some(&name), true, reason, &text, now);
                }
                self.state.probed(&id, kind, &answer, timing);
            }
        }
    }
}
