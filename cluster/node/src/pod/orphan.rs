//! Stand-ins for pods whose object is gone, so that what is left of them can be ended like any pod.

use afloat_runtime::Container;
use k8s_openapi::api::core::v1::{self as core, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::found::POD_LABEL;

/// A pod with just the names that its containers have.
pub(crate) fn stand_in(uid: &str, containers: &[Container]) -> Pod {
    let full = containers
        .iter()
        .find_map(|container| container.labels.get(POD_LABEL))
        .map_or("/", String::as_str);
    let (namespace, name) = full.split_once('/').unwrap_or(("", full));
    let mut names: Vec<_> = containers.iter().map(|container| container.name.clone()).collect();
    names.sort();
    names.dedup();
    let make = |name| core::Container {
        name,
        ..core::Container::default()
    };
    Pod {
        metadata: ObjectMeta {
            uid: Some(uid.to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            containers: names.into_iter().map(make).collect(),
            ..PodSpec::default()
        }),
        status: None,
    }
}
