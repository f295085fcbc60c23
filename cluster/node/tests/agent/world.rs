//! An API server, a simulated runtime, and an agent between them.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use afloat_apiserver::{ApiServer, Options, User};
use afloat_node::fake::{Behaviour, FakeRuntime};
use afloat_node::{Agent, AgentOptions, BackOffLimits, Clock};
use afloat_runtime::Runtime as _;
use afloat_store::Store;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::Api;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) fn options(dir: &std::path::Path) -> AgentOptions {
    let mut options = AgentOptions::new("node-1", "10.244.0.1".parse().unwrap(), dir);
    options.pod_cidr = "10.244.0.0/24".into();
    options.runtime_limit = Duration::from_secs(1);
    options.restart_back_off = BackOffLimits {
        first: Duration::from_millis(300),
        max: Duration::from_secs(2),
    };
    options
}

/// Longest wait for anything, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the agent lets the status of a pod that starts wait for changes that follow.
pub(crate) const SETTLE: Duration = Duration::from_millis(500);
/// The same for a pod that ends.
pub(crate) const SETTLE_ENDING: Duration = Duration::from_millis(100);

/// What came out of a write of a pod, and when it was seen.
#[derive(Clone)]
pub(crate) struct Version {
    pub(crate) at: Instant,
    pub(crate) pod: Pod,
    /// It came with the deletion of the object.
    pub(crate) last: bool,
}

impl Version {
    fn number(&self) -> u64 {
        revision(&self.pod)
    }
}

/// The pod's resourceVersion.
fn revision(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().unwrap().parse().unwrap()
}

/// How often the agent may have told of a pod in that time: once, and again each time that a status could not wait any longer for
/// what was to follow, as on a machine that has much else to do.
pub(crate) fn at_most(took: Duration, settle: Duration) -> usize {
    1 + usize::try_from(took.as_millis() / settle.as_millis()).unwrap()
}

