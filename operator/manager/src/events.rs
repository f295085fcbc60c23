//! Events, as OpenKruise names them. They are a courtesy: a bounded queue, and whatever does not fit is dropped.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::api::PostParams;
use kube::core::Request;
use kube::{Client, Resource};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::kind::Kind;
use crate::round::act::REQUEST_TIMEOUT;

const WAITING: usize = 256;

/// Takes events.
#[derive(Clone)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<(String, Value)>,
}

/// Sends them.
pub(crate) struct Sender {
    client: Client,
    queue: mpsc::Receiver<(String, Value)>,
}

/// A recorder and the task that serves it.
pub(crate) fn recorder(client: Client) -> (Recorder, Sender) {
    let (send, receive) = mpsc::channel(WAITING);
    (Recorder { queue: send }, Sender { client, queue: receive })
}

impl Recorder {
    /// Tells of something that happened to a workload.
    pub(crate) fn tell<K: Kind>(&self, set: &K, kind: &str, reason: &str, message: String) {
        let meta = set.metadata();
        let about = json!({
            "apiVersion": K::API_VERSION, "kind": K::KIND, "namespace": meta.namespace, "name": meta.name,
            "uid": meta.uid, "resourceVersion": meta.resource_version,
        });
        self.tell_of(&about, K::COMPONENT, kind, (reason, message));
    }

    /// Tells of something that happened to any object, by its ObjectReference.
    pub(crate) fn tell_of(&self, about: &Value, component: &str, kind: &str, (reason, message): (&str, String)) {
        let (namespace, body) = event(about, component, kind, (reason, message));
        if self.queue.try_send((namespace, body)).is_err() {
            tracing::debug!(reason, "too many events, one dropped");
        }
    }
}

/// An event about an object that is given by its ObjectReference, and its namespace.
pub(crate) fn event(about: &Value, component: &str, kind: &str, (reason, message): (&str, String)) -> (String, Value) {
    let now = Timestamp::now();
    let seconds = afloat_words::time::whole_seconds(now);
    let text = |key: &str| about[key].as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (text("namespace"), text("name"));
    // Nanoseconds as client-go does; the random part is for two events in one.
    let suffix = format!("{:x}{:04x}", now.as_nanosecond(), rand::random::<u16>());
    let mut body = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": format!("{name}.{suffix}"), "namespace": namespace},
        "involvedObject": about,
        "type": kind, "reason": reason, "count": 1,
        "firstTimestamp": seconds, "lastTimestamp": seconds,
        "source": {"component": component},
        "reportingComponent": component, "reportingInstance": "",
    });
    body["message"] = Value::String(message);
    (namespace, body)
}

/// Sends one. What comes of it only the log is told.
pub(crate) async fn send(client: &Client, namespace: &str, body: Value) {
    let request = Request::new(Event::url_path(&(), Some(namespace)))
        .create(&PostParams::default(), body.to_string().into_bytes());
    let Ok(mut request) = request else { return };
    request.extensions_mut().insert("create");
    let call = tokio::time::timeout(REQUEST_TIMEOUT, client.request::<Value>(request)).await;
    if let Ok(Err(error)) = call {
        tracing::debug!(%error, "event not recorded");
    }
}

impl Sender {
    /// Sends until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let (namespace, body) = tokio::select! {
                next = self.queue.recv() => match next {
                    Some(next) => next,
                    None => return shutdown.cancelled().await,
                },
                () = shutdown.cancelled() => return,
            };
            send(&self.client, &namespace, body).await;
        }
    }
}
