//! The control plane alone: API server, store, scheduler and controllers, in this process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use afloat_apiserver::{ApiServer, Pki, User, WriteCount};
use afloat_store::Store;
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::addresses::SERVICE_CIDR;
use crate::error::Error;
use crate::part::{Direct, Supervisor, said};
use crate::rights;
use crate::tls::{certificates, write_kubeconfig};

/// How long the parts may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(4);

/// What a control plane is made of. The default keeps nothing and has controllers.
#[derive(Clone, Debug)]
pub struct ControlPlaneOptions {
    /// The folder in which objects and certificates outlive the process; made if there is none. None: they are in memory only.
    pub data_dir: Option<PathBuf>,
    /// Run the controllers and the scheduler; without them nothing happens that no client does.
    pub controllers: bool,
}

impl Default for ControlPlaneOptions {
    fn default() -> Self {
        Self {
            data_dir: None,
            controllers: true,
        }
    }
}

/// A running control plane. It needs no privileges and touches nothing outside of its folder. Dropping it stops it, too, but
/// nobody waits for the end then.
pub struct ControlPlane {
    api: ApiServer,
    store: Store,
    pki: Option<Arc<Pki>>,
    supervisor: Arc<dyn Supervisor>,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
    _ends_with_it: DropGuard,
}

/// A control plane in full, as the cluster with nodes wants it.
pub(crate) struct Setup {
    pub(crate) store: Store,
    pub(crate) server: afloat_apiserver::Options,
    /// None: no controllers.
    pub(crate) controllers: Option<afloat_controllers::Options>,
    pub(crate) pki: Option<Arc<Pki>>,
    pub(crate) supervisor: Arc<dyn Supervisor>,
}

impl ControlPlane {
    /// Starts it. To be called inside a tokio runtime, which it lives in. Clients may ask at once.
    ///
    /// # Errors
    /// If the folder cannot be used, or another cluster uses it.
    pub async fn start(options: ControlPlaneOptions) -> Result<Self, Error> {
        let (store, pki) = match &options.data_dir {
            Some(dir) => (open_store(dir, Duration::ZERO).await?, Some(certificates(dir).await?)),
            None => (Store::memory(), None),
        };
        let controllers = afloat_controllers::Options {
            service_cidr: SERVICE_CIDR,
            cluster_ca: pki.as_ref().map(|pki| pki.ca_pem().to_owned()),
            certificate_authority: pki.as_ref().map(|pki| pki.authority().clone()),
            ..afloat_controllers::Options::default()
        };
        Self::with(Setup {
            store,
            server: afloat_apiserver::Options {
                service_cidr: SERVICE_CIDR,
                token_key: pki.as_ref().map(|pki| pki.token_key().to_owned()),
                roles: rights::roles(),
                ..afloat_apiserver::Options::default()
            },
            controllers: options.controllers.then_some(controllers),
            pki,
            supervisor: Arc::new(Direct),
        })
        .await
    }

    pub(crate) async fn with(setup: Setup) -> Result<Self, Error> {
        let shutdown = CancellationToken::new();
        let mut plane = Self {
            api: ApiServer::new(setup.store.clone(), setup.server).await?,
            store: setup.store,
            pki: setup.pki,
            supervisor: setup.supervisor,
            tasks: JoinSet::new(),
            _ends_with_it: shutdown.clone().drop_guard(),
            shutdown,
        };
        if let Some(options) = setup.controllers {
            let (api, supervisor, shutdown) = (plane.api.clone(), plane.supervisor.clone(), plane.stopping());
            let clients = move |name: &str| supervisor.client(&api, rights::controller(name));
            plane.keep("controllers", afloat_controllers::run(clients, options, shutdown));
        }
        Ok(plane)
    }

    /// A client without a socket, in the namespace `default`. It may do everything; `user` is the name of its requests.
    pub fn client(&self, user: &str) -> Client {
        self.api.client(user)
    }

