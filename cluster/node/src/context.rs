//! What all workers of an agent share: ways out (API, runtime, events), facts about the node, and the list of pods.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use afloat_runtime::{Runtime, RuntimeError};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::Api;
use tokio::sync::{Notify, watch};

use crate::clock::Clock;
use crate::events::Recorder;
use crate::mailbox::Mailbox;
use crate::options::AgentOptions;
use crate::pod::admission::{self, Labelled, Refusal, Taken};
use crate::pod::container::env::Sources;
use crate::pod::container::links::{self, Services};
use crate::pod::progress;
use crate::pod::spec;
use crate::pod::state::NotGranted;
use crate::told::told;
use crate::volume::References;

/// See the module.
pub(crate) struct Context {
    pub(crate) client: kube::Client,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) options: AgentOptions,
    pub(crate) clock: Clock,
    pub(crate) events: Recorder,
    pub(crate) started_at: Timestamp,
    /// What containers used when somebody asked last.
    pub(crate) looks: crate::usage::Looks,
    /// None: not listed yet.
    pub(crate) services: watch::Sender<Option<Services>>,
    pods: Mutex<HashMap<String, Known>>,
    /// Pods have come or gone.
    others: Notify,
}

struct Known {
    pod: Arc<Pod>,
    mailbox: Arc<Mailbox>,
    /// Thousandths of a CPU and bytes that it was granted.
    requests: (u64, u64),
    /// The node has taken it, and its object is there: others have to do with what it leaves.
    placed: bool,
}

impl Known {
    fn counts(&self) -> bool {
        self.placed && !progress::is_terminal(self.pod.status.as_ref())
    }
}

impl Context {
    pub(crate) fn new(
        client: kube::Client,
        runtime: Arc<dyn Runtime>,
        options: AgentOptions,
        events: Recorder,
    ) -> Self {
        let clock = options.clock.clone();
        let started_at = clock.now();
        Self {
            client,
            runtime,
            options,
            clock,
            events,
            started_at,
            looks: Default::default(),
            services: watch::Sender::default(),
            pods: Mutex::default(),
            others: Notify::new(),
        }
    }

