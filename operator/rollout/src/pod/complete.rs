//! Is an in-place update complete, that is: does every changed container run from the pod's present spec?
//!
//! OpenKruise waits for another imageID and so waits for ever when two tags have one digest; a changed containerID alone
//! proves nothing either, because a crash may have restarted the *old* image. The rules stand at `Look::container`.

use std::collections::BTreeMap;

use afloat_api::{ContainerOrigin, InPlaceUpdateState, LastContainerStatus, UpdateSpec, origins};
use afloat_words::image::ImageName;
use jiff::{SignedDuration, Timestamp};

use crate::pod::images::{Known, Nodes};
use crate::pod::object::{Container, ContainerStatus, HOLD, Pod};

mod hash;

use hash::Hashes;

/// How long a new container is watched before it is believed that the node will not restart it, where the status does not
/// tell two names of its image apart and nobody says by which it was started.
///
/// It may have been started from the old spec after a crash. What is waited for is that the kubelet learns of the new spec
/// and stops it. A kubelet learns by its watch, which is there if its status arrives; it stops a container in the pass in
/// which it learns of the spec, and passes of a pod come after a look at the runtime, once a second
/// (`pod_workers.go#podWorkerLoop`, `pleg/generic.go`). `startedAt` is cut to whole seconds, so that at least two looks fit in.
/// It counts from the start of the container, however long after the write that was: a kubelet that was cut off may have
/// started the old image late.
pub const SETTLE: SignedDuration = SignedDuration::from_secs(3);

/// How long the old container is watched after the image that it runs was written again, before it is believed that the
/// node has not begun to replace it by what stood there in between.
const ACT: SignedDuration = SignedDuration::from_secs(5);

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Every changed container runs from the present spec, or nothing was changed.
    Done,
    /// This container does not yet.
    Waiting {
        /// Which.
        container: String,
        /// When to look again even if nothing happens.
        until: Option<Timestamp>,
    },
}

/// Whether the last in-place update of the pod is complete, as far as it was written: later batches of containers may
/// wait ([`InPlaceUpdateState::waits`]).
pub fn completion(pod: &Pod, nodes: &Nodes, now: Timestamp) -> Completion {
    let annotations = &pod.annotations;
    let waiting = |container: &str| Completion::Waiting {
        container: container.to_owned(),
        until: None,
    };
    if UpdateSpec::present(annotations) {
        return waiting("");
    }
    let Some(state) = InPlaceUpdateState::read(annotations) else {
        return Completion::Done;
    };
    let origins = origins(annotations);
    let hashes = Hashes::read(pod);
    let look = Look::new(pod, nodes, &state, now);
    for (name, before) in &before(&state, &origins) {
        let complete = look.container(name, before, origins.get(name));
        if complete != Completion::Done && !hashes.shows_current(pod, name) {
            return complete;
        }
        let hooked = look.hook(name);
        if hooked != Completion::Done {
            return hooked;
        }
    }
    // Begun by OpenKruise: its daemon restarts the containers and says so.
    if state.update_env_from_metadata
        && origins.is_empty()
        && let Some(open) = hashes.old_environment(pod)
    {
        return waiting(open);
    }
    let unsized_yet = |container: &&Container| {
        let actual = pod
            .container_status(&container.name)
            .and_then(|status| status.resources.as_deref());
        let told = match actual {
            // Kubernetes 1.32 does not say it of sidecars, which it does not resize.
            None => container.sidecar,
            Some(actual) => actual.same(&container.resources),
        };
        !container.resources.is_empty() && !told
    };
    match pod
        .spec
        .containers
        .iter()
        .find(unsized_yet)
        .filter(|_| state.update_resources)
    {
        Some(container) => waiting(&container.name),
        None => Completion::Done,
    }
}

/// Names of the recorded containers whose update is not complete.
pub fn incomplete(pod: &Pod, nodes: &Nodes, now: Timestamp) -> Vec<String> {
    let Some(state) = InPlaceUpdateState::read(&pod.annotations) else {
        return Vec::new();
    };
    let origins = origins(&pod.annotations);
    let records = before(&state, &origins);
    let look = Look::new(pod, nodes, &state, now);
    let open = |(name, before): &(&String, &LastContainerStatus)| {
        look.container(name, before, origins.get(*name)) != Completion::Done
    };
    records.iter().filter(open).map(|(name, _)| name.clone()).collect()
}

/// What ran before in each container whose image was changed: by OpenKruise's record, and by ours of sidecars.
fn before(
    state: &InPlaceUpdateState,
    origins: &BTreeMap<String, ContainerOrigin>,
) -> BTreeMap<String, LastContainerStatus> {
    let sidecars = origins.iter().filter_map(|(name, origin)| {
        let image_id = origin.image_id.clone()?;
        Some((name.clone(), LastContainerStatus { image_id }))
    });
    let mut all = state.last_container_statuses.clone().unwrap_or_default();
    all.extend(sidecars);
    all
}

