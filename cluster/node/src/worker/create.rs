//! How a worker makes a container, or says why it cannot.

use std::borrow::Cow;
use std::time::Duration;

use afloat_runtime::{ContainerSpec, Image, Stdio};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;

use super::Worker;
use crate::clock::later;
use crate::pod::container::{env, resolve, resources, security};
use crate::pod::instance::Instance;
use crate::pod::obstacle::{Obstacle, Reason, Refusal, Told};
use crate::pod::state::Sandbox;
use crate::pod::{ephemeral, found, pull, resize, spec};
use crate::volume;

/// Before an image that was missing is looked for again.
const LOOK: Duration = Duration::from_secs(1);
/// Before a container that could not be made is tried again, at most.
const CREATE_RETRY: Duration = Duration::from_secs(5);

impl Worker {
    pub(super) async fn create(&mut self, name: &str, attempt: u32) {
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
    pub(super) fn refused(&mut self, container: &Container, refusal: Refusal, now: Timestamp) {
        for Told {
            warning,
            reason,
            message,
        } in refusal.events(spec::image(container))
        {
            self.event(Some(&container.name), warning, reason, &message, now);
        }
        let retry_at = later(now, self.wait_after(container, refusal.reason, now));
        let look_at = refusal.reason.lacks_the_image().then(|| later(now, LOOK));
        let Refusal { reason, message } = refusal;
        let obstacle = Obstacle {
            reason,
            message,
            since: now,
            retry_at,
            look_at,
            hash: spec::hash(container),
        };
        self.state.not_created(&container.name, obstacle);
    }

    /// How long until it is tried again.
    fn wait_after(&mut self, container: &Container, reason: Reason, now: Timestamp) -> Duration {
        let limits = self.state.limits;
        match reason {
            Reason::ErrImagePull | Reason::RegistryUnavailable => {
                let track = self.state.containers.entry(container.name.clone()).or_default();
                let before = track.obstacle.as_ref();
                if before.is_some_and(|before| before.hash != spec::hash(container)) {
                    // Another image has a back-off of its own.
                    track.pull.reset();
                }
                track.pull.next(now, now, limits);
                pull::jittered(track.pull.duration().unwrap_or(limits.first), rand::random())
            }
            Reason::ErrImageNeverPull | Reason::InvalidImageName => limits.first,
            Reason::CreateContainerConfigError | Reason::CreateContainerError => limits.first.min(CREATE_RETRY),
        }
    }

    async fn try_create(&mut self, container: &Container, attempt: u32) -> Result<Option<Instance>, Refusal> {
        let Some(image) = self.image(container).await? else {
            return Ok(None);
        };
        let spec = self
            .container_spec(container, attempt, &image)
            .await
            .map_err(|message| Refusal::new(Reason::CreateContainerConfigError, message))?;
        let id = self
            .context
            .limited(self.context.runtime.create_container(&spec))
            .await
            .map_err(|error| Refusal::new(Reason::CreateContainerError, error.to_string()))?;
        let label = |key: &str| spec.labels.get(key).cloned().unwrap_or_default();
        Ok(Some(Instance {
            image: label(found::IMAGE_LABEL),
            image_id: image.id,
            stop_signal: label(found::STOP_SIGNAL_LABEL),
            resources: container.resources.clone().or_else(|| Some(Default::default())),
            ..Instance::created(id, attempt, label(found::HASH_LABEL))
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
        let mut sources = self.sources(volume::env_references(container), ip).await?;
        sources.services = self.service_variables().await?;
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
            mounts: self.mounts(container, attempt, &variables).await?,
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
            labels: found::labels(
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
}
