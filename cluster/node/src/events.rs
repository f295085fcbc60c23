//! Events: best effort, bounded, repeated ones counted on one object.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use tokio::sync::mpsc;

use crate::pod::spec;

/// Events that may wait to be written; more are dropped.
const QUEUE: usize = 1024;
/// Events remembered for counting.
const REMEMBERED: usize = 2048;
/// Longest wait for one write.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    uid: String,
    field: String,
    warning: bool,
    reason: String,
    message: String,
}

struct Entry {
    key: Key,
    namespace: String,
    involved: ObjectReference,
    at: Timestamp,
}

/// Takes events; never blocks.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Entry>,
}

/// Events on their way.
pub(crate) struct Pending(mpsc::Receiver<Entry>);

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.key)
    }
}

impl Recorder {
    /// A recorder, and what its events come out of.
    pub(crate) fn new() -> (Self, Pending) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        (Self { queue }, Pending(receiver))
    }

    /// About a container of a pod, or about the pod.
    pub(crate) fn pod(
        &self,
        pod: &Pod,
        container: Option<&str>,
        warning: bool,
        reason: &str,
        message: &str,
        at: Timestamp,
    ) {
        let field = container.map(|name| {
            let list = if spec::is_init(pod, name) {
                "initContainers"
            } else if spec::is_ephemeral(pod, name) {
                "ephemeralContainers"
            } else {
                "containers"
            };
            format!("spec.{list}{{{name}}}")
        });
        let involved = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path: field,
        };
        self.send(involved, spec::namespace(pod).to_owned(), warning, reason, message, at);
    }

    /// About the node.
    pub(crate) fn node(&self, node: &str, warning: bool, reason: &str, message: &str, at: Timestamp) {
        let involved = ObjectReference {
            kind: Some("Node".into()),
            name: Some(node.to_owned()),
            // The kubelet's habit: `kubectl describe node` looks events up by it.
            uid: Some(node.to_owned()),
            ..ObjectReference::default()
        };
        self.send(involved, "default".to_owned(), warning, reason, message, at);
    }

    fn send(
        &self,
        involved: ObjectReference,
        namespace: String,
        warning: bool,
        reason: &str,
        message: &str,
        at: Timestamp,
    ) {
        let key = Key {
            uid: involved.uid.clone().unwrap_or_default(),
            field: involved.field_path.clone().unwrap_or_default(),
            warning,
            reason: reason.to_owned(),
            message: message.chars().take(1024).collect(),
        };
        if self
            .queue
            .try_send(Entry {
                key,
                namespace,
                involved,
                at,
            })
            .is_err()
        {
            tracing::debug!(reason, message, "event dropped: too many are waiting");
        }
    }
}

/// Which events were written, for counting; the oldest are forgotten.
#[derive(Default)]
struct Memory {
    known: BTreeMap<Key, (String, i32)>,
    order: VecDeque<Key>,
}

impl Memory {
    fn remember(&mut self, key: &Key, name: String) {
        if self.known.insert(key.clone(), (name, 1)).is_none() {
            self.order.push_back(key.clone());
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

/// Writes events as they come, until the recorder is gone.
pub(crate) async fn write_all(client: kube::Client, node: String, mut pending: Pending) {
    let mut memory = Memory::default();
    while let Some(entry) = pending.0.recv().await {
        let work = write(&client, &node, &entry, &mut memory);
        match tokio::time::timeout(WRITE_LIMIT, work).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, event = ?entry, "event not written"),
            Err(_) => tracing::debug!(event = ?entry, "event not written in time"),
        }
    }
}

async fn write(client: &kube::Client, node: &str, entry: &Entry, memory: &mut Memory) -> Result<(), kube::Error> {
    let api: Api<Event> = Api::namespaced(client.clone(), &entry.namespace);
    if let Some((name, count)) = memory.known.get_mut(&entry.key) {
        let patch = serde_json::json!({"count": *count + 1, "lastTimestamp": Time(entry.at)});
        match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => {
                *count += 1;
                return Ok(());
            }
            // It has expired: write a new one.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let name = format!(
        "{}.{:016x}{:04x}",
        entry.involved.name.as_deref().unwrap_or("node"),
        entry.at.as_nanosecond() & 0xffff_ffff_ffff_ffff,
        rand::random::<u16>()
    );
    let event = Event {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(entry.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: entry.involved.clone(),
        reason: Some(entry.key.reason.clone()),
        message: Some(entry.key.message.clone()),
        type_: Some(if entry.key.warning { "Warning" } else { "Normal" }.to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(entry.at)),
        last_timestamp: Some(Time(entry.at)),
        source: Some(EventSource {
            component: Some("kubelet".into()),
            host: Some(node.to_owned()),
        }),
        reporting_component: Some("kubelet".into()),
        reporting_instance: Some(node.to_owned()),
        ..Event::default()
    };
    api.create(&PostParams::default(), &event).await?;
    memory.remember(&entry.key, name);
    Ok(())
}
