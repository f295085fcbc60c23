//! The agent as a whole: registers the node, keeps it alive, and has a worker for every pod that is bound to it.

mod services;
mod sources;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use afloat_runtime::{Container, ContainerState, Runtime};
use afloat_watching::feed::{Pauses, Seen, follow};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::watcher;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::events::{self, Pending, Recorder};
use crate::mailbox::{Mailbox, Message};
use crate::options::{API_LIMIT, AgentOptions};
use crate::pod::state::PodState;
use crate::pod::{orphan, recover, resize, spec};
use crate::worker::Worker;
use crate::{dirs, node_status, server};

/// Why an agent gave up.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A directory of the node cannot be used.
    #[error("cannot use {path}: {error}; give the node a directory that it may write to")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A second `run` of one agent.
    #[error("this agent runs or has run already; make a new one")]
    RunsAlready,
}

/// The node agent. See the crate.
pub struct Agent {
    context: Arc<Context>,
    pending_events: Mutex<Option<Pending>>,
    /// Containers found at the start, until their pods are seen.
    found: Mutex<HashMap<String, Vec<Container>>>,
}

type Workers = JoinSet<String>;

impl Agent {
    /// An agent that does nothing yet.
    pub fn new(client: kube::Client, runtime: Arc<dyn Runtime>, options: AgentOptions) -> Arc<Self> {
        let (recorder, pending) = Recorder::new();
        let context = Arc::new(Context::new(client, runtime, options, recorder));
        let pending_events = Mutex::new(Some(pending));
        Arc::new(Self {
            context,
            pending_events,
            found: Mutex::default(),
        })
    }

