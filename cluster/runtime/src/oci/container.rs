//! The life of a container: made, started, removed, found again.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;

use super::bundle::home::with_home;
use super::bundle::mounts::{self, Staged};
use super::bundle::rootfs;
use super::bundle::spec::{Processes, Surroundings, config};
use super::bundle::volumes;
use super::command::nothing;
use super::pod::record::SandboxRecord;
use super::record::Record;
use super::shared::Shared;
use super::streams::listeners::Listeners;
use super::streams::log;
use super::watch;
use super::work::{blocking, failed};
use crate::cgroup::view::View;
use crate::cgroup::{Cgroups, Resources};
use crate::container::{ContainerSpec, ContainerState};
use crate::host::OCI_STATE_DIR;
use crate::host::init::start_time;
use crate::host::zygote::Carried;
use crate::image::LAYERS_NOTE;
use crate::net::namespace_path;
use crate::process::{kill, kill_members, members, mount_namespace, read_pid};
use crate::removal::remove_all;
use crate::runtime::RuntimeError;

/// The group of terminals in every Linux distribution.
const TTY_GROUP: u32 = 5;
/// How long a killed container may take to end.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Reads the records of a node and brings them up to now. Directories without a readable record are of containers that
/// were never made to the end; they are removed.
pub(super) fn recover(dir: &Path, boot: &str, cgroups: &Cgroups) -> Vec<Record> {
    let mut records = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let dir = entry.path();
        // Earlier versions kept it here, on the disk.
        let _ = fs::remove_file(dir.join("config.json"));
        let Ok(mut record) = Record::load(&dir) else {
            let _ = rootfs::remove(&dir);
            continue;
        };
        if record.boot == boot && record.pid.is_none() && record.exit.is_none() {
            // Its process may wait at the gate, made just before we died.
            set_process(&mut record, &dir);
        }
        if record.recover(boot, watch::look(&record), Timestamp::now()) {
            if record.boot == boot
                && let Some(namespace) = &record.mount_namespace
            {
                kill_members(namespace);
            }
            if let Some(exit) = &mut record.exit {
                exit.oom_killed = record.boot == boot && cgroups.oom_killed(&record.id);
            }
            if let Err(error) = record.save(&dir) {
                tracing::warn!(container = record.id, %error, "the end of a container is not on disk");
            }
        }
        records.push(record);
    }
    records
}

fn set_process(record: &mut Record, dir: &Path) {
    let pid = read_pid(&dir.join("pid"));
    record.start_time = pid.and_then(start_time);
    record.pid = pid.filter(|_| record.start_time.is_some());
    if record.shares_processes {
        record.mount_namespace = record.pid.and_then(mount_namespace);
    }
}

impl Shared {
    pub(super) async fn create_container(self: &Arc<Self>, spec: &ContainerSpec) -> Result<String, RuntimeError> {
        self.facts.check(spec)?;
        if spec.args.is_empty() {
            return Err(RuntimeError::Invalid(format!(
                "container {} has no command, and its image none either",
                spec.name
            )));
        }
        let sandbox = self.sandboxes().get(&spec.pod_uid).cloned();
        let sandbox = sandbox.ok_or_else(|| RuntimeError::NotFound(format!("sandbox of pod {}", spec.pod)))?;
        // The node agent makes one container of a pod after the other.
        let sandbox = if sandbox.lacks_holder() {
            self.share(&spec.pod_uid, sandbox).await?
        } else {
            sandbox
        };
        // Looked up before others are waited for: it is what the agent meant.
        let found = mounts::open(&spec.mounts)?;
        let _permit = self
            .creating
            .acquire()
            .await
            .map_err(|_| RuntimeError::Failed("the runtime is shutting down".into()))?;
        let id = hex::encode(rand::random::<[u8; 32]>());
        let result = self.create_as(&id, spec, &sandbox, found).await;
        if result.is_err() {
            self.discard(&id).await;
        }
        result.map(|()| id)
    }

