//! A real node's runtime by CRI v1 over its Unix socket: containerd, CRI-O, cri-dockerd.
//!
//! The socket gives whoever may connect to it the rights of the node. So it is asked for no more than [`crate::runtime`] needs, and
//! never to make or remove anything but images' layers by a pull. A runtime that is restarted is connected to again at the next
//! request.

mod channel;
mod ingest;
mod proto;
mod read;
mod socket;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use afloat_words::environment::of_process;
use afloat_words::image::ImageName;
use afloat_words::keyring::Credentials;
use async_trait::async_trait;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Status;

use self::channel::{Call, Channel, refused};
use self::ingest::Pulls;
use self::read::{Info, POD_UID, pull_error};
use crate::runtime::{
    Executed, LocalImage, NodeContainer, NodeRuntime, OUTPUT_BYTES_MAX, Progress, Pull, PullError, RuntimeError,
};

pub use self::socket::{BadEndpoint, Endpoint};

/// Longest wait for an answer that needs no work (the kubelet's `runtimeRequestTimeout` is 2 minutes, for all).
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// What the end of a container may take beside its grace.
const END_LIMIT: Duration = Duration::from_secs(120);
/// What a command may take beside its limit.
const EXEC_SLACK: Duration = Duration::from_secs(2);
/// A pod's port is there, or it is not.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Annotation of the sandbox that an image is said to be pulled for: some runtimes want one.
const PULLED_BY: (&str, &str) = ("afloat.dev/pulled-by", "afloat-agent");

const fn call(path: &'static str, limit: Duration) -> Call {
    Call {
        path,
        limit: Some(limit),
    }
}

const LIST_IMAGES: Call = call("/runtime.v1.ImageService/ListImages", ANSWER_LIMIT);
const IMAGE_STATUS: Call = call("/runtime.v1.ImageService/ImageStatus", ANSWER_LIMIT);
const PULL_IMAGE: Call = Call {
    path: "/runtime.v1.ImageService/PullImage",
    limit: None,
};
const LIST_CONTAINERS: Call = call("/runtime.v1.RuntimeService/ListContainers", ANSWER_LIMIT);
const CONTAINER_STATUS: Call = call("/runtime.v1.RuntimeService/ContainerStatus", ANSWER_LIMIT);
const LIST_SANDBOXES: Call = call("/runtime.v1.RuntimeService/ListPodSandbox", ANSWER_LIMIT);
const SANDBOX_STATUS: Call = call("/runtime.v1.RuntimeService/PodSandboxStatus", ANSWER_LIMIT);

/// See the module.
pub struct Cri {
    endpoint: Endpoint,
    /// Where the node's processes are seen; a runtime that does not tell a container's variables leaves them to be read there.
    proc: PathBuf,
    found: Mutex<Option<Arc<Found>>>,
    pulls: Pulls,
}

/// The runtime that answers.
struct Found {
    channel: Channel,
    /// `containerd`
    name: String,
}

impl Cri {
    /// Nothing is connected yet: the runtime may come up after the agent.
    pub fn new(endpoint: Endpoint, proc: &Path) -> Self {
        Self {
            endpoint,
            proc: proc.to_owned(),
            found: Mutex::default(),
            pulls: Pulls::default(),
        }
    }

