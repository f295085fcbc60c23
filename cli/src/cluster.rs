//! Puts the parts of the embedded cluster together in one process.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use afloat_apiserver::pki::Pki;
use afloat_apiserver::{ApiServer, ByteStream, KubeletDialer};
use afloat_node::{Agent, AgentOptions};
use afloat_proxy::{Lag, Proxy, ProxyOptions};
use afloat_runtime::Runtime;
use afloat_runtime::host::Inherited;
use afloat_runtime::image::{BuildSpec, ImageStore, Thresholds};
use afloat_runtime::net::Bridge;
use afloat_runtime::oci::{ImageService, OciOptions, OciRuntime};
use afloat_runtime::registry::{Network, Puller, RegistryOptions};
use anyhow::Context as _;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::faults::{Faults, Start};
use crate::local_volumes::LocalVolumes;
use crate::node_traffic::EmbeddedProxy;

/// Addresses of Services.
pub(crate) const SERVICE_CIDR: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 96, 0, 0), 16);

/// Where pods' addresses come from; a node has a /24 of it.
const POD_NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 244, 0, 0), 16);
/// What Services' names end with.
pub(crate) const CLUSTER_DOMAIN: &str = "cluster.local";
/// The resolver of the nodes themselves, for pods that do not want the cluster's names: where NodeLocal DNSCache has its own.
const NODE_RESOLVER: Ipv4Addr = Ipv4Addr::new(169, 254, 20, 10);

/// Where the cluster's DNS server is.
fn cluster_dns() -> Ipv4Addr {
    afloat_controllers::cluster_dns_address(SERVICE_CIDR)
}

/// What a cluster is made of.
pub(crate) struct ClusterOptions {
    /// How many nodes, called `node-1` and so on.
    pub(crate) nodes: u32,
    /// Where everything is kept.
    pub(crate) data_dir: PathBuf,
    /// There is only a user namespace to be root in.
    pub(crate) rootless: bool,
    /// See [`ProxyOptions::lag`].
    pub(crate) proxy_lag: Lag,
    /// Run the operator in this process too.
    pub(crate) operator: bool,
    /// OCI runtime program; None is the built-in one.
    pub(crate) oci_runtime: Option<PathBuf>,
    /// Opens the listeners of NodePorts on the host.
    pub(crate) host_ports: Option<Arc<dyn afloat_proxy::HostPorts>>,
    /// How images are pulled; None: not at all.
    pub(crate) puller: Option<Registries>,
    /// When unused images are removed.
    pub(crate) image_thresholds: Thresholds,
    /// The host's part of the cluster's DNS; None: only the cluster's names are known, and only inside.
    pub(crate) dns: Option<crate::dns::HostDns>,
    /// Certificates with which the API is served to pods, too; None: only in this process.
    pub(crate) pki: Option<Arc<Pki>>,
    /// Puts something between the node agents and what runs containers.
    pub(crate) wrap: Option<WrapRuntime>,
    /// Lets parts be killed and the API server be away, for those who want to see what comes of it.
    pub(crate) faults: Option<Arc<Faults>>,
}

impl ClusterOptions {
    /// A cluster that nobody outside of this process reaches and that pulls nothing, in the folder that the outer process made.
    pub(crate) fn apart(nodes: u32, inherited: &Inherited) -> Self {
        Self {
            nodes,
            data_dir: inherited.data_dir.clone(),
            rootless: inherited.rootless,
            proxy_lag: Duration::ZERO.into(),
            operator: true,
            oci_runtime: None,
            host_ports: None,
            puller: None,
            image_thresholds: Thresholds::default(),
            dns: None,
            pki: None,
            wrap: None,
            faults: None,
        }
    }
}

/// Puts something around a runtime.
pub(crate) type WrapRuntime = Arc<dyn Fn(Arc<dyn Runtime>) -> Arc<dyn Runtime> + Send + Sync>;

/// How images are pulled.
pub(crate) struct Registries {
    /// The way out.
    pub(crate) network: Arc<dyn Network>,
    /// What the user said about them.
    pub(crate) options: RegistryOptions,
}

