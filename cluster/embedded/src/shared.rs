//! What all nodes of a cluster share: the control plane, the images, the network and its names.

use std::sync::Arc;
use std::time::Duration;

use afloat_apiserver::Pki;
use afloat_runtime::image::ImageStore;
use afloat_runtime::oci::ImageService;
use afloat_runtime::registry::Puller;

use crate::addresses::{API_FOR_PODS, CLUSTER_DOMAIN, NODE_RESOLVER, POD_NETWORK, SERVICE_CIDR, cluster_dns};
use crate::control_plane::{ControlPlane, Setup, open_store};
use crate::error::Error;
use crate::host::HostDns;
use crate::kubelets::LocalKubelets;
use crate::local_volumes::LocalVolumes;
use crate::options::ClusterOptions;
use crate::rights;

/// How long the processes of a cluster that was killed may take to leave its folder.
pub const LEAVING_LIMIT: Duration = Duration::from_secs(20);

/// See the module.
pub(crate) struct Shared {
    pub(crate) control_plane: ControlPlane,
    pub(crate) images: Arc<ImageStore>,
    pub(crate) image_service: Arc<ImageService>,
    pub(crate) kubelets: Arc<LocalKubelets>,
}

impl Shared {
    pub(crate) async fn start(options: &ClusterOptions) -> Result<Self, Error> {
        let kubelets = Arc::<LocalKubelets>::default();
        let control_plane = ControlPlane::with(setup(options, kubelets.clone()).await?).await?;
        let (images, image_service) = images(options, "images").await?;
        Ok(Self {
            control_plane,
            image_service,
            images,
            kubelets,
        })
    }

    /// The images that a node takes its containers from, and the care for them.
    pub(crate) async fn images_of(
        &mut self,
        node: &str,
        options: &ClusterOptions,
    ) -> Result<(Arc<ImageStore>, Arc<ImageService>), Error> {
        if !options.own_images {
            return Ok((self.images.clone(), self.image_service.clone()));
        }
        let (images, service) = images(options, &format!("images-{node}")).await?;
        self.care(&format!("image service of {node}"), service.clone());
        Ok((images, service))
    }

    /// Looks after images from now on.
    fn care(&mut self, name: &str, service: Arc<ImageService>) {
        let stop = self.control_plane.stopping();
        self.control_plane.keep(name, async move {
            stop.run_until_cancelled(service.run()).await;
            Ok::<_, std::convert::Infallible>(())
        });
    }

    /// What is there for nodes only: the network, the DNS server where the Service `kube-dns` says that it is, the care for images.
    pub(crate) async fn prepare_nodes(&mut self, host: Option<HostDns>) -> Result<(), Error> {
        self.care("image service", self.image_service.clone());
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
        let client = self.control_plane.part_client(rights::dns());
        let run = afloat_dns::run(client, options, sockets, self.control_plane.stopping());
        self.control_plane.keep("DNS server", run);
        Ok(())
    }

    /// Serves the API to pods, once the first node is there.
    pub(crate) async fn serve_pods(&mut self, pki: Arc<Pki>) -> Result<(), Error> {
        let listener = tokio::net::TcpListener::bind(API_FOR_PODS).await;
        let listener = listener.map_err(|source| Error::Serve { whom: "pods", source })?;
        self.control_plane.serve_api(listener, pki);
        Ok(())
    }
}

/// Images in a folder of the cluster, pulled as the options say.
async fn images(options: &ClusterOptions, folder: &str) -> Result<(Arc<ImageStore>, Arc<ImageService>), Error> {
    let dir = options.data_dir.join(folder);
    let images = Arc::new(tokio::task::spawn_blocking(move || ImageStore::open(&dir)).await??);
    let puller = options
        .puller
        .as_ref()
        .map(|registries| Puller::new(images.clone(), registries.network.clone(), registries.options.clone()));
    let nodes_dir = options.data_dir.join("nodes");
    let service = ImageService::new(images.clone(), puller, options.image_thresholds, nodes_dir);
    Ok((images, service))
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
            webhooks: options.webhooks.clone().map(crate::host::urls),
            token_key: options.pki.as_ref().map(|pki| pki.token_key().to_owned()),
            mount_tokens: for_pods.is_some(),
            roles: rights::roles(),
            ..afloat_apiserver::Options::default()
        },
        controllers: Some(afloat_controllers::Options {
            service_cidr: SERVICE_CIDR,
            api_server: for_pods.map(|_| API_FOR_PODS),
            cluster_dns: with_nodes.then(cluster_dns),
            cluster_ca: for_pods.map(|pki| pki.ca_pem().to_owned()),
            certificate_authority: options.pki.as_ref().map(|pki| pki.authority().clone()),
            local_volumes: with_nodes.then(|| Arc::new(volumes) as Arc<dyn afloat_controllers::LocalVolumes>),
            ..afloat_controllers::Options::default()
        }),
        pki: options.pki.clone(),
        supervisor: options.supervisor.clone(),
    })
}
