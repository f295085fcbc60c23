//! Simulated nodes: they play scheduler and kubelet for the pods of any API server.
//!
//! No container runs. What a kubelet would report is computed from a pod's spec, a table of images ([`Images`]) and the
//! time, and written to the pod's status, so that thousands of pods cost little: one watch for all nodes, objects cut down
//! to what is read, no polling, a bounded number of requests at a time.
//!
//! A fleet behaves as kubelets do where a controller can see it: a container whose name or image changed is stopped and
//! started anew, alone; an image that cannot be pulled leaves it waiting; a crash restarts what ran; a postStart hook that
//! sleeps holds back what comes after it; a resize beyond the node is refused. It must never write what a kubelet would not
//! write: conditions of others, the spec, a pod that is not on one of its nodes.
//!
//! Not played: init containers, other hooks, probes that fail, restart back-off, volumes.

mod drive;
mod error;
mod feed;
mod images;
mod kubelet;
mod node;
mod options;
mod pod;
mod resize;
mod status;

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::Client;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use error::Error;
pub use images::Images;
pub use node::LABEL;
pub use options::{Hook, Options, Reported, Started, Statuses};

use drive::{Command, Driver};

/// Running simulated nodes. Dropped, they stop as machines do when their power is cut: everything stays as it is.
pub struct Fleet {
    client: Client,
    images: Arc<Images>,
    nodes: Vec<String>,
    commands: mpsc::Sender<Command>,
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Fleet {
    /// Creates the nodes and starts to play them. Pods that run on them already go on as their status says.
    ///
    /// # Errors
    /// When the API server does not take the nodes or does not list the pods.
    pub fn start(client: Client, options: Options) -> BoxFuture<'static, Result<Self, Error>> {
        // Boxed where nothing is async: the code of a future is made where it is awaited, which would be each program that calls this.
        Self::register(client, options).boxed()
    }

    async fn register(client: Client, options: Options) -> Result<Self, Error> {
        let names: Vec<String> = (1..=options.nodes.max(1))
            .map(|number| format!("{}-{number}", options.name))
            .collect();
        let mut nodes = Vec::new();
        for (index, name) in names.iter().enumerate() {
            nodes.push(node::register(&client, name, index, options.room).await?);
        }
        let images = Arc::new(Images::default());
        let shutdown = CancellationToken::new();
        let (commands, inbox) = mpsc::channel(64);
        let (feed, events) = mpsc::channel(1024);
        let pods = feed::pods(&client, options.namespace.as_deref());
        feed::try_list(&pods)
            .await
            .map_err(|error| Error::List(Box::new(error)))?;
        let tasks = vec![
            tokio::spawn(feed::watch_pods(pods, feed, shutdown.clone()).boxed()),
            tokio::spawn(node::heartbeats(client.clone(), names.clone(), shutdown.clone()).boxed()),
            tokio::spawn(Driver::new(client.clone(), options, nodes, images.clone()).drive_nodes(
                events,
                inbox,
                shutdown.clone(),
            )),
        ];
        Ok(Self {
            client,
            images,
            nodes: names,
            commands,
            shutdown,
            tasks,
        })
    }

    /// What the nodes find when they pull.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// Names of the nodes.
    pub fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// Lets the main process of a running container end: it is started anew from the image that it ran, which is not the
    /// spec's if the node's kubelet has not seen the spec yet (see [`Fleet::pause`]).
    ///
    /// # Errors
    /// When no such container runs.
    pub async fn crash(&self, namespace: &str, pod: &str, container: &str) -> Result<(), Error> {
        let (namespace, pod, container) = (namespace.to_owned(), pod.to_owned(), container.to_owned());
        self.ask(|answer| Command::Crash {
            namespace,
            pod,
            container,
            answer,
        })
        .await
    }

    /// From now on a node's kubelet sees no change of any object; what it runs goes on, and crashes are dealt with from
    /// what it saw last.
    ///
    /// # Errors
    /// When there is no such node.
    pub async fn pause(&self, node: &str) -> Result<(), Error> {
        self.set_paused(node, true).await
    }

    /// Ends [`Fleet::pause`]: everything that changed meanwhile is seen at once.
    ///
    /// # Errors
    /// When there is no such node.
    pub async fn resume(&self, node: &str) -> Result<(), Error> {
        self.set_paused(node, false).await
    }

    async fn set_paused(&self, node: &str, paused: bool) -> Result<(), Error> {
        let node = node.to_owned();
        self.ask(|answer| Command::Pause { node, paused, answer }).await
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<Result<(), Error>>) -> Command) -> Result<(), Error> {
        let (answer, reply) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_| Error::Stopped)?;
        reply.await.map_err(|_| Error::Stopped)?
    }

    /// Stops, and takes the nodes out of the cluster again.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        for task in std::mem::take(&mut self.tasks) {
            let _ = task.await;
        }
        node::remove(&self.client, &self.nodes).await;
    }
}
