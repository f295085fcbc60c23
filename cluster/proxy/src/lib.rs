//! The service proxy of one node: Services become sockets, connections to them are carried to endpoints.
//!
//! ```text
//! feed ──(queue: each change waits for the lag)──▶ table (pure: Model → Diff) ──▶ sockets ──▶ tcp, udp
//!                                                                                   │ backend: choose and count
//!                                                                      snapshot ◀───┘
//! ```
//!
//! It differs from kube-proxy in what user space cannot do: the client's address is not kept, and an endpoint that
//! refuses shows to the client as a connection that is reset at once. In return every connection is counted, and it
//! is known, not hoped, when a node has let go of an endpoint ([`Snapshot`]). IPv4 only; no topology hints, no
//! `externalIPs`.

mod backend;
mod convert;
mod feed;
mod lag;
mod listen;
mod options;
mod pods;
mod relay;
mod snapshot;
mod sockets;
pub mod table;
mod tcp;
mod udp;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use afloat_words::key::Key;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::feed::Seen;
pub use crate::lag::Lag;
pub use crate::options::{HostPorts, ProxyOptions};
pub use crate::pods::{Counts, PodSnapshot};
use crate::snapshot::Ledger;
pub use crate::snapshot::{EndpointSnapshot, PodsSnapshot, ServiceSnapshot, Snapshot};
use crate::sockets::Sockets;
use crate::table::{Change, Model};
use crate::tcp::Shared;

/// How often counts of endpoints that left long ago are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Longest wait for connections to end at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a proxy stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// [`Proxy::run`] was called twice.
    #[error("the proxy of node {0} runs already")]
    RunsAlready(String),
    /// The watches ended, which they never should.
    #[error("the proxy of node {0} lost its watches")]
    WatchEnded(String),
}

/// The proxy of one node.
pub struct Proxy {
    client: kube::Client,
    options: Arc<ProxyOptions>,
    ledger: Arc<Ledger>,
    started: std::sync::atomic::AtomicBool,
    held: watch::Sender<bool>,
}

impl Proxy {
    /// A proxy that does nothing yet.
    pub fn new(client: kube::Client, options: ProxyOptions) -> Arc<Proxy> {
        Arc::new(Proxy {
            client,
            options: Arc::new(options),
            ledger: Arc::default(),
            started: std::sync::atomic::AtomicBool::new(false),
            held: watch::Sender::new(false),
        })
    }

    /// What is applied and what was counted, now.
    pub fn snapshot(&self) -> Snapshot {
        self.ledger.snapshot(&self.options.node_name)
    }

    /// Stops taking changes in, as a proxy that is stuck, or goes on. What is in force stays, connections too.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// What is in force for pods, and what it came to.
    pub fn pods(&self) -> PodsSnapshot {
        self.ledger.pods()
    }

    /// Changes whenever what [`Proxy::pods`] says of routes and of losses does; connections that begin and end do not count.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.ledger.changes()
    }

    /// Serves until `shutdown`, then closes everything.
    ///
    /// # Errors
    /// When it runs already or the watches end by themselves; failures of the API server and of sockets are tried again.
    pub fn run(self: Arc<Self>, shutdown: CancellationToken) -> BoxFuture<'static, Result<(), Error>> {
        // Boxed where nothing is async: the code of a future is made where it is awaited, which would be each program that calls this.
        self.serve(shutdown).boxed()
    }

    async fn serve(self: Arc<Self>, shutdown: CancellationToken) -> Result<(), Error> {
        if self.started.swap(true, std::sync::atomic::Ordering::SeqCst) {
            return Err(Error::RunsAlready(self.options.node_name.clone()));
        }
        if self.options.device.is_some() {
            listen::reuse_lingering_ports();
        }
        let shared = Shared {
            limit: Arc::new(Semaphore::new(self.options.connections_max)),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
        };
        let (sender, queue) = mpsc::channel(feed::QUEUE_LENGTH);
        let outcome = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            () = feed::watch_services(&self.client, &sender, &self.options.lag) => Err(Error::WatchEnded(self.options.node_name.clone())),
            () = self.apply(queue, shared.clone()) => Err(Error::WatchEnded(self.options.node_name.clone())),
        };
        shared.shutdown.cancel();
        shared.tasks.close();
        if timeout(SHUTDOWN_TIMEOUT, shared.tasks.wait()).await.is_err() {
            tracing::warn!(node = self.options.node_name, "connections are slow to end");
        }
        outcome
    }

    /// Takes changes from the queue when their time has come, and puts them into force.
    async fn apply(&self, mut queue: mpsc::Receiver<Seen>, shared: Shared) {
        let mut model = Model::new(&self.options.node_name);
        let mut sockets = Sockets::new(self.options.clone(), shared, self.ledger.clone());
        let mut listed = (false, false);
        let mut sweep = interval(SWEEP_INTERVAL);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next: Option<Seen> = None;
        loop {
            if next.is_none() {
                next = tokio::select! {
                    seen = queue.recv() => seen,
                    _ = sweep.tick() => {
                        self.ledger.sweep(std::time::Instant::now());
                        continue;
                    }
                };
            }
            let Some((due, change)) = next.take() else { return };
            sleep_until(due).await;
            // It ends only with the proxy itself, which holds the sender.
            let _ = self.held.subscribe().wait_for(|held| !held).await;
            let mut touched = see(&mut model, change, &mut listed);
            // Whatever else is due belongs to the same step.
            while let Ok((due, change)) = queue.try_recv() {
                if due > Instant::now() {
                    next = Some((due, change));
                    break;
                }
                touched.extend(see(&mut model, change, &mut listed));
            }
            sockets.apply(model.update(&touched)).await;
            self.ledger.applied(&touched, &model);
            if listed == (true, true) {
                self.ledger.set_synced();
            }
        }
    }
}

fn see(model: &mut Model, change: Change, listed: &mut (bool, bool)) -> BTreeSet<Key> {
    match change {
        Change::Services(_) => listed.0 = true,
        Change::Slices(_) => listed.1 = true,
        _ => {}
    }
    model.see(change)
}
