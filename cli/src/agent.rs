//! `afloat agent`: the operator's eyes on a node whose proxy is kube-proxy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use afloat_agent::cri::{Cri, Endpoint};
use afloat_agent::kube_proxy::{KubeProxy, Mode, Options};
use afloat_agent::node::Node;
use afloat_agent::{shutdown, workers};
use anyhow::{Context as _, bail};
use clap::Args;
use k8s_openapi::Resource as _;
use kube::Client;
use tokio::sync::watch;

use crate::install::parse_image;
use crate::options::cluster::config;
use crate::output;
use crate::process::logging::start_logging;
use crate::process::memory;
use crate::process::signals::Stop;

/// Longest wait for the last report.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(3);
/// Where the node's processes are seen, if the agent shares its PID namespace.
const PROC: &str = "/proc";
/// What runs the agent on every node of a cluster. Its image is called `afloat`.
const MANIFEST: &str = include_str!("../../operator/agent/agent.yaml");

/// `afloat agent`
#[derive(Args, Clone, Debug)]
pub(crate) struct AgentOptions {
    /// Print what runs the agent on every node: account, rights and DaemonSet, as YAML
    #[arg(long, conflicts_with_all = ["node", "kubeconfig", "context"])]
    manifest: bool,
    /// With --manifest: an image that has afloat, iptables, nftables and conntrack
    #[arg(long, value_name = "NAME", requires = "manifest", default_value = concat!("afloat:", env!("CARGO_PKG_VERSION")), value_parser = parse_image)]
    image: String,
    /// Name of the node that this runs on, as the cluster knows it
    #[arg(long, env = "NODE_NAME", value_name = "NAME", required_unless_present = "manifest", value_parser = parse_node)]
    node: Option<String>,
    /// Kubeconfig of the cluster [default: $KUBECONFIG, ~/.kube/config, or the pod's own account]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig
    #[arg(long)]
    context: Option<String>,
    /// Mode of the node's kube-proxy; auto asks kube-proxy, and looks for its rules where that does not answer
    #[arg(long, value_enum, default_value_t = ProxyMode::Auto)]
    proxy_mode: ProxyMode,
    /// Where the node's kube-proxy serves its metrics
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:10249/metrics", value_parser = parse_url)]
    proxy_metrics: http::Uri,
    /// Socket of the node's container runtime (CRI v1): unix:///run/containerd/containerd.sock, for example; auto looks where
    /// runtimes have theirs, none does without: images are not pulled then, and containers not restarted
    #[arg(long, value_name = "SOCKET", default_value = "auto", value_parser = parse_runtime)]
    runtime_endpoint: RuntimeEndpoint,
}

/// None: the agent does without.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RuntimeEndpoint(Option<Endpoint>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ProxyMode {
    Auto,
    Iptables,
    Nftables,
    Ipvs,
}

pub(crate) fn run_agent(options: AgentOptions) -> anyhow::Result<i32> {
    if options.manifest {
        output::print(&MANIFEST.replace("image: afloat\n", &format!("image: {}\n", options.image)))?;
        return Ok(0);
    }
    start_logging("info");
    let _singly = memory::start_small();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(report_until_stopped(options))
}

