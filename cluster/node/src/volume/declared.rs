//! What a pod's specification says of its volumes, and what they are made from. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod, Volume};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::claim::Place;
use crate::pod::container::env::Sources;
use crate::pod::container::resources;
use crate::pod::spec;

/// Names of ConfigMaps and Secrets that a pod refers to anywhere.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    pub(crate) config_maps: BTreeSet<String>,
    pub(crate) secrets: BTreeSet<String>,
}

/// What has to be fetched for the pod's volumes.
pub(crate) fn volume_references(pod: &Pod) -> References {
    let mut found = References::default();
    for volume in volumes(pod) {
        if let Some(source) = &volume.config_map {
            found.config_maps.insert(source.name.clone());
        }
        if let Some(name) = volume.secret.as_ref().and_then(|source| source.secret_name.clone()) {
            found.secrets.insert(name);
        }
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            found
                .config_maps
                .extend(source.config_map.iter().map(|source| source.name.clone()));
            found
                .secrets
                .extend(source.secret.iter().map(|source| source.name.clone()));
        }
    }
    found
}

/// What has to be fetched for a container's environment.
pub(crate) fn env_references(container: &Container) -> References {
    let mut found = References::default();
    for from in container.env_from.iter().flatten() {
        found
            .config_maps
            .extend(from.config_map_ref.iter().map(|r| r.name.clone()));
        found.secrets.extend(from.secret_ref.iter().map(|r| r.name.clone()));
    }
    for from in container
        .env
        .iter()
        .flatten()
        .filter_map(|variable| variable.value_from.as_ref())
    {
        found
            .config_maps
            .extend(from.config_map_key_ref.iter().map(|r| r.name.clone()));
        found.secrets.extend(from.secret_key_ref.iter().map(|r| r.name.clone()));
    }
    found
}

pub(super) fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten())
}

/// What volumes are made from, beside the pod itself.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    pub(crate) sources: Sources,
    /// Contents for `serviceAccountToken` sources, by volume and path.
    pub(crate) tokens: BTreeMap<(String, String), String>,
    /// Where the contents of claims are, by volume.
    pub(crate) claims: BTreeMap<String, Place>,
}

/// Volumes that are to be in memory, and how large they may become. emptyDirs of that medium: the least of `sizeLimit`, what the pod's
/// containers may use, and what the node has (KEP-1967). And those with Secrets and tokens, which are never to be on a disk.
pub(crate) fn in_memory(pod: &Pod, node_bytes: u64) -> impl Iterator<Item = (&str, u64)> {
    let bytes = |quantity: &Quantity| resources::bytes(quantity).filter(|bytes| *bytes > 0);
    let limit = |container: &Container| {
        let limits = container.resources.as_ref()?.limits.as_ref()?;
        limits.get("memory").and_then(bytes)
    };
    let together: Option<u64> = spec::containers(pod).iter().map(limit).sum();
    let most = together
        .filter(|sum| *sum > 0)
        .map_or(node_bytes, |sum| sum.min(node_bytes));
    volumes(pod).filter_map(move |volume| {
        if volume.secret.is_some() || volume.projected.is_some() {
            return Some((volume.name.as_str(), node_bytes));
        }
        let source = volume.empty_dir.as_ref()?;
        let own = source.size_limit.as_ref().and_then(bytes);
        (source.medium.as_deref() == Some("Memory"))
            .then(|| (volume.name.as_str(), own.map_or(most, |own| own.min(most))))
    })
}

/// Volumes that show a claim: volume and claim.
pub(crate) fn claims(pod: &Pod) -> impl Iterator<Item = (&str, String)> {
    volumes(pod).filter_map(|volume| {
        let name = volume.name.as_str();
        if let Some(source) = &volume.persistent_volume_claim {
            return Some((name, source.claim_name.clone()));
        }
        // A generic ephemeral volume's claim has the pod's name before its own.
        volume.ephemeral.as_ref()?;
        Some((name, format!("{}-{name}", spec::name(pod))))
    })
}

/// Whether the volume's files come from the API: they follow it as long as the pod lives.
pub(crate) fn follows_the_api(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some()
}

/// Whether files of the pod show something of the pod itself that is another in `new`.
pub(crate) fn downward_changed(old: &Pod, new: &Pod) -> bool {
    let shows = |volume: &Volume| {
        let parts = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
        volume.downward_api.is_some() || parts.into_iter().any(|part| part.downward_api.is_some())
    };
    let resources = |pod: &Pod| -> Vec<_> {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        containers.map(|container| container.resources.clone()).collect()
    };
    let differs = old.metadata.labels != new.metadata.labels
        || old.metadata.annotations != new.metadata.annotations
        || resources(old) != resources(new);
    differs && volumes(new).any(shows)
}
