//! What runs the containers of one node, as the operator's agent sees it: behind it is CRI v1 on a real node ([`crate::cri`]) and the
//! embedded runtime in an embedded cluster.
//!
//! The node's kubelet is the one who decides what runs. Whoever is behind this trait may bring images before they are needed and stop
//! a container, which the kubelet then starts again; it must never create, start or remove one.

use std::collections::BTreeMap;
use std::time::Duration;

use afloat_words::image::ImageName;
use afloat_words::keyring::Keyring;
pub use afloat_words::progress::Progress;
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerPort, LifecycleHandler};
use tokio::net::TcpStream;

/// Of a command's output so many bytes are kept.
pub const OUTPUT_BYTES_MAX: usize = 10 * 1024;

/// Why a runtime could not do it. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// There is no such container, pod or image.
    #[error("{0} not found")]
    NotFound(String),
    /// The runtime cannot be reached or does not answer: trying again will help once it is back.
    #[error("{0}")]
    Unavailable(String),
    /// It answered with a refusal.
    #[error("{0}")]
    Failed(String),
}

/// Why an image could not be pulled. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PullError {
    /// The reference is not one.
    #[error("{0}")]
    InvalidName(String),
    /// The registry or the runtime cannot be reached, or does not work.
    #[error("{0}")]
    Unavailable(String),
    /// The registry answered, and the image cannot be had: not there, not allowed, broken.
    #[error("{0}")]
    Refused(String),
    /// The node's disk is full.
    #[error("{0}")]
    DiskFull(String),
    /// The node could not keep it.
    #[error("{0}")]
    Local(String),
}

/// An image that the node has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalImage {
    /// As the runtime has it, usually the digest of the configuration: `sha256:…`.
    pub id: String,
    /// Full names with tags, `docker.io/library/web:v1`.
    pub names: Vec<String>,
    /// Names with digests, `docker.io/library/web@sha256:…`.
    pub digests: Vec<String>,
    /// As the runtime counts them.
    pub size_bytes: u64,
}

impl LocalImage {
    /// Whether this is what the reference means on this node: one of its names, one of its digests, or its id.
    pub fn answers(&self, reference: &str) -> bool {
        let wanted = ImageName::of(reference).meaning();
        let mut all = self.names.iter().chain(&self.digests);
        self.id == reference || all.any(|own| ImageName::of(own).meaning() == wanted)
    }

    /// The digest that the registry of the reference knows the image by, `sha256:…`. None: it did not come from there.
    pub fn digest_of(&self, reference: &str) -> Option<&str> {
        let wanted = ImageName::of(reference).without_version();
        let mut all = self.digests.iter().map(|own| ImageName::of(own));
        all.find(|own| own.without_version() == wanted)?.digest()
    }
}

/// An image to pull.
#[derive(Clone, Debug, Default)]
pub struct Pull {
    /// Any text that a pod may use, with a tag or a digest.
    pub reference: String,
    /// What may be tried for its registry; without any, nobody in particular asks.
    pub keyring: Keyring,
    /// Labels of the sandbox that the image is said to be pulled for (`sandboxConfig` of Kruise's jobs).
    pub labels: BTreeMap<String, String>,
    /// Annotations of that sandbox.
    pub annotations: BTreeMap<String, String>,
}

/// How a container stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Its process runs.
    Running,
    /// Its process ended.
    Exited {
        /// Exit code; None where only a list was asked for.
        code: Option<i32>,
    },
    /// The runtime does not know.
    Unknown,
}

