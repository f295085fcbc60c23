//! ContainerRecreateRequests: the operator's part, as `afloat-recreate` decides it. Each step is decided on the request that the cache
//! shows, once that shows our own writes, and on the pod as the API server has it at that moment: there are few requests at a time, and
//! pods of any owner.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use afloat_api::{CloneSet, ContainerRecreateRequest, NodeTraffic, RecreatePhase, names};
use afloat_recreate::Pod as Asked;
use afloat_recreate::control::{Seen, Service, Step, out_of_service, step};
use afloat_rollout::pod::drain::Drain;
use afloat_rollout::pod::label::Naming;
use afloat_rollout::pod::lifecycle::held;
use afloat_rollout::pod::{Pod, read, service};
use afloat_rollout::workload::owner::Owner;
use afloat_rollout::workload::traffic::{Leaving, Watched};
use afloat_watching::feed::Pauses;
use afloat_watching::{Cache, Ledger, Looking, Queue, Whole, Written};
use afloat_words::key::Key;
use afloat_words::revision::revision;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::Request;
use kube::runtime::watcher;
use kube::{Client, Resource as _, ResourceExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::operator::Operator;
use crate::round::act::{Outcome, REQUEST_TIMEOUT, perform};
use crate::round::traffic;

/// Requests handled at the same time.
const WIDTH: usize = 4;
/// How often the pod of a request under way is looked at: nobody tells of pods that the operator does not follow.
const LOOK: Duration = Duration::from_secs(1);
/// A write of somebody else is on its way by then.
const SOON: Duration = Duration::from_millis(20);
/// Our own writes come by the watch; this is for one that was lost.
const UNSEEN: Duration = Duration::from_secs(10);

/// Stands for requests in a cache, which finds them by namespace and name of their pod.
struct Requests;

impl Whole for Requests {
    type Object = ContainerRecreateRequest;
    type Index = Key;
    fn indexes(request: &ContainerRecreateRequest) -> Vec<Key> {
        let namespace = request.metadata.namespace.as_deref().unwrap_or_default();
        vec![Key::new(namespace, request.spec.pod_name.as_str())]
    }
}

/// What the rounds share.
struct Recreator {
    operator: Arc<Operator>,
    requests: Arc<Cache<Requests>>,
    ledger: Ledger,
    /// In which version pods were Ready before we took them out of service, by the request's UID, until the request says so.
    ready_at: Mutex<HashMap<String, u64>>,
}

/// Works until `shutdown`.
pub(crate) async fn run(operator: Arc<Operator>, shutdown: CancellationToken) {
    let requests: Arc<Cache<Requests>> = Cache::new();
    let queue = Arc::new(Queue::default());
    queue.follow(&requests, |request: &ContainerRecreateRequest| {
        [Key::of(&request.metadata)]
    });
    let of_pods = requests.clone();
    queue.follow(&operator.pods, move |pod: &Pod| {
        let pod = Key::new(pod.metadata.namespace.shared(), pod.metadata.name.shared());
        keys(&of_pods.peek_group(&pod))
    });
    let of_nodes = requests.clone();
    queue.follow(&operator.traffic, move |_: &NodeTraffic| {
        let mut leaving = of_nodes.peek_all();
        leaving.retain(|request| out_of_service(request).is_some());
        keys(&leaving)
    });
    let api = match operator.namespace.as_deref() {
        Some(namespace) => Api::namespaced(operator.client.clone(), namespace),
        None => Api::all(operator.client.clone()),
    };
    let config = watcher::Config::default();
    let feed = requests.clone().feed(api, config, Pauses::Patient, shutdown.clone());
    let recreator = Recreator {
        operator,
        requests,
        ledger: Ledger::default(),
        ready_at: Mutex::default(),
    };
    let work = async {
        recreator.requests.ready().await;
        let failed = |request: &Key, why: String| tracing::warn!(%request, why, "a recreate request waits");
        queue
            .work_off(WIDTH, &shutdown, |key| recreator.round(key), failed)
            .await;
    };
    let both = async { tokio::join!(feed, work) };
    let _ = shutdown.run_until_cancelled(both).await;
}

fn keys(requests: &[Arc<ContainerRecreateRequest>]) -> Vec<Key> {
    requests.iter().map(|request| Key::of(&request.metadata)).collect()
}

impl Recreator {
    /// One step of a request. Ok: when to look again if nothing changes.
    async fn round(&self, key: Key) -> Result<Option<Duration>, String> {
        let Ok(looking) = self.ledger.settle(&key, |_| ()) else {
            return Ok(Some(UNSEEN));
        };
        let request = looking.at(&self.requests).get(&key).map(|request| request.to_tell());
        let Some(request) = request else {
            self.ledger.forget(&key);
            return Ok(None);
        };
        let found = self.look(&looking, &request).await?;
        let now = Timestamp::now();
        let step = step(&Seen {
            request: &request,
            pod: found.asked.as_ref(),
            service: found.service,
            virtual_node: found.virtual_node,
            now,
        });
        if let Step::Wait(until) = step {
            let until = until.map(|until| Duration::try_from(until.duration_since(now)).unwrap_or_default());
            let under_way = request.status.phase == RecreatePhase::Recreating;
            let look = (under_way && request.status.completion_time.is_none()).then_some(LOOK);
            return Ok(until.into_iter().chain(look).min());
        }
        let writing = looking.write();
        match self.carry_out(&request, &found, step).await? {
            Some(written) => writing.wrote(&self.requests, written),
            // It was the pod, which is looked at once more; or somebody else has written meanwhile.
            None => return Ok(Some(SOON)),
        }
        Ok(Some(UNSEEN))
    }

    /// What is to be known of the pod.
    async fn look(&self, looking: &Looking<'_>, request: &ContainerRecreateRequest) -> Result<Found, String> {
        let over = request.status.completion_time.is_some() || request.metadata.deletion_timestamp.is_some();
        if over && request.finalizers().is_empty() {
            return Ok(Found::default());
        }
        let client = &self.operator.client;
        let namespace = request.metadata.namespace.as_deref().unwrap_or_default();
        let Some(text) = pod_text(client, namespace, &request.spec.pod_name).await? else {
            return Ok(Found::default());
        };
        let asked: Asked = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let pod = Pod::from(read(&text).map_err(|error| error.to_string())?);
        let is_new = request.status.phase == RecreatePhase::New;
        Ok(Found {
            virtual_node: is_new && is_virtual(client, asked.node()).await?,
            service: self.service(looking, request, &pod),
            asked: Some(asked),
            pod,
        })
    }

    fn service(&self, looking: &Looking<'_>, request: &ContainerRecreateRequest, pod: &Pod) -> Service {
        let key = writer_key(request);
        let uid = request.metadata.uid.as_deref().unwrap_or_default();
        let noted = self.noted().get(uid).copied();
        // Whoever took it out of service before us has not told: a version that is too late is safe.
        let ready_at = noted.unwrap_or_else(|| revision(&pod.metadata.resource_version));
        let gone = out_of_service(request).is_some_and(|(since, ready_at)| {
            let drain = Drain {
                revision: request.name_any(),
                since,
                ready_at: Some(ready_at),
            };
            let owner = Owner {
                api_version: afloat_api::API_VERSION,
                kind: "ContainerRecreateRequest",
                metadata: &request.metadata,
                template: &Value::Null,
                naming: Naming::Name,
                requires_images: false,
            };
            let traffic = traffic(&self.operator, looking, &Key::of(&request.metadata));
            Watched::of(owner, &traffic).leaving(pod, &drain) == Some(Leaving::Gone)
        });
        Service {
            gated: pod.has_gate(names::KRUISE_POD_READY),
            held: held(pod, names::RECREATE_AGENT, &key),
            ready_at,
            gone,
        }
    }

    fn noted(&self) -> std::sync::MutexGuard<'_, HashMap<String, u64>> {
        self.ready_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries a step out. None: the request was not written.
    async fn carry_out(
        &self,
        request: &ContainerRecreateRequest,
        found: &Found,
        step: Step,
    ) -> Result<Option<Written>, String> {
        let meta = &request.metadata;
        let with = |fields: Value| {
            let mut patch = json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version}});
            merge(&mut patch, fields);
            patch
        };
        let finalizers = |ours: bool| {
            let mut all: Vec<_> = request.finalizers().to_vec();
            all.retain(|other| other != names::RECREATE_UNREADY);
            all.extend(ours.then(|| names::RECREATE_UNREADY.to_owned()));
            json!({"metadata": {"finalizers": all}})
        };
        let (part, patch) = match step {
            Step::Wait(_) => return Ok(None),
            Step::Hold => return self.hold(request, &found.pod, true).await,
            Step::Release => return self.hold(request, &found.pod, false).await,
            Step::Delete => return self.delete(request).await,
            Step::Fill(filled) => (
                None,
                json!({"metadata": {"labels": filled.labels}, "spec": filled.spec}),
            ),
            Step::Status(status) => {
                tracing::debug!(request = request.name_any(), phase = ?status.phase, status.message, "a step");
                (Some("status"), json!({"status": status}))
            }
            Step::AddFinalizer => (None, finalizers(true)),
            Step::RemoveFinalizer => (None, finalizers(false)),
            Step::Deactivate => {
                self.noted().remove(meta.uid.as_deref().unwrap_or_default());
                (None, json!({"metadata": {"labels": {names::RECREATE_ACTIVE: null}}}))
            }
        };
        self.patch(request, part, &with(patch)).await
    }

    async fn patch(
        &self,
        request: &ContainerRecreateRequest,
        part: Option<&str>,
        patch: &Value,
    ) -> Result<Option<Written>, String> {
        let (api, name) = (self.api(request), request.name_any());
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
        let patched = async {
            match part {
                None => api.patch(&name, &parameters, &patch).await,
                Some(_) => api.patch_status(&name, &parameters, &patch).await,
            }
        };
        let written = limited(patched).await;
        answered(written.map(|written| Written::Version(revision(&written.resource_version().unwrap_or_default()))))
    }

    async fn delete(&self, request: &ContainerRecreateRequest) -> Result<Option<Written>, String> {
        let meta = &request.metadata;
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: meta.uid.clone(),
                resource_version: meta.resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        let api = self.api(request);
        answered(
            limited(api.delete(&request.name_any(), &parameters))
                .await
                .map(|_| Written::Gone {
                    key: Key::of(meta),
                    uid: meta.uid.clone().unwrap_or_default(),
                }),
        )
    }

    /// Takes the pod out of service, or lets it return.
    async fn hold(&self, request: &ContainerRecreateRequest, pod: &Pod, hold: bool) -> Result<Option<Written>, String> {
        let key = writer_key(request);
        let action = service::hold(pod, (names::RECREATE_AGENT, &key), hold, Timestamp::now());
        let Some(action) = action else { return Ok(None) };
        let namespace = request.metadata.namespace.as_deref().unwrap_or_default();
        // A pod's status is written in the same way whoever owns it.
        match perform::<CloneSet>(&self.operator.client, namespace, &action).await {
            Outcome::Refused(why) | Outcome::Unknown(why) => return Err(why),
            Outcome::Done(_) if hold => {
                let ready = pod.condition("Ready").is_some_and(|ready| ready.status == "True");
                let version = if ready {
                    revision(&pod.metadata.resource_version)
                } else {
                    0
                };
                let uid = request.metadata.uid.clone().unwrap_or_default();
                self.noted().insert(uid, version);
            }
            // Changed meanwhile: it is looked at anew.
            _ => {}
        }
        Ok(None)
    }

    fn api(&self, request: &ContainerRecreateRequest) -> Api<ContainerRecreateRequest> {
        let client: Client = self.operator.client.clone();
        Api::namespaced(client, request.metadata.namespace.as_deref().unwrap_or_default())
    }
}

