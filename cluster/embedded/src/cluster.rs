//! A whole cluster in one process.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use afloat_apiserver::{Pki, User, WriteCount};
use afloat_runtime::image::BuildSpec;
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::node::{LocalNode, start_node};
use crate::options::ClusterOptions;
use crate::ready;
use crate::shared::Shared;

/// A running cluster. Dropping it stops it, too, but nobody waits for the end then.
pub struct Cluster {
    shared: Shared,
    nodes: Vec<LocalNode>,
}

impl Cluster {
    /// Starts everything, in the inner process (see [`layout`](crate::layout)); the nodes become Ready a little later, see
    /// [`Cluster::wait_ready`].
    ///
    /// # Errors
    /// If the folder or the network cannot be used.
    pub async fn start(mut options: ClusterOptions) -> Result<Self, Error> {
        let mut shared = Shared::start(&options).await?;
        let mut nodes = Vec::new();
        if options.nodes > 0 {
            shared.prepare_nodes(options.dns.take()).await?;
        }
        for number in 1..=options.nodes {
            let node = start_node(&mut shared, number, &options).await;
            nodes.push(node.map_err(|source| Error::Node {
                node: format!("node-{number}"),
                source,
            })?);
        }
        if let Some(pki) = options.pki.filter(|_| options.nodes > 0) {
            shared.serve_pods(pki).await?;
        }
        Ok(Self { shared, nodes })
    }

    /// See [`ControlPlane::client`](crate::ControlPlane::client).
    pub fn client(&self, user: &str) -> Client {
        self.shared.control_plane.client(user)
    }

    /// See [`ControlPlane::client_as`](crate::ControlPlane::client_as).
    pub fn client_as(&self, user: User) -> Client {
        self.shared.control_plane.client_as(user)
    }

    /// See [`ControlPlane::writes`](crate::ControlPlane::writes).
    pub fn writes(&self) -> Vec<WriteCount> {
        self.shared.control_plane.writes()
    }

    /// Cancelled when the cluster stops.
    pub fn stopping(&self) -> CancellationToken {
        self.shared.control_plane.stopping()
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[LocalNode] {
        &self.nodes
    }

    /// See [`ControlPlane::run_part`](crate::ControlPlane::run_part).
    pub fn run_part<R, E>(&mut self, name: &str, user: User, start: impl Fn(Client) -> R + Send + Sync + 'static)
    where
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        self.shared.control_plane.run_part(name, user, start);
    }

    /// See [`ControlPlane::serve_on`](crate::ControlPlane::serve_on). A socket of the inner process is not seen from the host: this wants one that the outer process
    /// opened ([`Inherited`](crate::layout::Inherited)).
    ///
    /// # Errors
    /// If the kubeconfig cannot be written.
    pub fn serve_on(
        &mut self,
        listener: std::net::TcpListener,
        pki: Arc<Pki>,
        kubeconfig: &Path,
    ) -> Result<SocketAddr, Error> {
        self.shared.control_plane.serve_on(listener, pki, kubeconfig)
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
        self.build_image(own_image(name, arguments, environment)?).await
    }

    /// Builds an image, which all nodes have at once.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub async fn build_image(&self, spec: BuildSpec) -> Result<(), Error> {
        let (images, name) = (self.shared.images.clone(), spec.name.clone());
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
        self.shared.control_plane.stop().await;
    }
}

/// What an image of this very program is made of, with the shared libraries that it needs: see [`Cluster::build_own_image`].
///
/// # Errors
/// If the program's own file cannot be found.
pub fn own_image(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<BuildSpec, Error> {
    let program = std::env::current_exe().map_err(Error::Program)?;
    let file = program.file_name().unwrap_or_default().to_string_lossy();
    let inside = format!("/{file}");
    let mut entrypoint = vec![inside.clone()];
    entrypoint.extend(arguments.iter().map(|&word| word.to_owned()));
    Ok(BuildSpec {
        name: name.to_owned(),
        entrypoint,
        env: environment
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
        libraries: true,
        files: vec![(program, inside)],
        ..BuildSpec::default()
    })
}
