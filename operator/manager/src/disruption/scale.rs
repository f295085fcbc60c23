//! How many pods there should be, as the workloads above them say.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use afloat_api::group;
use afloat_disruption::owners::Owner;
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Client, Error, Resource as _};
use serde_json::Value;

use super::kept::GuardedPod;
use super::state::Disruption;
use crate::round::act::REQUEST_TIMEOUT;

/// Kept of each kind of memory here: more than a cluster has, and then all is forgotten.
const KNOWN: usize = 10_000;

impl Disruption {
    /// What controls a pod, and what controls that.
    pub(super) async fn owners(&self, pod: &GuardedPod) -> Result<Vec<Owner>, String> {
        let Some(controller) = &pod.controller else {
            return Ok(Vec::new());
        };
        let nearest = Owner {
            api_version: controller.api_version.to_string(),
            kind: controller.kind.to_string(),
            name: controller.name.to_string(),
            uid: controller.uid.to_string(),
        };
        // Of all that make pods only these are made by others: by Deployments, Argo's Rollouts and the like.
        if (nearest.kind.as_str(), group(&nearest.api_version)) != ("ReplicaSet", "apps") {
            return Ok(vec![nearest]);
        }
        let above = match get(&self.above, &nearest.uid) {
            Some(known) => known,
            None => {
                let sets = ReplicaSet::url_path(&(), Some(&pod.namespace));
                let path = format!("{sets}/{}", nearest.name);
                let found = ask(&self.client, &path).await?;
                let above = found.as_ref().and_then(Owner::of);
                put(&self.above, nearest.uid.clone(), above.clone());
                above
            }
        };
        Ok([Some(nearest), above].into_iter().flatten().collect())
    }

    /// How many pods a workload wants: 0 if it is gone; None if its kind has no number of its own.
    pub(super) async fn wanted(&self, namespace: &str, owner: &Owner) -> Result<Option<i32>, String> {
        let kind = (owner.api_version.clone(), owner.kind.clone());
        let path = match get(&self.scales, &kind) {
            Some(known) => known,
            None => {
                let path = self.path(&owner.api_version, &owner.kind).await?;
                put(&self.scales, kind, path.clone());
                path
            }
        };
        let Some(plural) = path else { return Ok(None) };
        let gvk = GroupVersionKind::gvk(group(&owner.api_version), version(&owner.api_version), &owner.kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, &plural);
        let path = format!(
            "{}/{}/scale",
            DynamicObject::url_path(&resource, Some(namespace)),
            owner.name
        );
        let replicas =
            |scale: &Value| i32::try_from(scale["spec"]["replicas"].as_i64().unwrap_or(0)).unwrap_or(i32::MAX);
        Ok(Some(ask(&self.client, &path).await?.as_ref().map_or(0, replicas)))
    }

    /// The plural of a kind, if that has a scale.
    async fn path(&self, api_version: &str, kind: &str) -> Result<Option<String>, String> {
        if group(api_version).is_empty() {
            return Ok(None);
        }
        let list = match self.client.list_api_group_resources(api_version).await {
            Ok(list) => list,
            Err(Error::Api(status)) if status.code == 404 => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let resources = || list.resources.iter();
        let plural = resources().find(|resource| resource.kind == kind && !resource.name.contains('/'));
        let plural = plural.map(|resource| resource.name.as_str());
        let scaled = |plural: &&str| {
            let scale = format!("{plural}/scale");
            resources().any(|resource| resource.name == scale)
        };
        Ok(plural.filter(scaled).map(str::to_owned))
    }
}

/// The version in an `apiVersion`.
fn version(api_version: &str) -> &str {
    api_version.rsplit('/').next().unwrap_or_default()
}

fn get<K: std::hash::Hash + Eq, V: Clone>(known: &Mutex<HashMap<K, V>>, key: &K) -> Option<V> {
    known.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
}

fn put<K: std::hash::Hash + Eq, V>(known: &Mutex<HashMap<K, V>>, key: K, value: V) {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= KNOWN {
        known.clear();
    }
    known.insert(key, value);
}

/// An object, or None if there is none at that path.
pub(super) async fn ask(client: &Client, path: &str) -> Result<Option<Value>, String> {
    let request = http::Request::get(path)
        .body(Vec::new())
        .map_err(|error| error.to_string())?;
    match tokio::time::timeout(REQUEST_TIMEOUT, client.request::<Value>(request)).await {
        Ok(Ok(object)) => Ok(Some(object)),
        Ok(Err(Error::Api(status))) if status.code == 404 => Ok(None),
        Ok(Err(error)) => Err(format!("{path}: {error}")),
        Err(_) => Err(format!("{path}: no answer within {REQUEST_TIMEOUT:?}")),
    }
}
