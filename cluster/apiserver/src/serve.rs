//! From a request to its answer: who handles it.

mod connections;
mod discovery;
mod in_flight;
mod issuer;
mod openapi;
mod route;
mod socket;
mod stalling;
mod subresource;
mod turns;
mod work;

use std::sync::Arc;
use std::time::Duration;

use connections::Connections;
use in_flight::InFlight;
use rustix::process::{Resource, getrlimit};
use turns::Turns;
use work::Room;

use crate::auth::Tokens;
use crate::auth::authorization::Authorization;
use crate::kubelet::Kubelets;
use crate::metrics::{Metrics, WriteCount};
use crate::proxy::Proxies;
use crate::read::Reader;
use crate::write::Writer;

/// Answers requests: each goes to the part that it needs.
pub(crate) struct Router {
    reader: Reader,
    /// Whoever works in the background has it as long as the server has.
    writer: Arc<Writer>,
    tokens: Tokens,
    authorization: Arc<Authorization>,
    kubelets: Kubelets,
    proxies: Proxies,
    metrics: Arc<Metrics>,
    documents: openapi::Cache,
    /// What is open on sockets, of all of them.
    connections: Arc<Connections>,
    in_flight: InFlight,
    room: Room,
    turns: Turns,
    /// Limit for every request that is neither a watch nor a stream.
    timeout: Duration,
}

impl Router {
    /// Out of its parts. `timeout`: see [`crate::Options::request_timeout`].
    pub(crate) fn new(
        writer: Writer,
        tokens: Tokens,
        authorization: Arc<Authorization>,
        kubelets: Kubelets,
        reader: Reader,
        metrics: Arc<Metrics>,
        timeout: Duration,
    ) -> Self {
        Self {
            proxies: Proxies::new(kubelets.dialer(), reader.clone(), descriptors()),
            reader,
            writer: Arc::new(writer),
            tokens,
            authorization,
            kubelets,
            metrics,
            documents: openapi::Cache::default(),
            connections: Arc::new(Connections::new(descriptors())),
            in_flight: InFlight::default(),
            room: Room::default(),
            turns: Turns::default(),
            timeout,
        }
    }

    /// The part that writes; as long as somebody has it, it works.
    pub(crate) fn writer(&self) -> &Arc<Writer> {
        &self.writer
    }

    /// Accepted writes since the start.
    pub(crate) fn writes(&self) -> Vec<WriteCount> {
        self.metrics.writes()
    }
}

/// How many descriptors the process may have.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX)
}
