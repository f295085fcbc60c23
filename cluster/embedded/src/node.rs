//! The start of one node: its bridge, its runtime, its agent and its service proxy.

use std::error::Error as StdError;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use afloat_apiserver::User;
use afloat_node::{Agent, AgentOptions};
use afloat_proxy::{Proxy, ProxyOptions};
use afloat_runtime::Runtime;
use afloat_runtime::net::Bridge;
use afloat_runtime::oci::{OciOptions, OciRuntime};

use crate::addresses::{CLUSTER_DOMAIN, NODE_RESOLVER, cluster_dns};
use crate::host::node_resolv_conf;
use crate::options::ClusterOptions;
use crate::rights;
use crate::shared::Shared;

/// A node that lives in this process.
pub struct LocalNode {
    /// `node-1`
    pub name: String,
    /// Its InternalIP, also its pods' gateway.
    pub ip: Ipv4Addr,
    /// Its service proxy.
    pub proxy: Arc<Proxy>,
    /// What runs its containers.
    pub runtime: Arc<dyn Runtime>,
}

/// Starts the node of this number, from 1 on.
pub(crate) async fn start_node(
    shared: &mut Shared,
    number: u32,
    options: &ClusterOptions,
) -> Result<LocalNode, Box<dyn StdError + Send + Sync>> {
    let name = format!("node-{number}");
    let octet = u8::try_from(number).map_err(|_| "there is no address for so many nodes")?;
    let ip = Ipv4Addr::new(10, 244, octet, 1);
    let bridge = Bridge {
        name: format!("node{number}"),
        gateway: ip,
        prefix: 24,
    };
    afloat_runtime::net::ensure_bridge(&bridge).await?;
    let dir = options.data_dir.join("nodes").join(&name);
    let proxy = Proxy::new(
        shared.control_plane.part_client(rights::proxy()),
        ProxyOptions {
            device: Some(bridge.name.clone()),
            lag: options.proxy_lag.clone(),
            // One listener for this process itself and for the host is enough: the first node has it.
            serve_local: number == 1,
            host: options.host_ports.clone().filter(|_| number == 1),
            ..ProxyOptions::new(&name, ip)
        },
    );
    let (images, image_service) = shared.images_of(&name, options).await?;
    let runtime = OciRuntime::new(OciOptions {
        node: name.clone(),
        dir: dir.clone(),
        images,
        bridge,
        oci_runtime: options
            .oci_runtime
            .clone()
            .unwrap_or_else(|| PathBuf::from("/proc/self/exe")),
        rootless: options.rootless,
    })
    .await?;
    runtime.use_images(&image_service);
    let runtime: Arc<dyn Runtime> = Arc::new(runtime);
    let runtime = match &options.wrap {
        Some(wrap) => wrap(runtime),
        None => runtime,
    };
    let agent = AgentOptions {
        pod_cidr: format!("10.244.{number}.0/24"),
        cluster_dns: Some(IpAddr::V4(cluster_dns())),
        cluster_domain: CLUSTER_DOMAIN.to_owned(),
        resolv_conf: node_resolv_conf(NODE_RESOLVER),
        ..AgentOptions::new(&name, IpAddr::V4(ip), dir)
    };
    start_agent(shared, agent, runtime.clone());
    let stop = shared.control_plane.stopping();
    shared
        .control_plane
        .keep(&format!("service proxy of {name}"), proxy.clone().run(stop));
    Ok(LocalNode {
        name,
        ip,
        proxy,
        runtime,
    })
}

fn start_agent(shared: &mut Shared, options: AgentOptions, runtime: Arc<dyn Runtime>) {
    let (kubelets, stop) = (shared.kubelets.clone(), shared.control_plane.stopping());
    let name = options.node_name.clone();
    let start = move |client| {
        let agent = Agent::new(client, runtime.clone(), options.clone());
        kubelets.put(&options.node_name, agent.clone());
        agent.run(stop.clone())
    };
    shared
        .control_plane
        .run_part(&format!("node agent of {name}"), User::node(&name), start);
}
