//! `afloat operator` and `afloat crds`.

use std::path::Path;

use afloat_manager::lease::LeaderElection;
use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::args::OperatorOptions;
use crate::output;

pub(crate) fn main(options: OperatorOptions) -> anyhow::Result<i32> {
    crate::inner::start_logging("info");
    let _singly = crate::memory::start_small();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async move {
        let mut stop = crate::inner::Stop::new()?;
        tokio::spawn(crate::memory::give_back());
        let token = stop.token();
        let client = Client::try_from(config(options.kubeconfig.as_deref(), options.context.as_deref()).await?)?;
        let leader_election = (!options.no_leader_election).then(|| LeaderElection {
            namespace: options.lease_namespace.clone(),
            name: options.lease_name.clone(),
            ..LeaderElection::new(identity())
        });
        let manager = afloat_manager::Options {
            leader_election,
            namespace: options.namespace,
            workers: usize::from(options.workers),
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

/// How to reach the cluster that flags name.
pub(crate) async fn config(kubeconfig: Option<&Path>, context: Option<&str>) -> anyhow::Result<Config> {
    let choice = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
    match kubeconfig {
        Some(path) => {
            let file =
                Kubeconfig::read_from(path).with_context(|| format!("cannot read --kubeconfig {}", path.display()))?;
            Ok(Config::from_custom_kubeconfig(file, &choice).await?)
        }
        None if context.is_some() => Ok(Config::from_kubeconfig(&choice).await?),
        None => Config::infer()
            .await
            .context("no cluster to talk to: say --kubeconfig FILE"),
    }
}

pub(crate) fn print_crds() -> anyhow::Result<i32> {
    let mut text = String::new();
    for crd in afloat_api::crds() {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&serde_json::to_value(&crd)?)?);
    }
    output::print(&text)?;
    Ok(0)
}
