//! A simulated runtime: containers without processes, on whatever clock it is given, thousands at a time.
//!
//! Behaviour is data and hangs on the image: how long things take, how a container reacts to a signal, when it ends by
//! itself. Everything that was asked for can be journalled, so that a test can check the order of calls.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use afloat_runtime::{
    Container, ContainerSpec, ContainerState, ExecSession, ExecSpec, Exit, Image, ImageConfig, Resources, Runtime,
    RuntimeError, Sandbox, SandboxSpec,
};
use async_trait::async_trait;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, oneshot};

use crate::clock::{Clock, since};
use crate::pod::container::resolve::normalised;

/// How containers of an image behave.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Time that making a container takes.
    pub create_takes: Duration,
    /// Time that starting it takes.
    pub start_takes: Duration,
    /// The container says it is ready (exec `ready`, HTTP) this long after its start.
    pub ready_after: Duration,
    /// It ends by itself: for the n-th attempt the n-th entry, for later ones the last. None: it runs on.
    pub ends: Vec<Option<(Duration, i32)>>,
    /// Time between its stop signal and its end; None: it ignores the signal.
    pub stop_takes: Option<Duration>,
    /// Exit code after the stop signal.
    pub stop_code: i32,
    /// Memory that it uses: its limit cannot be made smaller.
    pub memory_used_bytes: u64,
    /// It cannot be made, for this reason.
    pub refuses: Option<String>,
}

impl Default for Behaviour {
    /// Instant, never ends by itself, stops at once with code 0.
    fn default() -> Self {
        Self {
            create_takes: Duration::ZERO,
            start_takes: Duration::ZERO,
            ready_after: Duration::ZERO,
            ends: vec![],
            stop_takes: Some(Duration::ZERO),
            stop_code: 0,
            memory_used_bytes: 0,
            refuses: None,
        }
    }
}

/// Something that the runtime was asked for, or that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// Name of the container, or the pod's uid.
    pub of: String,
    /// `create`, `start`, `SIGTERM`, `exec …`, `exit 0`, `update MEMORY SHARES QUOTA`, `remove`, `sandbox`, `remove sandbox`.
    pub what: String,
}

#[derive(Default)]
struct Inner {
    images: BTreeMap<String, (Image, Behaviour)>,
    containers: BTreeMap<String, (Container, Behaviour)>,
    sandboxes: HashMap<String, IpAddr>,
    journal: Option<Vec<Entry>>,
    made: u64,
}

/// See the module.
pub struct FakeRuntime {
    inner: Mutex<Inner>,
    exits: broadcast::Sender<String>,
    clock: Clock,
    /// First two bytes of pod addresses.
    network: (u8, u8),
    me: Weak<Self>,
}

