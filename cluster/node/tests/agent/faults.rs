//! A table of faults: at every step of a pod's life (start, change in place, deletion) the agent is killed before it or
//! after it, the step fails, or the runtime never answers. Whatever it is, the pod gets there, nothing runs twice, and
//! nothing is left.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::pending;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use afloat_apiserver::{ApiServer, Body, InProcess, User};
use afloat_node::Agent;
use afloat_node::fake::{Behaviour, FakeRuntime};
use afloat_runtime::registry::{Keyring, Progress, PullError, Pulled};
use afloat_runtime::{
    Container, ContainerSpec, ExecSession, ExecSpec, Image, Resources, Runtime, RuntimeError, Sandbox, SandboxSpec,
    Usage,
};
use futures::StreamExt as _;
use http::{Method, Request, Response};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use crate::world::{World, entry, options, ready};

/// What becomes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The agent is killed when it is about to take it.
    KilledBefore,
    /// The agent is killed before it hears of the answer.
    KilledAfter,
    /// It is not taken, and the answer is an error.
    Fails,
    /// It is taken, and there is no answer. Of verbs of the runtime only.
    Silent,
}

/// The steps of one run, over all lives of its agent.
struct Steps {
    taken: Mutex<Vec<String>>,
    strikes: Option<(usize, Fault)>,
    killed: Notify,
}

/// One life of an agent: nothing of it happens after its end.
#[derive(Clone)]
struct Life {
    steps: Arc<Steps>,
    over: Arc<AtomicBool>,
    /// Where what the node does goes on without the agent.
    node: tokio::runtime::Handle,
}

impl Life {
    /// Takes a step.
    async fn take<T: Send + 'static>(
        &self,
        name: String,
        step: impl Future<Output = T> + Send + 'static,
        fails: impl FnOnce() -> T,
    ) -> T {
        if self.over.load(Ordering::SeqCst) {
            return pending().await;
        }
        let number = {
            let mut taken = self.steps.taken.lock().unwrap_or_else(PoisonError::into_inner);
            taken.push(name.clone());
            taken.len() - 1
        };
        let fault = self
            .steps
            .strikes
            .filter(|(at, _)| *at == number)
            .map(|(_, fault)| fault);
        match fault {
            Some(Fault::Fails) => return fails(),
            Some(Fault::KilledBefore) => return self.die().await,
            _ => {}
        }
        let answer = self.node.spawn(step).await.expect("it does not panic");
        if fault == Some(Fault::Silent) && name.contains('_') {
            return pending().await;
        }
        if fault == Some(Fault::KilledAfter) || self.over.load(Ordering::SeqCst) {
            return self.die().await;
        }
        answer
    }

    async fn die<T>(&self) -> T {
        if !self.over.swap(true, Ordering::SeqCst) {
            self.steps.killed.notify_one();
        }
        pending().await
    }
}

/// The runtime as one life of an agent sees it.
struct Hands {
    life: Life,
    runtime: Arc<FakeRuntime>,
}

impl Hands {
    async fn verb<T: Send + 'static>(
        &self,
        name: &str,
        of: &str,
        step: impl Future<Output = Result<T, RuntimeError>> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let fails = || Err(RuntimeError::Failed("the table says so".to_owned()));
        self.life.take(format!("{name} {of}"), step, fails).await
    }
}

/// A verb whose arguments are owned by what goes on without the agent.
macro_rules! verb {
    ($self:ident, $of:expr, $verb:ident($($argument:ident),*)) => {{
        let runtime = $self.runtime.clone();
        $(let $argument = $argument.to_owned();)*
        let step = async move { runtime.$verb($(&$argument),*).await };
        $self.verb(stringify!($verb), &$of.to_owned(), step).await
    }};
}

#[async_trait::async_trait]
impl Runtime for Hands {
    async fn image(&self, reference: &str) -> Result<Option<Image>, RuntimeError> {
        let of = reference.to_owned();
        verb!(self, of, image(reference))
    }

    async fn images(&self) -> Result<Vec<Image>, RuntimeError> {
        self.runtime.images().await
    }

    async fn pull(&self, reference: &str, keyring: &Keyring, progress: &Progress) -> Result<Pulled, PullError> {
        self.runtime.pull(reference, keyring, progress).await
    }

    async fn resolve_user(&self, image_id: &str, user: &str) -> Result<(u32, u32, Vec<u32>), RuntimeError> {
        let of = image_id.to_owned();
        verb!(self, of, resolve_user(image_id, user))
    }