/// What the rules are asked about.
struct Look<'a> {
    pod: &'a Pod,
    nodes: &'a Nodes,
    /// When the images were written.
    written: Option<Timestamp>,
    now: Timestamp,
}

impl<'a> Look<'a> {
    fn new(pod: &'a Pod, nodes: &'a Nodes, state: &InPlaceUpdateState, now: Timestamp) -> Self {
        let batch = state.container_batches_record.last();
        let batch = batch.and_then(|batch| batch.get("timestamp")?.as_str()?.parse().ok());
        let written = batch.or_else(|| state.update_timestamp.parse().ok());
        Self {
            pod,
            nodes,
            written,
            now,
        }
    }

    /// The rules for one container whose image was changed:
    ///
    /// 1. Another imageID than before, and the status does not name an image that is on its way out or back: complete.
    /// 2. The same imageID (two tags, one digest): complete once the container is another one *and* the status names
    ///    the wanted image, and would not have named it before.
    /// 3. The same imageID, another container, and the status does not tell the two names apart: complete if the node
    ///    lists the wanted reference as a name of the image that runs, and the container has run for [`SETTLE`], as it
    ///    may be the old one after a crash that the node is about to stop.
    /// 4. The wanted image is the one that ran when it was written (a rollback before the node acted): complete if the
    ///    container still runs and the node has acted on this generation, or has had [`ACT`] to do so.
    ///
    /// 5. Before all others: the node's agent says that this very container was started by the text that the spec has
    ///    now, or the kubelet's hash of it. A kubelet restarts a container for nothing else: its hash is of name and image.
    ///
    /// An image is on its way out if it stood in the spec since the container was last known to match it.
    fn container(&self, name: &str, before: &LastContainerStatus, origin: Option<&ContainerOrigin>) -> Completion {
        let waiting = |until| Completion::Waiting {
            container: name.to_owned(),
            until,
        };
        let Some(container) = self.pod.spec.containers.iter().find(|container| container.name == name) else {
            return Completion::Done;
        };
        let status = self.pod.container_status(name);
        let Some(status) = status.filter(|status| !status.image_id.is_empty()) else {
            return waiting(None);
        };
        if status.container_id.as_deref().is_none_or(str::is_empty) {
            return waiting(None);
        }
        if self.started_by(container, status) && status.state.running.is_some() {
            return Completion::Done;
        }
        let wanted = names_wanted(container, status);
        let Some(origin) = origin else {
            // Begun by OpenKruise, which does not record the container: its own rule, with names compared in their full
            // form, or by what the node says.
            return if status.image_id != before.image_id || wanted {
                Completion::Done
            } else {
                self.same_image(container, status, None)
            };
        };
        let runs =
            |image: &String| ImageName::of(image) == ImageName::of(&status.image) || self.resolves(image, status);
        // Rolled back before the node was seen to act: a container that names the wanted image may be the old one after
        // a crash, with the image in between still to come.
        let back = origin.images.iter().any(|image| container.image == *image);
        if status.image_id != before.image_id {
            let leaving = !wanted && origin.images.iter().any(runs);
            return if leaving || wanted && (back || self.other_name(container, status, origin)) {
                self.same_image(container, status, Some(origin))
            } else {
                Completion::Done
            };
        }
        let replaced = status.container_id.as_ref() != Some(&origin.container_id);
        if replaced {
            return if !wanted || ambiguous(container, before, origin) || self.other_name(container, status, origin) {
                self.same_image(container, status, Some(origin))
            } else {
                Completion::Done
            };
        }
        // Another text of an image that stood there is a restart that is still to come.
        let respelled = !back && origin.images.iter().any(|image| alike(image, &container.image));
        let rolled_back = if wanted {
            back || ImageName::of(&origin.ran) == ImageName::of(&container.image) && !respelled
        } else {
            back && self.resolves(&container.image, status)
        };
        if !rolled_back || status.state.running.is_none() {
            return waiting(None);
        }
        match self.node_acted() {
            Some(true) if !self.other_name(container, status, origin) => Completion::Done,
            Some(false) => waiting(None),
            _ => self.settled(name, self.written, ACT),
        }
    }