    async fn create_as(
        self: &Arc<Self>,
        id: &str,
        spec: &ContainerSpec,
        sandbox: &SandboxRecord,
        found: Vec<Arc<OwnedFd>>,
    ) -> Result<(), RuntimeError> {
        let dir = self.container_dir(id);
        let record = Record::new(
            id.to_owned(),
            spec,
            sandbox.processes,
            self.boot.clone(),
            Timestamp::now(),
        );
        let (shared, spec, sandbox, made) = (Arc::clone(self), spec.clone(), sandbox.clone(), dir.clone());
        let log_path = spec.log_path.clone();
        let (resources, stdio, privileged) = (spec.resources, spec.stdio, spec.privileged);
        // Whoever mounts something there sees that.
        let hidden = spec.mounts.iter().any(|mount| mount.target.starts_with("/sys"));
        let (mut record, staged, carried, out, err) = blocking(move || {
            let (staged, carried) = shared.prepare(&made, &record.id, &spec, &sandbox, &found)?;
            record.save(&made).map_err(|e| failed("writing container.json", &e))?;
            if let Some(parent) = record.log_path.parent() {
                fs::create_dir_all(parent).map_err(|e| failed(format!("making {}", parent.display()), &e))?;
            }
            // Also a container that says nothing has a log: an empty one.
            let log = fs::OpenOptions::new().create(true).append(true).open(&record.log_path);
            log.map_err(|e| failed(format!("making {}", record.log_path.display()), &e))?;
            let (out, err) = Self::pipes(&record.id).make().map_err(|e| failed("making pipes", &e))?;
            Ok((record, staged, carried, out, err))
        })
        .await?;
        let readers = Self::pipes(id).readers().map_err(|e| failed("opening pipes", &e))?;
        let listeners = Arc::new(Listeners::new(stdio.relayed()));
        tokio::spawn(log::follow(readers, log_path, Arc::clone(&listeners)).boxed());
        let ran = self.run_create(id, stdio, [out, err], carried).await;
        let shared = Arc::clone(self);
        let record = blocking(move || {
            drop(staged);
            ran?;
            set_process(&mut record, &dir);
            let Some(pid) = record.pid else {
                return Err(RuntimeError::Failed(
                    "the container's process ended before it was started".into(),
                ));
            };
            shared.limit(&record.id, pid, &resources, privileged)?;
            if !hidden {
                shared.show_cgroups(&record.id, pid, privileged);
            }
            record.save(&dir).map_err(|e| failed("writing container.json", &e))?;
            Ok(record)
        })
        .await?;
        self.insert(record, listeners);
        Ok(())
    }

    /// The verb itself, with a relay where somebody may want to type.
    async fn run_create(
        &self,
        id: &str,
        stdio: crate::container::Stdio,
        [out, err]: [fs::File; 2],
        carried: Vec<Carried>,
    ) -> Result<(), RuntimeError> {
        let dir = self.container_dir(id);
        let (bundle, pid_file) = (
            Self::bundle_dir(id).display().to_string(),
            dir.join("pid").display().to_string(),
        );
        let console = Self::pipes(id).console().display().to_string();
        let mut args = vec!["create", "--bundle", &bundle, "--pid-file", &pid_file];
        if stdio.tty {
            args.extend(["--console-socket", &console]);
        }
        args.push(id);
        let log = dir.join("runtime.log");
        if !stdio.relayed() {
            let stdio = [nothing()?, out.into(), err.into()];
            return self.command.run_verb(&log, &args, Some(stdio), carried).await;
        }
        let (mut relay, stdin) = self.start_relay(id, stdio).await?;
        let streams = if stdio.tty {
            // The relay writes what the terminal says.
            None
        } else {
            let stdin = stdin.map_or_else(nothing, Ok)?;
            Some([stdin, out.into(), err.into()])
        };
        let made = self.command.run_verb(&log, &args, streams, carried).await;
        if made.is_err() {
            let _ = relay.start_kill();
        }
        tokio::spawn(FutureExt::boxed(async move { relay.wait().await }));
        made
    }

    /// Sets the container's limits and puts its process, which waits at the gate, under them. Blocks.
    fn limit(&self, id: &str, pid: i32, resources: &Resources, privileged: bool) -> Result<(), RuntimeError> {
        self.cgroups
            .create(id, resources, privileged)
            .and_then(|()| self.cgroups.enter(id, pid))
            .map_err(|e| failed("limiting resources", &e))
    }

    /// Shows a container that waits at the gate the cgroups that it has. Without, it runs as well. Blocks.
    fn show_cgroups(&self, id: &str, pid: i32, privileged: bool) {
        if self.cgroups.entrances(id).is_empty() {
            return;
        }
        let make = || {
            View::new(&self.cgroups)
                .inspect_err(|error| tracing::debug!(%error, "containers cannot be shown their cgroups"))
                .ok()
        };
        if let Some(view) = self.view.get_or_init(make)
            && let Err(error) = view.show(id, pid, privileged)
        {
            tracing::debug!(container = id, %error, "it is not shown its cgroups");
        }
    }

