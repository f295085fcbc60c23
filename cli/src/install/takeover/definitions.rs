//! The CustomResourceDefinitions that are taken over: of all kinds that have two versions, which somebody has to convert. They go
//! together, as their operators have one Lease. Other definitions of Kruise are left as they are.

use std::collections::{BTreeMap, BTreeSet};

use afloat_api::{Serving, Version};
use afloat_rollout::kinds::Names;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Their names.
pub(super) fn names() -> impl Iterator<Item = String> {
    afloat_api::convert::definitions()
}

/// Names of the definitions of all kinds that Afloat has.
pub(super) fn ours() -> BTreeSet<String> {
    let all = afloat_api::definitions(&Serving::default());
    let name = |definition: &Value| definition["metadata"]["name"].as_str().map(str::to_owned);
    all.iter().filter_map(name).collect()
}

/// Name of the definition of a kind of workload.
pub(super) fn name(kind: &Names) -> String {
    format!("{}.{}", kind.plural, afloat_api::GROUP)
}

/// Those that are there, by their names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Definitions(pub(super) BTreeMap<String, Value>);

impl Definitions {
    /// Whether all of them have a version, and store it.
    pub(super) fn version(&self, name: &str) -> (bool, bool) {
        let all = || self.0.values().map(|definition| version(definition, name));
        let any = !self.0.is_empty();
        (any && all().all(|found| found.0), any && all().all(|found| found.1))
    }

    /// Versions in which objects may be stored.
    pub(super) fn stored(&self) -> Vec<&str> {
        let all: BTreeSet<&str> = self.0.values().flat_map(stored).collect();
        all.into_iter().collect()
    }
}

/// Versions in which objects of a kind may be stored.
pub(super) fn stored(definition: &Value) -> impl Iterator<Item = &str> {
    let versions = definition["status"]["storedVersions"].as_array();
    versions.into_iter().flatten().filter_map(Value::as_str)
}

/// Whether all objects of a kind are stored in that version, and new ones will be.
pub(super) fn stores(definition: &Value, name: &str) -> bool {
    version(definition, name).1 && stored(definition).eq([name])
}

/// The version in which objects of a kind are stored now.
pub(super) fn storage(definition: &Value) -> Version {
    if version(definition, "v1beta1").1 {
        Version::V1beta1
    } else {
        Version::V1alpha1
    }
}

/// Served and stored, of a version in a definition.
pub(super) fn version(definition: &Value, name: &str) -> (bool, bool) {
    let versions = definition["spec"]["versions"].as_array();
    let found = versions.into_iter().flatten().find(|version| version["name"] == name);
    found.map_or((false, false), |version| {
        (version["served"] == true, version["storage"] == true)
    })
}