    async fn create_sandbox(&self, spec: &SandboxSpec) -> Result<Sandbox, RuntimeError> {
        verb!(self, "", create_sandbox(spec))
    }

    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), RuntimeError> {
        verb!(self, "", remove_sandbox(pod_uid))
    }

    async fn mount_memory(&self, path: &Path, size_bytes: u64) -> Result<(), RuntimeError> {
        self.runtime.mount_memory(path, size_bytes).await
    }

    async fn unmount_below(&self, dir: &Path) -> Result<(), RuntimeError> {
        verb!(self, "", unmount_below(dir))
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<String, RuntimeError> {
        let spec = spec.clone();
        let (runtime, of) = (self.runtime.clone(), spec.name.clone());
        let step = async move { runtime.create_container(&spec).await };
        self.verb("create_container", &of, step).await
    }

    async fn start_container(&self, id: &str) -> Result<(), RuntimeError> {
        let of = self.name_of(id).await;
        verb!(self, of, start_container(id))
    }

    async fn update_container(&self, id: &str, resources: &Resources) -> Result<(), RuntimeError> {
        self.runtime.update_container(id, resources).await
    }

    async fn signal_container(&self, id: &str, signal: &str) -> Result<(), RuntimeError> {
        let of = self.name_of(id).await;
        verb!(self, of, signal_container(id, signal))
    }

    async fn remove_container(&self, id: &str) -> Result<(), RuntimeError> {
        let of = self.name_of(id).await;
        verb!(self, of, remove_container(id))
    }

    async fn containers(&self) -> Result<Vec<Container>, RuntimeError> {
        self.runtime.containers().await
    }

    fn exits(&self) -> broadcast::Receiver<String> {
        self.runtime.exits()
    }

    async fn exec(&self, id: &str, spec: ExecSpec) -> Result<ExecSession, RuntimeError> {
        let probe = spec.command == ["ready"];
        let (runtime, of, id) = (self.runtime.clone(), spec.command.join(" "), id.to_owned());
        let step = async move { runtime.exec(&id, spec).await };
        // Probes come as often as time lets them: they would make no table.
        if probe {
            step.await
        } else {
            self.verb("exec", &of, step).await
        }
    }

    async fn connect(&self, pod_uid: &str, port: u16) -> Result<tokio::net::TcpStream, RuntimeError> {
        self.runtime.connect(pod_uid, port).await
    }

    async fn usage(&self) -> Result<BTreeMap<String, Usage>, RuntimeError> {
        self.runtime.usage().await
    }
}

impl Hands {
    async fn name_of(&self, id: &str) -> String {
        let all = self.runtime.containers().await.unwrap_or_default();
        let found = all.into_iter().find(|container| container.id == id);
        found.map_or_else(String::new, |container| container.name)
    }
}

/// The API server as one life of an agent sees it: writes of pods are steps.
#[derive(Clone)]
struct Mouth {
    life: Life,
    server: InProcess,
}

impl Service<Request<kube::client::Body>> for Mouth {
    type Response = Response<Body>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Response<Body>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let (life, mut server) = (self.life.clone(), self.server.clone());
        let is_step = request.method() != Method::GET && request.uri().path().contains("/pods/");
        let name = format!("{} pod", request.method());
        Box::pin(async move {
            let exchange = async move { server.call(request).await.map_err(|never: Infallible| match never {}) };
            if is_step {
                let fails = || Err(std::io::ErrorKind::ConnectionReset.into());
                life.take(name, exchange, fails).await
            } else {
                exchange.await
            }
        })
    }
}

/// What was left by a run.
struct Row {
    taken: Vec<String>,
    struck: bool,
}

impl Row {
    /// Leads a pod through its life with one fault, or none.
    async fn run(strikes: Option<(usize, Fault)>) -> Self {
        let steps = Arc::new(Steps {
            taken: Mutex::default(),
            strikes,
            killed: Notify::new(),
        });
        let world = World::without_agent().await;
        let ends = Behaviour {
            ends: vec![Some((Duration::ZERO, 0))],
            ..Behaviour::default()
        };
        world.runtime.add_image("migrate:v1", "sha256:4444", ends);
        let agent = tokio::spawn(lives(
            steps.clone(),
            world.server.clone(),
            world.runtime.clone(),
            world.dir.path().to_owned(),
        ));
        let what = format!("{strikes:?}");
        world.lead(&what).await;
        agent.abort();
        let taken = steps.taken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let struck = strikes.is_some_and(|(at, _)| at < taken.len());
        Self { taken, struck }
    }
}

