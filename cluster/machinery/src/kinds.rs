//! The one table of kinds: discovery, URL resolution, patches, columns and validation all read it. CRDs add rows.

mod builtin;
mod version;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

pub use version::by_priority;

use crate::get;
use crate::schema::Rules;

/// One served resource at one version.
#[derive(Clone, Debug)]
pub struct Resource {
    /// API group, empty for core.
    pub group: String,
    /// Served version, for example `v1`.
    pub version: String,
    /// Group under which objects are stored: the same as `group`, except for `events.k8s.io`, whose objects are the core
    /// group's events in other words (see [`crate::convert`]).
    pub storage_group: String,
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
    /// Of those: read from the nodes when somebody asks (`metrics.k8s.io`), so that only `get` and `list` are served.
    pub measured: bool,
    /// Of a CRD: `spec.versions[].schema.openAPIV3Schema`. None for built-in kinds.
    pub schema: Option<Arc<Value>>,
    /// Of a CRD: its CEL rules, compiled once. None for built-in kinds and for schemas without rules.
    pub rules: Option<Rules>,
    /// Of a CRD: `additionalPrinterColumns`. Built-in kinds have theirs in [`crate::table`].
    pub columns: Arc<Value>,
}

impl Resource {
    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `deployments.apps`, or `pods` for the core group: how Kubernetes names a resource in messages.
    pub fn qualified_name(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// Whether a CustomResourceDefinition defines it.
    pub fn is_custom(&self) -> bool {
        self.schema.is_some()
    }

    /// Whether it is this built-in kind.
    pub(crate) fn is(&self, group: &str, kind: &str) -> bool {
        !self.is_custom() && self.group == group && self.kind == kind
    }
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
        let mut registry = Self::default();
        builtin::rows().for_each(|row| registry.insert(row));
        registry
    }

    /// Finds what a URL names: group (empty for core), version, plural.
    pub fn resolve(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.resources
            .get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
            .cloned()
    }

    /// Finds a kind as `apiVersion` and `kind` of an object name it.
    pub fn by_kind(&self, api_version: &str, kind: &str) -> Option<Arc<Resource>> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        self.all()
            .find(|r| r.kind == kind && r.version == version && r.group == group)
            .cloned()
    }

    /// Every row, sorted by group, version, plural.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// Every group with its versions, the preferred version first. The core group (empty name) comes first.
    pub fn groups(&self) -> Vec<(String, Vec<String>)> {
        let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for r in self.all() {
            let versions = groups.entry(&r.group).or_default();
            if !versions.contains(&r.version) {
                versions.push(r.version.clone());
            }
        }
        groups
            .into_iter()
            .map(|(group, mut versions)| {
                versions.sort_by(|a, b| by_priority(a, b));
                (group.to_owned(), versions)
            })
            .collect()
    }

    /// Adds or replaces the rows of a CustomResourceDefinition (an object that passed validation).
    ///
    /// # Errors
    /// Names the first field that is missing or has another type.
    pub fn add_crd(&mut self, crd: &Value) -> Result<(), String> {
        let rows = custom_rows(crd)?;
        if let Some(first) = rows.first() {
            self.remove_crd(&first.group, &first.plural);
        }
        rows.into_iter().for_each(|row| self.insert(row));
        Ok(())
    }

    /// Takes the rows of a CustomResourceDefinition away. Built-in kinds stay.
    pub fn remove_crd(&mut self, group: &str, plural: &str) {
        self.resources
            .retain(|_, r| !(r.is_custom() && r.group == group && r.plural == plural));
    }

    fn insert(&mut self, row: Resource) {
        let key = (row.group.clone(), row.version.clone(), row.plural.clone());
        self.resources.insert(key, Arc::new(row));
    }
}

fn custom_rows(crd: &Value) -> Result<Vec<Resource>, String> {
    let text = |path: &[&str]| {
        get(crd, path)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| format!("{}: Required value", path.join(".")))
    };
    let list = |path: &[&str]| strings(get(crd, path));
    let versions = get(crd, &["spec", "versions"])
        .and_then(Value::as_array)
        .ok_or("spec.versions: Required value")?;
    let is = |version: &Value, flag: &str| version.get(flag).and_then(Value::as_bool) == Some(true);
    let name = |version: &Value| version.get("name").and_then(Value::as_str).map(str::to_owned);
    let storage = versions
        .iter()
        .find(|v| is(v, "storage"))
        .and_then(name)
        .ok_or("spec.versions: no version has storage: true")?;
    let (group, kind) = (text(&["spec", "group"])?, text(&["spec", "names", "kind"])?);
    let base = Resource {
        storage_group: group.clone(),
        group,
        version: String::new(),
        storage_version: storage,
        list_kind: text(&["spec", "names", "listKind"]).unwrap_or_else(|_| format!("{kind}List")),
        plural: text(&["spec", "names", "plural"])?,
        singular: text(&["spec", "names", "singular"]).unwrap_or_else(|_| kind.to_lowercase()),
        kind,
        short_names: list(&["spec", "names", "shortNames"]),
        categories: list(&["spec", "names", "categories"]),
        namespaced: text(&["spec", "scope"])? == "Namespaced",
        status: false,
        scale: None,
        subresources: Vec::new(),
        virtual_only: false,
        measured: false,
        schema: None,
        rules: None,
        columns: Arc::new(Value::Null),
    };
    let served = versions.iter().filter(|v| is(v, "served"));
    served
        .map(|v| {
            Ok(custom_row(
                base.clone(),
                name(v).ok_or("spec.versions[].name: Required value")?,
                v,
            ))
        })
        .collect()
}

fn custom_row(base: Resource, name: String, version: &Value) -> Resource {
    let schema = get(version, &["schema", "openAPIV3Schema"])
        .cloned()
        .unwrap_or_else(|| serde_json::json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
    let scale = get(version, &["subresources", "scale"]);
    let path = |key: &str| {
        scale
            .and_then(|s| s.get(key))
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    Resource {
        version: name,
        status: get(version, &["subresources", "status"]).is_some_and(|s| !s.is_null()),
        scale: path("specReplicasPath")
            .zip(path("statusReplicasPath"))
            .map(|(spec, status)| ScalePaths {
                spec,
                status,
                selector: path("labelSelectorPath"),
            }),
        rules: Rules::compile(&schema),
        schema: Some(Arc::new(schema)),
        columns: Arc::new(version.get("additionalPrinterColumns").cloned().unwrap_or(Value::Null)),
        ..base
    }
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array);
    items
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests;
