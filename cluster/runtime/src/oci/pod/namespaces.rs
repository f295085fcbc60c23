//! What the containers of a pod share besides its network: the IPC namespace with the memory at `/dev/shm`, and the PID
//! namespace where the pod asks for that.
//!
//! The first is pinned like the network's. A PID namespace cannot be pinned: it lives as long as its first process, which is
//! one that only waits (`crate::host::pause`).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::holder::{Holder, ipc_path};
use super::record::SandboxRecord;
use crate::container::ProcessNamespace;
use crate::host::IO_DIR;
use crate::host::init::start_time;
use crate::namespace::{Kind, pin, unpin};
use crate::oci::bundle::memory;
use crate::oci::bundle::spec::{Joined, Processes};
use crate::oci::record::write_json;
use crate::oci::shared::Shared;
use crate::oci::work::{blocking, failed};
use crate::process::read_pid;
use crate::removal::removed;
use crate::runtime::RuntimeError;

/// Size of `/dev/shm`, as container runtimes choose it.
const SHARED_MEMORY_BYTES: u64 = 64 * 1024 * 1024;

impl Shared {
    fn shared_memory(&self, pod_uid: &str) -> PathBuf {
        self.sandbox_path(pod_uid, "shm")
    }

    /// Makes what is not there yet, and remembers it: also again, after the holder of the PID namespace has died, and with it
    /// every process of the pod. Not to be called twice at a time for one pod.
    pub(crate) async fn share(
        self: &Arc<Self>,
        pod_uid: &str,
        mut record: SandboxRecord,
    ) -> Result<SandboxRecord, RuntimeError> {
        if !record.host_ipc {
            let (ipc, memory) = (ipc_path(pod_uid), self.shared_memory(pod_uid));
            blocking(move || {
                pin(Kind::Ipc, &ipc, || Ok(())).map_err(|e| failed("making an IPC namespace", &e))?;
                memory::mount(&memory, SHARED_MEMORY_BYTES, 0o1777)
                    .map_err(|e| failed(format!("mounting memory on {}", memory.display()), &e))
            })
            .await?;
        }
        if record.lacks_holder() {
            record.holder = Some(self.start_holder(pod_uid).await?);
        }
        self.sandboxes().put(pod_uid, record.clone());
        let path = self.sandbox_path(pod_uid, "json");
        blocking(move || {
            write_json(&path, &record).map_err(|e| failed(format!("writing {}", path.display()), &e))?;
            Ok(record)
        })
        .await
    }

    async fn start_holder(&self, pod_uid: &str) -> Result<Holder, RuntimeError> {
        let file = |kind: &str| Path::new(IO_DIR).join(format!("{pod_uid}.pause.{kind}"));
        let (log, pid_file) = (file("log"), file("pid"));
        let started = self.command.pause(&log, &pid_file).await;
        let holder = blocking(move || {
            let holder = read_pid(&pid_file).and_then(|pid| {
                Some(Holder {
                    pid,
                    start_time: start_time(pid)?,
                })
            });
            for path in [log, pid_file] {
                let _ = fs::remove_file(path);
            }
            started?;
            holder.ok_or_else(|| RuntimeError::Failed("the holder of a PID namespace has ended at once".into()))
        });
        holder.await
    }

    /// What a container of this pod joins.
    pub(crate) fn joined(&self, pod_uid: &str, record: &SandboxRecord) -> Result<Joined, RuntimeError> {
        let (ipc, shared_memory) = if record.host_ipc {
            (None, PathBuf::from("/dev/shm"))
        } else {
            (Some(ipc_path(pod_uid)), self.shared_memory(pod_uid))
        };
        let processes = match (record.processes, record.holder) {
            (ProcessNamespace::Container, _) => Processes::Own,
            (ProcessNamespace::Node, _) => Processes::Node,
            (ProcessNamespace::Pod, Some(holder)) if holder.lives() => {
                Processes::Of(PathBuf::from(format!("/proc/{}/ns/pid", holder.pid)))
            }
            (ProcessNamespace::Pod, _) => {
                return Err(RuntimeError::Failed(format!(
                    "the PID namespace of pod {} has ended",
                    record.pod
                )));
            }
        };
        Ok(Joined {
            ipc,
            shared_memory,
            processes,
        })
    }

    /// Lets all of it go; not an error where it is gone. Blocks.
    pub(crate) fn unshare(&self, pod_uid: &str, holder: Option<Holder>) -> Result<(), RuntimeError> {
        if let Some(holder) = holder {
            holder.kill();
        }
        let memory = self.shared_memory(pod_uid);
        memory::unmount_below(&memory)
            .and_then(|()| removed(fs::remove_dir(&memory)))
            .map_err(|e| failed(format!("removing {}", memory.display()), &e))?;
        unpin(&ipc_path(pod_uid)).map_err(|e| failed("removing an IPC namespace", &e))
    }
}