/// A container that the kubelet has made on this node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeContainer {
    /// As the pod's status has it: `containerd://…`.
    pub id: String,
    /// `metadata.uid` of its pod.
    pub pod_uid: String,
    /// Namespace of its pod.
    pub pod_namespace: String,
    /// Name of its pod.
    pub pod_name: String,
    /// Its name in the pod.
    pub name: String,
    /// How many containers of this name were there before.
    pub restart_count: u32,
    /// Its process.
    pub state: ContainerState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its process was started; None: it was not, or only the node's list was asked for.
    pub started_at: Option<Timestamp>,
    /// The image that it was made of, in the runtime's words.
    pub image: String,
    /// The image's id, in the runtime's words.
    pub image_id: String,
    /// The image that it was made for in the text of the pod's spec, where the runtime keeps that.
    pub reference: Option<String>,
    /// The kubelet's hash of what it was made from (annotation `io.kubernetes.container.hash`), where the kubelet keeps that.
    pub hash: Option<u64>,
    /// Its preStop hook when it was made.
    pub pre_stop: Option<LifecycleHandler>,
    /// `terminationGracePeriodSeconds` of its pod when it was made.
    pub grace_seconds: Option<i64>,
    /// Its ports, by which a hook may name one.
    pub ports: Vec<ContainerPort>,
}

/// What a command brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Its exit code.
    pub code: i32,
    /// What it wrote, the first [`OUTPUT_BYTES_MAX`].
    pub output: String,
}

/// See the module. Ids are those of [`NodeContainer::id`].
#[async_trait]
pub trait NodeRuntime: Send + Sync + 'static {
    /// Its name, with which the ids of its containers begin: `containerd`.
    async fn name(&self) -> Result<String, RuntimeError>;

    /// Everything that the node has.
    async fn images(&self) -> Result<Vec<LocalImage>, RuntimeError>;

    /// What a reference means on this node, with a tag or a digest. None: the node does not have it.
    async fn image(&self, reference: &str) -> Result<Option<LocalImage>, RuntimeError>;

    /// Pulls an image from its registry, unless the very same is here. It has no limit of its own: whoever wants one drops it, and
    /// with that the pull ends.
    async fn pull(&self, pull: &Pull, progress: &Progress) -> Result<LocalImage, PullError>;

    /// The kubelet's containers, ended ones that it has not removed included, the oldest first; of one pod alone with all that there
    /// is to say of them.
    async fn containers(&self, pod_uid: Option<&str>) -> Result<Vec<NodeContainer>, RuntimeError>;

    /// Asks a container's process to end (SIGTERM, or what its image says) and kills it after `grace`. Returns when it has ended; not
    /// an error if it had before. Runs no hook: [`crate::stop`] does.
    async fn stop(&self, id: &str, grace: Duration) -> Result<(), RuntimeError>;

    /// Runs a command in a running container, and kills it after `limit`.
    async fn exec(&self, id: &str, command: &[String], limit: Duration) -> Result<Executed, RuntimeError>;

    /// Connects to a TCP port of the pod's address.
    async fn connect(&self, pod_uid: &str, port: u16) -> Result<TcpStream, RuntimeError>;

    /// How often it is worth to look for changes. By default as often as the kubelet looks (`pleg/generic.go`), which is what a restart
    /// waits for anyway.
    fn look_interval(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// The variables that the first process of a running container was started with.
    async fn environment(&self, id: &str) -> Result<BTreeMap<String, String>, RuntimeError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_mean_images_in_all_their_forms() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let other = format!("sha256:{}", "b".repeat(64));
        let image = LocalImage {
            id: format!("sha256:{}", "c".repeat(64)),
            names: vec!["docker.io/library/web:v1".into(), "localhost:5000/team/web:v2".into()],
            digests: vec![
                format!("docker.io/library/web@{digest}"),
                format!("localhost:5000/team/web@{other}"),
            ],
            size_bytes: 1,
        };
        for (reference, answers) in [
            ("web:v1".to_owned(), true),
            ("docker.io/web:v1".to_owned(), true),
            ("web".to_owned(), false),
            ("web:v2".to_owned(), false),
            ("localhost:5000/team/web:v2".to_owned(), true),
            (format!("web@{digest}"), true),
            (format!("web:whatever@{digest}"), true),
            (format!("web@{other}"), false),
            (format!("quay.io/web@{digest}"), false),
            (image.id.clone(), true),
        ] {
            assert_eq!(image.answers(&reference), answers, "{reference}");
        }
        assert_eq!(image.digest_of("web:v9"), Some(&*digest), "by its repository");
        assert_eq!(image.digest_of("localhost:5000/team/web"), Some(&*other));
        assert_eq!(image.digest_of("quay.io/web"), None);
    }
}
