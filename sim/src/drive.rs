//! The one task that owns all nodes: it takes in what is seen, lets time pass for pods, and sends what has to be written.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use afloat_watching::feed::Seen;
use afloat_words::daemon::pinned_to;
use afloat_words::time::whole_seconds;
use futures::FutureExt;
use http::Request;
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as api;
use kube::{Client, Resource as _};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::images::Images;
use crate::kubelet::{Around, Local, Phase, Stage};
use crate::node::{Node, images_patch};
use crate::options::Options;
use crate::pod::Pod;
use crate::status::{Written, report};

/// What the fleet's owner asks for.
pub(crate) enum Command {
    Crash {
        namespace: String,
        pod: String,
        container: String,
        answer: oneshot::Sender<Result<(), Error>>,
    },
    Pause {
        node: String,
        paused: bool,
        answer: oneshot::Sender<Result<(), Error>>,
    },
}

/// Namespace and name.
type Key = Arc<(String, String)>;

/// A pod of the cluster.
struct Entry {
    key: Key,
    latest: Arc<Pod>,
    /// What the node's kubelet has seen; older than `latest` while the node is paused.
    seen: Arc<Pod>,
    local: Option<Local>,
    written: Option<Written>,
    bound: bool,
    deleted: bool,
    queued: bool,
    writing: bool,
    failures: u32,
    timer: Option<Instant>,
}

/// A request that has been answered.
struct Answer {
    about: About,
    result: Result<Option<Pod>, kube::Error>,
}

enum About {
    Bind(Key, String),
    Status(Key, String, Written),
    Delete(Key, String),
    Images(usize),
}

/// Everything that the nodes know.
pub(crate) struct Driver {
    client: Client,
    options: Options,
    registry: Arc<Images>,
    nodes: Vec<Node>,
    node_index: HashMap<String, usize>,
    pods: HashMap<Key, Entry>,
    ready: VecDeque<Key>,
    timers: BinaryHeap<Reverse<(Instant, Key)>>,
    writes: JoinSet<Answer>,
    next_node: usize,
    next_ip: u32,
}

impl Driver {
    pub(crate) fn new(client: Client, options: Options, nodes: Vec<Node>, registry: Arc<Images>) -> Self {
        let node_index = nodes
            .iter()
            .enumerate()
            .map(|(index, node)| (node.name.clone(), index))
            .collect();
        Self {
            client,
            options,
            registry,
            nodes,
            node_index,
            pods: HashMap::new(),
            ready: VecDeque::new(),
            timers: BinaryHeap::new(),
            writes: JoinSet::new(),
            next_node: 0,
            next_ip: 0,
        }
    }

