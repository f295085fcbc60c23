//! What a cluster with nodes is made of.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use afloat_apiserver::Pki;
use afloat_proxy::{HostPorts, Lag};
use afloat_runtime::Runtime;
use afloat_runtime::host::Inherited;
use afloat_runtime::image::Thresholds;
use afloat_runtime::registry::{Network, RegistryOptions};

use crate::host::HostDns;
use crate::part::{Direct, Supervisor};

/// What a cluster is made of. See [`ClusterOptions::inside`] for one to begin with.
pub struct ClusterOptions {
    /// How many nodes, called `node-1` and so on.
    pub nodes: u32,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// There is only a user namespace to be root in.
    pub rootless: bool,
    /// With what delay a node's proxy learns of a change; to see what slow proxies do.
    pub proxy_lag: Lag,
    /// OCI runtime program; None is the built-in one.
    pub oci_runtime: Option<PathBuf>,
    /// Opens the listeners of NodePorts on the host; None: the host does not reach Services.
    pub host_ports: Option<Arc<dyn HostPorts>>,
    /// How webhooks of CustomResourceDefinitions are reached that are named by URL and are not in here; None: not at all.
    pub webhooks: Option<Arc<dyn Network>>,
    /// How images are pulled; None: not at all.
    pub puller: Option<Registries>,
    /// Each node keeps images of its own, as real nodes do, and pulls what it needs itself; else all nodes have the same ones.
    pub own_images: bool,
    /// When unused images are removed.
    pub image_thresholds: Thresholds,
    /// The host's part of the cluster's DNS; None: only the cluster's names are known, and only inside.
    pub dns: Option<HostDns>,
    /// Certificates with which the API is served to pods, too; None: only in this process.
    pub pki: Option<Arc<Pki>>,
    /// Puts something between the node agents and what runs containers.
    pub wrap: Option<WrapRuntime>,
    /// Stands between the parts and the API server.
    pub supervisor: Arc<dyn Supervisor>,
}

impl ClusterOptions {
    /// A cluster that nobody outside of this process reaches and that pulls nothing, in the folder that the outer process gave.
    pub fn inside(nodes: u32, inherited: &Inherited) -> Self {
        Self {
            nodes,
            data_dir: inherited.data_dir.clone(),
            rootless: inherited.rootless,
            proxy_lag: Duration::ZERO.into(),
            oci_runtime: None,
            host_ports: None,
            webhooks: None,
            puller: None,
            own_images: false,
            image_thresholds: Thresholds::default(),
            dns: None,
            pki: None,
            wrap: None,
            supervisor: Arc::new(Direct),
        }
    }
}

/// Puts something around a runtime.
pub type WrapRuntime = Arc<dyn Fn(Arc<dyn Runtime>) -> Arc<dyn Runtime> + Send + Sync>;

/// How images are pulled.
#[derive(Clone)]
pub struct Registries {
    /// The way out.
    pub network: Arc<dyn Network>,
    /// What the user said about them.
    pub options: RegistryOptions,
}
