//! What the operator's agents may do with the runtimes of the embedded nodes: what they may with a real node's by CRI.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use afloat_agent::runtime::{
    ContainerState, Executed, LocalImage, NodeContainer, NodeRuntime, OUTPUT_BYTES_MAX, Progress, Pull, PullError,
    RuntimeError,
};
use afloat_cluster::LocalNode;
use afloat_node::{container_id, kept};
use afloat_runtime::{ExecSpec, Image, Runtime, registry};
use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::TcpStream;
use tokio::sync::broadcast::error::RecvError;

/// The scheme of embedded containers' ids.
const NAME: &str = "afloat";
/// A process that was killed is gone within so long.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// Should the news of an end be lost, it is looked for this often.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The runtime of a node of this process.
pub(super) struct EmbeddedRuntime(Arc<dyn Runtime>);

impl EmbeddedRuntime {
    pub(super) fn of(node: &LocalNode) -> Self {
        Self(node.runtime.clone())
    }

    /// Waits until the process of a container has ended.
    async fn ended(&self, id: &str) -> Result<(), RuntimeError> {
        let mut exits = self.0.exits();
        loop {
            let all = self.0.containers().await.map_err(error)?;
            let found = all.iter().find(|container| container.id == id);
            if !found.is_some_and(|container| container.state == afloat_runtime::ContainerState::Running) {
                return Ok(());
            }
            // Whichever it is: a look tells.
            let news = tokio::time::timeout(LOOK_INTERVAL, exits.recv()).await;
            if let Ok(Err(RecvError::Closed)) = news {
                return Err(RuntimeError::Unavailable("the node's runtime is gone".to_owned()));
            }
        }
    }
}

#[async_trait]
impl NodeRuntime for EmbeddedRuntime {
    async fn name(&self) -> Result<String, RuntimeError> {
        Ok(NAME.to_owned())
    }

    async fn images(&self) -> Result<Vec<LocalImage>, RuntimeError> {
        let images = self.0.images().await.map_err(error)?;
        Ok(images.into_iter().map(local).collect())
    }

    async fn image(&self, reference: &str) -> Result<Option<LocalImage>, RuntimeError> {
        Ok(self.0.image(reference).await.map_err(error)?.map(local))
    }

    /// Images are unpacked for no sandbox: labels and annotations have no effect.
    async fn pull(&self, pull: &Pull, progress: &Progress) -> Result<LocalImage, PullError> {
        let pulled = self.0.pull(&pull.reference, &pull.keyring, progress).await;
        pulled.map(|pulled| local(pulled.image)).map_err(|error| match error {
            registry::PullError::InvalidName(text) => PullError::InvalidName(text),
            registry::PullError::Unavailable(text) => PullError::Unavailable(text),
            registry::PullError::Refused(text) => PullError::Refused(text),
            registry::PullError::Local(text) => PullError::Local(text),
            registry::PullError::DiskFull(text) => PullError::DiskFull(text),
        })
    }

