//! The object that owns the pods, whatever its kind is.

use afloat_words::owner::controller_reference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::Value;

use crate::pod::label::Naming;

/// A workload, as far as its pods, revisions and reports ask for it.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// Group and version of its kind.
    pub api_version: &'static str,
    /// For example `CloneSet`.
    pub kind: &'static str,
    /// How its pods name their revision.
    pub naming: Naming,
    /// Its name, and what it was told by annotations.
    pub metadata: &'a ObjectMeta,
    /// What its pods are made from.
    pub template: &'a Value,
    /// Whether no pod may leave its Services before its node has the images that are wanted.
    pub requires_images: bool,
}

impl<'a> Owner<'a> {
    /// Its name; empty only for objects that no server has seen.
    pub fn name(&self) -> &'a str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Its UID.
    pub fn uid(&self) -> Option<&'a str> {
        self.metadata.uid.as_deref()
    }

    /// One of its annotations.
    pub fn annotation(&self, key: &str) -> Option<&'a str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// The reference that its children carry.
    pub fn reference(&self) -> OwnerReference {
        controller_reference(self.api_version, self.kind, self.metadata)
    }
}
