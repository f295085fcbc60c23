//! What the pods of a DaemonSet ask of nodes.

use std::collections::BTreeMap;

use afloat_words::affinity::Place;
use afloat_words::daemon::{Asked, Suits, suits, tolerate};
use k8s_openapi::api::core::v1::{NodeAffinity, Toleration};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::pod::images::{Node, Taint};

/// See the module.
#[derive(Debug)]
pub(super) struct Demand {
    node_name: String,
    selector: BTreeMap<String, String>,
    affinity: Option<NodeAffinity>,
    tolerations: Vec<Toleration>,
}

impl Demand {
    /// Of the pods that are made from a template.
    ///
    /// # Errors
    /// Names the field that cannot be read.
    pub(super) fn of(template: &Value) -> Result<Self, String> {
        let field = |path: &str| template.pointer(&format!("/spec/{path}")).cloned().unwrap_or_default();
        read::<Vec<Toleration>>("tolerations", field("tolerations"))?;
        let mut spec = json!({"hostNetwork": field("hostNetwork"), "tolerations": field("tolerations")});
        tolerate(&mut spec);
        Ok(Self {
            node_name: read("nodeName", field("nodeName"))?,
            selector: read("nodeSelector", field("nodeSelector"))?,
            affinity: read("affinity.nodeAffinity", field("affinity/nodeAffinity"))?,
            tolerations: read("tolerations", spec["tolerations"].take())?,
        })
    }

    /// Whether a node suits.
    pub(super) fn suited_by(&self, name: &str, node: &Node) -> Suits {
        let none = BTreeMap::new();
        let place = Place {
            name,
            labels: node.metadata.labels.as_ref().unwrap_or(&none),
        };
        let asked = Asked {
            node_name: &self.node_name,
            affinity: self.affinity.as_ref(),
            tolerations: &self.tolerations,
        };
        suits(place, node.spec.taints.iter().map(Taint::words), &self.selector, asked)
    }
}

fn read<T: DeserializeOwned + Default>(field: &str, value: Value) -> Result<T, String> {
    let read = serde_json::from_value::<Option<T>>(value);
    let found = read.map_err(|error| format!("spec.template.spec.{field} cannot be read: {error}"))?;
    Ok(found.unwrap_or_default())
}