    /// The runtime, looked for until one has answered.
    async fn found(&self) -> Result<Arc<Found>, RuntimeError> {
        let known = self.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(found) = known {
            return Ok(found);
        }
        let (channel, name) = socket::find(&self.endpoint).await?;
        tracing::info!(runtime = name, socket = %channel.socket().display(), "the node's runtime is found");
        let found = Arc::new(Found { channel, name });
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.clone());
        Ok(found)
    }

    async fn status(&self, id: &str, verbose: bool) -> Result<proto::ContainerStatusResponse, RuntimeError> {
        let found = self.found().await?;
        let request = proto::ContainerStatusRequest {
            container_id: found.bare(id)?.to_owned(),
            verbose,
        };
        let answer = found.channel.ask(CONTAINER_STATUS, request).await;
        answer.map_err(|status| refused(&format!("container {id}"), &status))
    }

    /// One attempt, in the name of one user or of nobody.
    async fn pull_as(
        found: &Found,
        pull: &Pull,
        reference: &str,
        credentials: Option<&Credentials>,
    ) -> Result<String, Status> {
        let mut annotations: HashMap<_, _> = pull.annotations.clone().into_iter().collect();
        let (key, value) = PULLED_BY;
        annotations.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        let request = proto::PullImageRequest {
            image: Some(proto::ImageSpec {
                image: reference.to_owned(),
                user_specified_image: pull.reference.clone(),
            }),
            auth: credentials.map(|credentials| proto::AuthConfig {
                username: credentials.username.clone(),
                password: credentials.password.clone(),
            }),
            sandbox_config: Some(proto::PodSandboxConfig {
                labels: pull.labels.clone().into_iter().collect(),
                annotations,
            }),
        };
        let answer: proto::PullImageResponse = found.channel.ask(PULL_IMAGE, request).await?;
        Ok(answer.image_ref)
    }

    /// By each user of the keyring that may be meant, and then by nobody, as the kubelet does.
    async fn pull_by_all(found: &Found, pull: &Pull, reference: &str) -> Result<String, PullError> {
        let repository = ImageName::of(reference).without_version();
        let users = pull.keyring.of(&repository);
        let mut last = None;
        for credentials in users.iter().map(Some).chain([None]) {
            match Self::pull_as(found, pull, reference, credentials).await {
                Ok(image) => return Ok(image),
                Err(status) => match pull_error(reference, &status) {
                    // Another user may be let in. What the first was told says more than what nobody is told.
                    refusal @ PullError::Refused(_) => last = last.or(Some(refusal)),
                    other => return Err(other),
                },
            }
        }
        Err(last.unwrap_or_else(|| PullError::Local(format!("{reference}: nobody may pull it"))))
    }

    /// What is known of the node by its processes: the first one of a container that the runtime gave this number.
    async fn read_process(&self, id: &str, pid: u32) -> Result<BTreeMap<String, String>, RuntimeError> {
        let (dir, id) = (self.proc.join(pid.to_string()), id.to_owned());
        let read = move || {
            let failed = |error: std::io::Error| {
                let why = "the agent needs the node's processes (hostPID) and the right to read them";
                RuntimeError::Failed(format!("{}: {error}; {why}", dir.display()))
            };
            // Another process of that number, or one of the agent's own container.
            if !std::fs::read_to_string(dir.join("cgroup"))
                .map_err(failed)?
                .contains(&id)
            {
                return Err(RuntimeError::Failed(format!(
                    "process {pid} is not one of container {id} here"
                )));
            }
            Ok(of_process(&std::fs::read(dir.join("environ")).map_err(failed)?))
        };
        let done = tokio::task::spawn_blocking(read).await;
        done.map_err(|error| RuntimeError::Failed(error.to_string()))?
    }
}

impl Found {
    /// An id as the runtime has it.
    fn bare<'a>(&self, id: &'a str) -> Result<&'a str, RuntimeError> {
        let bare = id.strip_prefix(&self.name).and_then(|rest| rest.strip_prefix("://"));
        bare.ok_or_else(|| RuntimeError::NotFound(format!("container {id:?}, which is not one of {},", self.name)))
    }
}

#[async_trait]
impl NodeRuntime for Cri {
    async fn name(&self) -> Result<String, RuntimeError> {
        Ok(self.found().await?.name.clone())
    }

    async fn images(&self) -> Result<Vec<LocalImage>, RuntimeError> {
        let found = self.found().await?;
        let answer = found.channel.ask(LIST_IMAGES, proto::ListImagesRequest {}).await;
        let answer: proto::ListImagesResponse = answer.map_err(|status| refused("images", &status))?;
        Ok(answer.images.into_iter().map(read::image).collect())
    }

