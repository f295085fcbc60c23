//! Pods' namespaces and addresses, remembered across restarts in `sandboxes/<uid>.json`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::namespaces::{Holder, is_shared};
use crate::net::{AddressPool, NetError, connect_sandbox, create_namespace, remove_namespace};
use crate::oci::record::read_json;
use crate::oci::{Shared, blocking, failed};
use crate::{ProcessNamespace, RuntimeError, Sandbox, SandboxSpec, removed};

/// A sandbox on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) pod: String,
    pub(crate) hostname: String,
    pub(crate) ip: Ipv4Addr,
    pub(crate) host_network: bool,
    #[serde(default)]
    pub(crate) host_ipc: bool,
    #[serde(default)]
    pub(crate) processes: ProcessNamespace,
    /// The first process of the PID namespace that its containers share.
    #[serde(default)]
    pub(crate) holder: Option<Holder>,
}

impl SandboxRecord {
    /// Something of it is there, perhaps with processes inside.
    fn exists(&self, uid: &str) -> bool {
        crate::net::namespace_path(uid).exists() || is_shared(uid, self.holder)
    }

    /// Its containers share a PID namespace that nobody holds: not yet, or not any more.
    pub(crate) fn lacks_holder(&self) -> bool {
        self.processes == ProcessNamespace::Pod && !self.holder.is_some_and(Holder::lives)
    }
}

/// All sandboxes of a node.
pub(crate) struct Sandboxes {
    records: BTreeMap<String, SandboxRecord>,
    pool: AddressPool,
}

impl Sandboxes {
    /// What was remembered; `known`: does the pod have a container? Others are forgotten, nobody would ever ask for them.
    pub(crate) fn load(dir: &Path, gateway: Ipv4Addr, prefix: u8, known: impl Fn(&str) -> bool) -> Self {
        let mut sandboxes = Self {
            records: BTreeMap::new(),
            pool: AddressPool::new(gateway, prefix),
        };
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let Some(uid) = path.file_stem().and_then(|name| name.to_str()).map(str::to_owned) else {
                continue;
            };
            match read_json::<SandboxRecord>(&path) {
                Ok(record) if known(&uid) || record.exists(&uid) => {
                    if !record.host_network {
                        sandboxes.pool.take(Some(record.ip));
                    }
                    sandboxes.records.insert(uid, record);
                }
                _ => {
                    let _ = fs::remove_file(&path);
                    // Where its memory was mounted, before a reboot. One that is in use cannot be removed.
                    let _ = fs::remove_dir(path.with_extension("shm"));
                }
            }
        }
        sandboxes
    }

    pub(crate) fn ip(&self, pod_uid: &str) -> Option<IpAddr> {
        self.records.get(pod_uid).map(|record| record.ip.into())
    }

    pub(crate) fn get(&self, pod_uid: &str) -> Option<&SandboxRecord> {
        self.records.get(pod_uid)
    }

    pub(crate) fn put(&mut self, pod_uid: &str, record: SandboxRecord) {
        self.records.insert(pod_uid.to_owned(), record);
    }

    fn give_back(&mut self, pod_uid: &str) {
        if let Some(record) = self.records.remove(pod_uid)
            && !record.host_network
        {
            self.pool.give_back(record.ip);
        }
    }
}

impl Shared {
    /// Where something of a sandbox is kept.
    pub(crate) fn sandbox_path(&self, pod_uid: &str, ending: &str) -> PathBuf {
        self.options.dir.join("sandboxes").join(format!("{pod_uid}.{ending}"))
    }

    pub(crate) async fn create_sandbox(self: &Arc<Self>, spec: &SandboxSpec) -> Result<Sandbox, RuntimeError> {
        let uid = spec.pod_uid.clone();
        let record = self.network_of(spec).await?;
        let ip = self.share(&uid, record).await?.ip.into();
        tracing::debug!(node = self.options.node, pod = spec.pod, %ip, "sandbox made");
        Ok(Sandbox { ip })
    }