    /// Root file system, mounts and configuration, and what of it our own runtime does not see by itself. Blocks.
    fn prepare(
        &self,
        dir: &Path,
        id: &str,
        spec: &ContainerSpec,
        sandbox: &SandboxRecord,
        found: &[Arc<OwnedFd>],
    ) -> Result<(Staged, Vec<Carried>), RuntimeError> {
        fs::create_dir_all(dir).map_err(|e| failed(format!("making {}", dir.display()), &e))?;
        let parts = self.options.images.pin(&spec.image_id, &dir.join(LAYERS_NOTE))?;
        let root = rootfs::mount_rootfs(dir, &parts.layers, spec.privileged)
            .map_err(|e| failed("mounting the root file system", &e))?;
        let (spec, found) = &volumes::add(dir, &root, &parts.volumes, spec, found)?;
        mounts::check(&root, &spec.mounts, found)?;
        let staged = Staged::new(self.staging_dir().join(id), found).map_err(|e| failed("mounting volumes", &e))?;
        if !spec.working_dir.is_empty() {
            rootfs::make_working_dir(&root, &spec.working_dir, &spec.mounts, found)
                .map_err(|e| RuntimeError::Invalid(format!("working directory {}: {e}", spec.working_dir)))?;
        }
        let namespace = namespace_path(&spec.pod_uid);
        let mut joined = self.joined(&spec.pod_uid, sandbox)?;
        if let (Processes::Own, Some(target)) = (&joined.processes, &spec.process_namespace_of) {
            joined.processes = Processes::Of(self.process_namespace(target)?);
        }
        let around = Surroundings {
            rootfs: &root,
            namespace: (!sandbox.host_network).then_some(namespace.as_path()),
            joined,
            hostname: &sandbox.hostname,
            own_capabilities: self.facts.capabilities,
            has_tty_group: self.facts.has_group(TTY_GROUP),
            no_devices: self.unguarded().is_some(),
            open_files: crate::host::open_files::of_containers(),
            sources: &staged.sources,
        };
        let carried = if self.command.own {
            carried(&around, &staged)?
        } else {
            vec![]
        };
        let spec = with_home(spec, &root);
        let config = serde_json::to_vec(&config(&spec, &around)?).map_err(|e| RuntimeError::Failed(e.to_string()))?;
        let bundle = Self::bundle_dir(id);
        fs::create_dir_all(&bundle).map_err(|e| failed(format!("making {}", bundle.display()), &e))?;
        fs::write(bundle.join("config.json"), config).map_err(|e| failed("writing config.json", &e))?;
        Ok((staged, carried))
    }

    fn process_namespace(&self, id: &str) -> Result<PathBuf, RuntimeError> {
        let record = self.record(id)?;
        match (record.state(), record.pid) {
            (ContainerState::Running, Some(pid)) => Ok(PathBuf::from(format!("/proc/{pid}/ns/pid"))),
            _ => Err(RuntimeError::Failed(format!("container {} does not run", record.name))),
        }
    }

    pub(super) async fn start_container(self: &Arc<Self>, id: &str) -> Result<(), RuntimeError> {
        {
            let mut containers = self.containers();
            let entry = containers
                .get_mut(id)
                .ok_or_else(|| RuntimeError::NotFound(format!("container {id}")))?;
            match entry.record.state() {
                ContainerState::Created => {}
                ContainerState::Running => return Ok(()),
                ContainerState::Exited(exit) => {
                    return Err(RuntimeError::Failed(format!(
                        "the container ended before it was started, with code {}",
                        exit.code
                    )));
                }
            }
            // Before the call: it may end before the call does.
            entry.record.started_at = Some(Timestamp::now());
        }
        let dir = self.container_dir(id);
        let started = self.command.start(&dir.join("runtime.log"), id).await;
        if let Err(error) = started {
            if let Some(entry) = self.containers().get_mut(id) {
                entry.record.started_at = None;
            }
            return Err(error);
        }
        self.persist(id).await
    }

    /// Sets the limits of a container that runs. One that had none so far gets its cgroup now, with all its processes.
    pub(super) async fn update_container(
        self: &Arc<Self>,
        id: String,
        resources: Resources,
    ) -> Result<(), RuntimeError> {
        let record = self.record(&id)?;
        let (ContainerState::Running, Some(pid)) = (record.state(), record.pid) else {
            return Err(RuntimeError::Invalid(format!("container {id} does not run")));
        };
        let shared = Arc::clone(self);
        blocking(move || {
            let made = shared.cgroups.update(&id, &resources).map_err(changing)?;
            if made {
                enter_all(&shared.cgroups.entrances(&id), pid).map_err(changing)?;
            }
            Ok(())
        })
        .await
    }

    /// Writes down what is known of a container now. One at a time, so that an older state never replaces a newer one.
    pub(super) async fn persist(self: &Arc<Self>, id: &str) -> Result<(), RuntimeError> {
        let (shared, dir, id) = (Arc::clone(self), self.container_dir(id), id.to_owned());
        blocking(move || {
            let _turn = shared.saving.lock().unwrap_or_else(PoisonError::into_inner);
            let record = shared.record(&id)?;
            record.save(&dir).map_err(|e| failed("writing container.json", &e))
        })
        .await
    }

