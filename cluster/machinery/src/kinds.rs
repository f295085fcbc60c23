//! The one table of kinds: discovery, URL resolution, patches, columns and validation all read it. CRDs add rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

/// One served resource at one version.
#[derive(Clone, Debug)]
pub struct Resource {
    /// API group, empty for core.
    pub group: String,
    /// Served version, for example `v1`.
    pub version: String,
    /// Version in which objects of this group and kind are stored (strategy None: only `apiVersion` differs).
    pub storage_version: String,
    /// `Pod`.
    pub kind: String,
    /// `PodList`.
    pub list_kind: String,
    /// `pods`.
    pub plural: String,
    /// `pod`.
    pub singular: String,
    /// `po`.
    pub short_names: Vec<String>,
    /// `all`.
    pub categories: Vec<String>,
    /// False: cluster-scoped.
    pub namespaced: bool,
    /// Has a `status` subresource.
    pub status: bool,
    /// Has a `scale` subresource.
    pub scale: Option<ScalePaths>,
    /// Other subresources: `log`, `exec`, `binding`, `eviction`, `ephemeralcontainers`, …
    pub subresources: Vec<&'static str>,
    /// Nothing is stored (reviews: `tokenreviews`, `selfsubjectaccessreviews`, …): only `create` is served.
    pub virtual_only: bool,
    /// Of a CRD: `spec.versions[].schema.openAPIV3Schema`. None for built-in kinds.
    pub schema: Option<Arc<Value>>,
    /// Of a CRD: `additionalPrinterColumns`. Built-in kinds have theirs in [`crate::table`].
    pub columns: Arc<Value>,
}

/// JSON paths of the scale subresource, as a CRD names them (`.spec.replicas`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// `specReplicasPath`.
    pub spec: String,
    /// `statusReplicasPath`.
    pub status: String,
    /// `labelSelectorPath`: a string in the object. For built-in kinds `.spec.selector` (an object, which is serialised).
    pub selector: Option<String>,
}

/// All kinds that are served now.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    resources: BTreeMap<(String, String, String), Arc<Resource>>,
}

impl Registry {
    /// The built-in kinds.
    pub fn builtin() -> Self {
        Self::default()
    }

    /// Finds what a URL names: group (empty for core), version, plural.
    pub fn resolve(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.resources.get(&(group.to_owned(), version.to_owned(), plural.to_owned())).cloned()
    }

    /// Every row, sorted by group, version, plural.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// Adds or replaces the rows of a CustomResourceDefinition (an object that passed validation).
    pub fn add_crd(&mut self, _crd: &Value) -> Result<(), String> {
        Ok(())
    }

    /// Takes the rows of a CustomResourceDefinition away.
    pub fn remove_crd(&mut self, _group: &str, _plural: &str) {}
}
