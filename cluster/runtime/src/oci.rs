//! Containers through an OCI runtime command line.
//!
//! Never libcontainer inside of this process, which has threads: each verb is a short-lived process of its own. The first
//! process of a container becomes a child of pid 1, which writes down how it ended; a descriptor of the process says when.
//! So a restart of the inner process loses nothing: containers, their output and their exit codes are found again.

mod bundle;
mod command;
mod container;
mod exec;
mod image_service;
mod pod;
mod record;
mod signal;
mod streams;
mod usage;
mod watch;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use tokio::sync::{Semaphore, broadcast};

use crate::host::{BOOT_FILE, IO_DIR};
use crate::image::{ImageError, ImageStore, resolve_user};
use crate::net::{Bridge, NetError, connect_netlink};
use crate::registry::{Keyring, PullError, Pulled};
use crate::{
    Cgroups, Container, ContainerSpec, ExecSession, ExecSpec, Image, Resources, Runtime, RuntimeError, Sandbox,
    SandboxSpec, Usage,
};
use bundle::host_facts::HostFacts;
use bundle::memory;
use command::OciCommand;
pub use image_service::ImageService;
use pod::sandbox::Sandboxes;
use record::Record;
use streams::attach::Listeners;
use streams::log::{self, Pipes};

/// So many containers are made at once: each costs a few processes.
const CREATES_MAX: usize = 4;
/// Ends of containers that a slow listener may be behind.
const EXITS_MAX: usize = 1024;

/// How long a pod may take to accept a connection; callers usually have a shorter limit of their own.
const CONNECT_LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

/// What a node's runtime needs to know.
#[derive(Clone, Debug)]
pub struct OciOptions {
    /// Name of the node, for messages.
    pub node: String,
    /// Where containers and sandboxes of this node are kept.
    pub dir: PathBuf,
    /// The images, shared with other nodes.
    pub images: Arc<ImageStore>,
    /// The node's bridge, which exists.
    pub bridge: Bridge,
    /// `/proc/self/exe` for our own (then called as `… oci …`), or the path of runc.
    pub oci_runtime: PathBuf,
    /// The process lives in a user namespace.
    pub rootless: bool,
}

/// Runs containers for one node.
pub struct OciRuntime {
    shared: Arc<Shared>,
}

/// A container in memory: what is on disk, and its process.
struct Entry {
    record: Record,
    process: Option<Arc<OwnedFd>>,
    listeners: Arc<Listeners>,
}

struct Shared {
    options: OciOptions,
    command: OciCommand,
    /// Names the run of pid 1 that we live in.
    boot: String,
    netlink: rtnetlink::Handle,
    containers: Mutex<BTreeMap<String, Entry>>,
    sandboxes: Mutex<Sandboxes>,
    /// Held while a record is written; on blocking threads only.
    saving: Mutex<()>,
    exits: broadcast::Sender<String>,
    creating: Semaphore,
    facts: HostFacts,
    cgroups: Cgroups,
    images: OnceLock<Arc<ImageService>>,
}

impl OciRuntime {
    /// Takes the node over: what ran before a restart of the inner process runs on, what ran before a reboot has ended.
    ///
    /// # Errors
    /// The directory or the network cannot be used.
    pub async fn new(options: OciOptions) -> Result<Self, RuntimeError> {
        let netlink = connect_netlink()?;
        let command = OciCommand::new(&options.oci_runtime);
        let (dir, gateway, prefix) = (options.dir.clone(), options.bridge.gateway, options.bridge.prefix);
        let (boot, records, sandboxes, facts, cgroups) = blocking(move || {
            for path in [dir.join("containers"), dir.join("sandboxes"), PathBuf::from(IO_DIR)] {
                fs::create_dir_all(&path).map_err(|e| failed(format!("making {}", path.display()), &e))?;
            }
            let boot = fs::read_to_string(BOOT_FILE).map_err(|e| failed(format!("reading {BOOT_FILE}"), &e))?;
            let cgroups = crate::host::inner::cgroups();
            let records = container::recover(&dir.join("containers"), &boot, &cgroups);
            let sandboxes = Sandboxes::load(&dir.join("sandboxes"), gateway, prefix, |uid| {
                records.iter().any(|r| r.pod_uid == uid)
            });
            Ok((boot, records, sandboxes, HostFacts::read(), cgroups))
        })
        .await?;
        let shared = Arc::new(Shared {
            options,
            command,
            boot,
            netlink,
            containers: Mutex::default(),
            sandboxes: Mutex::new(sandboxes),
            saving: Mutex::default(),
            exits: broadcast::channel(EXITS_MAX).0,
            creating: Semaphore::new(CREATES_MAX),
            facts,
            cgroups,
            images: OnceLock::new(),
        });
        for record in records {
            shared.adopt(record);
        }
        tokio::spawn(watch::sweep_exits(Arc::downgrade(&shared)));
        Ok(Self { shared })
    }
}

