//! Hooks and probes run beside the worker; their ends come as messages.

use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;

use super::{RETRY, Worker};
use crate::clock::since;
use crate::handler::{self, Target};
use crate::mailbox::Message;
use crate::pod::instance::HookKind;
use crate::pod::probe::Answer;
use crate::pod::spec::{self, ProbeKind};
use crate::pod::state::Sandbox;

impl Worker {
    fn target(&self, container: &Container, id: &str) -> Target {
        let ip = match self.state.sandbox {
            Sandbox::Ready(ip) => Some(ip),
            _ => self
                .pod
                .status
                .as_ref()
                .and_then(|s| s.pod_ip.as_ref())
                .and_then(|ip| ip.parse().ok()),
        };
        Target {
            runtime: self.context.runtime.clone(),
            pod_uid: spec::uid(&self.pod).to_owned(),
            pod_ip: ip.unwrap_or(self.context.options.node_ip),
            id: id.to_owned(),
            container: container.clone(),
        }
    }

    /// Runs beside the worker; its end comes as a message.
    pub(super) fn run_hook(&mut self, name: &str, id: String, kind: HookKind, deadline: Option<Timestamp>) {
        let Some(container) = spec::find(&self.pod, name) else {
            return;
        };
        let handler = match kind {
            HookKind::PreStop => spec::pre_stop(container),
            HookKind::PostStart => spec::post_start(container),
        };
        let Some(handler) = handler.cloned() else {
            return self.state.hook_done(&id, kind, true);
        };
        let target = self.target(container, &id);
        let mailbox = self.mailbox.clone();
        // A hook may not outlive its container by much; the planner cuts preStop at its deadline already.
        let now = self.context.clock.now();
        let limit = deadline.map_or(Duration::from_secs(24 * 3600), |at| since(at, now) + RETRY);
        let key = (id.clone(), kind);
        let handle = self.tasks.spawn(FutureExt::boxed(async move {
            let run = tokio::time::timeout(limit, handler::hook(&target, &handler)).await;
            let result = run.unwrap_or_else(|_| Err("it did not end in time".to_owned()));
            mailbox.put(|news| news.messages.push(Message::Hook { id, kind, result }));
        }));
        self.hooks.insert(key, handle);
    }

    pub(super) fn probe(&mut self, name: &str, id: String, kind: ProbeKind) {
        let Some(container) = spec::find(&self.pod, name) else {
            return;
        };
        let Some(probe) = spec::probe(container, kind).cloned() else {
            return;
        };
        let target = self.target(container, &id);
        let mailbox = self.mailbox.clone();
        let timeout = spec::timing(&probe).timeout;
        self.tasks.spawn(FutureExt::boxed(async move {
            let answer: Answer = handler::probe(&target, &probe, timeout).await;
            mailbox.put(|news| news.messages.push(Message::Probe { id, kind, answer }));
        }));
    }
}