/// What is known of a request's pod; nothing if there is none.
#[derive(Default)]
struct Found {
    asked: Option<Asked>,
    pod: Pod,
    service: Service,
    virtual_node: bool,
}

/// The key of a request in a pod's condition.
fn writer_key(request: &ContainerRecreateRequest) -> String {
    let namespace = request.metadata.namespace.as_deref().unwrap_or_default();
    format!("{namespace}/{}", request.name_any())
}

/// Adds fields to an object, into those that are objects in both.
fn merge(into: &mut Value, fields: Value) {
    match (into, fields) {
        (Value::Object(into), Value::Object(fields)) => {
            for (key, value) in fields {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, value) => *into = value,
    }
}

/// What has become of a write. None: somebody else has written meanwhile.
fn answered(written: Result<Written, Refusal>) -> Result<Option<Written>, String> {
    match written {
        Ok(written) => Ok(Some(written)),
        Err(Refusal::Late) => Ok(None),
        // Seen by the next listing at the latest.
        Err(Refusal::Unknown(why)) => {
            tracing::warn!(why, "no answer to a write");
            Ok(Some(Written::Unknown))
        }
        Err(Refusal::Refused(why)) => Err(why),
    }
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("it has changed or gone meanwhile")]
    Late,
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Unknown(String),
}