async fn report_until_stopped(options: AgentOptions) -> anyhow::Result<i32> {
    let node = options.node.unwrap_or_default();
    let mut stop = Stop::new()?;
    let token = stop.token();
    let mode = match options.proxy_mode {
        ProxyMode::Auto => None,
        ProxyMode::Iptables => Some(Mode::Iptables),
        ProxyMode::Nftables => Some(Mode::Nftables),
        ProxyMode::Ipvs => Some(Mode::Ipvs),
    };
    let view = KubeProxy::new(Options {
        mode,
        metrics: options.proxy_metrics,
    });
    let view = Arc::new(view.await.map_err(|blind| anyhow::anyhow!(blind.why))?);
    let config = config(options.kubeconfig.as_deref(), options.context.as_deref()).await?;
    let client = Client::try_from(config)?;
    check(&client).await?;
    let runtime = options
        .runtime_endpoint
        .0
        .map(|endpoint| Arc::new(Cri::new(endpoint, Path::new(PROC))));
    let on_node = runtime.map(|runtime| Node::new(client.clone(), &node, runtime, token.clone()));
    // Where nobody looks, nothing is seen.
    let containers = on_node
        .as_ref()
        .map_or_else(|| watch::channel(None).1, |node| node.containers.clone());
    let report = afloat_agent::run(client.clone(), &node, view.clone(), containers, token.clone());
    let look = view.run(client.clone(), token.clone());
    let work = async {
        if let Some(on_node) = on_node {
            workers::run(on_node).await;
        }
    };
    let guard = shutdown::run(client.clone(), &node, token.clone());
    let all = async { tokio::join!(report, look, work, guard) };
    tokio::pin!(all);
    tokio::select! {
        _ = &mut all => {}
        _ = stop.requested() => {
            token.cancel();
            all.await;
        }
    }
    // Whoever is gone must not be believed.
    let farewell = afloat_agent::retract(&client, &node, "the agent was stopped");
    match tokio::time::timeout(FAREWELL_TIMEOUT, farewell).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "cannot report the end"),
        Err(_) => tracing::warn!("cannot report the end in time"),
    }
    Ok(0)
}

/// Whether the cluster can be reached and takes reports.
async fn check(client: &Client) -> anyhow::Result<()> {
    use afloat_api::NodeTraffic;
    client
        .apiserver_version()
        .await
        .context("cannot reach the API server")?;
    let kinds = afloat_manager::kinds(client)
        .await
        .context("cannot ask the API server for its kinds")?;
    if !kinds.contains(NodeTraffic::KIND) {
        bail!("the cluster does not know NodeTraffic: apply what `afloat crds` prints first");
    }
    Ok(())
}

fn parse_node(text: &str) -> Result<String, String> {
    let letters = |letter: char| matches!(letter, 'a'..='z' | '0'..='9' | '-' | '.');
    if text.is_empty() || text.len() > 253 || !text.chars().all(letters) {
        return Err("a node's name has lower case letters, digits, - and . only".to_owned());
    }
    Ok(text.to_owned())
}

fn parse_runtime(text: &str) -> Result<RuntimeEndpoint, String> {
    match text {
        "auto" => Ok(RuntimeEndpoint(Some(Endpoint::Found))),
        "none" => Ok(RuntimeEndpoint(None)),
        socket => match socket.parse() {
            Ok(endpoint) => Ok(RuntimeEndpoint(Some(endpoint))),
            Err(bad) => Err(format!("{bad}, or auto, or none")),
        },
    }
}

fn parse_url(text: &str) -> Result<http::Uri, String> {
    let url: http::Uri = text.parse().map_err(|error| format!("not a URL: {error}"))?;
    if url.scheme_str() != Some("http") || url.host().is_none_or(str::is_empty) {
        return Err("needs the form http://HOST:PORT/metrics: kube-proxy has no TLS".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_put_into_the_manifest() {
        assert_eq!(MANIFEST.matches("image: afloat\n").count(), 1);
    }

    #[test]
    fn bad_input() {
        for bad in ["", "Node", "a/b", "a b"] {
            assert!(parse_node(bad).is_err(), "{bad}");
        }
        for bad in ["", "https://127.0.0.1:10249/metrics", "127.0.0.1:10249", "/metrics"] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
        assert!(parse_url("http://[::1]:10249/metrics").is_ok());
        for bad in ["", "containerd", "run/containerd.sock", "tcp://127.0.0.1:1"] {
            assert!(parse_runtime(bad).is_err(), "{bad}");
        }
        let socket = Endpoint::Socket("/run/crio/crio.sock".into());
        assert_eq!(
            parse_runtime("unix:///run/crio/crio.sock"),
            Ok(RuntimeEndpoint(Some(socket)))
        );
        assert_eq!(parse_runtime("none"), Ok(RuntimeEndpoint(None)));
    }
}
