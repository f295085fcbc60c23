//! The CustomResourceDefinitions of the kinds of workload, all of which are taken over together: their operators have one Lease.

use std::collections::{BTreeMap, BTreeSet};

use afloat_api::Version;
use afloat_rollout::kinds::{KINDS, Names};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Names of the definitions.
pub(super) fn names() -> impl Iterator<Item = String> {
    KINDS.iter().map(name)
}

/// Name of the definition of a kind.
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
