//! A whole cluster in one process: the control plane, the nodes, and what they share.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use afloat_apiserver::{Pki, WriteCount};
use afloat_proxy::{HostPorts, Lag};
use afloat_runtime::Runtime;
use afloat_runtime::host::Inherited;
use afloat_runtime::image::{BuildSpec, ImageStore, Thresholds};
use afloat_runtime::oci::ImageService;
use afloat_runtime::registry::{Network, Puller, RegistryOptions};
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::addresses::{API_FOR_PODS, CLUSTER_DOMAIN, NODE_RESOLVER, POD_NETWORK, SERVICE_CIDR, cluster_dns};
use crate::control_plane::{ControlPlane, Setup, open_store};
use crate::host::HostDns;
use crate::kubelets::LocalKubelets;
use crate::local_volumes::LocalVolumes;
use crate::node::LocalNode;
use crate::part::{Direct, Supervisor};
use crate::ready;

/// How long the processes of a cluster that was killed may take to leave its folder.
pub const LEAVING_LIMIT: Duration = Duration::from_secs(20);

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
    /// How images are pulled; None: not at all.
    pub puller: Option<Registries>,
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
            puller: None,
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

/// A running cluster. Dropping it stops it, too, but nobody waits for the end then.
pub struct Cluster {
    pub(crate) control_plane: ControlPlane,
    pub(crate) images: Arc<ImageStore>,
    pub(crate) image_service: Arc<ImageService>,
    pub(crate) kubelets: Arc<LocalKubelets>,
    nodes: Vec<LocalNode>,
}

impl Cluster {
    /// Starts everything, in the inner process (see [`layout`](crate::layout)); the nodes become Ready a little later, see
    /// [`Cluster::wait_ready`].
    ///
    /// # Errors
    /// If the folder or the network cannot be used.
    pub async fn start(mut options: ClusterOptions) -> Result<Self, Error> {
        let kubelets = Arc::<LocalKubelets>::default();
        let control_plane = ControlPlane::with(setup(&options, kubelets.clone()).await?).await?;
        let images_dir = options.data_dir.join("images");
        let images = Arc::new(tokio::task::spawn_blocking(move || ImageStore::open(&images_dir)).await??);
        let puller = options
            .puller
            .as_ref()
            .map(|registries| Puller::new(images.clone(), registries.network.clone(), registries.options.clone()));
        let nodes_dir = options.data_dir.join("nodes");
        let mut cluster = Self {
            control_plane,
            image_service: ImageService::new(images.clone(), puller, options.image_thresholds, nodes_dir),
            images,
            kubelets,
            nodes: Vec::new(),
        };
        if options.nodes > 0 {
            let dns = options.dns.take();
            cluster.start_shared(dns).await?;
        }
        for number in 1..=options.nodes {
            let node = cluster.start_node(number, &options).await;
            cluster.nodes.push(node.map_err(|source| Error::Node {
                node: format!("node-{number}"),
                source,
            })?);
        }
        if let Some(pki) = options.pki.filter(|_| options.nodes > 0) {
            let listener = tokio::net::TcpListener::bind(API_FOR_PODS).await;
            let listener = listener.map_err(|source| Error::Serve { whom: "pods", source })?;
            cluster.control_plane.serve_api(listener, pki);
        }
        Ok(cluster)
    }

    /// What all nodes share: the network, the DNS server where the Service `kube-dns` says that it is, the care for images.
    async fn start_shared(&mut self, host: Option<HostDns>) -> Result<(), Error> {
        let (service, stop) = (self.image_service.clone(), self.stopping());
        self.control_plane.keep("image service", async move {
            stop.run_until_cancelled(service.run()).await;
            Ok::<_, std::convert::Infallible>(())
        });
        afloat_runtime::net::setup_base(SERVICE_CIDR)
            .await
            .map_err(Error::Network)?;
        afloat_runtime::net::add_local_address(NODE_RESOLVER)
            .await
            .map_err(Error::Network)?;
        let (sockets, upstream) = host.map_or((None, None), |host| (Some(host.sockets), Some(host.upstream)));
        let options = afloat_dns::DnsOptions {
            domain: CLUSTER_DOMAIN.to_owned(),
            address: cluster_dns(),
            node_address: Some(NODE_RESOLVER),
            networks: vec![SERVICE_CIDR, POD_NETWORK],
            upstream,
        };
        let client = self.control_plane.part_client("system:coredns");
        let run = afloat_dns::run(client, options, sockets, self.stopping());
        self.control_plane.keep("DNS server", run);
        Ok(())
    }