impl Shared {
    fn container_dir(&self, id: &str) -> PathBuf {
        self.options.dir.join("containers").join(id)
    }

    fn pipes(id: &str) -> Pipes {
        Pipes::new(Path::new(IO_DIR), id)
    }

    /// Held for a look-up only.
    fn containers(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // Entries are replaced as a whole: a panic leaves nothing half-done.
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sandboxes(&self) -> MutexGuard<'_, Sandboxes> {
        self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, id: &str) -> Result<Record, RuntimeError> {
        self.containers()
            .get(id)
            .map(|entry| entry.record.clone())
            .ok_or_else(|| RuntimeError::NotFound(format!("container {id}")))
    }

    /// Starts to watch a container that was recorded.
    fn adopt(self: &Arc<Self>, record: Record) {
        let id = record.id.clone();
        let running = record.exit.is_none();
        // Somebody may have attached before: what was said since is not for the next one.
        let listeners = Arc::new(Listeners::new(false));
        if running {
            match Self::pipes(&id).readers() {
                Ok(readers) => {
                    let following = log::follow(readers, record.log_path.clone(), Arc::clone(&listeners));
                    drop(tokio::spawn(following));
                }
                Err(error) => tracing::warn!(container = id, %error, "output cannot be followed"),
            }
        }
        self.insert(record, listeners);
    }

    /// Makes a container known and watches its process. In this order: the watcher looks for the entry.
    fn insert(self: &Arc<Self>, record: Record, listeners: Arc<Listeners>) {
        let (id, running) = (record.id.clone(), record.exit.is_none());
        let entry = Entry {
            record: record.clone(),
            process: None,
            listeners,
        };
        self.containers().insert(id.clone(), entry);
        let process = if running { self.watch(&record) } else { None };
        if let Some(entry) = self.containers().get_mut(&id)
            && entry.record.exit.is_none()
        {
            entry.process = process;
        }
    }
}

#[async_trait]
impl Runtime for OciRuntime {
    async fn image(&self, reference: &str) -> Result<Option<Image>, RuntimeError> {
        let (images, reference) = (Arc::clone(&self.shared.options.images), reference.to_owned());
        blocking(move || Ok(images.find(&reference)?)).await
    }

    async fn images(&self) -> Result<Vec<Image>, RuntimeError> {
        let images = Arc::clone(&self.shared.options.images);
        blocking(move || Ok(images.list()?)).await
    }

    async fn pull(&self, reference: &str, keyring: &Keyring) -> Result<Pulled, PullError> {
        match self.shared.images.get() {
            Some(images) => images.pull(reference, keyring).await,
            None => Err(PullError::Refused(crate::not_here(reference))),
        }
    }

    fn disk_pressure(&self) -> bool {
        self.shared.images.get().is_some_and(|images| images.disk_pressure())
    }

    async fn resolve_user(&self, image_id: &str, user: &str) -> Result<(u32, u32, Vec<u32>), RuntimeError> {
        let (images, id, user) = (
            Arc::clone(&self.shared.options.images),
            image_id.to_owned(),
            user.to_owned(),
        );
        blocking(move || {
            let (passwd, group) = (
                images.read_file(&id, "etc/passwd")?,
                images.read_file(&id, "etc/group")?,
            );
            resolve_user(&user, &passwd, &group).map_err(RuntimeError::Invalid)
        })
        .await
    }

