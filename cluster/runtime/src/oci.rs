//! Containers through an OCI runtime command line.
//!
//! Never libcontainer inside of this process, which has threads: each verb is a short-lived process of its own, forked by one that has
//! none. The first
//! process of a container becomes a child of pid 1, which writes down how it ended; a descriptor of the process says when.
//! So a restart of the inner process loses nothing: containers, their output and their exit codes are found again.

mod alone;
mod bundle;
mod command;
mod container;
mod containers;
mod environment;
mod exec;
mod image_service;
mod pod;
mod record;
mod shared;
mod signal;
mod streams;
mod told;
mod usage;
mod watch;
mod work;
mod zygote;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use async_trait::async_trait;
use futures::FutureExt as _;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, broadcast};

use self::bundle::host_facts::HostFacts;
use self::bundle::memory;
use self::command::OciCommand;
use self::pod::record::Sandboxes;
use self::shared::{CONNECT_LIMIT, Shared};
use self::work::{blocking, failed, unbroken};
use crate::cgroup::Resources;
use crate::container::{Container, ContainerSpec, ExecSession, ExecSpec, Sandbox, SandboxSpec, Usage};
use crate::host::{BOOT_FILE, IO_DIR, MOUNTS_DIR};
use crate::image::{Image, resolve_user};
use crate::registry::{Keyring, Progress, PullError, Pulled};
use crate::removal::remove_all;
use crate::runtime::{Runtime, RuntimeError, not_here};

pub use self::alone::time_alone;
pub use self::image_service::ImageService;
pub use self::shared::OciOptions;
pub use self::zygote::zygote_process;

/// So many containers are made at once: each costs a few processes.
const CREATES_MAX: usize = 4;
/// Ends of containers that a slow listener may be behind.
const EXITS_MAX: usize = 1024;

/// Runs containers for one node.
pub struct OciRuntime {
    shared: Arc<Shared>,
}

impl OciRuntime {
    /// Takes the node over: what ran before a restart of the inner process runs on, what ran before a reboot has ended.
    ///
    /// # Errors
    /// The directory or the network cannot be used.
    pub async fn new(options: OciOptions) -> Result<Self, RuntimeError> {
        let command = OciCommand::new(&options.oci_runtime);
        let node = options.node.clone();
        let (dir, gateway, prefix) = (options.dir.clone(), options.bridge.gateway, options.bridge.prefix);
        let (boot, records, sandboxes, facts, cgroups) = blocking(move || {
            for path in [dir.join("containers"), dir.join("sandboxes"), PathBuf::from(IO_DIR)] {
                fs::create_dir_all(&path).map_err(|e| failed(format!("making {}", path.display()), &e))?;
            }
            // What a predecessor was making when it died.
            let staging = Path::new(MOUNTS_DIR).join(&node);
            memory::unmount_below(&staging)
                .and_then(|()| remove_all(&staging))
                .map_err(|e| failed(format!("clearing {}", staging.display()), &e))?;
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
            containers: Arc::default(),
            sandboxes: Mutex::new(sandboxes),
            saving: Mutex::default(),
            exits: broadcast::channel(EXITS_MAX).0,
            creating: Semaphore::new(CREATES_MAX),
            facts,
            cgroups,
            view: OnceLock::new(),
            images: OnceLock::new(),
        });
        for record in records {
            shared.adopt(record);
        }
        tokio::spawn(watch::sweep_exits(Arc::downgrade(&shared)).boxed());
        Ok(Self { shared })
    }

    /// From now on images are pulled by this service, and it leaves alone what the node's containers use.
    pub fn use_images(&self, images: &Arc<ImageService>) {
        let _ = self.shared.images.set(images.clone());
        images.spare(&self.shared.containers);
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

    async fn pull(&self, reference: &str, keyring: &Keyring, progress: &Progress) -> Result<Pulled, PullError> {
        match self.shared.images.get() {
            Some(images) => images.pull(reference, keyring, progress).await,
            None => Err(PullError::Refused(not_here(reference))),
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

    async fn mount_memory(&self, path: &Path, size_bytes: u64) -> Result<(), RuntimeError> {
        let path = path.to_owned();
        blocking(move || {
            memory::mount(&path, size_bytes, 0o777)
                .map_err(|e| failed(format!("mounting memory on {}", path.display()), &e))
        })
        .await
    }

    async fn unmount_below(&self, dir: &Path) -> Result<(), RuntimeError> {
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

    async fn connect(&self, pod_uid: &str, port: u16) -> Result<TcpStream, RuntimeError> {
        let ip = self
            .shared
            .sandboxes()
            .ip(pod_uid)
            .ok_or_else(|| RuntimeError::NotFound(format!("sandbox of pod {pod_uid}")))?;
        // The namespace that we live in is on every bridge; no need to enter the pod's.
        let connecting = TcpStream::connect((ip, port));
        tokio::time::timeout(CONNECT_LIMIT, connecting)
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(|e| failed(format!("connecting to {ip}:{port}"), &e))
    }

    async fn connect_loopback(&self, pod_uid: &str, port: u16) -> Result<TcpStream, RuntimeError> {
        self.shared.connect_loopback(pod_uid, port).await
    }

    async fn usage(&self) -> Result<BTreeMap<String, Usage>, RuntimeError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.usage()).await
    }

    async fn environment(&self, id: &str) -> Result<BTreeMap<String, String>, RuntimeError> {
        let (shared, id) = (Arc::clone(&self.shared), id.to_owned());
        blocking(move || shared.environment(&id)).await
    }

    fn unguarded(&self) -> Option<String> {
        self.shared.unguarded()
    }

    fn unlimited(&self) -> Option<String> {
        self.shared.cgroups.unavailable().map(str::to_owned)
    }
}