    async fn image(&self, reference: &str) -> Result<Option<LocalImage>, RuntimeError> {
        let found = self.found().await?;
        let request = proto::ImageStatusRequest {
            image: Some(proto::ImageSpec {
                image: tagged(reference),
                ..proto::ImageSpec::default()
            }),
        };
        let answer = found.channel.ask(IMAGE_STATUS, request).await;
        match answer.map_err(|status| refused(&format!("image {reference}"), &status)) {
            Ok(proto::ImageStatusResponse { image }) => Ok(image.map(read::image)),
            Err(RuntimeError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn pull(&self, pull: &Pull, progress: &Progress) -> Result<LocalImage, PullError> {
        let wrong = |error| PullError::InvalidName(format!("{}: {error}", pull.reference));
        ImageName::parse(&pull.reference).map_err(wrong)?;
        let away = |error: RuntimeError| PullError::Unavailable(error.to_string());
        let found = self.found().await.map_err(away)?;
        let reference = tagged(&pull.reference);
        let pulled = Self::pull_by_all(&found, pull, &reference);
        // Whoever drops this drops the request, which the runtime then gives up.
        let image = tokio::select! {
            pulled = pulled => pulled?,
            never = self.pulls.follow(&found.channel, progress) => match never {},
        };
        let local = self
            .image(&image)
            .await
            .map_err(|error| PullError::Local(error.to_string()))?;
        local.ok_or_else(|| PullError::Local(format!("{reference}: pulled as {image}, and gone since")))
    }

    async fn containers(&self, pod_uid: Option<&str>) -> Result<Vec<NodeContainer>, RuntimeError> {
        let found = self.found().await?;
        let request = proto::ListContainersRequest {
            filter: pod_uid.map(|uid| proto::ContainerFilter {
                label_selector: HashMap::from([(POD_UID.to_owned(), uid.to_owned())]),
            }),
        };
        let answer = found.channel.ask(LIST_CONTAINERS, request).await;
        let answer: proto::ListContainersResponse = answer.map_err(|status| refused("containers", &status))?;
        let all = answer.containers.into_iter();
        let mut all: Vec<_> = all
            .filter_map(|container| read::container(&found.name, container))
            .collect();
        all.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        if pod_uid.is_none() {
            return Ok(all);
        }
        let mut complete = Vec::with_capacity(all.len());
        for mut container in all {
            match self.status(&container.id, false).await {
                Ok(answer) => {
                    read::complete(&mut container, &answer.status.unwrap_or_default());
                    complete.push(container);
                }
                // Removed since the list was made.
                Err(RuntimeError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(complete)
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        let found = self.found().await?;
        let request = proto::StopContainerRequest {
            container_id: found.bare(id)?.to_owned(),
            timeout: seconds(grace),
        };
        let stop = call("/runtime.v1.RuntimeService/StopContainer", grace + END_LIMIT);
        let answer = found.channel.ask(stop, request).await;
        let _: proto::StopContainerResponse = answer.map_err(|status| refused(&format!("container {id}"), &status))?;
        Ok(())
    }

    async fn exec(&self, id: &str, command: &[String], limit: Duration) -> Result<Executed, RuntimeError> {
        let found = self.found().await?;
        let request = proto::ExecSyncRequest {
            container_id: found.bare(id)?.to_owned(),
            cmd: command.to_vec(),
            timeout: seconds(limit).max(1),
        };
        let exec = call("/runtime.v1.RuntimeService/ExecSync", limit + EXEC_SLACK);
        let answer = found.channel.ask(exec, request).await;
        let answer: proto::ExecSyncResponse =
            answer.map_err(|status| refused(&format!("command in container {id}"), &status))?;
        let mut output = answer.stdout;
        output.extend(answer.stderr);
        output.truncate(OUTPUT_BYTES_MAX);
        Ok(Executed {
            code: answer.exit_code,
            output: String::from_utf8_lossy(&output).into_owned(),
        })
    }

    async fn connect(&self, pod_uid: &str, port: u16) -> Result<TcpStream, RuntimeError> {
        let found = self.found().await?;
        let pod = format!("pod {pod_uid}");
        let request = proto::ListPodSandboxRequest {
            filter: Some(proto::PodSandboxFilter {
                label_selector: HashMap::from([(POD_UID.to_owned(), pod_uid.to_owned())]),
            }),
        };
        let answer = found.channel.ask(LIST_SANDBOXES, request).await;
        let answer: proto::ListPodSandboxResponse = answer.map_err(|status| refused(&pod, &status))?;
        let ready = answer.items.into_iter().filter(|sandbox| sandbox.state == 0);
        let newest = ready.max_by_key(|sandbox| sandbox.created_at);
        let request = proto::PodSandboxStatusRequest {
            pod_sandbox_id: newest.ok_or_else(|| RuntimeError::NotFound(pod.clone()))?.id,
        };
        let answer = found.channel.ask(SANDBOX_STATUS, request).await;
        let answer: proto::PodSandboxStatusResponse = answer.map_err(|status| refused(&pod, &status))?;
        let network = answer.status.and_then(|status| status.network).unwrap_or_default();
        // One with the node's network has no address of its own, and the agent shares that network.
        let address = if network.ip.is_empty() {
            "127.0.0.1".to_owned()
        } else {
            network.ip
        };
        let connected = timeout(CONNECT_LIMIT, TcpStream::connect((address.as_str(), port))).await;
        let connected = connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        connected.map_err(|error| RuntimeError::Failed(format!("{address}:{port}: {error}")))
    }

    async fn environment(&self, id: &str) -> Result<BTreeMap<String, String>, RuntimeError> {
        let answer = self.status(id, true).await?;
        let info = Info::of(&answer.info).unwrap_or_default();
        if let Some(environment) = info.environment() {
            return Ok(environment);
        }
        if info.pid == 0 {
            let why = "the runtime tells neither its variables nor its process";
            return Err(RuntimeError::Failed(format!("container {id}: {why}")));
        }
        let bare = id.rsplit('/').next().unwrap_or(id);
        self.read_process(bare, info.pid).await
    }
}

/// As runtimes want it: they know no default tag.
fn tagged(reference: &str) -> String {
    let name = ImageName::of(reference);
    let bare = reference.rsplit_once(':').is_none_or(|(_, tag)| tag.contains('/'));
    match name.tag() {
        Some(tag) if name.digest().is_none() && bare && !reference.starts_with("sha256:") => {
            format!("{reference}:{tag}")
        }
        _ => reference.to_owned(),
    }
}

/// Whole ones, none of them lost.
fn seconds(time: Duration) -> i64 {
    let up = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    i64::try_from(up).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_are_told_the_tag_that_is_meant() {
        for (reference, told) in [
            ("web", "web:latest"),
            ("localhost:5000/web", "localhost:5000/web:latest"),
            ("web:v1", "web:v1"),
            ("web@sha256:1", "web@sha256:1"),
            ("sha256:1", "sha256:1"),
        ] {
            assert_eq!(tagged(reference), told);
        }
        assert_eq!((seconds(Duration::from_millis(1500)), seconds(Duration::ZERO)), (2, 0));
    }
}
