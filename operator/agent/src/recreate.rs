//! ContainerRecreateRequests for the pods of this node: stops containers in their turn, of which the kubelet then starts new ones, and
//! writes what has become of them. What is to be done is decided by `afloat-recreate`; pods are not looked at.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use afloat_api::{ContainerRecreateRequest, RecreatePhase, RecreateStatus, names};
use afloat_recreate::node::{Found, Next, Step, grace, next, stopped, turn};
use afloat_watching::feed::Pauses;
use afloat_watching::{Cache, Ledger, Looking, Queue, Urgency, Whole, Writing, Written};
use afloat_words::key::Key;
use afloat_words::revision::revision;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio::time::timeout;

use crate::node::Node;
use crate::runtime::{ContainerState, NodeContainer, RuntimeError};
use crate::stop::stop_container;

/// Pods handled at the same time: to stop a container takes as long as its grace period.
const WIDTH: usize = 32;
/// For one request to the API server, and for one look at a pod's containers.
const LIMIT: Duration = Duration::from_secs(10);
/// Tries to write what was done, each after somebody else was faster.
const TRIES: usize = 8;
/// An end of a container is seen by the runtime's list within a second; this is for a list that came late.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Stands for the requests of this node in a cache, which finds them by namespace and name of their pod.
struct Requests;

impl Whole for Requests {
    type Object = ContainerRecreateRequest;
    type Index = Key;
    fn indexes(request: &ContainerRecreateRequest) -> Vec<Key> {
        vec![pod_of(request)]
    }
}

fn pod_of(request: &ContainerRecreateRequest) -> Key {
    let namespace = request.metadata.namespace.as_deref().unwrap_or_default();
    Key::new(namespace, request.spec.pod_name.as_str())
}

/// Works until the node's shutdown.
pub(crate) fn run(node: &Node) -> BoxFuture<'_, ()> {
    // Boxed where nothing is async: the code of a future is made where it is awaited, which would be each program that calls this.
    run_here(node).boxed()
}

async fn run_here(node: &Node) {
    let requests: Arc<Cache<Requests>> = Cache::new();
    let queue = Arc::new(Queue::default());
    queue.follow(&requests, |request: &ContainerRecreateRequest| {
        let pod = pod_of(request);
        [Item::Line(pod.clone()), Item::Turn(pod)]
    });
    // OpenKruise's daemon asks for the very same: what is over costs no node anything.
    let mine = format!("{}={},{}=true", names::RECREATE_NODE, node.name, names::RECREATE_ACTIVE);
    let config = watcher::Config::default().labels(&mine);
    let api = Api::all(node.client.clone());
    let feed = requests
        .clone()
        .feed(api, config, Pauses::Patient, node.shutdown.clone());
    let worker = Worker {
        node,
        requests: &requests,
        ledgers: [Ledger::default(), Ledger::default()],
    };
    let work = async {
        requests.ready().await;
        let failed = |item: &Item, why: String| tracing::warn!(?item, why, "cannot recreate containers, trying again");
        queue
            .work_off(WIDTH, &node.shutdown, |item| worker.round(item), failed)
            .await;
    };
    let awake = async {
        let mut containers = node.containers.clone();
        while containers.changed().await.is_ok() {
            for request in requests.peek_all() {
                queue.add(Item::Turn(pod_of(&request)), Urgency::Now);
            }
        }
        std::future::pending::<()>().await;
    };
    let all = async { tokio::join!(feed, work, awake) };
    let _ = node.shutdown.run_until_cancelled(all).await;
}

/// What is looked at, each by itself: to stop a container may take minutes, and who comes meanwhile is told that it has to wait.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Item {
    /// Those who wait for their turn with a pod.
    Line(Key),
    /// The one whose turn it is.
    Turn(Key),
}

struct Worker<'a> {
    node: &'a Node,
    requests: &'a Arc<Cache<Requests>>,
    /// Of the line's writes, and of the turn's.
    ledgers: [Ledger; 2],
}

