//! What is kept of objects that only image pull jobs ask for.

use afloat_api::ImageListPullJob;
use afloat_images::world::Resident;
use afloat_watching::{Kind, Whole};
use afloat_words::key::Key;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use crate::kept::{Group, everything};

/// Stands for ImageListPullJobs in a cache.
pub(super) struct Lists;
/// Stands for Secrets that are copies of others' in a cache.
pub(super) struct Copies;

impl Whole for Lists {
    type Object = ImageListPullJob;
    type Index = Group;
    fn indexes(list: &ImageListPullJob) -> Vec<Group> {
        everything(list)
    }
}

impl Whole for Copies {
    type Object = Secret;
    type Index = Group;
    fn indexes(copy: &Secret) -> Vec<Group> {
        everything(copy)
    }
}

/// A pod as it comes, as far as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wire {
    metadata: ObjectMeta,
    spec: Spec,
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
}

afloat_api::kind!(Wire, "v1", "Pod", "pods", NamespaceResourceScope);

/// Stands for pods of whoever.
pub(super) struct Residents;

impl Kind for Residents {
    type Wire = Wire;
    type Kept = Resident;
    type Index = Group;
    fn keep(wire: Wire) -> Resident {
        let over = ["Succeeded", "Failed"].contains(&wire.status.phase.as_str());
        Resident {
            active: !over && wire.metadata.deletion_timestamp.is_none(),
            namespace: wire.metadata.namespace.unwrap_or_default(),
            name: wire.metadata.name.unwrap_or_default(),
            uid: wire.metadata.uid.unwrap_or_default(),
            labels: wire.metadata.labels.unwrap_or_default(),
            node: wire.spec.node_name,
        }
    }
    fn key(pod: &Resident) -> Key {
        Key::new(pod.namespace.as_str(), pod.name.as_str())
    }
    fn uid(pod: &Resident) -> &str {
        &pod.uid
    }
    fn deleting(pod: &Resident) -> bool {
        !pod.active
    }
    fn indexes(pod: &Resident) -> Vec<Group> {
        everything(pod)
    }
}