    /// Registers the node and runs its pods until the token is cancelled. Containers are left as they are then.
    ///
    /// # Errors
    /// Only what no waiting cures; an API server or runtime that does not answer is waited for.
    pub fn run(self: Arc<Self>, shutdown: CancellationToken) -> BoxFuture<'static, Result<(), AgentError>> {
        // Boxed where nothing is async: the code of a future is made where it is awaited, which would be each program that calls this.
        self.run_pods(shutdown).boxed()
    }

    async fn run_pods(self: Arc<Self>, shutdown: CancellationToken) -> Result<(), AgentError> {
        let pending = self
            .pending_events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let pending = pending.ok_or(AgentError::RunsAlready)?;
        let dir = self.context.options.dir.clone();
        let made = tokio::fs::create_dir_all(dirs::pods(&dir)).await;
        made.map_err(|error| AgentError::Directory { path: dir, error })?;
        let work = async {
            let exits = self.context.runtime.exits();
            let (uid, ()) = tokio::join!(self.register(), self.find_containers());
            self.context.events.node(
                &self.context.options.node_name,
                false,
                "Starting",
                "Starting kubelet.",
                self.context.clock.now(),
            );
            tokio::join!(
                node_status::keep_lease(&self.context, &uid),
                node_status::keep_status(&self.context),
                events::write_all(
                    self.context.client.clone(),
                    self.context.options.node_name.clone(),
                    pending
                ),
                self.watch_pods(),
                sources::watch_sources(&self.context),
                services::watch_services(&self.context),
                self.watch_exits(exits),
            )
        };
        shutdown.run_until_cancelled(work).await;
        Ok(())
    }

    /// Serves one HTTP/1.1 connection of the kubelet's API to its end, upgrades included.
    pub async fn serve<S>(self: Arc<Self>, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        server::serve(self.context.clone(), stream).await;
    }

    /// Opens a connection to a port of the address that a pod has been given here.
    ///
    /// # Errors
    /// If there is no such pod, or nobody listens.
    pub async fn connect(&self, pod_uid: &str, port: u16) -> std::io::Result<TcpStream> {
        let connecting = self.context.runtime.connect(pod_uid, port);
        connecting.await.map_err(std::io::Error::other)
    }

    /// Until it works.
    async fn register(&self) -> String {
        let mut wait = Duration::from_millis(50);
        loop {
            match tokio::time::timeout(API_LIMIT, node_status::register(&self.context)).await {
                Ok(Ok(uid)) => return uid,
                Ok(Err(error)) => {
                    tracing::warn!(%error, node = self.context.options.node_name, "node not registered yet");
                }
                Err(_) => tracing::warn!(node = self.context.options.node_name, "node not registered in time"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(5));
        }
    }

    /// What runs here already: after a restart of the agent, everything.
    async fn find_containers(&self) {
        let mut wait = Duration::from_millis(50);
        let list = loop {
            match self.context.limited(self.context.runtime.containers()).await {
                Ok(list) => break list,
                Err(error) => tracing::warn!(%error, "containers not listed yet"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(5));
        };
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = by_pod(list);
    }

    async fn watch_pods(&self) {
        let api: Api<Pod> = Api::all(self.context.client.clone());
        let config = watcher::Config::default().fields(&format!("spec.nodeName={}", self.context.options.node_name));
        let mut seen = pin!(follow(api, config, Pauses::Patient, |pod| pod));
        let mut workers = Workers::new();
        let mut synced = false;
        let mut sweep = tokio::time::interval(Duration::from_secs(30));
        loop {
            tokio::select! {
                seen = seen.next() => match seen {
                    Some(Seen::Listed(pods)) => {
                        self.pods_listed(pods, &mut workers);
                        if !std::mem::replace(&mut synced, true) {
                            self.adopt_orphans(&mut workers).await;
                        }
                    }
                    Some(Seen::Changed(pod)) => self.pod_changed(pod, &mut workers),
                    Some(Seen::Gone(pod)) => self.pod_gone(spec::uid(&pod)),
                    None => return,
                },
                Some(done) = workers.join_next(), if !workers.is_empty() => match done {
                    Ok(uid) => self.context.unregister(&uid),
                    Err(error) => tracing::error!(%error, "a pod's worker died"),
                },
                _ = sweep.tick(), if synced => self.adopt_orphans(&mut workers).await,
            }
        }
    }

    /// Whatever is not listed is gone.
    fn pods_listed(&self, mut pods: Vec<Pod>, workers: &mut Workers) {
        // Those that have their place come before those that ask for one.
        pods.sort_by_key(|pod| !spec::has_run(pod));
        let listed: BTreeSet<String> = pods.iter().map(|pod| spec::uid(pod).to_owned()).collect();
        for pod in pods {
            self.pod_changed(pod, workers);
        }
        for uid in self.context.uids().difference(&listed) {
            self.pod_gone(uid);
        }
    }

    fn pod_changed(&self, pod: Pod, workers: &mut Workers) {
        let uid = spec::uid(&pod).to_owned();
        if let Some(mailbox) = self.context.mailbox(&uid) {
            return mailbox.put(|news| news.pod = Some(Box::new(pod)));
        }
        let found = self
            .found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&uid)
            .unwrap_or_default();
        let new = found.is_empty() && !spec::has_run(&pod);
        let mut state = recover::recover(
            &pod,
            found,
            self.context.options.restart_back_off,
            self.context.clock.now(),
        );
        // What runs here is not asked again whether it may.
        state.to_admit = new;
        self.start_worker(pod, state, workers);
    }

    fn start_worker(&self, pod: Pod, state: PodState, workers: &mut Workers) {
        let uid = spec::uid(&pod).to_owned();
        let mailbox = Arc::new(Mailbox::default());
        let pod = Arc::new(pod);
        let requests = resize::requests(&pod, &state.allocated);
        let gone = state.ending.is_some_and(|ending| ending.gone);
        self.context
            .register(pod.clone(), mailbox.clone(), requests, !state.to_admit && !gone);
        let worker = Worker::new(self.context.clone(), mailbox, pod, state);
        workers.spawn(FutureExt::boxed(async move {
            worker.work_until_gone().await;
            uid
        }));
    }

    fn pod_gone(&self, uid: &str) {
        if let Some(mailbox) = self.context.mailbox(uid) {
            self.context.vacate(uid);
            mailbox.put(|news| news.gone = true);
        }
    }

    /// Ends what belongs to pods that the API does not know any more: deleted while we were away.
    async fn adopt_orphans(&self, workers: &mut Workers) {
        let Ok(list) = self.context.limited(self.context.runtime.containers()).await else {
            return;
        };
        let mut left = by_pod(list);
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if let Ok(mut entries) = tokio::fs::read_dir(dirs::pods(&self.context.options.dir)).await {
            while let Ok(Some(entry)) = entries.next_entry().await {
                left.entry(entry.file_name().to_string_lossy().into_owned())
                    .or_default();
            }
        }
        // Asked after the list was made: a pod that came in between is known now.
        let known = self.context.uids();
        for (uid, containers) in left.into_iter().filter(|(uid, _)| !known.contains(uid)) {
            let pod = orphan::stand_in(&uid, &containers);
            let now = self.context.clock.now();
            let mut state = recover::recover(&pod, containers, self.context.options.restart_back_off, now);
            state.observe_gone(now);
            self.start_worker(pod, state, workers);
        }
    }

    /// Tells workers of containers that ended, and now and then of all their containers.
    async fn watch_exits(&self, mut exits: tokio::sync::broadcast::Receiver<String>) {
        let mut relist = tokio::time::interval(Duration::from_secs(10));
        relist.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        relist.tick().await;
        loop {
            let mut ended = BTreeSet::new();
            let mut all = false;
            tokio::select! {
                exit = exits.recv() => match exit {
                    Ok(id) => { ended.insert(id); }
                    Err(RecvError::Lagged(_)) => all = true,
                    Err(RecvError::Closed) => return,
                },
                _ = relist.tick() => all = true,
            }
            loop {
                match exits.try_recv() {
                    Ok(id) => {
                        ended.insert(id);
                    }
                    Err(TryRecvError::Lagged(_)) => all = true,
                    Err(_) => break,
                }
            }
            match self.context.limited(self.context.runtime.containers()).await {
                Ok(list) => self.deliver(list, &ended, all),
                Err(error) => tracing::warn!(%error, "containers not listed"),
            }
        }
    }

    fn deliver(&self, list: Vec<Container>, ended: &BTreeSet<String>, all: bool) {
        let mut lists = by_pod(list);
        if all {
            for uid in self.context.uids() {
                let containers = lists.remove(&uid).unwrap_or_default();
                if let Some(mailbox) = self.context.mailbox(&uid) {
                    mailbox.put(|news| news.listed = Some(containers));
                }
            }
            return;
        }
        for container in lists
            .into_values()
            .flatten()
            .filter(|container| ended.contains(&container.id))
        {
            if let ContainerState::Exited(exit) = container.state
                && let Some(mailbox) = self.context.mailbox(&container.pod_uid)
            {
                mailbox.put(|news| news.messages.push(Message::Exited { id: container.id, exit }));
            }
        }
    }
}

fn by_pod(list: Vec<Container>) -> HashMap<String, Vec<Container>> {
    let mut map: HashMap<String, Vec<Container>> = HashMap::new();
    for container in list {
        map.entry(container.pod_uid.clone()).or_default().push(container);
    }
    map
}