impl Worker<'_> {
    /// One step for one pod. Ok: when to look again if nothing changes.
    async fn round(&self, item: Item) -> Result<Option<Duration>, String> {
        let [line, turns] = &self.ledgers;
        let (ledger, pod) = match &item {
            Item::Line(pod) => (line, pod),
            Item::Turn(pod) => (turns, pod),
        };
        // Each write of ours has to be seen first; that comes by the watch, as does every other reason to look again.
        let Ok(looking) = ledger.settle(pod, |_| ()) else {
            return Ok(Some(LOOK_AGAIN));
        };
        let all = looking.at(self.requests).group(pod).to_vec();
        if all.is_empty() {
            ledger.forget(pod);
            return Ok(None);
        }
        match (turn(&all, Timestamp::now()), item) {
            (Step::Status(request, status), Item::Line(_)) if status.phase == RecreatePhase::Pending => {
                self.write(&looking.write(), &request, &status).await?;
                Ok(None)
            }
            (_, Item::Line(_)) => Ok(None),
            (Step::Wait(until), _) => Ok(until.map(from_now)),
            (Step::Status(request, status), _) => {
                self.write(&looking.write(), &request, &status).await?;
                Ok(None)
            }
            (Step::Turn(request), _) => self.containers(&request, looking).await,
        }
    }

    /// One step of the request whose turn it is.
    async fn containers(
        &self,
        request: &ContainerRecreateRequest,
        looking: Looking<'_>,
    ) -> Result<Option<Duration>, String> {
        let labels = request.metadata.labels.as_ref();
        let uid = labels.and_then(|labels| labels.get(names::RECREATE_POD_UID));
        let containers = self.node.runtime.containers(Some(uid.map_or("", String::as_str)));
        let late = || RuntimeError::Unavailable(format!("the runtime did not answer within {LIMIT:?}"));
        let containers = timeout(LIMIT, containers).await.unwrap_or_else(|_| Err(late()));
        let containers = newest(containers.map_err(|error| error.to_string())?);
        let found = containers
            .iter()
            .map(|(name, container)| (name.clone(), found(container)));
        match next(request, &found.collect(), Timestamp::now()) {
            Next::Wait(until) => Ok(Some(until.map_or(LOOK_AGAIN, from_now))),
            Next::Status(status) => {
                self.write(&looking.write(), request, &status).await?;
                Ok(None)
            }
            Next::Stop { container, id } => {
                let writing = looking.write();
                let known = containers.get(&container).filter(|known| known.id == id);
                let Some(known) = known else {
                    return Ok(Some(Duration::ZERO));
                };
                let outcome = self.stop(request, known).await?;
                self.tell(&writing, request, &container, outcome).await?;
                Ok(None)
            }
        }
    }

    /// Stops a container. Ok: it has ended, or why it cannot be made to.
    async fn stop(
        &self,
        request: &ContainerRecreateRequest,
        container: &NodeContainer,
    ) -> Result<Result<(), String>, String> {
        let asked = request
            .spec
            .containers
            .iter()
            .find(|asked| asked.name == container.name);
        let hook = asked.and_then(|asked| asked.pre_stop.as_ref());
        let grace = grace(request).unsigned_abs();
        let name = request.name_any();
        tracing::info!(
            request = name,
            container = container.name,
            id = container.id,
            "stopping a container"
        );
        match stop_container(&*self.node.runtime, container, hook, grace).await {
            Ok(stopped) => {
                if let Some(why) = stopped.hook {
                    tracing::warn!(
                        request = name,
                        container = container.name,
                        why,
                        "the preStop hook failed"
                    );
                }
                Ok(Ok(()))
            }
            // Somebody else was faster.
            Err(RuntimeError::NotFound(_)) => Ok(Ok(())),
            Err(RuntimeError::Unavailable(why)) => Err(why),
            Err(RuntimeError::Failed(why)) => Ok(Err(why)),
        }
    }

    /// Writes what has become of a container to the request as it is by now: that took its time, and the request may be over.
    async fn tell(
        &self,
        writing: &Writing<'_>,
        request: &ContainerRecreateRequest,
        container: &str,
        outcome: Result<(), String>,
    ) -> Result<(), String> {
        let api = self.api(request);
        let outcome = match &outcome {
            Ok(()) => Ok(()),
            Err(why) => Err(why.as_str()),
        };
        for _ in 0..TRIES {
            let present = limited(api.get_opt(&request.name_any())).await?;
            let present = present.filter(|present| present.metadata.uid == request.metadata.uid);
            let Some(present) = present else { return Ok(()) };
            let status = stopped(&present.status, container, outcome);
            if self.write(writing, &present, &status).await? {
                return Ok(());
            }
        }
        Err("the request is written by somebody else again and again".to_owned())
    }

    /// Writes a status on the version that it was decided on. False: somebody else has written meanwhile.
    async fn write(
        &self,
        writing: &Writing<'_>,
        request: &ContainerRecreateRequest,
        status: &RecreateStatus,
    ) -> Result<bool, String> {
        let meta = &request.metadata;
        let patch = json!({
            "metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version},
            "status": status,
        });
        let (api, name) = (self.api(request), request.name_any());
        let parameters = PatchParams::default();
        let patch = Patch::Merge(&patch);
        let patched = timeout(LIMIT, api.patch_status(&name, &parameters, &patch)).await;
        let written = match patched {
            Ok(Ok(written)) => Written::Version(revision(&written.resource_version().unwrap_or_default())),
            Ok(Err(kube::Error::Api(error))) if [404, 409].contains(&error.code) => return Ok(false),
            Ok(Err(kube::Error::Api(error))) if error.code < 500 => return Err(error.to_string()),
            Ok(Err(error)) => {
                writing.wrote(self.requests, Written::Unknown);
                return Err(error.to_string());
            }
            Err(_) => {
                writing.wrote(self.requests, Written::Unknown);
                return Err(format!("no answer within {LIMIT:?}"));
            }
        };
        writing.wrote(self.requests, written);
        Ok(true)
    }

    fn api(&self, request: &ContainerRecreateRequest) -> Api<ContainerRecreateRequest> {
        let client: Client = self.node.client.clone();
        Api::namespaced(client, request.metadata.namespace.as_deref().unwrap_or_default())
    }
}

async fn limited<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match timeout(LIMIT, call).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {LIMIT:?}")),
    }
}

/// The newest container of each name.
fn newest(containers: Vec<NodeContainer>) -> BTreeMap<String, NodeContainer> {
    let named = containers
        .into_iter()
        .map(|container| (container.name.clone(), container));
    named.collect()
}

fn found(container: &NodeContainer) -> Found {
    Found {
        id: container.id.clone(),
        ended: matches!(container.state, ContainerState::Exited { .. }),
        restart_count: i32::try_from(container.restart_count).unwrap_or(i32::MAX),
        started_at: container.started_at,
    }
}

fn from_now(time: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or_default()
}