    async fn create_sandbox(&self, spec: &SandboxSpec) -> Result<Sandbox, RuntimeError> {
        let (shared, spec) = (Arc::clone(&self.shared), spec.clone());
        unbroken(async move { shared.create_sandbox(&spec).await }).await
    }

    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), RuntimeError> {
        let (shared, uid) = (Arc::clone(&self.shared), pod_uid.to_owned());
        unbroken(async move { shared.remove_sandbox(&uid).await }).await
    }

    async fn mount_memory(&self, path: &std::path::Path, size_bytes: u64) -> Result<(), RuntimeError> {
        let path = path.to_owned();
        blocking(move || {
            memory::mount(&path, size_bytes, 0o777)
                .map_err(|e| failed(format!("mounting memory on {}", path.display()), &e))
        })
        .await
    }

    async fn unmount_below(&self, dir: &std::path::Path) -> Result<(), RuntimeError> {
        let dir = dir.to_owned();
        blocking(move || memory::unmount_below(&dir).map_err(|e| failed(format!("unmounting {}", dir.display()), &e)))
            .await
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<String, RuntimeError> {
        let (shared, spec) = (Arc::clone(&self.shared), spec.clone());
        unbroken(async move { shared.create_container(&spec).await }).await
    }

    async fn start_container(&self, id: &str) -> Result<(), RuntimeError> {
        let (shared, id) = (Arc::clone(&self.shared), id.to_owned());
        unbroken(async move { shared.start_container(&id).await }).await
    }

    async fn update_container(&self, id: &str, resources: &Resources) -> Result<(), RuntimeError> {
        let (shared, id, resources) = (Arc::clone(&self.shared), id.to_owned(), *resources);
        unbroken(async move { shared.update_container(id, resources).await }).await
    }

    async fn signal_container(&self, id: &str, signal: &str) -> Result<(), RuntimeError> {
        self.shared.signal(id, signal)
    }

    async fn remove_container(&self, id: &str) -> Result<(), RuntimeError> {
        let (shared, id) = (Arc::clone(&self.shared), id.to_owned());
        unbroken(async move { shared.remove_container(&id).await }).await
    }

    async fn containers(&self) -> Result<Vec<Container>, RuntimeError> {
        Ok(self
            .shared
            .containers()
            .values()
            .map(|entry| entry.record.container())
            .collect())
    }

    fn exits(&self) -> broadcast::Receiver<String> {
        self.shared.exits.subscribe()
    }

    async fn exec(&self, id: &str, spec: ExecSpec) -> Result<ExecSession, RuntimeError> {
        self.shared.exec(id, spec).await
    }

    async fn attach(&self, id: &str) -> Result<ExecSession, RuntimeError> {
        self.shared.attach(id)
    }

    async fn connect(&self, pod_uid: &str, port: u16) -> Result<tokio::net::TcpStream, RuntimeError> {
        let ip = self
            .shared
            .sandboxes()
            .ip(pod_uid)
            .ok_or_else(|| RuntimeError::NotFound(format!("sandbox of pod {pod_uid}")))?;
        // The namespace that we live in is on every bridge; no need to enter the pod's.
        let connecting = tokio::net::TcpStream::connect((ip, port));
        tokio::time::timeout(CONNECT_LIMIT, connecting)
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(|e| failed(format!("connecting to {ip}:{port}"), &e))
    }

    async fn connect_loopback(&self, pod_uid: &str, port: u16) -> Result<tokio::net::TcpStream, RuntimeError> {
        self.shared.connect_loopback(pod_uid, port).await
    }

    async fn usage(&self) -> Result<BTreeMap<String, Usage>, RuntimeError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.usage()).await
    }

    fn unlimited(&self) -> Option<String> {
        self.shared.cgroups.unavailable().map(str::to_owned)
    }
}

/// A caller that stops waiting must not leave half a container behind.
async fn unbroken<T: Send + 'static>(
    work: impl Future<Output = Result<T, RuntimeError>> + Send + 'static,
) -> Result<T, RuntimeError> {
    tokio::spawn(work)
        .await
        .map_err(|e| RuntimeError::Failed(format!("the work broke off: {e}")))?
}

/// File system work, off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| RuntimeError::Failed(format!("the work broke off: {e}")))?
}

fn failed(what: impl Into<String>, error: &std::io::Error) -> RuntimeError {
    RuntimeError::Failed(format!("{}: {error}", what.into()))
}

impl From<NetError> for RuntimeError {
    fn from(error: NetError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<ImageError> for RuntimeError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Name(..) => Self::Invalid(error.to_string()),
            ImageError::NotFound(name) => Self::NotFound(format!("image {name}")),
            ImageError::Bad { .. } | ImageError::Io { .. } => Self::Failed(error.to_string()),
        }
    }
}