/// How long to wait for a killed cluster's processes to be gone.
pub(crate) const LEAVING_LIMIT: Duration = Duration::from_secs(20);

/// Where pods reach the API server, behind the Service `kubernetes`: on the first node's address.
const API_FOR_PODS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 244, 1, 1), 6443);

/// A node that lives in this process.
pub(crate) struct LocalNode {
    /// `node-1`
    pub(crate) name: String,
    /// Its InternalIP, also its pods' gateway.
    pub(crate) ip: Ipv4Addr,
    /// Its service proxy.
    pub(crate) proxy: Arc<Proxy>,
}

/// A running cluster.
pub(crate) struct Cluster {
    /// The API server; gives out clients.
    pub(crate) api: ApiServer,
    /// The images that all nodes share.
    pub(crate) images: Arc<ImageStore>,
    image_service: Arc<ImageService>,
    /// Its nodes.
    pub(crate) nodes: Vec<LocalNode>,
    kubelets: Arc<LocalKubelets>,
    faults: Option<Arc<Faults>>,
    store: afloat_store::Store,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
}

/// Finds the node agents of this process for the API server (logs, exec).
#[derive(Default)]
struct LocalKubelets(std::sync::RwLock<BTreeMap<String, Arc<Agent>>>);

impl LocalKubelets {
    fn put(&self, node: &str, agent: Arc<Agent>) {
        if let Ok(mut agents) = self.0.write() {
            agents.insert(node.to_owned(), agent);
        }
    }
}

#[async_trait::async_trait]
impl KubeletDialer for LocalKubelets {
    async fn dial(&self, node: &str) -> io::Result<Box<dyn ByteStream>> {
        let agent = self.0.read().ok().and_then(|agents| agents.get(node).cloned());
        let agent = agent.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("node {node} is not run by this process"),
            )
        })?;
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(agent.serve(far));
        Ok(Box::new(near))
    }
}

/// Opens the store. The processes of a cluster that was killed a moment ago may still be on their way out: who holds the
/// data folder's lock need only wait for them.
fn open_store(path: &Path) -> anyhow::Result<afloat_store::Store> {
    let started = Instant::now();
    loop {
        match afloat_store::Store::open(path) {
            Err(afloat_store::Error::InUse) if started.elapsed() < LEAVING_LIMIT => {
                std::thread::sleep(Duration::from_millis(50));
            }
            result => return result.with_context(|| format!("cannot open the store {}", path.display())),
        }
    }
}

impl Cluster {
    /// Starts everything; the nodes become Ready a little later, see [`Cluster::wait_ready`].
    pub(crate) async fn start(mut options: ClusterOptions, shutdown: CancellationToken) -> anyhow::Result<Self> {
        let store_path = options.data_dir.join("store.redb");
        let store = tokio::task::spawn_blocking(move || open_store(&store_path)).await??;
        let kubelets = Arc::new(LocalKubelets::default());
        let api = ApiServer::new(
            store.clone(),
            afloat_apiserver::Options {
                service_cidr: SERVICE_CIDR,
                kubelets: kubelets.clone(),
                token_key: options.pki.as_ref().map(|pki| pki.token_key().to_owned()),
                mount_tokens: options.pki.is_some() && options.nodes > 0,
                ..Default::default()
            },
        )
        .await?;
        let images = Arc::new(ImageStore::open(&options.data_dir.join("images"))?);
        let puller = options
            .puller
            .as_ref()
            .map(|registries| Puller::new(images.clone(), registries.network.clone(), registries.options.clone()));
        let nodes_dir = options.data_dir.join("nodes");
        let mut cluster = Self {
            api,
            image_service: ImageService::new(images.clone(), puller, options.image_thresholds, nodes_dir),
            images,
            nodes: Vec::new(),
            kubelets,
            faults: options.faults.take(),
            store,
            tasks: JoinSet::new(),
            shutdown,
        };
        let pki = options.pki.clone().filter(|_| options.nodes > 0);
        let volumes = (options.nodes > 0).then(|| LocalVolumes::new(options.data_dir.join("nodes")));
        cluster.start_controllers(pki.as_deref(), options.nodes > 0, volumes);
        let (service, stop) = (cluster.image_service.clone(), cluster.shutdown.clone());
        if options.nodes > 0 {
            cluster.tasks.spawn(async move {
                stop.run_until_cancelled(service.run()).await;
            });
        }
        if options.nodes > 0 {
            afloat_runtime::net::setup_base(SERVICE_CIDR)
                .await
                .context("cannot set up the cluster's network")?;
        }
        if options.nodes > 0 {
            cluster.start_dns(options.dns.take()).await?;
        }
        for number in 1..=options.nodes {
            let node = cluster
                .start_node(number, &options)
                .await
                .with_context(|| format!("cannot start node-{number}"))?;
            cluster.nodes.push(node);
        }
        if let Some(pki) = pki {
            let listener = tokio::net::TcpListener::bind(API_FOR_PODS)
                .await
                .context("cannot serve the API to pods")?;
            cluster.spawn_api(listener, pki);
        }
        if options.operator {
            cluster.start_operator().await?;
        }
        Ok(cluster)
    }

