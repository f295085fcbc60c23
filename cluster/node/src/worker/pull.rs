//! What a worker does about images: looks, pulls, tells. The pull runs beside the worker, which stays ready for news; it is
//! dropped when the pod ends or wants another image.

use std::borrow::Cow;

use afloat_runtime::registry::{Keyring, Progress, PullError};
use afloat_runtime::{Image, RuntimeError};
use futures::FutureExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use kube::Api;

use super::Worker;
use crate::clock::since;
use crate::context::Context;
use crate::mailbox::{Message, PullEnd};
use crate::options::API_LIMIT;
use crate::pod::obstacle::{Reason, Refusal};
use crate::pod::pull::{Need, go_duration, need};
use crate::pod::{ephemeral, spec};

impl Worker {
    /// The image to make a container of. None: it is being pulled.
    pub(crate) async fn image(&mut self, container: &Container) -> Result<Option<Image>, Refusal> {
        let (name, reference, hash) = (&container.name, spec::image(container), spec::hash(container));
        let track = self.state.containers.get(name);
        if let Some((_, image)) = track
            .and_then(|t| t.pulled.as_ref())
            .filter(|(pulled, _)| *pulled == hash)
        {
            return Ok(Some(image.clone()));
        }
        let found = match self.context.limited(self.context.runtime.image(reference)).await {
            Ok(found) => found,
            Err(RuntimeError::Invalid(text)) => {
                let message = format!("Failed to apply default image tag \"{reference}\": {text}");
                return Err(Refusal::new(Reason::InvalidImageName, message));
            }
            Err(error) => return Err(Refusal::new(Reason::ErrImagePull, error.to_string())),
        };
        let now = self.context.clock.now();
        match need(container, found.as_ref()) {
            Need::Never => Err(Refusal::new(
                Reason::ErrImageNeverPull,
                format!("Container image \"{reference}\" is not present with pull policy of Never"),
            )),
            Need::Nothing => {
                let present = format!("Container image \"{reference}\" already present on machine");
                self.event(Some(name), false, "Pulled", &present, now);
                Ok(found)
            }
            Need::Pull => {
                self.event(
                    Some(name),
                    false,
                    "Pulling",
                    &format!("Pulling image \"{reference}\""),
                    now,
                );
                self.start_pull(container, hash, now);
                Ok(None)
            }
        }
    }

    fn start_pull(&mut self, container: &Container, hash: String, now: Timestamp) {
        let (context, pod, mailbox) = (self.context.clone(), self.pod.clone(), self.mailbox.clone());
        let (name, reference) = (container.name.clone(), spec::image(container).to_owned());
        self.state.containers.entry(name.clone()).or_default().pulling = Some(hash.clone());
        let handle = self.tasks.spawn(FutureExt::boxed(async move {
            let (keyring, missing_secrets) = keyring(&context, &pod).await;
            let result = context.runtime.pull(&reference, &keyring, &Progress::default()).await;
            let end = Box::new(PullEnd {
                hash,
                result,
                took: since(context.clock.now(), now),
                missing_secrets,
            });
            mailbox.put(|news| news.messages.push(Message::Pulled { container: name, end }));
        }));
        if let Some(old) = self.pulls.insert(container.name.clone(), handle) {
            old.abort();
        }
    }

    /// Drops pulls that nobody waits for any more: the pod ends, or wants another image.
    pub(crate) fn give_up_pulls(&mut self) {
        if self.pulls.is_empty() {
            return;
        }
        let (pod, state) = (self.pod.clone(), &mut self.state);
        let ends = state.ending.is_some() || state.failed.is_some();
        self.pulls.retain(|name, pull| {
            let wanted = ephemeral::find(&pod, name)
                .map(|wanted| spec::hash(&wanted))
                .filter(|_| !ends);
            let track = state.containers.get_mut(name);
            let pulling = track.as_ref().and_then(|track| track.pulling.clone());
            if pulling.is_some() && pulling == wanted {
                return true;
            }
            pull.abort();
            if let Some(track) = track {
                track.pulling = None;
            }
            false
        });
    }

    /// A pull came to its end.
    pub(crate) fn pull_ended(&mut self, name: &str, end: PullEnd, now: Timestamp) {
        let Some(container) = ephemeral::find(&self.pod, name).map(Cow::into_owned) else {
            return;
        };
        let track = self.state.containers.entry(name.to_owned()).or_default();
        if track.pulling.as_ref() != Some(&end.hash) {
            return;
        }
        track.pulling = None;
        if !end.missing_secrets.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                end.missing_secrets.join(", ")
            );
            self.event(None, true, "FailedToRetrieveImagePullSecret", &message, now);
        }
        let reference = spec::image(&container);
        match end.result {
            Ok(pulled) => {
                let took = go_duration(end.took);
                let message = format!(
                    "Successfully pulled image \"{reference}\" in {took} ({took} including waiting). Image size: {} bytes.",
                    pulled.image.size_bytes
                );
                let track = self.state.containers.entry(name.to_owned()).or_default();
                track.obstacle = None;
                track.pulled = Some((end.hash, pulled.image));
                self.event(Some(name), false, "Pulled", &message, now);
            }
            Err(error) => self.refused(&container, refusal(reference, &error), now),
        }
    }

    /// Whether an image that was missing has come by another way (`afloat image`).
    pub(crate) async fn look_for_image(&mut self, name: &str) {
        let Some(container) = ephemeral::find(&self.pod, name) else {
            return;
        };
        if let Ok(Some(image)) = self
            .context
            .limited(self.context.runtime.image(spec::image(&container)))
            .await
            && need(&container, Some(&image)) == Need::Nothing
            && let Some(track) = self.state.containers.get_mut(name)
        {
            track.obstacle = None;
        }
    }
}

/// Reason and message, as the kubelet has them (`pkg/kubelet/images`).
fn refusal(reference: &str, error: &PullError) -> Refusal {
    match error {
        PullError::InvalidName(text) => Refusal::new(
            Reason::InvalidImageName,
            format!("Failed to apply default image tag \"{reference}\": {text}"),
        ),
        PullError::Unavailable(text) => Refusal::new(
            Reason::RegistryUnavailable,
            format!("image pull failed for {reference} because the registry is unavailable: {text}"),
        ),
        PullError::Refused(_) | PullError::Local(_) | PullError::DiskFull(_) => {
            Refusal::new(Reason::ErrImagePull, error.to_string())
        }
    }
}

/// What the pod's pull secrets hold, and the names of those that cannot be used. Those of its service account the API server has put
/// into the pod (admission plugin ServiceAccount): a node may not read accounts.
async fn keyring(context: &Context, pod: &Pod) -> (Keyring, Vec<String>) {
    let references = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.image_pull_secrets.clone())
        .unwrap_or_default();
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), spec::namespace(pod));
    let (mut keyring, mut missing) = (Keyring::default(), Vec::new());
    for name in references.into_iter().map(|reference| reference.name) {
        let secret = tokio::time::timeout(API_LIMIT, secrets.get_opt(&name)).await;
        let secret = secret.ok().and_then(Result::ok).flatten();
        if !secret.is_some_and(|secret| add(&mut keyring, &secret)) {
            missing.push(name);
        }
    }
    (keyring, missing)
}

fn add(keyring: &mut Keyring, secret: &Secret) -> bool {
    let read = keyring.add_secret(secret);
    if let Err(error) = &read {
        tracing::debug!(secret = secret.metadata.name, error, "pull secret not read");
    }
    read.is_ok()
}
