//! Hashes of containers, by which a node's agent tells what a container was started from.

use afloat_api::names;
use serde::Deserialize;

use crate::go::object_hash;
use crate::pod::object::{Container, Pod};

/// What OpenKruise's daemon reports about running containers. If the hash that a container was started with is the hash
/// of its present spec, it runs from the present spec, whatever the names say.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Hashes {
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
    pub(super) fn read(pod: &Pod) -> Self {
        let text = pod.annotations.get(names::RUNTIME_CONTAINERS_META);
        text.and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    pub(super) fn shows_current(&self, pod: &Pod, name: &str) -> bool {
        let container = pod.spec.containers.iter().find(|container| container.name == name);
        let meta = self.containers.iter().find(|meta| meta.name == name);
        let (Some(container), Some(meta), Some(status)) = (container, meta, pod.container_status(name)) else {
            return false;
        };
        !meta.container_id.is_empty()
            && status.container_id.as_deref() == Some(&meta.container_id)
            && meta.hashes.plain_hash == Some(u64::from(plain_hash(container)))
    }

    /// The first container whose environment from metadata is not that of the pod's present metadata; as OpenKruise
    /// asks for all containers of the application, one that is not reported counts.
    pub(super) fn old_environment<'a>(&self, pod: &'a Pod) -> Option<&'a str> {
        let current = |container: &&Container| {
            let meta = self.containers.iter().find(|meta| meta.name == container.name)?;
            let status = pod.container_status(&container.name)?;
            let same = status.container_id.as_deref() == Some(&meta.container_id);
            let hash = meta.hashes.extracted_env_from_metadata_hash;
            (same && hash == Some(container.environment.hash(&pod.labels, &pod.annotations))).then_some(())
        };
        let mut all = pod.spec.containers.iter().filter(|container| !container.sidecar);
        let open = all.find(|container| current(container).is_none());
        open.map(|container| container.name.as_str())
    }
}

/// The kubelet's container hash since Kubernetes 1.31: FNV-1a over Go's print of the bytes of `{"image":I,"name":N}`.
pub(super) fn plain_hash(container: &Container) -> u32 {
    object_hash(&serde_json::json!({"image": container.image, "name": container.name}))
}