async fn limited<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Refusal> {
    match tokio::time::timeout(REQUEST_TIMEOUT, call).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(kube::Error::Api(status))) if [404, 409].contains(&status.code) => Err(Refusal::Late),
        Ok(Err(kube::Error::Api(status))) if status.code < 500 => Err(Refusal::Refused(status.message.clone())),
        Ok(Err(error)) => Err(Refusal::Unknown(error.to_string())),
        Err(_) => Err(Refusal::Unknown(format!("no answer within {REQUEST_TIMEOUT:?}"))),
    }
}

/// A pod's text; None if there is no such pod.
pub(crate) async fn pod_text(client: &Client, namespace: &str, name: &str) -> Result<Option<String>, String> {
    let path = k8s_openapi::api::core::v1::Pod::url_path(&(), Some(namespace));
    let request = Request::new(path).get(name, &kube::api::GetParams::default());
    let request = request.map_err(|error| error.to_string())?;
    match tokio::time::timeout(REQUEST_TIMEOUT, client.request_text(request)).await {
        Ok(Ok(text)) => Ok(Some(text)),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(None),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {REQUEST_TIMEOUT:?}")),
    }
}

/// A node's name and labels.
#[derive(Clone, Debug, Default, Deserialize)]
struct Labelled {
    #[serde(default)]
    metadata: ObjectMeta,
}

afloat_api::kind!(Labelled, "v1", "Node", "nodes", ClusterResourceScope);

/// Whether a node is none, but the door to something else; no node is none of them.
pub(crate) async fn is_virtual(client: &Client, node: &str) -> Result<bool, String> {
    if node.is_empty() {
        return Ok(false);
    }
    let api: Api<Labelled> = Api::all(client.clone());
    let found = limited(api.get_opt(node))
        .await
        .map_err(|refusal| refusal.to_string())?;
    let (key, value) = names::VIRTUAL_NODE;
    Ok(found.is_some_and(|node| node.labels().get(key).is_some_and(|label| label == value)))
}