    fn start_controllers(&mut self, pki: Option<&Pki>, dns: bool, volumes: Option<LocalVolumes>) {
        let (api, faults, shutdown) = (self.api.clone(), self.faults.clone(), self.shutdown.clone());
        let options = afloat_controllers::Options {
            service_cidr: SERVICE_CIDR,
            api_server: pki.map(|_| API_FOR_PODS),
            cluster_dns: dns.then(cluster_dns),
            cluster_ca: pki.map(|pki| pki.ca_pem().to_owned()),
            local_volumes: volumes.map(|volumes| Arc::new(volumes) as Arc<dyn afloat_controllers::LocalVolumes>),
            ..afloat_controllers::Options::default()
        };
        let clients = move |name: &str| client(&api, faults.as_deref(), name);
        self.keep("controllers", afloat_controllers::run(clients, options, shutdown));
    }

    /// A client of a part of the cluster.
    fn client(&self, user: &str) -> kube::Client {
        client(&self.api, self.faults.as_deref(), user)
    }

    /// Runs a part of the cluster that may be killed, where faults are wanted.
    fn keep_killable(&mut self, name: &str, user: &str, start: Start) {
        let run = match &self.faults {
            Some(faults) => faults.run_part(name, &self.api, user, start, self.shutdown.clone()),
            None => start(self.api.client(user)),
        };
        self.tasks.spawn(run);
    }