    /// A container whose postStart hook may have failed is no reason to send requests to its pod, nor to go on with its next
    /// container: it has to run for [`HOLD`] first, and to be seen ready for as long, since a hook may fail late. Who looks only
    /// once (`afloat plan`) has the node's times alone.
    fn hook(&self, name: &str) -> Completion {
        let waiting = |until| Completion::Waiting {
            container: name.to_owned(),
            until,
        };
        if !self.pod.container(name).is_some_and(|container| container.post_start) {
            return Completion::Done;
        }
        match self.pod.container_status(name) {
            // While its hook goes on it is not ready, and its pod would not serve if it returned.
            Some(status) if status.ready && status.state.running.is_some() => {
                let since = status
                    .started_at()
                    .into_iter()
                    .chain(status.seen.map(|seen| seen.since))
                    .chain(self.pod.containers_ready_since())
                    .max();
                let held = since.and_then(|since| since.checked_add(HOLD).ok());
                match held.filter(|held| *held > self.now) {
                    Some(held) => waiting(Some(held)),
                    None => Completion::Done,
                }
            }
            _ => waiting(None),
        }
    }

    /// Rule 3. A node lists its images now and then, so it is looked at again even if nothing else happens.
    fn same_image(
        &self,
        container: &Container,
        status: &ContainerStatus,
        origin: Option<&ContainerOrigin>,
    ) -> Completion {
        let back = origin.is_some_and(|origin| origin.images.iter().any(|image| container.image == *image));
        let other_name = origin.is_some_and(|origin| self.other_name(container, status, origin));
        let again = Completion::Waiting {
            container: container.name.to_string(),
            until: self.now.checked_add(SETTLE).ok(),
        };
        let Some(running) = status.state.running.as_ref() else {
            return Completion::Waiting {
                container: container.name.to_string(),
                until: None,
            };
        };
        let same = names_wanted(container, status) || self.resolves(&container.image, status);
        if self.node_acted() == Some(false) || !same {
            return again;
        }
        // The reference is the very text that the running container was started with: once the node has looked at it,
        // it has no reason to stop it.
        if back && self.node_acted() == Some(true) && !other_name {
            return Completion::Done;
        }
        let started = running.started_at.as_ref().map(|time| time.0);
        self.settled(&container.name, started.max(self.written), SETTLE)
    }

    /// Whether an image on its way out is another name of the image that runs: then the container may have been started
    /// by that name, and the status cannot tell.
    fn other_name(&self, container: &Container, status: &ContainerStatus, origin: &ContainerOrigin) -> bool {
        let others = origin.images.iter().filter(|image| **image != container.image);
        others.into_iter().any(|image| self.resolves(image, status))
    }

    /// Whether the node says that the reference is a name of the image that runs.
    fn resolves(&self, reference: &str, status: &ContainerStatus) -> bool {
        self.node()
            .is_some_and(|known| known.node.resolves(reference, &status.image_id))
    }

    /// Whether the node's agent says that the container was started by the text that the spec has now.
    fn started_by(&self, container: &Container, status: &ContainerStatus) -> bool {
        let (Some(node), Some(id)) = (self.node(), status.container_id.as_deref()) else {
            return false;
        };
        let hash = || node.started_from(id) == Some(u64::from(hash::plain_hash(container)));
        node.started_by(id) == Some(&*container.image) || hash()
    }

    fn node(&self) -> Option<&Known> {
        self.nodes.get(self.pod.spec.node_name.as_deref()?)
    }

    /// Whether the node has acted on the present spec; None if it does not say (KEP-5067).
    fn node_acted(&self) -> Option<bool> {
        Some(self.pod.status.observed_generation? >= self.pod.metadata.generation?)
    }

    fn settled(&self, container: &str, since: Option<Timestamp>, time: SignedDuration) -> Completion {
        match since.and_then(|start| start.checked_add(time).ok()) {
            Some(settled) if settled > self.now => Completion::Waiting {
                container: container.to_owned(),
                until: Some(settled),
            },
            _ => Completion::Done,
        }
    }
}

/// Whether the status speaks of the image that the spec wants.
fn names_wanted(container: &Container, status: &ContainerStatus) -> bool {
    speaks_of(&container.image, &status.image, &status.image_id)
}

fn speaks_of(wanted: &str, image: &str, image_id: &str) -> bool {
    let wanted = ImageName::of(wanted);
    let digest = wanted.digest();
    wanted == ImageName::of(image) || digest.is_some_and(|digest| image_id.ends_with(digest))
}

/// Whether two references are texts of one image: the same name, or the same digest.
fn alike(a: &str, b: &str) -> bool {
    let parts = |image| match str::split_once(image, '@') {
        Some((path, digest)) => (ImageName::of(path), Some(digest)),
        None => (ImageName::of(image), None),
    };
    let (a, b) = (parts(a), parts(b));
    a.0 == b.0 || a.1.is_some() && a.1 == b.1
}

/// Whether a status of the container that is on its way out could look like one of the wanted: the same image written in
/// another way, as for a restart.
fn ambiguous(container: &Container, before: &LastContainerStatus, origin: &ContainerOrigin) -> bool {
    speaks_of(&container.image, &origin.ran, &before.image_id)
        || origin.images.iter().any(|image| alike(image, &container.image))
}

#[cfg(test)]
mod tests;
