//! The conversion webhook: whoever speaks v1alpha1 is answered through it. Every instance serves, whether it leads or not; v1beta1
//! never needs it.
//!
//! `serve` answers the API server, with what `certificates` decides on and makes; `keep` shares that with all instances in a Secret
//! and tells the API server, in the definitions, whom to trust.

mod certificates;
mod keep;
mod serve;

use std::net::TcpListener;
use std::sync::Arc;

use afloat_api::Door;
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use serve::Shown;

/// How the webhook is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// By the API server.
    pub door: Door,
    /// Where connections come in.
    pub listen: Listen,
    /// Namespace of the Secret with keys and certificates.
    pub namespace: String,
}

/// Where connections come in.
#[derive(Clone, Debug)]
pub enum Listen {
    /// At this port of all addresses.
    Port(u16),
    /// At a socket that is open already.
    Socket(Arc<TcpListener>),
}

/// Serves until `shutdown`. What fails is told of in the log and tried again.
pub(crate) async fn run(client: Client, options: Options, metrics: Metrics, shutdown: CancellationToken) {
    let shown = Arc::new(Shown::new(metrics));
    let serving = serve::serve(options.listen.clone(), shown.clone(), shutdown.clone());
    let keeping = keep::keep(client, &options, &shown, &shutdown);
    tokio::join!(serving, keeping);
}
