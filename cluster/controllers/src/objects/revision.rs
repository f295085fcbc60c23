//! What the loops know of a ControllerRevision: a template that a StatefulSet or DaemonSet had.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

use super::kind::{Kind, partial_kind};

/// A ControllerRevision.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ControllerRevision {
    pub(crate) metadata: ObjectMeta,
    pub(crate) data: Value,
    pub(crate) revision: i64,
}

partial_kind!(
    ControllerRevision,
    "apps",
    "ControllerRevision",
    "controllerrevisions",
    NamespaceResourceScope
);
impl Kind for ControllerRevision {}

impl ControllerRevision {
    pub(crate) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// The template that it keeps.
    pub(crate) fn template(&self) -> Value {
        let mut template = self.data.pointer("/spec/template").cloned().unwrap_or(Value::Null);
        if let Some(fields) = template.as_object_mut() {
            fields.remove("$patch");
        }
        template
    }
}
