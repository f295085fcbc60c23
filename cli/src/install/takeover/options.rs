//! Flags of `afloat takeover`.

use std::path::PathBuf;

use clap::Args;

/// `afloat takeover`
#[derive(Args, Clone, Debug)]
pub(crate) struct TakeoverOptions {
    /// Give the workloads back to OpenKruise's manager, and put back all that was changed
    #[arg(long)]
    pub(crate) undo: bool,
    /// Say what is, what will be and how to do it by hand, and change nothing: the default
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    /// Do it
    #[arg(long)]
    pub(crate) yes: bool,
    /// Kubeconfig of the cluster [default: $KUBECONFIG, ~/.kube/config, or the pod's own account]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig
    #[arg(long)]
    pub(crate) context: Option<String>,
    /// Namespace of OpenKruise's manager and of its Lease
    #[arg(long, value_name = "NAME", default_value = "kruise-system")]
    pub(crate) kruise_namespace: String,
    /// Deployment of OpenKruise's manager
    #[arg(long, value_name = "NAME", default_value = super::kruise::DEPLOYMENT)]
    pub(crate) kruise_deployment: String,
    /// Namespace of Afloat's operator
    #[arg(long, value_name = "NAME", default_value = "afloat-system")]
    pub(crate) namespace: String,
    /// Image of Afloat's operator, as the nodes pull it
    #[arg(long, value_name = "NAME", default_value = concat!("afloat:", env!("CARGO_PKG_VERSION")))]
    pub(crate) image: String,
    /// Where the API server reaches the operators' webhook, if not by their Service: https://HOST:PORT/convert
    #[arg(long, value_name = "URL", value_parser = crate::options::serving::url)]
    pub(crate) webhook_url: Option<String>,
    /// Kinds and feature gates of OpenKruise that are in use, that Afloat does not have, and that may stop working: those that a run without this names
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) despite: Vec<String>,
    /// Longest wait for one step
    #[arg(long, value_name = "SECONDS", default_value_t = 180, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
}
