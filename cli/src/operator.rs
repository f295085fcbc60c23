//! `afloat operator`.

use std::path::PathBuf;

use afloat_api::Gates;
use afloat_manager::lease::LeaderElection;
use afloat_manager::webhook;
use anyhow::Context as _;
use clap::Args;
use futures::FutureExt as _;
use kube::Client;

use crate::options::cluster::config;
use crate::options::serving::ServingOptions;
use crate::process::logging::start_logging;
use crate::process::memory;
use crate::process::signals::Stop;

/// `afloat operator`
#[derive(Args, Clone, Debug)]
pub(crate) struct OperatorOptions {
    /// Kubeconfig of the cluster [default: $KUBECONFIG, ~/.kube/config, or the pod's own account]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig
    #[arg(long)]
    pub(crate) context: Option<String>,
    /// Look after one namespace only
    #[arg(long, env = "AFLOAT_NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Objects worked on at the same time
    #[arg(long, env = "AFLOAT_WORKERS", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) workers: u16,
    /// Feature gates of OpenKruise: Name=true,Name=false,… (all of them with --help)
    #[arg(long, env = "AFLOAT_FEATURE_GATES", value_name = "GATES", default_value = "", hide_default_value = true,
        long_help = Gates::help())]
    pub(crate) feature_gates: String,
    /// Where to serve /metrics, /healthz and /readyz, for example 127.0.0.1:8080 [default: nowhere]
    #[arg(long, env = "AFLOAT_METRICS_ADDRESS", value_name = "ADDRESS")]
    pub(crate) metrics_address: Option<std::net::SocketAddr>,
    /// Act without holding the leader's Lease: only where no other operator, OpenKruise's manager included, can run
    #[arg(long)]
    pub(crate) no_leader_election: bool,
    /// Namespace of the leader's Lease
    #[arg(long, env = "AFLOAT_LEASE_NAMESPACE", default_value = "kruise-system")]
    pub(crate) lease_namespace: String,
    /// Name of the leader's Lease; the default is OpenKruise's own, so that only one of the two acts
    #[arg(long, env = "AFLOAT_LEASE_NAME", default_value = "kruise-manager")]
    pub(crate) lease_name: String,
    #[command(flatten)]
    pub(crate) serving: ServingOptions,
    /// Where the conversion webhook listens
    #[arg(long, env = "AFLOAT_WEBHOOK_PORT", value_name = "PORT", default_value_t = 9443)]
    pub(crate) webhook_port: u16,
}

pub(crate) fn run_operator(options: OperatorOptions) -> anyhow::Result<i32> {
    let (gates, warnings) =
        Gates::parse(&options.feature_gates).with_context(|| format!("--feature-gates {}", options.feature_gates))?;
    start_logging("info");
    for warning in warnings {
        tracing::warn!("--feature-gates: {warning}");
    }
    let _singly = memory::start_small();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async move {
        let mut stop = Stop::new()?;
        tokio::spawn(memory::give_back().boxed());
        let token = stop.token();
        let client = Client::try_from(config(options.kubeconfig.as_deref(), options.context.as_deref()).await?)?;
        let leader_election = (!options.no_leader_election).then(|| LeaderElection {
            namespace: options.lease_namespace.clone(),
            name: options.lease_name.clone(),
            ..LeaderElection::new(identity())
        });
        let webhook = options.serving.door().map(|door| webhook::Options {
            door,
            listen: webhook::Listen::Port(options.webhook_port),
            namespace: options.serving.webhook_service.namespace.clone(),
        });
        let manager = afloat_manager::Options {
            leader_election,
            webhook,
            namespace: options.namespace,
            workers: usize::from(options.workers),
            gates,
            ..afloat_manager::Options::default()
        };
        let version = client
            .apiserver_version()
            .await
            .context("cannot reach the API server")?;
        tracing::info!(version = version.git_version, "connected");
        if let Some(address) = options.metrics_address {
            let listener = tokio::net::TcpListener::bind(address).await;
            let listener = listener.with_context(|| format!("cannot serve --metrics-address {address}"))?;
            tokio::spawn(afloat_manager::serve::serve(
                listener,
                manager.metrics.clone(),
                token.clone(),
            ));
        }
        let run = afloat_manager::run(client, manager, token.clone());
        tokio::pin!(run);
        tokio::select! {
            result = &mut run => result?,
            _ = stop.requested() => {
                token.cancel();
                let _ = tokio::time::timeout(std::time::Duration::from_secs(10), run).await;
            }
        }
        Ok(0)
    })
}

/// Unique among all operators: machine and process.
fn identity() -> String {
    format!(
        "{}_{}",
        rustix::system::uname().nodename().to_string_lossy(),
        std::process::id()
    )
}