    /// Runs until the shutdown, or until nothing is seen any more.
    pub(crate) async fn drive_nodes(
        mut self,
        mut events: mpsc::Receiver<Seen<Pod>>,
        mut inbox: mpsc::Receiver<Command>,
        shutdown: CancellationToken,
    ) {
        let registry = self.registry.clone();
        loop {
            while self.writes.len() < self.options.parallel.max(1) {
                let Some(key) = self.ready.pop_front() else { break };
                self.visit(&key);
            }
            self.write_images();
            let next = self.timers.peek().map(|Reverse((at, _))| *at);
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(answer) = self.writes.join_next(), if !self.writes.is_empty() => {
                    // A task that panicked takes nothing with it but its own request.
                    if let Ok(answer) = answer {
                        self.answered(answer);
                    }
                }
                seen = events.recv() => match seen {
                    Some(seen) => self.observe(seen),
                    None => return,
                },
                Some(command) = inbox.recv() => self.obey(command),
                () = registry.provided.notified() => self.provided(),
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => self.ring(),
            }
        }
    }

    fn observe(&mut self, seen: Seen<Pod>) {
        match seen {
            Seen::Changed(pod) => self.apply(pod),
            Seen::Gone(pod) => {
                let key = Key::new((pod.metadata.namespace, pod.metadata.name));
                if self
                    .pods
                    .get(&key)
                    .is_some_and(|entry| entry.latest.metadata.uid == pod.metadata.uid)
                {
                    self.pods.remove(&key);
                }
            }
            Seen::Listed(pods) => {
                let uids: std::collections::HashSet<String> = pods.iter().map(|pod| pod.metadata.uid.clone()).collect();
                self.pods.retain(|_, entry| uids.contains(&entry.latest.metadata.uid));
                for pod in pods {
                    self.apply(pod);
                }
            }
        }
    }

    fn apply(&mut self, pod: Pod) {
        let key = Key::new((pod.metadata.namespace.clone(), pod.metadata.name.clone()));
        let paused = self.node_of(&pod).is_some_and(|node| self.nodes[node].paused);
        let pod = Arc::new(pod);
        match self.pods.get_mut(&key) {
            Some(entry) if entry.latest.metadata.uid == pod.metadata.uid => {
                if entry.latest.version() > pod.version() {
                    return;
                }
                if !paused {
                    entry.seen = pod.clone();
                }
                entry.latest = pod;
            }
            _ => {
                let seen = if paused { Arc::default() } else { pod.clone() };
                let entry = Entry {
                    key: key.clone(),
                    latest: pod,
                    seen,
                    local: None,
                    written: None,
                    bound: false,
                    deleted: false,
                    queued: false,
                    writing: false,
                    failures: 0,
                    timer: None,
                };
                self.pods.insert(key.clone(), entry);
            }
        }
        self.enqueue(&key);
    }

    fn node_of(&self, pod: &Pod) -> Option<usize> {
        self.node_index.get(pod.spec.node_name.as_deref()?).copied()
    }

    fn enqueue(&mut self, key: &Key) {
        if let Some(entry) = self.pods.get_mut(key)
            && !entry.queued
        {
            entry.queued = true;
            self.ready.push_back(entry.key.clone());
        }
    }

    /// Lets a pod come to now, and sends the write that this asks for.
    fn visit(&mut self, key: &Key) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        entry.queued = false;
        if entry.writing {
            return;
        }
        let Some(node_name) = entry.latest.spec.node_name.as_deref() else {
            return self.bind(key);
        };
        let Some(&index) = self.node_index.get(node_name) else {
            return;
        };
        if entry.seen.spec.node_name.is_none() {
            return;
        }
        let (node, now, wall) = (&mut self.nodes[index], Instant::now(), wall());
        let mut around = Around {
            options: &self.options,
            registry: &self.registry,
            images: &mut node.images,
            images_changed: &mut node.images_changed,
            now,
            wall: &wall,
        };
        let next_ip = &mut self.next_ip;
        let local = entry
            .local
            .get_or_insert_with(|| Local::new(&entry.seen, pod_ip(next_ip), &mut around));
        let wake = local.advance(&entry.seen, &mut around);
        if let Some(at) = wake
            && entry.timer.is_none_or(|timer| timer <= now || timer > at)
        {
            entry.timer = Some(at);
            self.timers.push(Reverse((at, key.clone())));
        }
        let ends = entry.seen.terminating();
        if ends && (wake.is_some() || local.stage != Stage::Ended) {
            if wake.is_none() {
                self.delete(key);
            }
            return;
        }
        let written = entry.written.as_ref();
        let host = &node.ip;
        if let Some((patch, rest)) = report(
            (&*entry.seen, &*entry.latest),
            local,
            &node.images,
            &self.options,
            host,
            written,
            &wall,
        ) {
            entry.writing = true;
            let about = About::Status(key.clone(), entry.latest.metadata.uid.clone(), rest);
            // A kubelet's fields are its own wherever the server keeps whose they are.
            let uri = format!("{}/status?fieldManager=kubelet", uri(key));
            self.send(about, "PATCH", uri, "application/strategic-merge-patch+json", &patch);
        } else if ends {
            self.delete(key);
        }
    }

    fn bind(&mut self, key: &Key) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        let pod = &entry.latest;
        let other = |name: &String| pod.spec.scheduler_name.as_ref() != Some(name);
        if !self.options.bind
            || entry.bound
            || pod.terminating()
            || !pod.spec.scheduling_gates.is_empty()
            || self.options.scheduler_name.as_ref().is_some_and(other)
        {
            return;
        }
        let pinned = pod.spec.affinity.node_affinity.as_ref().and_then(pinned_to);
        let node = match pinned.map(|name| self.node_index.get(name)) {
            Some(Some(index)) => *index,
            // Not one of ours.
            Some(None) => return,
            None => {
                self.next_node = self.next_node.wrapping_add(1);
                self.next_node.wrapping_sub(1) % self.nodes.len().max(1)
            }
        };
        let node = &self.nodes[node].name;
        let binding = json!({"apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": pod.metadata.name, "namespace": pod.metadata.namespace, "uid": pod.metadata.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node}});
        entry.writing = true;
        let about = About::Bind(key.clone(), pod.metadata.uid.clone());
        self.send(
            about,
            "POST",
            format!("{}/binding", uri(key)),
            "application/json",
            &binding,
        );
    }

    fn delete(&mut self, key: &Key) {
        let Some(entry) = self.pods.get_mut(key) else { return };
        if entry.deleted {
            return;
        }
        entry.writing = true;
        let uid = entry.latest.metadata.uid.clone();
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "preconditions": {"uid": uid}});
        self.send(
            About::Delete(key.clone(), uid),
            "DELETE",
            uri(key),
            "application/json",
            &options,
        );
    }

    fn write_images(&mut self) {
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            if node.images_changed && !node.writing {
                (node.images_changed, node.writing) = (false, true);
                let (uri, patch) = (
                    format!("{}/{}/status", api::Node::url_path(&(), None), node.name),
                    images_patch(&node.images),
                );
                self.send(
                    About::Images(index),
                    "PATCH",
                    uri,
                    "application/merge-patch+json",
                    &patch,
                );
            }
        }
    }

    fn send(&mut self, about: About, method: &'static str, uri: String, kind: &'static str, body: &Value) {
        let client = self.client.clone();
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(http::header::CONTENT_TYPE, kind)
            .body(body.to_string().into_bytes());
        self.writes.spawn(FutureExt::boxed(async move {
            let result = match request {
                Err(error) => Err(kube::Error::HttpError(error)),
                // Only the answer to a status write is a pod.
                Ok(request) if matches!(about, About::Status(..)) => client.request::<Pod>(request).await.map(Some),
                Ok(request) => client.request::<serde::de::IgnoredAny>(request).await.map(|_| None),
            };
            Answer { about, result }
        }));
    }

    fn answered(&mut self, answer: Answer) {
        let (key, uid) = match &answer.about {
            About::Images(index) => {
                self.nodes[*index].writing = false;
                if let Err(error) = &answer.result {
                    tracing::warn!(%error, "cannot write a node's images");
                }
                return;
            }
            About::Bind(key, uid) | About::Status(key, uid, _) | About::Delete(key, uid) => (key.clone(), uid.clone()),
        };
        let Some(entry) = self.pods.get_mut(&key).filter(|entry| entry.latest.metadata.uid == uid) else {
            return;
        };
        entry.writing = false;
        match answer.result {
            Ok(pod) => {
                entry.failures = 0;
                match answer.about {
                    About::Bind(..) => entry.bound = true,
                    About::Delete(..) => entry.deleted = true,
                    About::Status(_, _, rest) => entry.written = Some(rest),
                    About::Images(_) => {}
                }
                if let Some(pod) = pod.filter(|pod| pod.metadata.uid == uid) {
                    self.apply(pod);
                }
                // What was seen while the write was under way may be newer than its answer, and nobody acted on it.
                self.enqueue(&key);
            }
            // Gone, or another pod of that name: the watch will tell.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => {
                tracing::warn!(%error, namespace = key.0, pod = key.1, "write failed");
                let pause = Duration::from_millis(100).saturating_mul(1 << entry.failures.min(6));
                entry.failures = entry.failures.saturating_add(1);
                self.timers.push(Reverse((Instant::now() + pause, key)));
            }
        }
    }

    fn ring(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, _))) = self.timers.peek()
            && *at <= now
        {
            let Some(Reverse((_, key))) = self.timers.pop() else {
                return;
            };
            self.enqueue(&key);
        }
    }

    /// An image that was missing can be pulled.
    fn provided(&mut self) {
        let waits = |entry: &&Entry| {
            let containers = entry.local.iter().flat_map(|local| &local.containers);
            containers
                .into_iter()
                .any(|container| matches!(container.phase, Phase::NoImage(_)))
        };
        let keys: Vec<Key> = self
            .pods
            .values()
            .filter(waits)
            .map(|entry| entry.key.clone())
            .collect();
        for key in keys {
            self.enqueue(&key);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Crash {
                namespace,
                pod,
                container,
                answer,
            } => {
                let result = self.crash(Key::new((namespace, pod)), &container);
                let _ = answer.send(result);
            }
            Command::Pause { node, paused, answer } => {
                let _ = answer.send(self.pause(&node, paused));
            }
        }
    }

    fn crash(&mut self, key: Key, container: &str) -> Result<(), Error> {
        let absent = || Error::Absent(format!("no container {container} runs in pod {}/{}", key.0, key.1));
        let entry = self.pods.get_mut(&key).ok_or_else(absent)?;
        let index = entry
            .latest
            .spec
            .node_name
            .as_ref()
            .and_then(|name| self.node_index.get(name));
        let node = &mut self.nodes[*index.ok_or_else(absent)?];
        let wall = wall();
        let mut around = Around {
            options: &self.options,
            registry: &self.registry,
            images: &mut node.images,
            images_changed: &mut node.images_changed,
            now: Instant::now(),
            wall: &wall,
        };
        let local = entry.local.as_mut().ok_or_else(absent)?;
        if !local.crash(container, &mut around) {
            return Err(absent());
        }
        self.enqueue(&key);
        Ok(())
    }

    fn pause(&mut self, name: &str, paused: bool) -> Result<(), Error> {
        let index = *self
            .node_index
            .get(name)
            .ok_or_else(|| Error::Absent(format!("there is no simulated node {name}")))?;
        self.nodes[index].paused = paused;
        if !paused {
            let mut keys = Vec::new();
            for entry in self.pods.values_mut() {
                if entry.latest.spec.node_name.as_deref() == Some(name) {
                    entry.seen = entry.latest.clone();
                    keys.push(entry.key.clone());
                }
            }
            for key in keys {
                self.enqueue(&key);
            }
        }
        Ok(())
    }
}

fn uri(key: &Key) -> String {
    format!("{}/{}", api::Pod::url_path(&(), Some(&key.0)), key.1)
}

/// Now, as Kubernetes writes times.
fn wall() -> String {
    whole_seconds(Timestamp::now())
}

/// Addresses from 10.64.0.0/10, one after the other.
fn pod_ip(next: &mut u32) -> String {
    *next = next.wrapping_add(1);
    let [_, b, c, d] = next.to_be_bytes();
    format!("10.{}.{c}.{d}", 64 + b % 64)
}
