//! The one table of kinds: discovery, URL resolution, patches, columns and validation all read it. `rows` has the built-in
//! ones; definitions add more.

mod custom;
pub(crate) mod inert;
mod rows;
pub mod scale;
mod version;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

pub use version::by_priority;

pub use crate::resource::*;

/// All kinds that are served now.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    resources: BTreeMap<(String, String, String), Arc<Resource>>,
}

impl Registry {
    /// The built-in kinds.
    pub fn builtin() -> Self {
        let mut registry = Self::default();
        rows::all().for_each(|row| registry.insert(Resource::of(row)));
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
        let rows = custom::rows(crd)?;
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

#[cfg(test)]
mod tests;