    /// The sandbox with its network, found again or made.
    async fn network_of(self: &Arc<Self>, spec: &SandboxSpec) -> Result<SandboxRecord, RuntimeError> {
        let uid = &spec.pod_uid;
        let remembered = self.sandboxes().get(uid).cloned();
        let pinned = crate::net::namespace_path(uid).exists();
        let wish = match (remembered, spec.ip) {
            (Some(record), _) if (record.host_network || pinned) && record.host_network == spec.host_network => {
                return Ok(record);
            }
            (_, Some(IpAddr::V4(ip))) => Some(ip),
            (remembered, _) => remembered.map(|record| record.ip),
        };
        if pinned {
            // Begun by a predecessor that did not come to its end.
            remove_namespace(&self.netlink, uid).await?;
        }
        let record = self.reserve(spec, wish)?;
        if !spec.host_network
            && let Err(error) = self.make_namespace(uid, record.ip).await
        {
            let _ = remove_namespace(&self.netlink, uid).await;
            self.sandboxes().give_back(uid);
            return Err(error);
        }
        Ok(record)
    }

    fn reserve(&self, spec: &SandboxSpec, wish: Option<Ipv4Addr>) -> Result<SandboxRecord, RuntimeError> {
        let bridge = &self.options.bridge;
        let mut sandboxes = self.sandboxes();
        sandboxes.give_back(&spec.pod_uid);
        let ip = if spec.host_network {
            Some(bridge.gateway)
        } else {
            sandboxes.pool.take(wish)
        };
        let ip = ip.ok_or(NetError::NoAddress(bridge.gateway, bridge.prefix))?;
        let record = SandboxRecord {
            pod: spec.pod.clone(),
            hostname: spec.hostname.clone(),
            ip,
            host_network: spec.host_network,
            host_ipc: spec.host_ipc,
            processes: spec.processes,
            holder: None,
        };
        sandboxes.put(&spec.pod_uid, record.clone());
        Ok(record)
    }

    async fn make_namespace(&self, uid: &str, ip: Ipv4Addr) -> Result<(), RuntimeError> {
        let pod_uid = uid.to_owned();
        blocking(move || Ok(create_namespace(&pod_uid)?)).await?;
        Ok(connect_sandbox(&self.netlink, uid, &self.options.bridge, ip).await?)
    }

    /// 127.0.0.1 and then ::1, as container runtimes try for port-forward.
    pub(crate) async fn connect_loopback(
        self: &Arc<Self>,
        uid: &str,
        port: u16,
    ) -> Result<tokio::net::TcpStream, RuntimeError> {
        if self.sandboxes().get(uid).is_none() {
            return Err(RuntimeError::NotFound(format!("sandbox of pod {uid}")));
        }
        let first = loopback(uid, Ipv4Addr::LOCALHOST.into(), port).await;
        let Err(refused) = first else { return first };
        loopback(uid, std::net::Ipv6Addr::LOCALHOST.into(), port)
            .await
            .map_err(|_| refused)
    }

    pub(crate) async fn remove_sandbox(self: &Arc<Self>, uid: &str) -> Result<(), RuntimeError> {
        remove_namespace(&self.netlink, uid).await?;
        let holder = self.sandboxes().get(uid).and_then(|record| record.holder);
        let path = self.sandbox_path(uid, "json");
        let (shared, pod_uid) = (Arc::clone(self), uid.to_owned());
        blocking(move || {
            shared.unshare(&pod_uid, holder)?;
            removed(fs::remove_file(&path)).map_err(|e| failed(format!("removing {}", path.display()), &e))
        })
        .await?;
        self.sandboxes().give_back(uid);
        Ok(())
    }
}

/// Connects to an address inside of a pod's namespace.
async fn loopback(uid: &str, ip: IpAddr, port: u16) -> Result<tokio::net::TcpStream, RuntimeError> {
    let (uid, address) = (uid.to_owned(), std::net::SocketAddr::new(ip, port));
    let domain = socket2::Domain::for_address(address);
    let socket = blocking(move || Ok(crate::net::socket_inside(&uid, domain)?)).await?;
    let socket = tokio::net::TcpSocket::from_std_stream(socket.into());
    tokio::time::timeout(crate::oci::CONNECT_LIMIT, socket.connect(address))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|error| {
            // As other runtimes, in Go, say it: people search for these words.
            let why = match error.kind() {
                io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
                io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
                _ => error.to_string(),
            };
            RuntimeError::Failed(format!("dial tcp {address}: {why}"))
        })
}
