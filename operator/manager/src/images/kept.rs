//! What is kept of objects that only image pull jobs ask for.

use afloat_api::ImageListPullJob;
use afloat_images::world::Resident;
use afloat_watching::Kind;
use afloat_words::key::Key;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use crate::kept::{Group, everything};

macro_rules! whole {
    ($($name:ident: $kind:ty;)*) => {$(
        #[doc = concat!("Stands for ", stringify!($kind), " in a cache.")]
        pub(super) struct $name;

        impl Kind for $name {
            type Wire = $kind;
            type Kept = $kind;
            type Index = Group;
            fn keep(wire: $kind) -> $kind {
                wire
            }
            fn key(object: &$kind) -> Key {
                Key::of(&object.metadata)
            }
            fn uid(object: &$kind) -> &str {
                object.metadata.uid.as_deref().unwrap_or_default()
            }
            fn deleting(object: &$kind) -> bool {
                object.metadata.deletion_timestamp.is_some()
            }
            fn indexes(object: &$kind) -> Vec<Group> {
                everything(object)
            }
        }
    )*};
}

whole! {
    Lists: ImageListPullJob;
    Copies: Secret;
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
