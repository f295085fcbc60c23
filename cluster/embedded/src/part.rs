//! The parts of a cluster (controllers, node agents, proxies, and what is added to them): how they reach its API server and how
//! they are kept running.

use std::pin::Pin;

use afloat_apiserver::{ApiServer, User};
use kube::Client;
use tokio_util::sync::CancellationToken;

/// A part that runs.
pub type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Starts a part with a client of its own; once for each of its lives.
pub type StartPart = Box<dyn Fn(Client) -> Running + Send + Sync>;

/// Stands between the parts of a cluster and its API server. The usual one, [`Direct`], does nothing there; another one may
/// lose requests and kill parts, for those who want to see what comes of it.
pub trait Supervisor: Send + Sync {
    /// A client of a part that is not started by [`Supervisor::supervise`], in the name of `user`.
    fn client(&self, api: &ApiServer, user: User) -> Client;

    /// Runs the part called `name` in the name of `user`, until it ends or `shutdown`.
    fn supervise(
        &self,
        name: &str,
        api: &ApiServer,
        user: User,
        start: StartPart,
        shutdown: CancellationToken,
    ) -> Running;
}

/// Parts reach the API server without a socket, and each lives once.
#[derive(Clone, Copy, Debug)]
pub struct Direct;

impl Supervisor for Direct {
    fn client(&self, api: &ApiServer, user: User) -> Client {
        api.client_as(user)
    }

    fn supervise(
        &self,
        _name: &str,
        api: &ApiServer,
        user: User,
        start: StartPart,
        _shutdown: CancellationToken,
    ) -> Running {
        start(api.client_as(user))
    }
}

/// Runs a part to its end, and says so if that is an error.
pub(crate) async fn said<E: std::fmt::Display>(part: String, run: impl Future<Output = Result<(), E>>) {
    if let Err(error) = run.await {
        tracing::error!(%error, "{part} stopped");
    }
}
