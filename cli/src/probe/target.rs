//! Where a probe goes: an address, or a Service.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use afloat_probe::{Dial, TcpDial};
use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Node, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Client;
use kube::api::{Api, ListParams};

use super::options::ProbeOptions;
use crate::options::cluster::config;

/// A name that does not resolve by then, or an API server that does not answer, is an error.
const LOOKUP_LIMIT: Duration = Duration::from_secs(10);

/// The cluster that a Service is in.
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) service: Service,
    /// The API server is on this machine, as are the node ports of an embedded cluster.
    local: bool,
}

impl Cluster {
    /// None if the user names no Service.
    pub(super) async fn of(options: &ProbeOptions) -> anyhow::Result<Option<Self>> {
        let in_target = options.target.strip_prefix("svc/");
        let in_target = in_target.map(|rest| rest.split(':').next().unwrap_or(rest));
        let Some(name) = options.service.as_deref().or(in_target) else {
            anyhow::ensure!(
                options.kubeconfig.is_none() && options.context.is_none() && options.namespace.is_none(),
                "--kubeconfig, --context and --namespace need --service NAME or the target svc/NAME"
            );
            return Ok(None);
        };
        let config = config(options.kubeconfig.as_deref(), options.context.as_deref()).await?;
        let namespace = options
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let local = config
            .cluster_url
            .host()
            .is_some_and(|h| h == "localhost" || h.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()));
        let client = Client::try_from(config)?;
        let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
        let service = tokio::time::timeout(LOOKUP_LIMIT, services.get(name))
            .await
            .context("the API server does not answer")?
            .with_context(|| format!("cannot get the Service {name} in {namespace}"))?;
        Ok(Some(Self { client, service, local }))
    }

    /// The addresses of a node port: this machine's if the API server is here, else the nodes'.
    async fn addresses(&self, port: Option<&str>) -> anyhow::Result<Vec<SocketAddr>> {
        let ports = self.service.spec.as_ref().and_then(|s| s.ports.as_deref());
        let port = node_port(ports.unwrap_or_default(), port)?;
        if self.local {
            return Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]);
        }
        let nodes: Api<Node> = Api::all(self.client.clone());
        let nodes = tokio::time::timeout(LOOKUP_LIMIT, nodes.list(&ListParams::default())).await??;
        let addresses = nodes
            .items
            .iter()
            .filter_map(|node| node.status.as_ref()?.addresses.as_ref())
            .filter_map(|all| all.iter().find(|a| a.type_ == "InternalIP"))
            .filter_map(|a| Some(SocketAddr::new(a.address.parse().ok()?, port)));
        Ok(addresses.collect())
    }
}

/// The node port that a user means: by name, by number, or the only or first one. Pure.
fn node_port(ports: &[ServicePort], wanted: Option<&str>) -> anyhow::Result<u16> {
    let is = |port: &&ServicePort| match wanted {
        None => true,
        Some(wanted) => {
            port.name.as_deref() == Some(wanted)
                || port.port.to_string() == wanted
                || port.target_port == Some(IntOrString::String(wanted.to_owned()))
        }
    };
    let port = ports
        .iter()
        .find(is)
        .with_context(|| format!("the Service has no port {}", wanted.unwrap_or_default()))?;
    port.node_port
        .and_then(|port| u16::try_from(port).ok())
        .context("the Service's port has no node port; name HOST:PORT instead")
}

/// What opens connections to a target, and the target's name for the `Host` header.
pub(super) async fn dial(target: &str, cluster: Option<&Cluster>) -> anyhow::Result<(Arc<dyn Dial>, String)> {
    if let Some(rest) = target.strip_prefix("svc/") {
        let (name, port) = rest
            .split_once(':')
            .map_or((rest, None), |(name, port)| (name, Some(port)));
        let cluster = cluster.filter(|c| c.service.metadata.name.as_deref() == Some(name));
        let cluster = cluster.context("all parts of one run go to one Service: name the others as HOST:PORT")?;
        let dial = TcpDial::new(cluster.addresses(port).await?)?;
        return Ok((Arc::new(dial), name.to_owned()));
    }
    anyhow::ensure!(
        target
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0)),
        "needs the form HOST:PORT or svc/NAME"
    );
    let dial = tokio::time::timeout(LOOKUP_LIMIT, TcpDial::resolve(target))
        .await
        .context("the name is not resolved in time")??;
    Ok((Arc::new(dial), target.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_by_name_by_number_or_the_first() {
        let port = |name: &str, port, node_port| ServicePort {
            name: Some(name.into()),
            port,
            node_port,
            ..ServicePort::default()
        };
        let ports = [
            port("http", 80, Some(30080)),
            port("echo", 90, Some(30090)),
            port("x", 1, None),
        ];
        assert_eq!(node_port(&ports, None).unwrap(), 30080);
        assert_eq!(node_port(&ports, Some("echo")).unwrap(), 30090);
        assert_eq!(node_port(&ports, Some("90")).unwrap(), 30090);
        assert!(
            node_port(&ports, Some("x"))
                .unwrap_err()
                .to_string()
                .contains("no node port")
        );
        assert!(
            node_port(&ports, Some("y"))
                .unwrap_err()
                .to_string()
                .contains("no port y")
        );
    }
}
