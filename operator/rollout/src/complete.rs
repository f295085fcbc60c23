//! Is an in-place update complete, that is: does every changed container run from the pod's present spec?
//!
//! OpenKruise waits for another imageID and so waits for ever when two tags have one digest; a changed containerID alone
//! proves nothing either, because a crash may have restarted the *old* image. The rules stand at `Look::container`.

use afloat_api::{ContainerOrigin, InPlaceUpdateState, LastContainerStatus, UpdateSpec, names, origins};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::images::Nodes;
use crate::pod::{Container, ContainerStatus, Pod};

/// How long a container that already ran the wanted image is watched before it is believed that the node will not
/// restart it, where the node does not say which generation it has acted on.
pub const SETTLE: SignedDuration = SignedDuration::from_secs(5);

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
    let annotations = pod.annotations();
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
    for (name, before) in state.last_container_statuses.iter().flatten() {
        let complete = look.container(name, before, origins.get(name));
        if complete != Completion::Done && !hashes.shows_current(pod, name) {
            return complete;
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
        !container.resources.is_empty() && !actual.is_some_and(|actual| actual.same(&container.resources))
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
    let Some(state) = InPlaceUpdateState::read(pod.annotations()) else {
        return Vec::new();
    };
    let origins = origins(pod.annotations());
    let records = state.last_container_statuses.clone().unwrap_or_default();
    let look = Look::new(pod, nodes, &state, now);
    let open = |(name, before): &(&String, &LastContainerStatus)| {
        look.container(name, before, origins.get(*name)) != Completion::Done
    };
    records.iter().filter(open).map(|(name, _)| name.clone()).collect()
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
    ///    container still runs and the node has acted on this generation, or has had [`SETTLE`] to do so.
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
        let wanted = names_wanted(container, status);
        let Some(origin) = origin else {
            // Begun by OpenKruise, which does not record the container: its own rule, with names compared in their full
            // form, or by what the node says.
            return if status.image_id != before.image_id || wanted {
                Completion::Done
            } else {
                self.same_image(container, status, false)
            };
        };
        let runs = |image: &String| normalise(image) == normalise(&status.image) || self.resolves(image, status);
        // Rolled back before the node was seen to act: a container that names the wanted image may be the old one after
        // a crash, with the image in between still to come.
        let back = origin.images.contains(&container.image);
        if status.image_id != before.image_id {
            let leaving = !wanted && origin.images.iter().any(runs);
            return if leaving || wanted && back {
                self.same_image(container, status, back)
            } else {
                Completion::Done
            };
        }
        let replaced = match status.container_id.as_deref() {
            None | Some("") => return waiting(None),
            Some(id) => id != origin.container_id,
        };
        if replaced {
            return if !wanted || ambiguous(container, before, origin) {
                self.same_image(container, status, back)
            } else {
                Completion::Done
            };
        }
        // Another text of an image that stood there is a restart that is still to come.
        let respelled = !back && origin.images.iter().any(|image| alike(image, &container.image));
        let rolled_back = if wanted {
            back || normalise(&origin.ran) == normalise(&container.image) && !respelled
        } else {
            back && self.resolves(&container.image, status)
        };
        if !rolled_back || status.state.running.is_none() {
            return waiting(None);
        }
        match self.node_acted() {
            Some(true) => Completion::Done,
            Some(false) => waiting(None),
            None => self.settled(name, self.written),
        }
    }

    /// Rule 3. A node lists its images now and then, so it is looked at again even if nothing else happens.
    fn same_image(&self, container: &Container, status: &ContainerStatus, back: bool) -> Completion {
        let again = Completion::Waiting {
            container: container.name.clone(),
            until: self.now.checked_add(SETTLE).ok(),
        };
        let Some(running) = status.state.running.as_ref() else {
            return Completion::Waiting {
                container: container.name.clone(),
                until: None,
            };
        };
        let same = names_wanted(container, status) || self.resolves(&container.image, status);
        if self.node_acted() == Some(false) || !same {
            return again;
        }
        // The reference is the very text that the running container was started with: once the node has looked at it,
        // it has no reason to stop it.
        if back && self.node_acted() == Some(true) {
            return Completion::Done;
        }
        let started = running.started_at.as_ref().map(|time| time.0);
        self.settled(&container.name, started.max(self.written))
    }

    /// Whether the node says that the reference is a name of the image that runs.
    fn resolves(&self, reference: &str, status: &ContainerStatus) -> bool {
        let node = self.pod.spec.node_name.as_ref().and_then(|name| self.nodes.get(name));
        node.is_some_and(|node| node.resolves(reference, &status.image_id))
    }

    /// Whether the node has acted on the present spec; None if it does not say (KEP-5067).
    fn node_acted(&self) -> Option<bool> {
        Some(self.pod.status.observed_generation? >= self.pod.metadata.generation?)
    }

    fn settled(&self, container: &str, since: Option<Timestamp>) -> Completion {
        match since.and_then(|start| start.checked_add(SETTLE).ok()) {
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
    let digest = wanted.split_once('@').map(|(_, digest)| digest);
    normalise(wanted) == normalise(image) || digest.is_some_and(|digest| image_id.ends_with(digest))
}

/// Whether two references are texts of one image: the same name, or the same digest.
fn alike(a: &str, b: &str) -> bool {
    let parts = |image: &str| match image.split_once('@') {
        Some((path, digest)) => (normalise(path), Some(digest.to_owned())),
        None => (normalise(image), None),
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

/// An image reference in its full form: `nginx` is `docker.io/library/nginx:latest`.
pub fn normalise(image: &str) -> String {
    let (path, digest) = match image.split_once('@') {
        Some((path, digest)) => (path, Some(digest)),
        None => (image, None),
    };
    let (domain, rest) = match path.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => ("docker.io", path),
    };
    let domain = if domain == "index.docker.io" {
        "docker.io"
    } else {
        domain
    };
    let library = if domain == "docker.io" && !rest.contains('/') {
        "library/"
    } else {
        ""
    };
    let tagged = rest.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let tag = if tagged || digest.is_some() { "" } else { ":latest" };
    let at = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
    format!("{domain}/{library}{rest}{tag}{at}")
}

/// What OpenKruise's daemon reports about running containers. If the hash that a container was started with is the hash
/// of its present spec, it runs from the present spec, whatever the names say.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Hashes {
    containers: Vec<ContainerMeta>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerMeta {
    name: String,
    #[serde(rename = "containerID")]
    container_id: String,
    hashes: ContainerHashes,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerHashes {
    plain_hash: Option<u64>,
    extracted_env_from_metadata_hash: Option<u64>,
}

impl Hashes {
    fn read(pod: &Pod) -> Self {
        let text = pod.annotations().get(names::RUNTIME_CONTAINERS_META);
        text.and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    fn shows_current(&self, pod: &Pod, name: &str) -> bool {
        let container = pod.spec.containers.iter().find(|container| container.name == name);
        let meta = self.containers.iter().find(|meta| meta.name == name);
        let (Some(container), Some(meta), Some(status)) = (container, meta, pod.container_status(name)) else {
            return false;
        };
        !meta.container_id.is_empty()
            && status.container_id.as_deref() == Some(&meta.container_id)
            && meta.hashes.plain_hash == Some(u64::from(plain_hash(container)))
    }
}

impl Hashes {
    /// The first container whose environment from metadata is not that of the pod's present metadata; as OpenKruise
    /// asks for all containers, one that is not reported counts.
    fn old_environment<'a>(&self, pod: &'a Pod) -> Option<&'a str> {
        let current = |container: &&Container| {
            let meta = self.containers.iter().find(|meta| meta.name == container.name)?;
            let status = pod.container_status(&container.name)?;
            let same = status.container_id.as_deref() == Some(&meta.container_id);
            let hash = meta.hashes.extracted_env_from_metadata_hash;
            (same && hash == Some(container.environment.hash(pod))).then_some(())
        };
        let open = pod
            .spec
            .containers
            .iter()
            .find(|container| current(container).is_none());
        open.map(|container| container.name.as_str())
    }
}

/// The kubelet's container hash since Kubernetes 1.31: FNV-1a over Go's print of the bytes of `{"image":I,"name":N}`.
fn plain_hash(container: &Container) -> u32 {
    go_hash(&serde_json::json!({"image": container.image, "name": container.name}))
}

/// FNV-1a over Go's print of the bytes of a JSON text, as Kubernetes and OpenKruise hash objects.
pub(crate) fn go_hash(json: &serde_json::Value) -> u32 {
    let bytes: Vec<_> = crate::revision::bytes(json).iter().map(u8::to_string).collect();
    let text = format!("([]uint8)[{}]", bytes.join(" "));
    text.bytes().fold(0x811c_9dc5, |hash: u32, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const START: &str = "2026-01-01T00:00:00Z";

    /// A pod whose container `app` had `before` (imageID, containerID, ran image, outgoing images) when `spec` was
    /// written, and now shows `after` (imageID, containerID, image).
    fn pod(spec: &str, before: (&str, &str, &str, &[&str]), after: (&str, &str, &str)) -> Pod {
        let state = json!({"revision": "r", "updateTimestamp": START,
            "lastContainerStatuses": {"app": {"imageID": before.0}}, "updateImages": true});
        let from = json!({"app": {"containerID": before.1, "ran": before.2, "images": before.3}});
        serde_json::from_value(json!({
            "metadata": {"annotations": {names::INPLACE_STATE: state.to_string(), names::INPLACE_FROM: from.to_string()}},
            "spec": {"containers": [{"name": "app", "image": spec}]},
            "status": {"containerStatuses": [{"name": "app", "image": after.2, "imageID": after.0, "containerID": after.1,
                "state": {"running": {}}}]}
        }))
        .unwrap()
    }

    fn done_after(seconds: i64, pod: &Pod) -> bool {
        let now = START.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds);
        completion(pod, &nodes(), now) == Completion::Done
    }

    /// On this node `app:2` and `app:two` are one image, I2; `app:1` and `app:one` are I1.
    fn nodes() -> Nodes {
        let node = json!({"metadata": {"name": "node"}, "status": {"images": [
            {"names": ["app@sha256:I1", "app:1", "app:one"]}, {"names": ["app@sha256:I2", "app:2", "app:two"]}]}});
        [(
            "node".to_owned(),
            std::sync::Arc::new(serde_json::from_value(node).unwrap()),
        )]
        .into()
    }

    /// kruise #635, #1493, #2297: another tag of the digest that runs, and the runtime keeps saying the old tag.
    #[test]
    fn the_node_says_that_two_names_are_one_image() {
        let before: (_, _, _, &[&str]) = ("sha256:I1", "c1", "app:1", &["app:1"]);
        for (what, spec, after, seconds, done) in [
            (
                "restarted, old tag reported",
                "app:one",
                ("sha256:I1", "c2", "app:1"),
                60,
                true,
            ),
            ("restarted just now", "app:one", ("sha256:I1", "c2", "app:1"), 14, false),
            ("long enough ago", "app:one", ("sha256:I1", "c2", "app:1"), 15, true),
            ("not restarted", "app:one", ("sha256:I1", "c1", "app:1"), 60, false),
            (
                "the old container crashed, and the new tag is another image",
                "app:two",
                ("sha256:I1", "c2", "app:1"),
                60,
                false,
            ),
            (
                "a tag that the node does not have",
                "app:9",
                ("sha256:I1", "c2", "app:1"),
                60,
                false,
            ),
        ] {
            let mut pod = pod(spec, before, after);
            pod.spec.node_name = Some("node".into());
            let running = json!({"startedAt": "2026-01-01T00:00:10Z"});
            pod.status.container_statuses[0].state.running = serde_json::from_value(running).unwrap();
            assert_eq!(done_after(seconds, &pod), done, "{what}");
            if done {
                pod.metadata.generation = Some(2);
                pod.status.observed_generation = Some(1);
                assert!(!done_after(60, &pod), "{what}, but the node has not acted");
            }
        }
    }

    /// Each changed container must run from the new spec, the slowest one decides.
    #[test]
    fn several_containers_complete_together() {
        let before: (_, _, _, &[&str]) = ("I1", "c1", "app:1", &["app:1"]);
        let mut pod = pod("app:2", before, ("I2", "c2", "app:2"));
        let state = json!({"revision": "r", "updateTimestamp": START, "updateImages": true,
            "lastContainerStatuses": {"app": {"imageID": "I1"}, "log": {"imageID": "L1"}}});
        let from = json!({"app": {"containerID": "c1", "ran": "app:1", "images": ["app:1"]},
            "log": {"containerID": "d1", "ran": "log:1", "images": ["log:1"]}});
        let annotations = pod.metadata.annotations.as_mut().unwrap();
        annotations.insert(names::INPLACE_STATE.into(), state.to_string());
        annotations.insert(names::INPLACE_FROM.into(), from.to_string());
        let log = |id: &str, container: &str| json!({"name": "log", "image": "log:2", "imageID": id, "containerID": container, "state": {"running": {}}});
        pod.spec
            .containers
            .push(serde_json::from_value(json!({"name": "log", "image": "log:2"})).unwrap());
        assert!(!done_after(60, &pod), "no status of the second one yet");
        pod.status
            .container_statuses
            .push(serde_json::from_value(log("L1", "d1")).unwrap());
        assert!(!done_after(60, &pod), "the second one is the old one");
        pod.status.container_statuses[1] = serde_json::from_value(log("L2", "d2")).unwrap();
        assert!(done_after(60, &pod));
    }

    /// kruise #1156, #2269: an image that cannot be pulled, then a good one, then the way back.
    #[test]
    fn from_an_image_that_cannot_be_pulled() {
        let stuck: (_, _, _, &[&str]) = ("I1", "c1", "app:1", &["app:1", "app:bad"]);
        for (what, spec, after, done) in [
            ("nothing acted on yet", "app:2", ("I1", "c1", "app:1"), false),
            ("the old container is stopped", "app:2", ("I1", "", "app:bad"), false),
            ("fixed forward", "app:2", ("I2", "c2", "app:2"), true),
            ("rolled back, not restarted yet", "app:1", ("I1", "", "app:bad"), false),
            ("rolled back and restarted", "app:1", ("I1", "c2", "app:1"), true),
        ] {
            assert_eq!(done_after(60, &pod(spec, stuck, after)), done, "{what}");
        }
    }

    /// OpenKruise's record has no container; the node's list decides where its own rule would wait for ever.
    #[test]
    fn an_update_that_openkruise_began_under_another_tag() {
        let mut pod = pod(
            "app:one",
            ("sha256:I1", "c1", "app:1", &[]),
            ("sha256:I1", "c2", "app:1"),
        );
        pod.metadata.annotations.as_mut().unwrap().remove(names::INPLACE_FROM);
        assert!(!done_after(60, &pod), "its node is not known");
        pod.spec.node_name = Some("node".into());
        assert!(done_after(60, &pod));
    }

    #[test]
    fn images_by_situation() {
        let before: (_, _, _, &[&str]) = ("I1", "c1", "app:1", &["app:1"]);
        for (what, spec, before, after, done) in [
            ("nothing happened yet", "app:2", before, ("I1", "c1", "app:1"), false),
            ("a new digest runs", "app:2", before, ("I2", "c2", "app:2"), true),
            (
                "a new digest runs and the runtime names it otherwise",
                "app:2",
                before,
                ("I2", "c2", "sha256:2"),
                true,
            ),
            (
                "same digest, restarted from the new tag (kruise #635)",
                "app:2",
                before,
                ("I1", "c2", "docker.io/library/app:2"),
                true,
            ),
            (
                "the old container crashed before the node saw the change",
                "app:2",
                before,
                ("I1", "c2", "app:1"),
                false,
            ),
            (
                "rolled back while the second image still runs",
                "app:1",
                ("I1", "c1", "app:1", &["app:1", "app:2"]),
                ("I2", "c2", "app:2"),
                false,
            ),
            (
                "rolled back and restarted",
                "app:1",
                ("I1", "c1", "app:1", &["app:1", "app:2"]),
                ("I1", "c3", "app:1"),
                true,
            ),
            (
                "same digest, status already names the new tag but the container is the old one",
                "app:2",
                before,
                ("I1", "c1", "app:2"),
                false,
            ),
            (
                "stopped, and waiting for the new tag to be pulled",
                "app:2",
                before,
                ("I1", "", "app:2"),
                false,
            ),
            (
                "digest reference",
                "app@sha256:2",
                before,
                ("docker.io/library/app@sha256:2", "c2", "x"),
                true,
            ),
        ] {
            assert_eq!(done_after(60, &pod(spec, before, after)), done, "{what}");
        }
    }

    #[test]
    fn a_rollback_before_the_node_acted_settles() {
        let mut pod = pod("app:1", ("I1", "c1", "app:1", &["app:2"]), ("I1", "c1", "app:1"));
        assert!(!done_after(4, &pod));
        assert!(done_after(5, &pod));
        pod.metadata.generation = Some(3);
        pod.status.observed_generation = Some(2);
        assert!(!done_after(60, &pod));
        pod.status.observed_generation = Some(3);
        assert!(done_after(0, &pod));
    }

    #[test]
    fn another_text_of_the_same_image_waits_for_its_restart() {
        let full = "docker.io/library/app:1";
        let mut same = pod(full, ("I1", "c1", full, &["app:1"]), ("I1", "c1", full));
        same.metadata.generation = Some(3);
        same.status.observed_generation = Some(3);
        assert!(!done_after(60, &same), "the node has seen it and not acted yet");
        let mut other = pod(full, ("I1", "c1", full, &["app:1"]), ("I1", "c2", full));
        other.status.container_statuses[0]
            .state
            .running
            .as_mut()
            .unwrap()
            .started_at = Some(serde_json::from_value(json!("2026-01-01T00:00:10Z")).unwrap());
        assert!(!done_after(12, &other), "it may be the old one after a crash");
        assert!(done_after(15, &other));
    }

    /// Found by the model: A, then B, then A again, while the container of A crashes and the node has seen B only.
    #[test]
    fn a_crash_during_a_rollback_is_no_completion() {
        let mut pod = pod(
            "app:1",
            ("I1", "c1", "app:1", &["app:1", "app:2"]),
            ("I1", "c2", "app:1"),
        );
        pod.metadata.generation = Some(3);
        pod.status.observed_generation = Some(2);
        assert!(!done_after(60, &pod));
        pod.status.observed_generation = Some(3);
        assert!(done_after(0, &pod));
    }

    #[test]
    fn the_daemons_hash_decides_when_names_cannot() {
        let mut pod = pod("app:2", ("I1", "c1", "app:1", &["app:1"]), ("I1", "c2", "app:1"));
        assert!(!done_after(60, &pod));
        let hash = plain_hash(&pod.spec.containers[0]);
        let meta = json!({"containers": [{"name": "app", "containerID": "c2", "hashes": {"plainHash": hash}}]});
        pod.metadata
            .annotations
            .as_mut()
            .unwrap()
            .insert(names::RUNTIME_CONTAINERS_META.into(), meta.to_string());
        assert!(done_after(60, &pod));
    }

    #[test]
    fn references_have_a_full_form() {
        for (short, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("user/app:1", "docker.io/user/app:1"),
            ("docker.io/nginx:1", "docker.io/library/nginx:1"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("quay.io/a/b@sha256:1", "quay.io/a/b@sha256:1"),
        ] {
            assert_eq!(normalise(short), full);
        }
    }
}
