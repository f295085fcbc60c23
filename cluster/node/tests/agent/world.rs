//! An API server, a simulated runtime, and an agent between them.

use std::sync::Arc;
use std::time::Duration;

use afloat_apiserver::{ApiServer, Options, User};
use afloat_node::fake::{Behaviour, FakeRuntime};
use afloat_node::{Agent, AgentOptions, BackOffLimits, Clock};
use afloat_store::Store;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};
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

pub(crate) struct World {
    pub(crate) server: ApiServer,
    pub(crate) runtime: Arc<FakeRuntime>,
    pub(crate) pods: Api<Pod>,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) shutdown: CancellationToken,
}

impl World {
    pub(crate) async fn new() -> Self {
        let mut world = Self::without_agent().await;
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
        tokio::spawn(agent.run(self.shutdown.clone()));
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
        let mut last = None;
        for _ in 0..3000 {
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
        for _ in 0..3000 {
            if self.pods.get_opt(name).await.unwrap().is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{name} is still there");
    }

    pub(crate) async fn events(&self, reason: &str) -> Vec<String> {
        let api: Api<Event> = Api::namespaced(self.server.client("test"), "default");
        for _ in 0..100 {
            let all = api.list(&ListParams::default()).await.unwrap().items;
            let found: Vec<_> = all
                .into_iter()
                .filter(|e| e.reason.as_deref() == Some(reason))
                .filter_map(|e| e.message)
                .collect();
            if !found.is_empty() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        vec![]
    }

    pub(crate) fn writes(&self, verb: &str, resource: &str) -> u64 {
        let of = |w: &&afloat_apiserver::WriteCount| {
            w.user == "system:node:node-1" && w.verb == verb && w.resource == resource
        };
        self.server.writes().iter().filter(of).map(|w| w.count).sum()
    }

    /// Waits for a number of writes; more are a failure.
    pub(crate) async fn until_written(&self, verb: &str, resource: &str, wanted: u64) {
        for _ in 0..500 {
            if self.writes(verb, resource) >= wanted {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(self.writes(verb, resource), wanted, "writes of {verb} {resource}");
    }

    /// Waits until the journal of one container, without its readiness probes, is `wanted`: what the agent does after a
    /// status that a test has seen, such as the removal of the container before, comes a moment later.
    pub(crate) async fn until_story(&self, of: &str, wanted: &[&str]) {
        let mut story = vec![];
        for _ in 0..1000 {
            story = self.story(of);
            story.retain(|step| step != "exec ready");
            if story == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(story, wanted, "journal of {of}");
    }

    /// Waits until the agent keeps nothing of any pod in its folders.
    pub(crate) async fn until_no_folders(&self) {
        let left = |kind: &str| {
            let folders = std::fs::read_dir(self.dir.path().join(kind)).into_iter().flatten();
            folders.map(|folder| folder.unwrap().path()).collect::<Vec<_>>()
        };
        let mut all = vec![];
        for _ in 0..1000 {
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