impl FakeRuntime {
    /// An empty one; pods get addresses from `network.0.0/16`.
    pub fn new(clock: Clock, network: (u8, u8)) -> Arc<Self> {
        let exits = broadcast::channel(4096).0;
        Arc::new_cyclic(|me| Self {
            inner: Mutex::default(),
            exits,
            clock,
            network,
            me: me.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an image, or another name of one (the same `id`).
    pub fn add_image(&self, name: &str, id: &str, behaviour: Behaviour) {
        let config = ImageConfig {
            entrypoint: vec!["/app".to_owned()],
            ..ImageConfig::default()
        };
        let name = normalised(name);
        let image = Image {
            id: id.to_owned(),
            names: vec![name.clone()],
            registry_names: vec![],
            digests: vec![],
            size_bytes: 1 << 20,
            config,
        };
        self.lock().images.insert(name, (image, behaviour));
    }

    /// Begins to journal.
    pub fn keep_journal(&self) {
        self.lock().journal.get_or_insert_default();
    }

    /// What was journalled so far.
    pub fn journal(&self) -> Vec<Entry> {
        self.lock().journal.clone().unwrap_or_default()
    }

    /// How many sandboxes there are.
    pub fn sandboxes(&self) -> usize {
        self.lock().sandboxes.len()
    }

    /// Ends a running container from outside. False if there is none.
    pub fn end(&self, pod_uid: &str, container: &str, code: i32) -> bool {
        let found = self.lock().containers.values().find_map(|(c, _)| {
            (c.pod_uid == pod_uid && c.name == container && c.state == ContainerState::Running).then(|| c.id.clone())
        });
        found.is_some_and(|id| self.exit(&id, code, 0))
    }

    /// As a reboot of the node leaves things: nothing runs, sandboxes are gone, ended containers are remembered.
    pub fn reboot(&self) {
        let running: Vec<String> = self.lock().containers.keys().cloned().collect();
        for id in running {
            self.exit(&id, 137, 9);
        }
        self.lock().sandboxes.clear();
    }

    fn note(&self, of: &str, what: impl Into<String>) {
        let at = self.clock.now();
        if let Some(journal) = &mut self.lock().journal {
            journal.push(Entry {
                at,
                of: of.to_owned(),
                what: what.into(),
            });
        }
    }

    fn exit(&self, id: &str, code: i32, signal: i32) -> bool {
        let now = self.clock.now();
        let name = {
            let mut inner = self.lock();
            let Some((container, _)) = inner.containers.get_mut(id) else {
                return false;
            };
            if container.state != ContainerState::Running {
                return false;
            }
            container.state = ContainerState::Exited(Exit {
                code,
                signal,
                finished_at: now,
                oom_killed: false,
            });
            container.name.clone()
        };
        self.note(&name, format!("exit {code}"));
        // Nobody listening is fine.
        let _ = self.exits.send(id.to_owned());
        true
    }

    fn exit_later(&self, id: &str, wait: Duration, code: i32, signal: i32) {
        let (me, id) = (self.me.clone(), id.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            if let Some(me) = me.upgrade() {
                me.exit(&id, code, signal);
            }
        });
    }

    fn find(&self, id: &str) -> Result<(Container, Behaviour), RuntimeError> {
        self.lock()
            .containers
            .get(id)
            .cloned()
            .ok_or_else(|| RuntimeError::NotFound(format!("container {id}")))
    }

    fn answers(&self, container: &Container, behaviour: &Behaviour) -> bool {
        container
            .started_at
            .is_some_and(|at| since(self.clock.now(), at) >= behaviour.ready_after)
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    async fn image(&self, reference: &str) -> Result<Option<Image>, RuntimeError> {
        let wanted = normalised(reference);
        let digest = reference.split_once('@').map(|(_, digest)| digest);
        let inner = self.lock();
        let by_name = inner.images.get(&wanted);
        let found = by_name.or_else(|| {
            inner
                .images
                .values()
                .find(|(image, _)| Some(image.id.as_str()) == digest)
        });
        Ok(found.map(|(image, _)| image.clone()))
    }

    async fn images(&self) -> Result<Vec<Image>, RuntimeError> {
        Ok(self.lock().images.values().map(|(image, _)| image.clone()).collect())
    }

    async fn resolve_user(&self, _image_id: &str, user: &str) -> Result<(u32, u32, Vec<u32>), RuntimeError> {
        if user.is_empty() || user == "root" {
            return Ok((0, 0, vec![]));
        }
        let uid = user
            .parse()
            .map_err(|_| RuntimeError::Invalid(format!("no user {user} in the image")))?;
        Ok((uid, uid, vec![]))
    }

    async fn create_sandbox(&self, spec: &SandboxSpec) -> Result<Sandbox, RuntimeError> {
        self.note(&spec.pod_uid, "sandbox");
        let mut inner = self.lock();
        if let Some(ip) = inner.sandboxes.get(&spec.pod_uid) {
            return Ok(Sandbox { ip: *ip });
        }
        let free = |ip: &IpAddr| !inner.sandboxes.values().any(|used| used == ip);
        let (a, b) = self.network;
        let next = inner.made;
        let ip = spec.ip.filter(free).unwrap_or_else(|| {
            let [.., c, d] = u32::try_from(next + 2).unwrap_or(2).to_be_bytes();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        });
        inner.made += 1;
        inner.sandboxes.insert(spec.pod_uid.clone(), ip);
        Ok(Sandbox { ip })
    }

    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), RuntimeError> {
        if self
            .lock()
            .containers
            .values()
            .any(|(container, _)| container.pod_uid == pod_uid)
        {
            return Err(RuntimeError::Failed(format!("sandbox {pod_uid} still has containers")));
        }
        if self.lock().sandboxes.remove(pod_uid).is_some() {
            self.note(pod_uid, "remove sandbox");
        }
        Ok(())
    }

    async fn mount_memory(&self, path: &std::path::Path, _size_bytes: u64) -> Result<(), RuntimeError> {
        std::fs::create_dir_all(path).map_err(|error| RuntimeError::Failed(error.to_string()))
    }

    async fn unmount_below(&self, _dir: &std::path::Path) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<String, RuntimeError> {
        let behaviour = {
            let inner = self.lock();
            let image = inner
                .images
                .values()
                .find(|(image, _)| spec.labels.values().any(|name| image.names.contains(name)));
            image.map(|(_, behaviour)| behaviour.clone()).unwrap_or_default()
        };
        tokio::time::sleep(behaviour.create_takes).await;
        if let Some(reason) = behaviour.refuses {
            return Err(RuntimeError::Invalid(reason));
        }
        self.note(&spec.name, "create");
        let mut inner = self.lock();
        if !inner.sandboxes.contains_key(&spec.pod_uid) {
            return Err(RuntimeError::NotFound(format!("sandbox of pod {}", spec.pod)));
        }
        inner.made += 1;
        let id = format!("{:064x}", inner.made);
        let container = Container {
            id: id.clone(),
            pod_uid: spec.pod_uid.clone(),
            name: spec.name.clone(),
            attempt: spec.attempt,
            image_id: spec.image_id.clone(),
            state: ContainerState::Created,
            created_at: self.clock.now(),
            started_at: None,
            labels: spec.labels.clone(),
            log_path: spec.log_path.clone(),
        };
        inner.containers.insert(id.clone(), (container, behaviour));
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<(), RuntimeError> {
        let (container, behaviour) = self.find(id)?;
        tokio::time::sleep(behaviour.start_takes).await;
        self.note(&container.name, "start");
        if let Some((container, _)) = self.lock().containers.get_mut(id) {
            container.state = ContainerState::Running;
            container.started_at = Some(self.clock.now());
        }
        let attempt = usize::try_from(container.attempt).unwrap_or(usize::MAX);
        let script = behaviour.ends.get(attempt).or(behaviour.ends.last()).copied().flatten();
        if let Some((after, code)) = script {
            self.exit_later(id, after, code, 0);
        }
        Ok(())
    }

    async fn update_container(&self, id: &str, resources: &Resources) -> Result<(), RuntimeError> {
        let (container, behaviour) = self.find(id)?;
        let used = behaviour.memory_used_bytes;
        if let Some(limit) = resources.memory_limit_bytes.filter(|limit| *limit < used) {
            let message = format!("the memory limit of {limit} bytes is below the current usage of {used}");
            return Err(RuntimeError::Failed(message));
        }
        let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let Resources {
            memory_limit_bytes: memory,
            cpu_shares: shares,
            cpu_quota_us: quota,
            ..
        } = *resources;
        let [memory, shares, quota] = [memory, shares, quota].map(number);
        self.note(&container.name, format!("update {memory} {shares} {quota}"));
        Ok(())
    }

    async fn signal_container(&self, id: &str, signal: &str) -> Result<(), RuntimeError> {
        let Ok((container, behaviour)) = self.find(id) else {
            return Ok(());
        };
        self.note(&container.name, signal);
        if signal.ends_with("KILL") || signal == "9" {
            self.exit_later(id, Duration::ZERO, 137, 9);
        } else if let Some(takes) = behaviour.stop_takes {
            self.exit_later(id, takes, behaviour.stop_code, 0);
        }
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<(), RuntimeError> {
        let Ok((container, _)) = self.find(id) else {
            return Ok(());
        };
        if container.state == ContainerState::Running {
            return Err(RuntimeError::Failed(format!("container {id} is running")));
        }
        self.note(&container.name, "remove");
        self.lock().containers.remove(id);
        Ok(())
    }

    async fn containers(&self) -> Result<Vec<Container>, RuntimeError> {
        Ok(self
            .lock()
            .containers
            .values()
            .map(|(container, _)| container.clone())
            .collect())
    }

    fn exits(&self) -> broadcast::Receiver<String> {
        self.exits.subscribe()
    }

    /// Knows `true`, `false`, `exit N`, `ready`, `sleep SECONDS`, `cat`; echoes anything else.
    async fn exec(&self, id: &str, spec: ExecSpec) -> Result<ExecSession, RuntimeError> {
        let (container, behaviour) = self.find(id)?;
        if container.state != ContainerState::Running {
            return Err(RuntimeError::Invalid(format!(
                "container {} is not running",
                container.name
            )));
        }
        self.note(&container.name, format!("exec {}", spec.command.join(" ")));
        let words: Vec<&str> = spec.command.iter().map(String::as_str).collect();
        let number = |text: &str| text.parse().unwrap_or(0);
        let (code, wait) = match words.as_slice() {
            ["false"] => (1, 0),
            ["exit", code] => (number(code), 0),
            ["ready"] => (i32::from(!self.answers(&container, &behaviour)), 0),
            ["sleep", seconds] => (0, number(seconds)),
            _ => (0, 0),
        };
        let (out, mut out_writer) = tokio::io::duplex(4096);
        let (input, mut input_reader) = tokio::io::duplex(4096);
        let (done, exit) = oneshot::channel();
        let echo = if code == 0 && words.first() != Some(&"cat") {
            format!("{}\n", words.join(" "))
        } else {
            String::new()
        };
        let cat = words.first() == Some(&"cat") && spec.stdin;
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(u64::try_from(wait).unwrap_or(0))).await;
            let _ = out_writer.write_all(echo.as_bytes()).await;
            if cat {
                let _ = tokio::io::copy(&mut input_reader, &mut out_writer).await;
            }
            drop(out_writer);
            let _ = done.send(code);
        });
        Ok(ExecSession {
            stdin: spec.stdin.then(|| Box::new(input) as _),
            stdout: Box::new(out),
            stderr: None,
            resize: None,
            exit,
        })
    }

    /// An HTTP server that says 200 as soon as any container of the pod is ready.
    async fn connect(&self, pod_uid: &str, _port: u16) -> Result<TcpStream, RuntimeError> {
        let ready = self.lock().containers.values().any(|(container, behaviour)| {
            container.pod_uid == pod_uid
                && container.state == ContainerState::Running
                && self.answers(container, behaviour)
        });
        let failed = |error: std::io::Error| RuntimeError::Failed(error.to_string());
        if !ready {
            return Err(RuntimeError::Failed("connect: connection refused".to_owned()));
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut far, _) = far.map_err(failed)?;
        tokio::spawn(async move {
            let mut request = [0; 4096];
            let _ = far.read(&mut request).await;
            let _ = far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        });
        near.map_err(failed)
    }
}