    /// Runs a part of the cluster until it ends, and says so if it ends by itself.
    fn keep<E: std::fmt::Display + Send + 'static>(
        &mut self,
        part: &'static str,
        run: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.tasks.spawn(said(part, run));
    }

    /// The DNS server, where the Service `kube-dns` says that it is.
    async fn start_dns(&mut self, host: Option<crate::dns::HostDns>) -> anyhow::Result<()> {
        afloat_runtime::net::add_local_address(NODE_RESOLVER).await?;
        let (sockets, upstream) = host.map_or((None, None), |host| (Some(host.sockets), Some(host.upstream)));
        let options = afloat_dns::DnsOptions {
            domain: CLUSTER_DOMAIN.to_owned(),
            address: cluster_dns(),
            node_address: Some(NODE_RESOLVER),
            networks: vec![SERVICE_CIDR, POD_NETWORK],
            upstream,
        };
        let (client, shutdown) = (self.client("system:coredns"), self.shutdown.clone());
        self.keep("DNS server", afloat_dns::run(client, options, sockets, shutdown));
        Ok(())
    }

    async fn start_operator(&mut self) -> anyhow::Result<()> {
        crate::operator::install_crds(self.api.client("afloat-installer")).await?;
        let shutdown = self.shutdown.clone();
        let start = move |client| {
            let run = afloat_manager::run(client, afloat_manager::Options::default(), shutdown.clone());
            Box::pin(said("operator", run)) as BoxFuture<'static, ()>
        };
        self.keep_killable("operator", "afloat-operator", Box::new(start));
        Ok(())
    }

    async fn start_node(&mut self, number: u32, options: &ClusterOptions) -> anyhow::Result<LocalNode> {
        let octet = u8::try_from(number).context("too many nodes")?;
        let name = format!("node-{number}");
        let ip = Ipv4Addr::new(10, 244, octet, 1);
        let bridge = Bridge {
            name: format!("node{number}"),
            gateway: ip,
            prefix: 24,
        };
        afloat_runtime::net::ensure_bridge(&bridge).await?;
        let dir = options.data_dir.join("nodes").join(&name);
        let runtime = OciRuntime::new(OciOptions {
            node: name.clone(),
            dir: dir.clone(),
            images: self.images.clone(),
            bridge: bridge.clone(),
            oci_runtime: options
                .oci_runtime
                .clone()
                .unwrap_or_else(|| PathBuf::from("/proc/self/exe")),
            rootless: options.rootless,
        })
        .await?;
        runtime.use_images(&self.image_service);
        let runtime: Arc<dyn Runtime> = Arc::new(runtime);
        let runtime = match &options.wrap {
            Some(wrap) => wrap(runtime),
            None => runtime,
        };
        let agent_options = AgentOptions {
            pod_cidr: format!("10.244.{number}.0/24"),
            cluster_dns: Some(IpAddr::V4(cluster_dns())),
            cluster_domain: CLUSTER_DOMAIN.to_owned(),
            resolv_conf: crate::dns::node_resolv_conf(NODE_RESOLVER),
            ..AgentOptions::new(&name, IpAddr::V4(ip), dir)
        };
        let proxy = Proxy::new(
            self.client(&format!("proxy:{name}")),
            ProxyOptions {
                device: Some(bridge.name.clone()),
                lag: options.proxy_lag.clone(),
                // One listener for this process itself and for the host is enough: the first node has it.
                serve_local: number == 1,
                host: options.host_ports.clone().filter(|_| number == 1),
                ..ProxyOptions::new(&name, ip)
            },
        );
        let (kubelets, stop) = (self.kubelets.clone(), self.shutdown.clone());
        let start = move |client| {
            let agent = Agent::new(client, runtime.clone(), agent_options.clone());
            kubelets.put(&agent_options.node_name, agent.clone());
            Box::pin(said("node agent", agent.run(stop.clone()))) as BoxFuture<'static, ()>
        };
        let user = format!("system:node:{name}");
        self.keep_killable(&format!("node agent of {name}"), &user, Box::new(start));
        let view = Arc::new(EmbeddedProxy(proxy.clone()));
        let (stop, node) = (self.shutdown.clone(), name.clone());
        let start = move |client| {
            let (view, node, stop) = (view.clone(), node.clone(), stop.clone());
            Box::pin(async move { afloat_agent::run(client, &node, view, stop).await }) as BoxFuture<'static, ()>
        };
        self.keep_killable(&format!("reporter of {name}"), "afloat-agent", Box::new(start));
        self.keep("service proxy", proxy.clone().run(self.shutdown.clone()));
        Ok(LocalNode { name, ip, proxy })
    }

    /// Serves the Kubernetes API with TLS on a listening socket, and writes a kubeconfig for it.
    pub(crate) fn serve(
        &mut self,
        listener: std::net::TcpListener,
        pki: Arc<Pki>,
        kubeconfig: &Path,
    ) -> anyhow::Result<SocketAddr> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        write_private(kubeconfig, &pki.kubeconfig(&format!("https://{address}")))
            .with_context(|| format!("cannot write {}", kubeconfig.display()))?;
        self.spawn_api(tokio::net::TcpListener::from_std(listener)?, pki);
        Ok(address)
    }

    fn spawn_api(&mut self, listener: tokio::net::TcpListener, pki: Arc<Pki>) {
        let (api, shutdown) = (self.api.clone(), self.shutdown.clone());
        self.keep("API endpoint", async move { api.serve(listener, &pki, shutdown).await });
    }

    /// Builds images of this very program, with the shared libraries that it needs: their name, the part that it plays
    /// (`afloat app`), and its version, which makes an image of its own of it while they share their layer.
    pub(crate) async fn build_images_of_itself(
        &self,
        wanted: &'static [(&'static str, &'static str, &'static str)],
    ) -> anyhow::Result<()> {
        let images = self.images.clone();
        let program = std::env::current_exe()?;
        tokio::task::spawn_blocking(move || {
            for (name, role, version) in wanted {
                let spec = BuildSpec {
                    name: (*name).to_owned(),
                    files: vec![(program.clone(), "/afloat".to_owned())],
                    libraries: true,
                    entrypoint: ["/afloat", "app", role].map(str::to_owned).to_vec(),
                    env: vec![format!("APP_VERSION={version}")],
                    ..BuildSpec::default()
                };
                let built = images.build(&spec);
                built.with_context(|| format!("cannot build the image {name}"))?;
            }
            anyhow::Ok(())
        })
        .await?
    }

    /// Waits until every node of this process is Ready.
    pub(crate) async fn wait_ready(&self, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        let api: Api<Node> = Api::all(self.api.client("afloat-boot"));
        // A stored node may still say Ready from an earlier run: only a heartbeat of this one counts.
        let started = whole_second(jiff::Timestamp::now(), crate::inner::since_start());
        let mut missing: std::collections::BTreeSet<String> = self.nodes.iter().map(|n| n.name.clone()).collect();
        let mut stream = watcher(api, watcher::Config::default())
            .default_backoff()
            .applied_objects()
            .boxed();
        while !missing.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let node = match tokio::time::timeout(left, stream.next()).await {
                Ok(Some(Ok(node))) => node,
                Ok(Some(Err(_))) => continue,
                Ok(None) => anyhow::bail!("the watch of nodes ended"),
                Err(_) => anyhow::bail!(
                    "not Ready after {} s: {}",
                    limit.as_secs(),
                    missing.into_iter().collect::<Vec<_>>().join(", ")
                ),
            };
            let conditions = node.status.and_then(|s| s.conditions).unwrap_or_default();
            let fresh = |c: &NodeCondition| {
                c.last_heartbeat_time
                    .as_ref()
                    .is_some_and(|t| t.0.as_second() >= started)
            };
            if conditions
                .iter()
                .any(|c| c.type_ == "Ready" && c.status == "True" && fresh(c))
            {
                missing.remove(node.metadata.name.as_deref().unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Stops the parts, then the store; what hangs is left behind after `limit`.
    pub(crate) async fn stop(mut self, limit: Duration) {
        self.shutdown.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(limit, all).await;
        self.store.close().await;
    }
}

fn client(api: &ApiServer, faults: Option<&Faults>, user: &str) -> kube::Client {
    match faults {
        Some(faults) => faults.client(api, user),
        None => api.client(user),
    }
}

/// Says so if a part ends by itself.
async fn said<E: std::fmt::Display>(part: &'static str, run: impl Future<Output = Result<(), E>>) {
    if let Err(error) = run.await {
        tracing::error!(%error, "{part} stopped");
    }
}

/// The second that a moment `ago` before `now` lies in: heartbeats are cut to whole seconds, too.
fn whole_second(now: jiff::Timestamp, ago: Duration) -> i64 {
    now.checked_sub(ago).map_or(0, jiff::Timestamp::as_second)
}

/// Writes a file that only its owner may read, atomically.
pub(crate) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let temporary = path.with_extension("new");
    let _ = std::fs::remove_file(&temporary);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_right_after_the_start_counts() {
        let now: jiff::Timestamp = "2026-01-01T00:00:10.050Z".parse().unwrap();
        let heartbeat: jiff::Timestamp = "2026-01-01T00:00:09.500Z".parse().unwrap();
        let earlier_run: jiff::Timestamp = "2026-01-01T00:00:08.900Z".parse().unwrap();
        let started = whole_second(now, Duration::from_millis(900));
        assert!(heartbeat.as_second() >= started);
        assert!(earlier_run.as_second() < started);
    }
}