pub(crate) struct World {
    pub(crate) server: ApiServer,
    pub(crate) runtime: Arc<FakeRuntime>,
    pub(crate) pods: Api<Pod>,
    pub(crate) dir: tempfile::TempDir,
    shutdown: CancellationToken,
    agent: Option<JoinHandle<()>>,
    history: Arc<Mutex<Vec<Version>>>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let mut world = Self::without_agent().await;
        world.keep_history().await;
        world.start_agent();
        world
    }

    pub(crate) async fn without_agent() -> Self {
        let server = ApiServer::new(Store::memory(), Options::default()).await.unwrap();
        let runtime = FakeRuntime::new(Clock::System, (10, 244));
        runtime.keep_journal();
        runtime.add_image("web:v1", "sha256:1111", Behaviour::default());
        runtime.add_image("web:v2", "sha256:2222", Behaviour::default());
        runtime.add_image("log:v1", "sha256:3333", Behaviour::default());
        let pods = Api::namespaced(server.client("test"), "default");
        Self {
            server,
            runtime,
            pods,
            dir: tempfile::tempdir().unwrap(),
            shutdown: CancellationToken::new(),
            agent: None,
            history: Arc::default(),
        }
    }

    /// Notes each version of each pod from now on: what a status says for a moment may be over before a test looks again.
    async fn keep_history(&self) {
        let now = self.pods.list(&ListParams::default()).await.unwrap();
        let now = now.metadata.resource_version.unwrap();
        let (pods, history) = (self.pods.clone(), self.history.clone());
        tokio::spawn(async move {
            let params = WatchParams::default().timeout(290);
            let mut events = pin!(pods.watch(&params, &now).await.unwrap());
            while let Some(event) = events.next().await {
                let (pod, last) = match event.unwrap() {
                    WatchEvent::Added(pod) | WatchEvent::Modified(pod) => (pod, false),
                    WatchEvent::Deleted(pod) => (pod, true),
                    WatchEvent::Bookmark(_) => continue,
                    WatchEvent::Error(error) => panic!("{error:?}"),
                };
                let at = Instant::now();
                history.lock().unwrap().push(Version { at, pod, last });
            }
        });
    }

    /// All versions of a pod, up to the one that a test has seen, or to its deletion.
    pub(crate) async fn versions(&self, name: &str, seen: Option<&Pod>) -> Vec<Version> {
        let what = format!("the versions of {name}");
        let here = |version: &Version| version.pod.metadata.name.as_deref() == Some(name);
        self.awaited(&what, || {
            let all: Vec<Version> = self
                .history
                .lock()
                .unwrap()
                .iter()
                .filter(|v| here(v))
                .cloned()
                .collect();
            let end = all.iter().position(|version| match seen {
                Some(pod) => version.number() >= revision(pod),
                None => version.last,
            })?;
            Some(all[..=end].to_vec())
        })
        .await
    }

    /// How many writes there were of a pod between two versions of it, which the test has seen.
    pub(crate) async fn written_between(&self, before: &Pod, after: &Pod) -> usize {
        let name = before.metadata.name.as_deref().unwrap();
        let versions = self.versions(name, Some(after)).await;
        versions
            .iter()
            .filter(|version| version.number() > revision(before))
            .count()
    }

    /// Waits until a pod is such, or was so for a moment.
    pub(crate) async fn until_was(&self, name: &str, what: &str, holds: impl Fn(&Pod) -> bool) -> Pod {
        let here = |pod: &Pod| pod.metadata.name.as_deref() == Some(name);
        self.awaited(&format!("{name} to be {what}"), || {
            let history = self.history.lock().unwrap();
            let mut pods = history.iter().map(|version| &version.pod);
            pods.find(|pod| here(pod) && holds(pod)).cloned()
        })
        .await
    }

    async fn awaited<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < end, "waited in vain for {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn start_agent(&mut self) {
        self.shutdown = CancellationToken::new();
        let options = options(self.dir.path());
        let agent = Agent::new(
            self.server.client_as(User::node("node-1")),
            self.runtime.clone(),
            options,
        );
        let run = agent.run(self.shutdown.clone());
        self.agent = Some(tokio::spawn(async move { run.await.unwrap() }));
    }

    /// Ends the agent, and waits for its end; containers run on.
    pub(crate) async fn stop_agent(&mut self) {
        self.shutdown.cancel();
        self.agent.take().unwrap().await.unwrap();
    }

    pub(crate) async fn create(&self, name: &str, spec: Value) {
        let mut pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"nodeName": "node-1"}});
        for (key, value) in spec.as_object().unwrap() {
            pod["spec"][key] = value.clone();
        }
        self.pods
            .create(&PostParams::default(), &serde_json::from_value(pod).unwrap())
            .await
            .unwrap();
    }

    pub(crate) async fn until(&self, name: &str, what: &str, holds: impl Fn(&Pod) -> bool) -> Pod {
        let (mut last, end) = (None, Instant::now() + PATIENCE);
        while Instant::now() < end {
            if let Some(pod) = self.pods.get_opt(name).await.unwrap() {
                if holds(&pod) {
                    return pod;
                }
                last = Some(pod);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!(
            "{name} is not {what}: {}",
            serde_json::to_string_pretty(&last.and_then(|p| p.status)).unwrap()
        );
    }

    pub(crate) async fn until_gone(&self, name: &str) {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if self.pods.get_opt(name).await.unwrap().is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{name} is still there");
    }

    /// The events of that reason, once there are some.
    pub(crate) async fn events(&self, reason: &str) -> Vec<String> {
        self.until_event(reason, |_| true).await
    }

    /// The events of that reason, once one of them is such.
    pub(crate) async fn until_event(&self, reason: &str, is: impl Fn(&str) -> bool) -> Vec<String> {
        let api: Api<Event> = Api::namespaced(self.server.client("test"), "default");
        let (mut found, end) = (vec![], Instant::now() + PATIENCE);
        while Instant::now() < end {
            let all = api.list(&ListParams::default()).await.unwrap().items;
            found = all
                .into_iter()
                .filter(|e| e.reason.as_deref() == Some(reason))
                .filter_map(|e| e.message)
                .collect();
            if found.iter().any(|message| is(message)) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no such event {reason}: {found:?}");
    }

    /// Waits until the journal of one container, without its readiness probes, is `wanted`: what the agent does after a
    /// status that a test has seen, such as the removal of the container before, comes a moment later.
    pub(crate) async fn until_story(&self, of: &str, wanted: &[&str]) {
        let (mut story, end) = (vec![], Instant::now() + PATIENCE);
        while Instant::now() < end {
            story = self.story(of);
            story.retain(|step| step != "exec ready");
            if story == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(story, wanted, "journal of {of}");
    }

    /// Waits until the runtime has that many containers.
    pub(crate) async fn until_containers(&self, wanted: usize) {
        let (mut all, end) = (vec![], Instant::now() + PATIENCE);
        while Instant::now() < end {
            all = self.runtime.containers().await.unwrap();
            if all.len() == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{wanted} containers are wanted: {all:?}");
    }

    /// Waits until the agent keeps nothing of any pod in its folders.
    pub(crate) async fn until_no_folders(&self) {
        let left = |kind: &str| {
            let folders = std::fs::read_dir(self.dir.path().join(kind)).into_iter().flatten();
            folders.map(|folder| folder.unwrap().path()).collect::<Vec<_>>()
        };
        let (mut all, end) = (vec![], Instant::now() + PATIENCE);
        while Instant::now() < end {
            all = [left("pods"), left("logs")].concat();
            if all.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("left behind: {all:?}");
    }

    /// Journal of one container.
    pub(crate) fn story(&self, of: &str) -> Vec<String> {
        self.runtime
            .journal()
            .into_iter()
            .filter(|e| e.of == of)
            .map(|e| e.what)
            .collect()
    }
}

pub(crate) fn condition(pod: &Pod, type_: &str) -> String {
    let list = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    list.into_iter()
        .flatten()
        .find(|c| c.type_ == type_)
        .map(|c| c.status.clone())
        .unwrap_or_default()
}

pub(crate) fn ready(pod: &Pod) -> bool {
    condition(pod, "Ready") == "True"
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

pub(crate) fn entry<'a>(pod: &'a Pod, name: &str) -> &'a ContainerStatus {
    let status = pod.status.as_ref().unwrap();
    let all = status
        .container_statuses
        .iter()
        .flatten()
        .chain(status.init_container_statuses.iter().flatten());
    all.into_iter().find(|c| c.name == name).unwrap()
}

pub(crate) fn waiting(pod: &Pod, name: &str) -> String {
    let find = || {
        let status = pod.status.as_ref()?;
        let entry = status.container_statuses.as_ref()?.iter().find(|c| c.name == name)?;
        entry.state.as_ref()?.waiting.as_ref()?.reason.clone()
    };
    find().unwrap_or_default()
}
