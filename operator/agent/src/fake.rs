//! A runtime without processes, for tests of what builds on [`NodeRuntime`]: images and containers as data, failures on wish, and a
//! journal of what was asked for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::runtime::{
    ContainerState, Executed, LocalImage, NodeContainer, NodeRuntime, Progress, Pull, PullError, RuntimeError,
};

/// What a pull of one reference comes to.
#[derive(Clone)]
pub enum Pulling {
    /// The image, at once.
    Brings(LocalImage),
    /// It fails.
    Fails(PullError),
    /// It goes on until it is dropped, or until this is told.
    Waits(Arc<Notify>, Box<Pulling>),
}

#[derive(Default)]
struct Inner {
    images: Vec<LocalImage>,
    pulls: BTreeMap<String, VecDeque<Pulling>>,
    containers: Vec<NodeContainer>,
    failures: BTreeMap<&'static str, RuntimeError>,
    exit_codes: BTreeMap<String, i32>,
    journal: Vec<String>,
}

/// See the module.
#[derive(Default)]
pub struct FakeRuntime(Mutex<Inner>);

impl FakeRuntime {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what was asked for, and fails if that is wished.
    fn asked(&self, verb: &'static str, what: &str) -> Result<MutexGuard<'_, Inner>, RuntimeError> {
        let mut inner = self.lock();
        inner.journal.push(format!("{verb} {what}").trim_end().to_owned());
        match inner.failures.get(verb) {
            Some(error) => Err(error.clone()),
            None => Ok(inner),
        }
    }

    /// What the next pulls of a reference come to, one after the other; the last holds for all later ones.
    pub fn pulls(&self, reference: &str, each: impl IntoIterator<Item = Pulling>) {
        self.lock()
            .pulls
            .insert(reference.to_owned(), each.into_iter().collect());
    }

    /// The node has this image.
    pub fn add_image(&self, image: LocalImage) {
        self.lock().images.push(image);
    }

    /// The kubelet has made this container; one of the same id is replaced.
    pub fn put_container(&self, container: NodeContainer) {
        let mut inner = self.lock();
        inner.containers.retain(|other| other.id != container.id);
        inner.containers.push(container);
    }

    /// From now on the verb (`images`, `image`, `containers`, `stop`, `exec`, `connect`, `environment`) fails; None: no more.
    pub fn fail(&self, verb: &'static str, error: Option<RuntimeError>) {
        let mut inner = self.lock();
        match error {
            Some(error) => inner.failures.insert(verb, error),
            None => inner.failures.remove(verb),
        };
    }

    /// The exit code of a command, by its program.
    pub fn exits(&self, program: &str, code: i32) {
        self.lock().exit_codes.insert(program.to_owned(), code);
    }

    /// What was asked for so far but looks: `pull web:v1`, `stop fake://1 30s`, `exec fake://1 /bin/sh -c x`.
    pub fn journal(&self) -> Vec<String> {
        let looks = ["images", "image ", "containers"];
        let inner = self.lock();
        let asked = inner.journal.iter();
        asked
            .filter(|asked| !looks.iter().any(|look| asked.starts_with(look)))
            .cloned()
            .collect()
    }
}

/// A running container of a pod, as [`FakeRuntime::put_container`] takes it; the id is `fake://ID`.
pub fn container(id: &str, pod_uid: &str, name: &str, started_at: Timestamp) -> NodeContainer {
    NodeContainer {
        id: format!("fake://{id}"),
        pod_uid: pod_uid.to_owned(),
        pod_namespace: "default".to_owned(),
        pod_name: format!("pod-{pod_uid}"),
        name: name.to_owned(),
        restart_count: 0,
        state: ContainerState::Running,
        created_at: started_at,
        started_at: Some(started_at),
        image: String::new(),
        image_id: String::new(),
        reference: None,
        hash: None,
        pre_stop: None,
        grace_seconds: None,
        ports: Vec::new(),
    }
}

#[async_trait]
impl NodeRuntime for FakeRuntime {
    async fn name(&self) -> Result<String, RuntimeError> {
        Ok("fake".to_owned())
    }

    async fn images(&self) -> Result<Vec<LocalImage>, RuntimeError> {
        Ok(self.asked("images", "")?.images.clone())
    }

    async fn image(&self, reference: &str) -> Result<Option<LocalImage>, RuntimeError> {
        let inner = self.asked("image", reference)?;
        Ok(inner.images.iter().find(|image| image.answers(reference)).cloned())
    }

    async fn pull(&self, pull: &Pull, progress: &Progress) -> Result<LocalImage, PullError> {
        let refused = |error: RuntimeError| PullError::Unavailable(error.to_string());
        let mut next = {
            let mut inner = self.asked("pull", &pull.reference).map_err(refused)?;
            let each = inner.pulls.get_mut(&pull.reference);
            let next = each.and_then(|each| {
                if each.len() > 1 {
                    each.pop_front()
                } else {
                    each.front().cloned()
                }
            });
            next.ok_or_else(|| PullError::Refused(format!("{}: not found", pull.reference)))?
        };
        while let Pulling::Waits(told, then) = next {
            told.notified().await;
            next = *then;
        }
        match next {
            Pulling::Brings(image) => {
                progress.total.store(image.size_bytes, Ordering::Relaxed);
                progress.done.store(image.size_bytes, Ordering::Relaxed);
                let mut inner = self.lock();
                inner.images.retain(|other| other.id != image.id);
                inner.images.push(image.clone());
                Ok(image)
            }
            Pulling::Fails(error) => Err(error),
            Pulling::Waits(..) => Err(PullError::Local("it waits on".to_owned())),
        }
    }

    async fn containers(&self, pod_uid: Option<&str>) -> Result<Vec<NodeContainer>, RuntimeError> {
        let inner = self.asked("containers", pod_uid.unwrap_or_default())?;
        let mut all: Vec<_> = inner.containers.clone();
        all.retain(|container| pod_uid.is_none_or(|uid| container.pod_uid == uid));
        all.sort_by_key(|container| container.created_at);
        Ok(all)
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        let mut inner = self.asked("stop", &format!("{id} {}s", grace.as_secs()))?;
        let found = inner.containers.iter_mut().find(|container| container.id == id);
        let container = found.ok_or_else(|| RuntimeError::NotFound(format!("container {id}")))?;
        container.state = ContainerState::Exited { code: Some(0) };
        Ok(())
    }

    async fn exec(&self, id: &str, command: &[String], _limit: Duration) -> Result<Executed, RuntimeError> {
        let inner = self.asked("exec", &format!("{id} {}", command.join(" ")))?;
        let code = command.first().and_then(|program| inner.exit_codes.get(program));
        Ok(Executed {
            code: code.copied().unwrap_or(0),
            output: String::new(),
        })
    }

    async fn connect(&self, pod_uid: &str, port: u16) -> Result<TcpStream, RuntimeError> {
        drop(self.asked("connect", &format!("{pod_uid}:{port}"))?);
        // Somebody who listens and says nothing.
        let failed = |error: std::io::Error| RuntimeError::Failed(error.to_string());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        TcpStream::connect(address).await.map_err(failed)
    }

    async fn environment(&self, id: &str) -> Result<BTreeMap<String, String>, RuntimeError> {
        drop(self.asked("environment", id)?);
        Ok(BTreeMap::new())
    }
}
