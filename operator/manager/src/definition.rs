//! CustomResourceDefinitions, as far as conversion and storage go.

use std::collections::BTreeMap;
use std::pin::Pin;

use afloat_api::convert;
use afloat_watching::feed::{Pauses, events};
use futures::stream::{SelectAll, select_all};
use futures::{Stream, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, GroupVersionKind};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt as _};
use serde::Deserialize;

/// A CustomResourceDefinition.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Definition {
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) spec: Spec,
    #[serde(default)]
    pub(crate) status: Status,
}

afloat_api::kind!(
    Definition,
    "apiextensions.k8s.io" / "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    ClusterResourceScope
);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Spec {
    pub(crate) group: String,
    pub(crate) names: Names,
    pub(crate) conversion: Conversion,
    pub(crate) versions: Vec<Version>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Names {
    pub(crate) kind: String,
    pub(crate) plural: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Conversion {
    pub(crate) strategy: String,
    pub(crate) webhook: Option<Webhook>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Webhook {
    pub(crate) client_config: serde_json::Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Version {
    pub(crate) name: String,
    pub(crate) storage: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Status {
    pub(crate) stored_versions: Vec<String>,
}

impl Definition {
    /// Its objects in a version.
    pub(crate) fn resource(&self, version: &str) -> ApiResource {
        let Names { kind, plural } = &self.spec.names;
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(&self.spec.group, version, kind), plural)
    }

    /// Whether a webhook converts.
    pub(crate) fn is_converted(&self) -> bool {
        self.spec.conversion.strategy == "Webhook"
    }

    /// The version in which objects are stored from now on, unless all are already.
    pub(crate) fn unfinished(&self) -> Option<&str> {
        let storage = self.spec.versions.iter().find(|version| version.storage)?;
        (self.status.stored_versions != [storage.name.as_str()]).then_some(storage.name.as_str())
    }
}

/// The definitions of kinds with two versions, as they are and as they change.
pub(crate) struct Definitions {
    events: SelectAll<Pin<Box<dyn Stream<Item = Event<Definition>> + Send>>>,
    known: BTreeMap<String, Definition>,
}

impl Definitions {
    pub(crate) fn new(client: &Client) -> Self {
        // One at a time: that is what the operator may watch.
        let watch = |name: String| {
            let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
            events(Api::<Definition>::all(client.clone()), config, Pauses::Patient).boxed()
        };
        Self {
            events: select_all(convert::definitions().map(watch)),
            known: BTreeMap::new(),
        }
    }

    /// Those that there are.
    pub(crate) fn known(&self) -> Vec<Definition> {
        self.known.values().cloned().collect()
    }

    /// Waits until one has changed.
    pub(crate) async fn changed(&mut self) {
        while let Some(event) = self.events.next().await {
            match event {
                Event::Apply(definition) | Event::InitApply(definition) => {
                    self.known.insert(definition.name_any(), definition);
                    return;
                }
                Event::Delete(definition) => {
                    self.known.remove(&definition.name_any());
                    return;
                }
                Event::Init | Event::InitDone => {}
            }
        }
        // It never ends by itself; and if it did, nothing would change any more.
        std::future::pending::<()>().await;
    }
}
