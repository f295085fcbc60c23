//! What a worker does: one method per action. No decisions here beyond how an error is told.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use afloat_runtime::{ContainerSpec, ContainerState, Exit, Image, RuntimeError, SandboxSpec, Stdio};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::{Api, DeleteParams, Preconditions};

use super::host_ports;
use crate::clock::{later, since};
use crate::handler::{self, Target};
use crate::mailbox::Message;
use crate::pod::container::{env, resolve, resources, security};
use crate::pod::plan::Action;
use crate::pod::probe::Answer;
use crate::pod::spec::{self, ProbeKind};
use crate::pod::state::{Hook, Instance, Obstacle, Sandbox, Why};
use crate::pod::status::container;
use crate::pod::{ephemeral, pull, recover, resize};
use crate::volume::{self, NameServices};
use crate::worker::{API_LIMIT, Worker};

/// Before a sandbox, a clean-up or a deletion that failed is tried again.
pub(crate) const RETRY: Duration = Duration::from_secs(2);

/// Before what this node cannot do is said again.
const REMIND: Duration = Duration::from_secs(300);

/// Why a container cannot be created: reason, message.
pub(crate) type Refusal = (&'static str, String);

impl Worker {
    pub(crate) async fn act(&mut self, action: Action) {
        match action {
            Action::PrepareSandbox => self.prepare_sandbox().await,
            Action::RefreshVolumes => self.refresh_volumes().await,
            Action::MeasureVolumes => self.measure_volumes().await,
            Action::Create { container, attempt } => self.create(&container, attempt).await,
            Action::Allocate { wanted } => self.allocate(wanted),
            Action::Resize { container, id } => self.resize(&container, &id).await,
            Action::Start { container, id } => self.start(&container, &id).await,
            Action::PostStart { container, id } => self.run_hook(&container, id, false, None),
            Action::PreStop {
                container,
                id,
                deadline,
            } => self.run_hook(&container, id, true, Some(deadline)),
            Action::BeginStop { container, why, .. } => self.tell_killing(&container, why),
            Action::Signal { container, id, kill } => self.signal(&container, &id, kill).await,
            Action::Probe {
                container, id, kind, ..
            } => self.probe(&container, id, kind),
            Action::TellBackOff { container, .. } => {
                let pod = container::pod_in_message(&self.pod);
                let message = format!("Back-off restarting failed container {container} in pod {pod}");
                self.event(Some(&container), true, "BackOff", &message, self.context.clock.now());
            }
            Action::LookForImage { container } => self.look_for_image(&container).await,
            Action::Remove { id, .. } => self.remove(&id).await,
            Action::Fail { reason, message } => self.event(None, true, reason, &message, self.context.clock.now()),
            Action::CleanUp => self.clean_up().await,
            Action::DeleteObject => self.delete_object().await,
        }
    }

    /// What has to be known of the state before the action is recorded in it.
    pub(crate) fn before(&mut self, action: &Action, now: Timestamp) {
        let Action::Signal { container, id, .. } = action else {
            return;
        };
        let current = self.state.instance(container).filter(|instance| instance.id == *id);
        let Some(stop) = current.and_then(|instance| instance.stop.as_ref()) else {
            return;
        };
        if stop.pre_stop == Hook::Running {
            if let Some(hook) = self.hooks.remove(&(id.clone(), true)) {
                hook.abort();
            }
            let message = "PreStopHook failed: it did not end within the grace period";
            self.event(Some(container), true, "FailedPreStopHook", message, now);
            self.state.hook_done(id, true, false);
        }
    }

    fn names(&self) -> NameServices {
        let options = &self.context.options;
        NameServices {
            dns: options.cluster_dns,
            of_node: options.resolv_conf.clone(),
            domain: options.cluster_domain.clone(),
            node: options.node_name.clone(),
        }
    }

    async fn prepare_sandbox(&mut self) {
        let outcome = self.try_sandbox().await;
        let now = self.context.clock.now();
        if outcome.is_ok()
            && let Some(message) = security::ignored(&self.pod)
        {
            self.event(None, true, "SecurityContextIgnored", &message, now);
        }
        self.state.sandbox = match outcome {
            Ok(ip) => Sandbox::Ready(ip),
            Err((reason, message)) => {
                self.event(None, true, reason, &message, now);
                let lasting = security::unsupported(&self.pod).is_some();
                Sandbox::Failed {
                    message,
                    retry_at: later(now, if lasting { REMIND } else { RETRY }),
                }
            }
        };
    }

    async fn try_sandbox(&mut self) -> Result<IpAddr, Refusal> {
        self.prepare_volumes()
            .await
            .map_err(|message| ("FailedMount", message))?;
        let wish = self
            .pod
            .status
            .as_ref()
            .and_then(|status| status.pod_ip.as_ref())
            .and_then(|ip| ip.parse().ok());
        let failed = |error: String| {
            (
                "FailedCreatePodSandBox",
                format!("Failed to create pod sandbox: {error}"),
            )
        };
        if let Some(what) = security::unsupported(&self.pod) {
            return Err(failed(what));
        }
        let spec = SandboxSpec {
            pod_uid: spec::uid(&self.pod).to_owned(),
            pod: spec::full_name(&self.pod),
            hostname: volume::host_name(&self.pod, &self.names()).map_err(failed)?,
            ip: wish,
            host_network: spec::host_network(&self.pod),
            host_ipc: spec::host_ipc(&self.pod),
            processes: spec::processes(&self.pod),
        };
        let made = self
            .context
            .limited(self.context.runtime.create_sandbox(&spec))
            .await
            .map_err(|error| failed(error.to_string()))?;
        let ip = if spec.host_network {
            self.context.options.node_ip
        } else {
            made.ip
        };
        let (pod, dirs, names) = (self.pod.clone(), self.dirs.clone(), self.names());
        let etc = move || volume::write_etc(&pod, &dirs, ip, &names).map_err(|error| error.to_string());
        blocking(etc).await.map_err(failed)?;
        self.host_ports = host_ports::open(&self.pod, self.context.options.node_ip, ip)
            .await
            .map_err(failed)?;
        Ok(ip)
    }

    /// Fetches what volumes or an environment refer to. What does not exist is simply not in the answer.
    pub(crate) async fn sources(
        &self,
        references: volume::References,
        ip: Option<IpAddr>,
    ) -> Result<env::Sources, String> {
        let fetch = self.context.sources(&self.pod, references, ip);
        tokio::time::timeout(API_LIMIT, fetch)
            .await
            .map_err(|_| "no answer from the API server in time".to_owned())?
    }

    async fn create(&mut self, name: &str, attempt: u32) {
        let Some(mut container) = ephemeral::find(&self.pod, name).map(Cow::into_owned) else {
            return;
        };
        // What was granted counts, not what is wished for.
        container.resources = Some(resize::allocated(&container, &self.state));
        let outcome = self.try_create(&container, attempt).await;
        let now = self.context.clock.now();
        match outcome {
            // Its image is being pulled; the end of that comes as a message.
            Ok(None) => {}
            Ok(Some(instance)) => {
                self.state.created(name, instance);
                self.event(Some(name), false, "Created", &format!("Created container: {name}"), now);
            }
            Err(refusal) => self.refused(&container, refusal, now),
        }
    }

    /// Turns a refusal into an obstacle and its events.
    pub(crate) fn refused(&mut self, container: &Container, (reason, message): Refusal, now: Timestamp) {
        let name = container.name.as_str();
        let limits = self.state.limits;
        let mut look_at = None;
        let wait = match reason {
            "ErrImagePull" | "RegistryUnavailable" => {
                let image = spec::image(container);
                self.event(
                    Some(name),
                    true,
                    "Failed",
                    &format!("Failed to pull image \"{image}\": {message}"),
                    now,
                );
                self.event(Some(name), true, "Failed", &format!("Error: {reason}"), now);
                self.event(
                    Some(name),
                    false,
                    "BackOff",
                    &format!("Back-off pulling image \"{image}\""),
                    now,
                );
                self.event(Some(name), true, "Failed", "Error: ImagePullBackOff", now);
                look_at = Some(later(now, Duration::from_secs(1)));
                let track = self.state.containers.entry(name.to_owned()).or_default();
                if track
                    .obstacle
                    .as_ref()
                    .is_some_and(|before| before.hash != spec::hash(container))
                {
                    // Another image has a back-off of its own.
                    track.pull.reset();
                }
                track.pull.next(now, now, limits);
                pull::jittered(track.pull.duration().unwrap_or(limits.first), rand::random())
            }
            "ErrImageNeverPull" => {
                self.event(Some(name), true, reason, &message, now);
                self.event(Some(name), true, "Failed", &format!("Error: {reason}"), now);
                look_at = Some(later(now, Duration::from_secs(1)));
                limits.first
            }
            "InvalidImageName" => {
                self.event(Some(name), true, "InspectFailed", &message, now);
                self.event(Some(name), true, "Failed", &format!("Error: {reason}"), now);
                limits.first
            }
            _ => {
                self.event(Some(name), true, "Failed", &format!("Error: {message}"), now);
                limits.first.min(Duration::from_secs(5))
            }
        };
        let retry_at = later(now, wait);
        let hash = spec::hash(container);
        self.state.not_created(
            name,
            Obstacle {
                reason,
                message,
                since: now,
                retry_at,
                look_at,
                hash,
            },
        );
    }

    async fn try_create(&mut self, container: &Container, attempt: u32) -> Result<Option<Instance>, Refusal> {
        let Some(image) = self.image(container).await? else {
            return Ok(None);
        };
        let spec = self
            .container_spec(container, attempt, &image)
            .await
            .map_err(|m| ("CreateContainerConfigError", m))?;
        let id = self
            .context
            .limited(self.context.runtime.create_container(&spec))
            .await
            .map_err(|error| ("CreateContainerError", error.to_string()))?;
        let label = |key: &str| spec.labels.get(key).cloned().unwrap_or_default();
        Ok(Some(Instance {
            image: label(recover::IMAGE_LABEL),
            image_id: image.id,
            stop_signal: label(recover::STOP_SIGNAL_LABEL),
            resources: container.resources.clone().or_else(|| Some(Default::default())),
            ..Instance::created(id, attempt, label(recover::HASH_LABEL))
        }))
    }

    /// Everything resolved, or what cannot be.
    async fn container_spec(
        &self,
        container: &Container,
        attempt: u32,
        image: &Image,
    ) -> Result<ContainerSpec, String> {
        let pod = &self.pod;
        let ip = match self.state.sandbox {
            Sandbox::Ready(ip) => Some(ip),
            _ => None,
        };
        let sources = self.sources(volume::env_references(container), ip).await?;
        let variables = env::variables(pod, container, &sources)?;
        let (user, group) = resolve::user(pod, container, image);
        let resolved = self
            .context
            .limited(self.context.runtime.resolve_user(&image.id, &user))
            .await;
        let (uid, gid, groups) = resolved.map_err(|error| error.to_string())?;
        resolve::check_non_root(pod, container, &user, uid)?;
        let security = security::of_container(pod, container)?;
        let working_dir = container
            .working_dir
            .clone()
            .unwrap_or_else(|| image.config.working_dir.clone());
        let signal = resolve::stop_signal(container, image);
        Ok(ContainerSpec {
            pod_uid: spec::uid(pod).to_owned(),
            pod: spec::full_name(pod),
            name: container.name.clone(),
            attempt,
            image_id: image.id.clone(),
            args: resolve::arguments(container, image, &variables)?,
            env: resolve::environment(image, &volume::host_name(pod, &self.names())?, &variables),
            working_dir: if working_dir.is_empty() {
                "/".to_owned()
            } else {
                working_dir
            },
            uid,
            gid: group.and_then(|gid| u32::try_from(gid).ok()).unwrap_or(gid),
            additional_gids: resolve::groups(pod, groups),
            mounts: self.mounts(container, &variables).await?,
            read_only_root: security.read_only_root,
            privileged: security.privileged,
            add_capabilities: security.add_capabilities,
            drop_capabilities: security.drop_capabilities,
            no_new_privileges: security.no_new_privileges,
            seccomp: security.seccomp,
            sysctls: security::sysctls(pod),
            resources: resources::limits(container),
            stdio: Stdio {
                stdin: container.stdin == Some(true),
                tty: container.tty == Some(true),
            },
            process_namespace_of: self.target_process(&container.name)?,
            log_path: self.dirs.log(&container.name, attempt),
            labels: recover::labels(
                pod,
                container,
                &resolve::status_image(spec::image(container), image),
                &signal,
            ),
        })
    }

    /// The container whose processes an ephemeral one is to see.
    fn target_process(&self, name: &str) -> Result<Option<String>, String> {
        let Some(target) = ephemeral::target(&self.pod, name) else {
            return Ok(None);
        };
        let instance = self.state.instance(target).filter(|instance| instance.running());
        let instance = instance.ok_or_else(|| format!("unable to find target container {target}"))?;
        Ok(Some(instance.id.clone()))
    }

    async fn start(&mut self, name: &str, id: &str) {
        let mut outcome = self.context.limited(self.context.runtime.start_container(id)).await;
        let mut ended = None;
        if outcome.is_err() {
            // It may run nevertheless, or have run: a second one must not be started beside it, nor work be done twice.
            match self.process(id).await {
                Some(ContainerState::Running) => outcome = Ok(()),
                Some(ContainerState::Exited(exit)) => (outcome, ended) = (Ok(()), Some(exit)),
                Some(ContainerState::Created) | None => {}
            }
        }
        let now = self.context.clock.now();
        match outcome {
            Ok(()) => {
                self.state.started(id, now);
                self.event(Some(name), false, "Started", &format!("Started container {name}"), now);
                if let Some(exit) = ended {
                    self.state.exited(id, exit, None);
                }
            }
            Err(error) => {
                self.event(Some(name), true, "Failed", &format!("Error: {error}"), now);
                let exit = Exit {
                    code: 128,
                    signal: 0,
                    finished_at: now,
                    oom_killed: false,
                };
                self.state.exited(id, exit, Some(error.to_string()));
            }
        }
    }

    /// What the runtime says of a container; None if it cannot tell.
    async fn process(&self, id: &str) -> Option<ContainerState> {
        let all = self.context.limited(self.context.runtime.containers()).await.ok()?;
        let found = all.into_iter().find(|container| container.id == id)?;
        Some(found.state)
    }

    fn tell_killing(&self, name: &str, why: Why) {
        let message = match why {
            Why::PodEnds => format!("Stopping container {name}"),
            Why::DefinitionChanged => format!("Container {name} definition changed, will be restarted"),
            Why::LivenessFailed => format!("Container {name} failed liveness probe, will be restarted"),
            Why::StartupFailed => format!("Container {name} failed startup probe, will be restarted"),
            Why::Resized => format!("Container {name} resize requires restart"),
            Why::PostStartFailed => "FailedPostStartHook".to_owned(),
        };
        self.event(Some(name), false, "Killing", &message, self.context.clock.now());
    }

    fn target(&self, container: &Container, id: &str) -> Target {
        let ip = match self.state.sandbox {
            Sandbox::Ready(ip) => Some(ip),
            _ => self
                .pod
                .status
                .as_ref()
                .and_then(|s| s.pod_ip.as_ref())
                .and_then(|ip| ip.parse().ok()),
        };
        Target {
            runtime: self.context.runtime.clone(),
            pod_uid: spec::uid(&self.pod).to_owned(),
            pod_ip: ip.unwrap_or(self.context.options.node_ip),
            id: id.to_owned(),
            container: container.clone(),
        }
    }

    /// Runs beside the worker; its end comes as a message.
    fn run_hook(&mut self, name: &str, id: String, pre_stop: bool, deadline: Option<Timestamp>) {
        let Some(container) = spec::find(&self.pod, name) else {
            return;
        };
        let handler = if pre_stop {
            spec::pre_stop(container)
        } else {
            spec::post_start(container)
        };
        let Some(handler) = handler.cloned() else {
            return self.state.hook_done(&id, pre_stop, true);
        };
        let target = self.target(container, &id);
        let mailbox = self.mailbox.clone();
        // A hook may not outlive its container by much; the planner cuts preStop at its deadline already.
        let now = self.context.clock.now();
        let limit = deadline.map_or(Duration::from_secs(24 * 3600), |at| since(at, now) + RETRY);
        let key = (id.clone(), pre_stop);
        let handle = self.tasks.spawn(async move {
            let run = tokio::time::timeout(limit, handler::hook(&target, &handler)).await;
            let result = run.unwrap_or_else(|_| Err("it did not end in time".to_owned()));
            mailbox.put(|news| news.messages.push(Message::Hook { id, pre_stop, result }));
        });
        self.hooks.insert(key, handle);
    }

    fn probe(&mut self, name: &str, id: String, kind: ProbeKind) {
        let Some(container) = spec::find(&self.pod, name) else {
            return;
        };
        let Some(probe) = spec::probe(container, kind).cloned() else {
            return;
        };
        let target = self.target(container, &id);
        let mailbox = self.mailbox.clone();
        let timeout = spec::timing(&probe).timeout;
        self.tasks.spawn(async move {
            let answer: Answer = handler::probe(&target, &probe, timeout).await;
            mailbox.put(|news| news.messages.push(Message::Probe { id, kind, answer }));
        });
    }

    async fn signal(&mut self, name: &str, id: &str, kill: bool) {
        // A postStart hook must not run on in a container that is told to stop.
        if let Some(hook) = self.hooks.remove(&(id.to_owned(), false)) {
            hook.abort();
        }
        let asked = self
            .state
            .instance(name)
            .map(|instance| instance.stop_signal.clone())
            .filter(|s| !s.is_empty());
        let signal = if kill {
            "SIGKILL".to_owned()
        } else {
            asked.unwrap_or_else(|| "SIGTERM".to_owned())
        };
        match self
            .context
            .limited(self.context.runtime.signal_container(id, &signal))
            .await
        {
            Ok(()) => {}
            Err(RuntimeError::NotFound(_)) => self.state.removed(id),
            Err(error) => {
                let pod = spec::full_name(&self.pod);
                tracing::warn!(pod, container = name, signal, %error, "signal not sent");
            }
        }
    }

    async fn remove(&mut self, id: &str) {
        if let Err(error) = self.context.limited(self.context.runtime.remove_container(id)).await {
            // The next list of the runtime's containers brings it back, and with it another attempt.
            tracing::warn!(pod = spec::full_name(&self.pod), id, %error, "container not removed");
        }
        self.state.removed(id);
    }

    async fn clean_up(&mut self) {
        self.host_ports = Default::default();
        let removed = self
            .context
            .limited(self.context.runtime.remove_sandbox(spec::uid(&self.pod)))
            .await;
        let removed = match removed {
            Ok(()) => {
                self.context
                    .limited(self.context.runtime.unmount_below(&self.dirs.root))
                    .await
            }
            failed => failed,
        };
        let files = match removed {
            Ok(()) => {
                let dirs = self.dirs.clone();
                // Logs stay as long as the object does.
                blocking(move || volume::remove(&dirs, false).map_err(|error| error.to_string())).await
            }
            Err(error) => Err(error.to_string()),
        };
        match files {
            Ok(()) => {
                self.state.cleaned = true;
                self.state.sandbox = Sandbox::Absent;
            }
            Err(error) => {
                let now = self.context.clock.now();
                self.event(None, true, "FailedKillPod", &format!("error killing pod: {error}"), now);
                self.state.retry_at = Some(later(now, RETRY));
            }
        }
    }

    async fn delete_object(&mut self) {
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), spec::namespace(&self.pod));
        let own = Preconditions {
            uid: self.pod.metadata.uid.clone(),
            resource_version: None,
        };
        let params = DeleteParams::default().grace_period(0).preconditions(own);
        let now = self.context.clock.now();
        let error = match tokio::time::timeout(API_LIMIT, api.delete(spec::name(&self.pod), &params)).await {
            Ok(Ok(_)) => {
                self.state.deleted = true;
                return;
            }
            // Gone, or another pod has the name.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                return self.state.observe_gone(now);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::debug!(
            pod = spec::full_name(&self.pod),
            terminal = self.is_terminal(),
            error,
            "object not deleted"
        );
        self.state.retry_at = Some(later(now, RETRY));
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(error.to_string()))
}
