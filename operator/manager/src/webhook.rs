//! The webhooks: whoever speaks v1alpha1 is answered through that of conversion, and what is written of a few kinds is reviewed. Every
//! instance serves, whether it leads or not; v1beta1 never needs a conversion, and nothing that is reviewed needs it.
//!
//! `serve` answers the API server, with what `certificates` decides on and makes; `keep` shares that with all instances in a Secret
//! and tells the API server, in the definitions and in a configuration of webhooks (`configured`), whom to trust.

mod certificates;
mod configured;
mod keep;
mod options;
mod review;
mod serve;
pub(crate) mod verdict;

use std::sync::Arc;

use kube::Client;
use tokio_util::sync::CancellationToken;

pub(crate) use options::Lacks;
pub use options::{Listen, Options};
use serve::Shown;

/// Serves until `shutdown`. What fails is told of in the log and tried again.
pub(crate) async fn run(client: Client, options: Options, lacks: Lacks, shutdown: CancellationToken) {
    let shown = Arc::new(Shown::new(lacks));
    let serving = serve::serve(client.clone(), options.listen.clone(), shown.clone(), shutdown.clone());
    let keeping = keep::keep(client, &options, &shown, &shutdown);
    tokio::join!(serving, keeping);
}
