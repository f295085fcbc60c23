//! Pods' namespaces and addresses: made, found again, removed.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use super::record::SandboxRecord;
use crate::container::{Sandbox, SandboxSpec};
use crate::net::{NetError, connect_sandbox, create_namespace, remove_namespace};
use crate::oci::shared::{CONNECT_LIMIT, Shared};
use crate::oci::work::{blocking, failed};
use crate::removal::removed;
use crate::runtime::RuntimeError;

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
            remove_namespace(uid).await?;
        }
        let record = self.reserve(spec, wish)?;
        if !spec.host_network
            && let Err(error) = self.make_namespace(uid, record.ip).await
        {
            let _ = remove_namespace(uid).await;
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
        Ok(connect_sandbox(uid, &self.options.bridge, ip).await?)
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
        remove_namespace(uid).await?;
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
    tokio::time::timeout(CONNECT_LIMIT, socket.connect(address))
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
