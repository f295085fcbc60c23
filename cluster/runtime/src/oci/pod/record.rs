//! What is remembered of pods' sandboxes, in `sandboxes/<uid>.json`.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::holder::{Holder, is_shared};
use crate::container::ProcessNamespace;
use crate::net::{AddressPool, namespace_path};
use crate::oci::record::read_json;

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
        namespace_path(uid).exists() || is_shared(uid, self.holder)
    }

    /// Its containers share a PID namespace that nobody holds: not yet, or not any more.
    pub(crate) fn lacks_holder(&self) -> bool {
        self.processes == ProcessNamespace::Pod && !self.holder.is_some_and(Holder::lives)
    }
}

/// All sandboxes of a node.
pub(crate) struct Sandboxes {
    records: BTreeMap<String, SandboxRecord>,
    pub(super) pool: AddressPool,
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

    pub(super) fn give_back(&mut self, pod_uid: &str) {
        if let Some(record) = self.records.remove(pod_uid)
            && !record.host_network
        {
            self.pool.give_back(record.ip);
        }
    }
}