    pub(super) async fn remove_container(self: &Arc<Self>, id: &str) -> Result<(), RuntimeError> {
        let Ok(record) = self.record(id) else { return Ok(()) };
        match record.state() {
            ContainerState::Running => {
                return Err(RuntimeError::Failed(format!(
                    "container {id} still runs: stop it first"
                )));
            }
            ContainerState::Created => self.kill_and_wait(id).await?,
            ContainerState::Exited(_) => {}
        }
        self.discard(id).await;
        let dir = self.container_dir(id);
        if dir.exists() {
            return Err(RuntimeError::Failed(format!("{} cannot be removed", dir.display())));
        }
        self.containers().remove(id);
        Ok(())
    }

    async fn kill_and_wait(self: &Arc<Self>, id: &str) -> Result<(), RuntimeError> {
        let mut exits = self.exits.subscribe();
        self.signal(id, "SIGKILL")?;
        let gone = async {
            while matches!(self.record(id).map(|record| record.exit), Ok(None)) {
                // A lagging receiver looks again, too.
                let _ = exits.recv().await;
            }
        };
        tokio::time::timeout(KILL_LIMIT, gone)
            .await
            .map_err(|_| RuntimeError::Failed(format!("container {id} does not die")))
    }

    /// Takes away everything that a container has on this machine. What cannot be removed is left for the next try.
    async fn discard(self: &Arc<Self>, id: &str) {
        let dir = self.container_dir(id);
        if Path::new(OCI_STATE_DIR).join(id).exists() {
            kill_orphan(&dir);
            let log = dir.join("runtime.log");
            if let Err(error) = self.command.delete(&log, id).await {
                tracing::debug!(container = id, %error, "the OCI runtime cannot delete it");
            }
        }
        let (shared, id) = (Arc::clone(self), id.to_owned());
        let removed = blocking(move || {
            if let Err(error) = shared.cgroups.remove(&id) {
                tracing::debug!(container = id, %error, "a cgroup stays until the end of the run");
            }
            let _ = remove_all(&Path::new(OCI_STATE_DIR).join(&id));
            let _ = remove_all(&Self::bundle_dir(&id));
            Self::pipes(&id).remove();
            rootfs::remove(&dir).map_err(|e| failed(format!("removing {}", dir.display()), &e))
        });
        if let Err(error) = removed.await {
            tracing::warn!(%error, "a container leaves something behind");
        }
    }
}

/// What is mounted for this container and its pod, where its configuration says that it is.
fn carried(around: &Surroundings<'_>, staged: &Staged) -> Result<Vec<Carried>, RuntimeError> {
    let joined = &around.joined;
    let places = [
        Some(around.rootfs),
        staged.dir(),
        around.namespace,
        joined.ipc.as_deref(),
    ];
    // Without an IPC namespace of the pod it is the node's memory, which was there before.
    let memory = joined.ipc.is_some().then_some(joined.shared_memory.as_path());
    let places = places.into_iter().chain([memory]).flatten();
    places
        .map(|place| {
            let what = || format!("taking {} along", place.display());
            Carried::from(place.to_owned()).map_err(|e| failed(what(), &e))
        })
        .collect()
}

/// A process that waits at the gate of a container that is not going to be.
fn kill_orphan(dir: &Path) {
    if let Some(pid) = read_pid(&dir.join("pid")) {
        kill(pid, || is_child_of_init(pid));
    }
}

/// Containers' first processes are children of pid 1; nothing else with that number is ours to kill.
fn is_child_of_init(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .any(|line| line.strip_prefix("PPid:").is_some_and(|ppid| ppid.trim() == "1"))
}

fn changing(error: std::io::Error) -> RuntimeError {
    RuntimeError::Failed(format!("changing resources: {error}"))
}

/// Puts every process of a container into these cgroups. Until none is new, as they go on to fork meanwhile; a child of one
/// that is inside is born inside.
fn enter_all(entrances: &[std::path::PathBuf], first: i32) -> std::io::Result<()> {
    let Some(own) = mount_namespace(first) else {
        return Ok(());
    };
    let mut inside = std::collections::BTreeSet::new();
    loop {
        let mut new = members(&own)?;
        new.retain(|pid| !inside.contains(pid));
        if new.is_empty() {
            return Ok(());
        }
        for pid in new {
            match crate::cgroup::write_all(entrances, pid) {
                Err(error) if mount_namespace(pid).is_some() => return Err(error),
                _ => inside.insert(pid),
            };
        }
    }
}