    async fn containers(&self, pod_uid: Option<&str>) -> Result<Vec<NodeContainer>, RuntimeError> {
        let mut all = self.0.containers().await.map_err(error)?;
        all.retain(|container| pod_uid.is_none_or(|uid| container.pod_uid == uid));
        all.sort_by_key(|container| container.created_at);
        Ok(all.into_iter().filter_map(container).collect())
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        let id = bare(id)?;
        let all = self.0.containers().await.map_err(error)?;
        let found = all.iter().find(|container| container.id == id);
        let found = found.ok_or_else(|| RuntimeError::NotFound(format!("container {id}")))?;
        if found.state != afloat_runtime::ContainerState::Running {
            return Ok(());
        }
        let signal = kept(found)
            .map(|kept| kept.stop_signal)
            .filter(|signal| !signal.is_empty());
        let signal = signal.as_deref().unwrap_or("SIGTERM");
        self.0.signal_container(id, signal).await.map_err(error)?;
        if let Ok(ended) = tokio::time::timeout(grace, self.ended(id)).await {
            return ended;
        }
        self.0.signal_container(id, "SIGKILL").await.map_err(error)?;
        let late = || {
            RuntimeError::Failed(format!(
                "container {id} was killed and has not ended within {KILL_LIMIT:?}"
            ))
        };
        tokio::time::timeout(KILL_LIMIT, self.ended(id))
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    async fn exec(&self, id: &str, command: &[String], limit: Duration) -> Result<Executed, RuntimeError> {
        let spec = ExecSpec {
            command: command.to_vec(),
            tty: false,
            stdin: false,
        };
        let id = bare(id)?;
        let run = async {
            let mut session = self.0.exec(id, spec).await.map_err(error)?;
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let read_out = drain(&mut session.stdout, &mut out);
            let read_err = async {
                if let Some(stderr) = &mut session.stderr {
                    drain(stderr, &mut err).await;
                }
            };
            let (code, (), ()) = tokio::join!(&mut session.exit, read_out, read_err);
            let code = code.map_err(|_| RuntimeError::Failed("the command's exit code was lost".to_owned()))?;
            out.extend(err);
            out.truncate(OUTPUT_BYTES_MAX);
            let output = String::from_utf8_lossy(&out).into_owned();
            Ok(Executed { code, output })
        };
        // A session that is dropped ends its command.
        let late = || RuntimeError::Failed(format!("the command did not end within {limit:?}"));
        tokio::time::timeout(limit, run).await.unwrap_or_else(|_| Err(late()))
    }

    async fn connect(&self, pod_uid: &str, port: u16) -> Result<TcpStream, RuntimeError> {
        self.0.connect(pod_uid, port).await.map_err(error)
    }

    /// A look is a copy of a short list.
    fn look_interval(&self) -> Duration {
        Duration::from_millis(250)
    }

    async fn environment(&self, id: &str) -> Result<BTreeMap<String, String>, RuntimeError> {
        self.0.environment(bare(id)?).await.map_err(error)
    }
}

/// An id as the runtime has it.
fn bare(id: &str) -> Result<&str, RuntimeError> {
    let bare = id.strip_prefix(NAME).and_then(|rest| rest.strip_prefix("://"));
    bare.ok_or_else(|| RuntimeError::NotFound(format!("container {id:?}, which is not one of {NAME},")))
}

fn error(error: afloat_runtime::RuntimeError) -> RuntimeError {
    match error {
        afloat_runtime::RuntimeError::NotFound(what) => RuntimeError::NotFound(what),
        afloat_runtime::RuntimeError::Invalid(text) | afloat_runtime::RuntimeError::Failed(text) => {
            RuntimeError::Failed(text)
        }
    }
}

fn local(image: Image) -> LocalImage {
    LocalImage {
        id: image.id,
        names: image.names,
        digests: image.digests,
        size_bytes: image.size_bytes,
    }
}

/// None: it is not one of the node agent's.
fn container(container: afloat_runtime::Container) -> Option<NodeContainer> {
    let kept = kept(&container)?;
    Some(NodeContainer {
        id: container_id(&container.id),
        pod_uid: container.pod_uid,
        pod_namespace: kept.namespace,
        pod_name: kept.pod,
        name: container.name,
        restart_count: container.attempt,
        state: match container.state {
            afloat_runtime::ContainerState::Created => ContainerState::Created,
            afloat_runtime::ContainerState::Running => ContainerState::Running,
            afloat_runtime::ContainerState::Exited(exit) => ContainerState::Exited { code: Some(exit.code) },
        },
        created_at: container.created_at,
        started_at: container.started_at,
        image: kept.image,
        image_id: container.image_id,
        reference: kept.reference,
        // The embedded node agent has a hash of its own, and keeps the reference, which says more.
        hash: None,
        pre_stop: kept.pre_stop,
        grace_seconds: kept.grace_seconds,
        ports: kept.ports,
    })
}

/// Reads everything, keeps the beginning.
async fn drain(from: &mut (dyn AsyncRead + Send + Unpin), into: &mut Vec<u8>) {
    let mut limited = from.take(OUTPUT_BYTES_MAX as u64);
    // What broke off has no more to say.
    let _ = limited.read_to_end(into).await;
    let _ = tokio::io::copy(limited.into_inner(), &mut tokio::io::sink()).await;
}