    /// The same of somebody who may do what roles allow them, for example [`User::service_account`].
    pub fn client_as(&self, user: User) -> Client {
        self.api.client_as(user)
    }

    /// Accepted writes since the start, by who made them and to what.
    pub fn writes(&self) -> Vec<WriteCount> {
        self.api.writes()
    }

    /// Cancelled when the cluster stops.
    pub fn stopping(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Runs something of yours as a part of the cluster, an operator for example: it is given a client in the name of `user` (who may
    /// do what roles allow them; [`User::master`]: everything), and is waited for when the cluster stops, so it should heed [`ControlPlane::stopping`]. `name` is for the log.
    pub fn run_part<R, E>(&mut self, name: &str, user: User, start: impl Fn(Client) -> R + Send + Sync + 'static)
    where
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        let part = name.to_owned();
        let start = Box::new(move |client| Box::pin(said(part.clone(), start(client))) as _);
        let run = self
            .supervisor
            .supervise(name, &self.api, user, start, self.shutdown.clone());
        self.tasks.spawn(run);
    }

    /// Serves the API with TLS on a free port of 127.0.0.1, for kubectl and other programs, and gives the path of a kubeconfig in `dir`;
    /// certificates of a control plane that has no folder are made there, too.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub async fn serve(&mut self, dir: &Path) -> Result<PathBuf, Error> {
        let pki = match &self.pki {
            Some(pki) => pki.clone(),
            None => certificates(dir).await?,
        };
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(unserved)?;
        let kubeconfig = dir.join("kubeconfig");
        self.serve_on(listener, pki, &kubeconfig)?;
        Ok(kubeconfig)
    }

    /// The same on a socket that listens already. Gives its address.
    ///
    /// # Errors
    /// If the kubeconfig cannot be written.
    pub fn serve_on(
        &mut self,
        listener: std::net::TcpListener,
        pki: Arc<Pki>,
        kubeconfig: &Path,
    ) -> Result<SocketAddr, Error> {
        let address = listener.local_addr().map_err(unserved)?;
        write_kubeconfig(kubeconfig, &pki, &format!("https://{address}"))?;
        let adopted = listener.set_nonblocking(true);
        let listener = adopted.and_then(|()| tokio::net::TcpListener::from_std(listener));
        self.serve_api(listener.map_err(unserved)?, pki);
        Ok(address)
    }

    /// Serves the API on a socket until the cluster stops.
    pub(crate) fn serve_api(&mut self, listener: tokio::net::TcpListener, pki: Arc<Pki>) {
        let (api, shutdown) = (self.api.clone(), self.shutdown.clone());
        self.keep("API endpoint", async move { api.serve(listener, &pki, shutdown).await });
    }

    /// A client of a part of the cluster.
    #[cfg(feature = "nodes")]
    pub(crate) fn part_client(&self, user: User) -> Client {
        self.supervisor.client(&self.api, user)
    }

    /// Runs a part of the cluster, which has its client already.
    pub(crate) fn keep<E: std::fmt::Display + Send + 'static>(
        &mut self,
        part: &str,
        run: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.tasks.spawn(said(part.to_owned(), run));
    }

    /// Stops all parts, then the store. What hangs is aborted after 4 s.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(STOP_LIMIT, all).await;
        self.store.close().await;
    }
}

fn unserved(source: std::io::Error) -> Error {
    Error::Serve {
        whom: "clients",
        source,
    }
}

/// Opens the store in a folder, waiting for so long for another process to leave it.
pub(crate) async fn open_store(dir: &Path, patience: Duration) -> Result<Store, Error> {
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&dir).map_err(|source| Error::Write {
            path: dir.clone(),
            source,
        })?;
        let path = dir.join("store.redb");
        let started = Instant::now();
        loop {
            match Store::open(&path) {
                Err(afloat_store::Error::InUse) if started.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                result => return result.map_err(|source| Error::Store { path, source }),
            }
        }
    })
    .await?
}
