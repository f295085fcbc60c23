//! One pod's worker: observe, plan, act, and tell. The only task that touches this pod.

mod act;
mod host_ports;
mod pull;
mod resize;
mod token;
mod volumes;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, Patch, PatchParams};
use tokio::task::{AbortHandle, JoinSet};

use crate::clock::{later, since};
use crate::context::Context;
use crate::dirs::PodDirs;
use crate::mailbox::{Mailbox, Message};
use crate::pod::plan::{Plan, PodView, plan};
use crate::pod::probe::Answer;
use crate::pod::spec;
use crate::pod::state::PodState;
use crate::pod::status::{self, patch};
use volumes::Kept;

/// How long the status of a pod that is being started may wait for changes that are about to follow, so that one write
/// tells them all. Never waits: the loss of readiness, and anything when nothing is about to follow.
const SETTLE: Duration = Duration::from_millis(500);
/// The same for a pod that ends: what stops with it stops within moments.
const SETTLE_ENDING: Duration = Duration::from_millis(100);
/// Look again at least this often: a safety net, not a mechanism.
const IDLE: Duration = Duration::from_secs(60);
/// Longest wait for one API call.
pub(crate) const API_LIMIT: Duration = Duration::from_secs(15);

/// See the module.
pub(crate) struct Worker {
    pub(crate) context: Arc<Context>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) state: PodState,
    pub(crate) dirs: PodDirs,
    pub(crate) tasks: JoinSet<()>,
    /// Running hooks by (container id, is preStop).
    pub(crate) hooks: HashMap<(String, bool), AbortHandle>,
    /// Running pulls by container.
    pub(crate) pulls: HashMap<String, AbortHandle>,
    /// Ports of the node that lead to the pod.
    pub(crate) host_ports: JoinSet<()>,
    pub(crate) kept: Kept,
    dirty_since: Option<Timestamp>,
    write_failures: u32,
    write_after: Option<Timestamp>,
}

/// What became of the status.
enum Told {
    /// It was written: what was planned is out of date.
    Written,
    /// Nothing to write now; look again then.
    Later(Option<Timestamp>),
}

impl Worker {
    pub(crate) fn new(context: Arc<Context>, mailbox: Arc<Mailbox>, pod: Arc<Pod>, state: PodState) -> Self {
        let dirs = PodDirs::new(&context.options.dir, &pod);
        Self {
            context,
            mailbox,
            pod,
            state,
            dirs,
            tasks: JoinSet::new(),
            hooks: HashMap::new(),
            pulls: HashMap::new(),
            host_ports: JoinSet::new(),
            kept: Kept::default(),
            dirty_since: None,
            write_failures: 0,
            write_after: None,
        }
    }

    /// Runs until nothing of the pod is left.
    pub(crate) async fn run(mut self) {
        let now = self.context.clock.now();
        self.state.observe_deletion(&self.pod, now);
        loop {
            self.read_mail();
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

    fn read_mail(&mut self) {
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
    fn take_pod(&mut self, pod: Pod) {
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
            Message::Hook { id, pre_stop, result } => {
                self.hooks.remove(&(id.clone(), pre_stop));
                let name = self.name_of(&id);
                if let (Err(error), Some(name)) = (&result, &name) {
                    let (reason, word) = if pre_stop {
                        ("FailedPreStopHook", "PreStopHook")
                    } else {
                        ("FailedPostStartHook", "PostStartHook")
                    };
                    self.event(Some(name), true, reason, &format!("{word} failed: {error}"), now);
                }
                self.state.hook_done(&id, pre_stop, result.is_ok());
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

    fn name_of(&self, id: &str) -> Option<String> {
        self.state
            .instances()
            .find(|(_, instance)| instance.id == id)
            .map(|(name, _)| name.clone())
    }

    pub(crate) fn event(&self, container: Option<&str>, warning: bool, reason: &str, message: &str, now: Timestamp) {
        self.context
            .events
            .pod(&self.pod, container, warning, reason, message, now);
    }

    /// Writes the status if it differs and it is time to.
    async fn tell(&mut self, plan: &Plan, now: Timestamp) -> Told {
        let gone = self.state.ending.is_some_and(|ending| ending.gone) || self.state.deleted;
        let patch = if gone {
            None
        } else {
            patch::status_patch(&self.pod, &plan.status)
        };
        let Some(patch) = patch else {
            self.dirty_since = None;
            return Told::Later(None);
        };
        if let Some(after) = self.write_after.filter(|after| *after > now) {
            return Told::Later(Some(after));
        }
        let since = *self.dirty_since.get_or_insert(now);
        let settle = if self.state.ending.is_some() {
            SETTLE_ENDING
        } else {
            SETTLE
        };
        let until = later(since, settle);
        if now < until && self.may_wait(plan) {
            return Told::Later(Some(until));
        }
        if self.ends_silently() {
            return Told::Later(None);
        }
        self.write_status(patch, &plan.status, now).await
    }

    fn may_wait(&self, plan: &Plan) -> bool {
        if self.state.ending.is_some() {
            // Its endpoints are marked terminating already.
            return true;
        }
        plan.settling && !patch::loses_readiness(&self.pod, &plan.status)
    }

    /// Nothing of the pod lives and nobody holds its object: deleting it says everything.
    fn ends_silently(&self) -> bool {
        let held = self
            .pod
            .metadata
            .finalizers
            .as_ref()
            .is_some_and(|list| !list.is_empty());
        self.state.ending.is_some() && !held && !self.state.instances().any(|(_, instance)| instance.alive())
    }

    async fn write_status(&mut self, patch: serde_json::Value, wanted: &PodStatus, now: Timestamp) -> Told {
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), spec::namespace(&self.pod));
        let name = spec::name(&self.pod).to_owned();
        let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
        let call = api.patch_status(&name, &params, &patch);
        let error = match tokio::time::timeout(API_LIMIT, call).await {
            Ok(Ok(pod)) if spec::uid(&pod) == spec::uid(&self.pod) => {
                self.take_pod(pod);
                if patch::status_patch(&self.pod, wanted).is_none() {
                    self.dirty_since = None;
                    self.write_failures = 0;
                    return Told::Written;
                }
                "the API server did not keep what was written".to_owned()
            }
            Ok(Ok(_)) => "the object is another pod's now".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        self.write_failures += 1;
        let wait = Duration::from_millis(100) * 2u32.pow(self.write_failures.min(7));
        tracing::debug!(pod = name, error, ?wait, "status not written");
        let at = later(now, wait);
        self.write_after = Some(at);
        Told::Later(Some(at))
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

    /// The pod came to its end and says so.
    pub(crate) fn is_terminal(&self) -> bool {
        status::is_terminal(self.pod.status.as_ref())
    }
}
