//! Which cluster a command is about.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// Which cluster, as kubectl is told.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClusterFlags {
    /// Kubeconfig of a cluster [default: $KUBECONFIG, ~/.kube/config, or the pod's own account]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig
    #[arg(long)]
    pub(crate) context: Option<String>,
    /// Namespace [default: the context's]
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
}

/// A client, and the namespace that is meant.
pub(crate) async fn connect(flags: &ClusterFlags) -> anyhow::Result<(Client, String)> {
    let config = config(flags.kubeconfig.as_deref(), flags.context.as_deref()).await?;
    let namespace = flags
        .namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    Ok((Client::try_from(config)?, namespace))
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
