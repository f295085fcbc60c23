//! What the pods of a revision are made from: what they have in common is made once, and each gets what is its own.

pub(crate) mod ids;

use std::sync::Arc;

use afloat_api::{Gates, names};
use serde_json::{Map, Value, json};

use super::owner::Owner;
use crate::action::NewPod;
use crate::pod::launch;

/// What is said of new pods beside their template.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beside<'a> {
    /// Labels over those of the template.
    pub(crate) labels: Vec<(&'static str, &'a str)>,
    /// Annotations over those of the template.
    pub(crate) annotations: Vec<(&'static str, String)>,
    /// Whether they have the gate by which a pod leaves its Services for a change in place.
    pub(crate) in_place: bool,
    /// The API server would have made their names from this, where they are not told by the workload's own rule.
    pub(crate) generate_name: Option<String>,
}

impl<'a> Beside<'a> {
    /// The labels that name a revision.
    pub(crate) fn revision(owner: Owner<'_>, revision: &'a str, gates: Gates) -> Self {
        let mut labels = vec![(names::REVISION, owner.naming.label(revision, gates))];
        let hash = owner.naming.hash_beside(revision);
        labels.extend(hash.map(|hash| (names::POD_TEMPLATE_HASH, hash)));
        Self {
            labels,
            ..Self::default()
        }
    }
}

/// What of a pod's spec is the pod's own.
pub(crate) struct Own<F> {
    /// The fields of the spec that `write` reads or writes. Nothing else of the spec is copied for each pod.
    pub(crate) fields: Vec<&'static str>,
    /// Writes them into a spec, by the pod's name.
    pub(crate) write: F,
}

/// See the module.
pub(crate) struct Recipe<'a, F> {
    template: &'a Value,
    common: Arc<Value>,
    own: Own<F>,
}

impl<'a, F: Fn(&mut Value, &str)> Recipe<'a, F> {
    /// From a revision's template.
    ///
    /// # Errors
    /// A template that no pod can be made from.
    pub(crate) fn of(
        owner: Owner<'_>,
        template: &'a Value,
        beside: Beside<'_>,
        mut own: Own<F>,
    ) -> Result<Self, String> {
        let mut metadata = json!({
            "namespace": owner.metadata.namespace,
            "ownerReferences": [owner.reference()],
        });
        if let Some(prefix) = beside.generate_name {
            metadata["generateName"] = json!(prefix);
        }
        let finalizers = template.pointer("/metadata/finalizers");
        if let Some(finalizers) = finalizers.filter(|value| !value.is_null()) {
            metadata["finalizers"] = finalizers.clone();
        }
        let map = |path: &str| template.pointer(path).and_then(Value::as_object).cloned();
        let mut labels: Map<String, Value> = map("/metadata/labels").unwrap_or_default();
        labels.extend(
            beside
                .labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), json!(value))),
        );
        metadata["labels"] = Value::Object(labels);
        let mut annotations = map("/metadata/annotations").unwrap_or_default();
        let more = beside.annotations.into_iter();
        annotations.extend(more.map(|(key, value)| (key.to_owned(), json!(value))));
        if !annotations.is_empty() {
            metadata["annotations"] = Value::Object(annotations);
        }
        let mut spec = template
            .get("spec")
            .filter(|spec| spec.is_object())
            .cloned()
            .unwrap_or(json!({}));
        if beside.in_place {
            add_gate(names::INPLACE_READY, &mut spec);
        }
        // As OpenKruise's webhook does for every pod of its kinds: by this one, hooks and ContainerRecreateRequests take it out of service.
        add_gate(names::KRUISE_POD_READY, &mut spec);
        if launch::put_barriers(template, &mut spec.clone(), "")? {
            own.fields.push("containers");
        }
        let common = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        Ok(Self {
            template,
            common: Arc::new(common),
            own,
        })
    }

    /// One of them, with labels of its own.
    ///
    /// # Errors
    /// A template that no pod can be made from.
    pub(crate) fn pod(&self, name: String, labels: Vec<(&'static str, String)>) -> Result<NewPod, String> {
        let mut own = Value::Object(Map::new());
        for field in &self.own.fields {
            if let Some(common) = self.common["spec"].get(field) {
                own[*field] = common.clone();
            }
        }
        (self.own.write)(&mut own, &name);
        launch::put_barriers(self.template, &mut own, &name)?;
        Ok(NewPod {
            name,
            labels,
            common: self.common.clone(),
            own: own.as_object_mut().map(std::mem::take).unwrap_or_default(),
        })
    }
}

/// Puts a readiness gate to those that are there.
fn add_gate(wanted: &str, spec: &mut Value) {
    let mut gates = spec
        .get("readinessGates")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if !gates.iter().any(|present| present["conditionType"] == wanted) {
        gates.push(json!({"conditionType": wanted}));
    }
    spec["readinessGates"] = Value::Array(gates);
}