/// An agent, and after its death the next. Each has threads of its own, which end with it.
async fn lives(steps: Arc<Steps>, server: ApiServer, runtime: Arc<FakeRuntime>, dir: std::path::PathBuf) {
    let node = tokio::runtime::Handle::current();
    loop {
        let life = Life {
            steps: steps.clone(),
            over: Arc::default(),
            node: node.clone(),
        };
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let threads = Threads(Some(threads.expect("a runtime")));
        let hands = Hands {
            life: life.clone(),
            runtime: runtime.clone(),
        };
        let mouth = Mouth {
            life: life.clone(),
            server: InProcess::new(server.clone(), User::node("node-1")),
        };
        let options = options(&dir);
        let client = kube::Client::new(mouth, "default");
        threads.spawn(async move {
            Agent::new(client, Arc::new(hands), options)
                .run(CancellationToken::new())
                .await
        });
        steps.killed.notified().await;
        drop(threads);
    }
}

/// Threads that are not waited for.
struct Threads(Option<tokio::runtime::Runtime>);

impl Threads {
    fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) {
        drop(self.0.as_ref().expect("until it is dropped").spawn(work));
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.take().expect("dropped once").shutdown_background();
    }
}

impl World {
    /// Start, change in place, deletion.
    async fn lead(&self, what: &str) {
        let hook = |word: &str| json!({"exec": {"command": [word]}});
        let probe = json!({"exec": {"command": ["ready"]}, "periodSeconds": 1});
        let web = json!({
            "name": "web", "image": "web:v1", "readinessProbe": probe,
            "lifecycle": {"postStart": hook("begin"), "preStop": hook("leave")},
        });
        let spec = json!({
            "initContainers": [{"name": "init", "image": "migrate:v1"}],
            "containers": [web, {"name": "log", "image": "log:v1", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
            "volumes": [{"name": "data", "emptyDir": {}}],
            "terminationGracePeriodSeconds": 5,
        });
        self.create("pod", spec).await;
        let first = self.until("pod", &format!("ready: {what}"), ready).await;
        let change = json!({"spec": {"containers": [{"name": "web", "image": "web:v2"}]}});
        let pods = &self.pods;
        pods.patch("pod", &PatchParams::default(), &Patch::Strategic(&change))
            .await
            .unwrap();
        let changed = |pod: &Pod| ready(pod) && entry(pod, "web").image_id.contains("2222");
        let second = self.until("pod", &format!("changed: {what}"), changed).await;
        let (first, second) = (first.status.unwrap(), second.status.unwrap());
        assert_eq!(first.pod_ip, second.pod_ip, "{what}");
        pods.delete("pod", &DeleteParams::default()).await.unwrap();
        self.until_gone("pod").await;

        // Nothing is left: no container, no sandbox, no folder.
        for _ in 0..6000 {
            if self.left().await.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(self.left().await, [""; 0], "{what}");

        // Only what changed was started again, and never two at a time.
        let starts = |name: &str| self.story(name).iter().filter(|step| *step == "start").count();
        assert_eq!(
            (starts("init"), starts("log")),
            (1, 1),
            "{what}: {:?}",
            self.runtime.journal()
        );
        let web = self.story("web");
        let runs = web.iter().filter(|step| *step == "start" || step.starts_with("exit"));
        let runs: Vec<bool> = runs.map(|step| step == "start").collect();
        assert!(runs.chunks(2).all(|pair| pair == [true, false]), "{what}: {web:?}");
    }

    async fn left(&self) -> Vec<String> {
        let containers = self.runtime.containers().await.unwrap();
        let mut left: Vec<String> = containers.into_iter().map(|container| container.name).collect();
        left.extend((0..self.runtime.sandboxes()).map(|_| "sandbox".to_owned()));
        let folders = std::fs::read_dir(self.dir.path().join("pods")).into_iter().flatten();
        left.extend(folders.map(|folder| folder.unwrap().file_name().to_string_lossy().into_owned()));
        left
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_at_every_step_of_a_pods_life() {
    let steps = Row::run(None).await.taken;
    eprintln!("{} steps: {}", steps.len(), steps.join(", "));
    assert!(steps.len() >= 20, "{steps:?}");
    let faults = [Fault::KilledBefore, Fault::KilledAfter, Fault::Fails, Fault::Silent];
    let rows = faults
        .into_iter()
        .flat_map(|fault| (0..steps.len()).map(move |at| (at, fault)));
    let rows = futures::stream::iter(rows).map(|strike| async move { Row::run(Some(strike)).await.struck });
    let struck: Vec<bool> = rows.buffer_unordered(8).collect().await;
    let count = struck.iter().filter(|struck| **struck).count();
    eprintln!("{count} of {} faults struck", struck.len());
    assert!(count * 10 >= struck.len() * 9, "{count} of {}", struck.len());
}
