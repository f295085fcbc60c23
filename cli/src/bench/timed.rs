//! A runtime that takes the time of another one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use afloat_runtime::registry::{Keyring, Progress, PullError, Pulled};
use afloat_runtime::{
    Container, ContainerSpec, ExecSession, ExecSpec, Image, Resources, Runtime, RuntimeError, Sandbox, SandboxSpec,
    Usage,
};
use async_trait::async_trait;
use serde::Serialize;

/// Who is told of calls that have ended.
pub(super) trait Ear: Send + Sync {
    /// One has.
    fn heard(&self, verb: &'static str, began: Instant, ended: Instant);
}

/// How long calls took, by verb.
#[derive(Default)]
pub(super) struct Verbs(Mutex<BTreeMap<&'static str, Vec<Duration>>>);

/// Figures of one verb.
#[derive(Debug, Serialize)]
pub(super) struct Verb {
    /// Calls.
    pub(super) calls: usize,
    /// Half of them took at most that long, milliseconds.
    pub(super) p50_ms: f64,
    /// 99 of 100 took at most that long, milliseconds.
    pub(super) p99_ms: f64,
}

impl Ear for Verbs {
    fn heard(&self, verb: &'static str, began: Instant, ended: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(verb)
            .or_default()
            .push(ended.saturating_duration_since(began));
    }
}

impl Verbs {
    /// The figures so far; begins anew.
    pub(super) fn take(&self) -> BTreeMap<&'static str, Verb> {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        all.into_iter().map(|(verb, times)| (verb, Verb::of(times))).collect()
    }
}

impl Verb {
    pub(super) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self {
            calls: times.len(),
            p50_ms: quantile(&times, 0.5).as_secs_f64() * 1000.0,
            p99_ms: quantile(&times, 0.99).as_secs_f64() * 1000.0,
        }
    }
}

/// The value that this share of a sorted list does not exceed; zero for an empty list.
pub(super) fn quantile(sorted: &[Duration], share: f64) -> Duration {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )] // small counts
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Hands every call on.
pub(super) struct Timed {
    inner: Arc<dyn Runtime>,
    ear: Arc<dyn Ear>,
    attach: Duration,
}

impl Timed {
    pub(super) fn around(inner: Arc<dyn Runtime>, ear: Arc<dyn Ear>) -> Arc<dyn Runtime> {
        Self::with_volumes(inner, ear, Duration::ZERO)
    }

    /// With volumes that take a time to attach: each sandbox is made that much later, which is where a kubelet waits for the volumes
    /// of a pod. It is told of as a call `volume`.
    pub(super) fn with_volumes(inner: Arc<dyn Runtime>, ear: Arc<dyn Ear>, attach: Duration) -> Arc<dyn Runtime> {
        Arc::new(Self { inner, ear, attach })
    }

    async fn time<T>(&self, verb: &'static str, call: impl Future<Output = T> + Send) -> T {
        let began = Instant::now();
        let result = call.await;
        self.ear.heard(verb, began, Instant::now());
        result
    }
}

#[async_trait]
impl Runtime for Timed {
    async fn image(&self, reference: &str) -> Result<Option<Image>, RuntimeError> {
        self.time("image", self.inner.image(reference)).await
    }

    async fn images(&self) -> Result<Vec<Image>, RuntimeError> {
        self.inner.images().await
    }

    async fn pull(&self, reference: &str, keyring: &Keyring, progress: &Progress) -> Result<Pulled, PullError> {
        self.time("pull", self.inner.pull(reference, keyring, progress)).await
    }

    async fn resolve_user(&self, image_id: &str, user: &str) -> Result<(u32, u32, Vec<u32>), RuntimeError> {
        self.inner.resolve_user(image_id, user).await
    }

    async fn create_sandbox(&self, spec: &SandboxSpec) -> Result<Sandbox, RuntimeError> {
        if !self.attach.is_zero() {
            self.time("volume", tokio::time::sleep(self.attach)).await;
        }
        self.time("sandbox", self.inner.create_sandbox(spec)).await
    }

    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), RuntimeError> {
        self.time("remove-sandbox", self.inner.remove_sandbox(pod_uid)).await
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<String, RuntimeError> {
        self.time("create", self.inner.create_container(spec)).await
    }

    async fn start_container(&self, id: &str) -> Result<(), RuntimeError> {
        self.time("start", self.inner.start_container(id)).await
    }

    async fn update_container(&self, id: &str, resources: &Resources) -> Result<(), RuntimeError> {
        self.inner.update_container(id, resources).await
    }

    async fn signal_container(&self, id: &str, signal: &str) -> Result<(), RuntimeError> {
        self.inner.signal_container(id, signal).await
    }

    async fn remove_container(&self, id: &str) -> Result<(), RuntimeError> {
        self.time("remove", self.inner.remove_container(id)).await
    }

    async fn containers(&self) -> Result<Vec<Container>, RuntimeError> {
        self.inner.containers().await
    }

    fn exits(&self) -> tokio::sync::broadcast::Receiver<String> {
        self.inner.exits()
    }

    async fn exec(&self, id: &str, spec: ExecSpec) -> Result<ExecSession, RuntimeError> {
        self.inner.exec(id, spec).await
    }

    async fn attach(&self, id: &str) -> Result<ExecSession, RuntimeError> {
        self.inner.attach(id).await
    }

    async fn connect_loopback(&self, pod_uid: &str, port: u16) -> Result<tokio::net::TcpStream, RuntimeError> {
        self.inner.connect_loopback(pod_uid, port).await
    }

    async fn environment(&self, id: &str) -> Result<BTreeMap<String, String>, RuntimeError> {
        self.inner.environment(id).await
    }

    async fn usage(&self) -> Result<BTreeMap<String, Usage>, RuntimeError> {
        self.inner.usage().await
    }

    async fn connect(&self, pod_uid: &str, port: u16) -> Result<tokio::net::TcpStream, RuntimeError> {
        self.inner.connect(pod_uid, port).await
    }

    async fn mount_memory(&self, path: &Path, bytes: u64) -> Result<(), RuntimeError> {
        self.inner.mount_memory(path, bytes).await
    }

    async fn unmount_below(&self, path: &Path) -> Result<(), RuntimeError> {
        self.inner.unmount_below(path).await
    }

    fn disk_pressure(&self) -> bool {
        self.inner.disk_pressure()
    }

    fn unguarded(&self) -> Option<String> {
        self.inner.unguarded()
    }

    fn unlimited(&self) -> Option<String> {
        self.inner.unlimited()
    }
}