    /// See [`ControlPlane::client`].
    pub fn client(&self, user: &str) -> Client {
        self.control_plane.client(user)
    }

    /// See [`ControlPlane::writes`].
    pub fn writes(&self) -> Vec<WriteCount> {
        self.control_plane.writes()
    }

    /// Cancelled when the cluster stops.
    pub fn stopping(&self) -> CancellationToken {
        self.control_plane.stopping()
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[LocalNode] {
        &self.nodes
    }

    /// See [`ControlPlane::run_part`].
    pub fn run_part<R, E>(&mut self, name: &str, user: &str, start: impl Fn(Client) -> R + Send + Sync + 'static)
    where
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        self.control_plane.run_part(name, user, start);
    }

    /// See [`ControlPlane::serve_on`]. A socket of the inner process is not seen from the host: this wants one that the outer process
    /// opened ([`Inherited::listeners`]).
    ///
    /// # Errors
    /// If the kubeconfig cannot be written.
    pub fn serve_on(
        &mut self,
        listener: std::net::TcpListener,
        pki: Arc<Pki>,
        kubeconfig: &Path,
    ) -> Result<SocketAddr, Error> {
        self.control_plane.serve_on(listener, pki, kubeconfig)
    }

    /// Builds an image of this very program with the shared libraries that it needs. Containers run it with these arguments and
    /// variables; images that differ in those only share their layer.
    ///
    /// # Errors
    /// If the program's file or a library cannot be read.
    pub async fn build_own_image(
        &self,
        name: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<(), Error> {
        let program = std::env::current_exe().map_err(Error::Program)?;
        let file = program.file_name().unwrap_or_default().to_string_lossy();
        let inside = format!("/{file}");
        let mut entrypoint = vec![inside.clone()];
        entrypoint.extend(arguments.iter().map(|&word| word.to_owned()));
        let spec = BuildSpec {
            name: name.to_owned(),
            entrypoint,
            env: environment
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            libraries: true,
            files: vec![(program, inside)],
            ..BuildSpec::default()
        };
        self.build_image(spec).await
    }

    /// Builds an image, which all nodes have at once.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub async fn build_image(&self, spec: BuildSpec) -> Result<(), Error> {
        let (images, name) = (self.images.clone(), spec.name.clone());
        let built = tokio::task::spawn_blocking(move || images.build(&spec)).await?;
        built.map(drop).map_err(|source| Error::Build { name, source })
    }

    /// Waits until every node of this process is Ready.
    ///
    /// # Errors
    /// [`Error::NotReady`] after `limit`.
    pub async fn wait_ready(&self, limit: Duration) -> Result<(), Error> {
        let names = self.nodes.iter().map(|node| node.name.clone()).collect();
        ready::wait(self.client("afloat-boot"), names, limit).await
    }

    /// Stops the parts, then the store; what hangs is aborted after 4 s. Containers end with the process layout, or are found again by
    /// another cluster that the same layout starts in the same folder.
    pub async fn stop(self) {
        self.control_plane.stop().await;
    }
}

/// The control plane of a cluster.
async fn setup(options: &ClusterOptions, kubelets: Arc<LocalKubelets>) -> Result<Setup, Error> {
    let store = open_store(&options.data_dir, LEAVING_LIMIT).await?;
    let with_nodes = options.nodes > 0;
    let for_pods = options.pki.as_ref().filter(|_| with_nodes);
    let volumes = LocalVolumes::new(options.data_dir.join("nodes"));
    Ok(Setup {
        store,
        server: afloat_apiserver::Options {
            service_cidr: SERVICE_CIDR,
            kubelets,
            token_key: options.pki.as_ref().map(|pki| pki.token_key().to_owned()),
            mount_tokens: for_pods.is_some(),
            ..afloat_apiserver::Options::default()
        },
        controllers: Some(afloat_controllers::Options {
            service_cidr: SERVICE_CIDR,
            api_server: for_pods.map(|_| API_FOR_PODS),
            cluster_dns: with_nodes.then(cluster_dns),
            cluster_ca: for_pods.map(|pki| pki.ca_pem().to_owned()),
            local_volumes: with_nodes.then(|| Arc::new(volumes) as Arc<dyn afloat_controllers::LocalVolumes>),
            ..afloat_controllers::Options::default()
        }),
        pki: options.pki.clone(),
        supervisor: options.supervisor.clone(),
    })
}