    /// Asks the runtime for something, and takes it as failed if it does not answer in time.
    pub(crate) async fn limited<T>(
        &self,
        call: impl Future<Output = Result<T, RuntimeError>>,
    ) -> Result<T, RuntimeError> {
        let limit = self.options.runtime_limit;
        let late = || RuntimeError::Failed(format!("the runtime did not answer within {limit:?}"));
        tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(late()))
    }

    fn with_pods<T>(&self, work: impl FnOnce(&mut HashMap<String, Known>) -> T) -> T {
        work(&mut self.pods.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The mailbox of the pod's worker, if there is one.
    pub(crate) fn mailbox(&self, uid: &str) -> Option<Arc<Mailbox>> {
        self.with_pods(|pods| pods.get(uid).map(|known| known.mailbox.clone()))
    }

    /// `placed`: the node has taken it before.
    pub(crate) fn register(&self, pod: Arc<Pod>, mailbox: Arc<Mailbox>, requests: (u64, u64), placed: bool) {
        let uid = spec::uid(&pod).to_owned();
        let known = Known {
            pod,
            mailbox,
            requests,
            placed,
        };
        self.with_pods(|pods| pods.insert(uid, known));
        self.others.notify_one();
    }

    /// Takes a pod, if it fits beside those that the node has: one pod after another.
    pub(crate) fn admit(&self, pod: &Pod, node: &Labelled) -> Result<(), Refusal> {
        self.with_pods(|pods| {
            let uid = spec::uid(pod);
            let mut taken = Taken::default();
            for (_, known) in pods.iter().filter(|(other, known)| *other != uid && known.counts()) {
                taken.add(&known.pod, known.requests);
            }
            let Some(known) = pods.get_mut(uid) else { return Ok(()) };
            match admission::refusal(pod, known.requests, node, &self.options.capacity, &taken) {
                Some(refusal) => Err(refusal),
                None => {
                    known.placed = true;
                    Ok(())
                }
            }
        })
    }

    /// A pod's object is gone, whatever is still to be taken away of it.
    pub(crate) fn vacate(&self, uid: &str) {
        self.with_pods(|pods| {
            if let Some(known) = pods.get_mut(uid) {
                known.placed = false;
            }
        });
    }

    /// Grants a pod other requests (thousandths of a CPU, bytes), if the node has them: one pod after another. Less than
    /// it has is always granted. Otherwise why not, and the message of its condition as the kubelet words it.
    pub(crate) fn allocate(&self, uid: &str, wanted: (u64, u64)) -> Result<(), (NotGranted, String)> {
        let capacity = &self.options.capacity;
        self.with_pods(|pods| {
            let others = pods.iter().filter(|(other, known)| *other != uid && known.counts());
            let used = others.fold((0u64, 0u64), |sum, (_, known)| {
                (
                    sum.0.saturating_add(known.requests.0),
                    sum.1.saturating_add(known.requests.1),
                )
            });
            let own = pods.get(uid).map_or((0, 0), |known| known.requests);
            let each = [
                ("memory", wanted.1, own.1, used.1, capacity.memory_bytes),
                ("cpu", wanted.0, own.0, used.0, capacity.cpu_millis),
            ];
            for (name, wanted, own, _, capacity) in each {
                if wanted > capacity && wanted > own {
                    let what = format!("{name}, requested: {wanted}, capacity: {capacity}");
                    return Err((
                        NotGranted::Infeasible,
                        format!("Node didn't have enough capacity: {what}"),
                    ));
                }
            }
            for (name, wanted, own, used, capacity) in each {
                if wanted > own && used.saturating_add(wanted) > capacity {
                    let what = format!("{name}, requested: {wanted}, used: {used}, capacity: {capacity}");
                    return Err((
                        NotGranted::Deferred,
                        format!("Node didn't have enough resource: {what}"),
                    ));
                }
            }
            if let Some(known) = pods.get_mut(uid) {
                known.requests = wanted;
            }
            Ok(())
        })
    }

    pub(crate) fn unregister(&self, uid: &str) {
        self.with_pods(|pods| pods.remove(uid));
        self.others.notify_one();
    }

    /// Waits until pods have come or gone since it was asked last. For one asker.
    pub(crate) async fn other_pods(&self) {
        self.others.notified().await;
    }

    /// The newest object, for those who ask the node.
    pub(crate) fn publish(&self, pod: &Arc<Pod>) {
        self.with_pods(|pods| {
            if let Some(known) = pods.get_mut(spec::uid(pod)) {
                known.pod = pod.clone();
            }
        });
    }

    pub(crate) fn uids(&self) -> BTreeSet<String> {
        self.with_pods(|pods| pods.keys().cloned().collect())
    }

    /// Pods by name; of two with one name (one just going) the newer.
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.pods()
            .into_iter()
            .rev()
            .find(|pod| spec::namespace(pod) == namespace && spec::name(pod) == name)
    }

    /// All pods, oldest first.
    pub(crate) fn pods(&self) -> Vec<Arc<Pod>> {
        let mut all: Vec<_> = self.with_pods(|pods| pods.values().map(|known| known.pod.clone()).collect());
        all.sort_by_key(|pod| {
            (
                pod.metadata.creation_timestamp.as_ref().map(|t| t.0),
                spec::uid(pod).to_owned(),
            )
        });
        all
    }

    /// Fetches what is referred to, beside the facts about the node.
    pub(crate) async fn sources(
        &self,
        pod: &Pod,
        references: References,
        pod_ip: Option<IpAddr>,
    ) -> Result<Sources, String> {
        let namespace = spec::namespace(pod);
        let mut sources = Sources {
            host_ip: Some(self.options.node_ip),
            pod_ip,
            allocatable: self.options.capacity.quantities(),
            ..Sources::default()
        };
        sources.pod_ip = sources.pod_ip.or_else(|| told_ip(pod));
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        for name in references.config_maps {
            if let Some(map) = maps.get_opt(&name).await.map_err(|error| told(&error))? {
                sources.config_maps.insert(name, map);
            }
        }
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        for name in references.secrets {
            if let Some(secret) = secrets.get_opt(&name).await.map_err(|error| untold(&name, &error))? {
                sources.secrets.insert(name, secret);
            }
        }
        Ok(sources)
    }

    /// Variables of Services, once they are known.
    pub(crate) async fn service_variables(&self, pod: &Pod) -> Vec<(String, String)> {
        let mut services = self.services.subscribe();
        let known = services.wait_for(Option::is_some).await;
        // An error means that the sender is gone, and the sender lives as long as `self`.
        let known = known.as_deref().ok().and_then(Option::as_ref);
        known.map(|all| links::variables(pod, all)).unwrap_or_default()
    }
}

/// Why a Secret was not got. What of it cannot be read is not told: events and logs are for more people than it is.
fn untold(name: &str, error: &kube::Error) -> String {
    match error {
        kube::Error::SerdeError(error) => {
            format!(
                "secret {name} cannot be read (line {}, column {})",
                error.line(),
                error.column()
            )
        }
        other => told(other),
    }
}

/// The pod's address as its status has it.
fn told_ip(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}
