//! ConfigMaps and Secrets among what was given: what they do to workloads that roll them out.

use std::collections::BTreeSet;

use afloat_api::GROUP;
use afloat_api::names::{CONFIG, CONFIG_ROLLOUT};
use afloat_rollout::config::reads::{Source, SourceKind, reads};
use afloat_rollout::kinds::KINDS;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use serde_json::Value;

use super::apply::{Applied, ask};
use crate::check::live;

fn source(object: &Value) -> Option<Source> {
    let kind = match (object["apiVersion"].as_str()?, object["kind"].as_str()?) {
        ("v1", "ConfigMap") => SourceKind::ConfigMap,
        ("v1", "Secret") => SourceKind::Secret,
        _ => return None,
    };
    let name = object["metadata"]["name"].as_str()?.to_owned();
    Some(Source { kind, name })
}

/// Those of a namespace; `default` is the namespace of objects that name none.
pub(super) fn of(objects: &[Value], namespace: &str, default: &str) -> Vec<Value> {
    let here = |object: &&Value| object["metadata"]["namespace"].as_str().unwrap_or(default) == namespace;
    let found = objects.iter().filter(here).filter(|object| source(object).is_some());
    found.cloned().collect()
}

/// What the API server would store of them, as far as the caller may look; sentences about the others.
pub(super) async fn stored(client: &Client, namespace: &str, configs: Vec<Value>) -> (Vec<Value>, Vec<String>) {
    let (mut found, mut said) = (Vec::new(), Vec::new());
    for config in configs {
        let Some(source) = source(&config) else { continue };
        let kind = config["kind"].as_str().unwrap_or_default();
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let live = match api.get_opt(&source.name).await {
            Ok(Some(live)) => serde_json::to_value(live).map_err(|error| error.to_string()),
            // Nobody has read it yet.
            Ok(None) => continue,
            Err(error) => Err(error.to_string()),
        };
        let applied = match live {
            Ok(live) => ask(client, namespace, &live, &config).await,
            Err(why) => Applied::Unknown(why),
        };
        match applied {
            Applied::Stored(stored) => found.push(stored),
            Applied::Refused(why) | Applied::Unknown(why) => {
                said.push(format!("what a change of {source} does is not told: {why}"));
            }
        }
    }
    (found, said)
}

/// Whether an object is a ConfigMap or a Secret.
pub(super) fn is_config(object: &Value) -> bool {
    source(object).is_some()
}

/// Workloads of the cluster that roll out one of the ConfigMaps and Secrets that were given, and were not given themselves. `default` is the
/// namespace of objects that name none.
pub(super) async fn readers(client: &Client, default: &str, given: &[Value]) -> anyhow::Result<Vec<Value>> {
    let namespace = |object: &Value| object["metadata"]["namespace"].as_str().unwrap_or(default).to_owned();
    let changed: BTreeSet<(String, Source)> = given
        .iter()
        .filter_map(|object| Some((namespace(object), source(object)?)))
        .collect();
    let namespaces: BTreeSet<&String> = changed.iter().map(|(namespace, _)| namespace).collect();
    let mut found = Vec::new();
    for (within, names) in namespaces
        .into_iter()
        .flat_map(|one| KINDS.iter().map(move |kind| (one, kind)))
    {
        let listed = live::list(client, GROUP, "v1beta1", names.kind, Some(within)).await?;
        found.extend(listed.into_iter().flatten().filter(|object| {
            let wishes = object["metadata"]["annotations"][CONFIG] == CONFIG_ROLLOUT;
            let same = |other: &Value| {
                let name = |object: &Value| object["metadata"]["name"].clone();
                other["kind"] == object["kind"] && name(other) == name(object) && namespace(other) == *within
            };
            let sources = reads(&object["spec"]["template"]).into_values().flatten();
            let mut sources = sources.map(|(source, _)| (within.clone(), source));
            wishes && !given.iter().any(same) && sources.any(|source| changed.contains(&source))
        }));
    }
    Ok(found)
}
