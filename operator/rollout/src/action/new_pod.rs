//! A pod that is to be created.

use std::sync::Arc;

use serde_json::{Map, Value, json};

/// A pod that is to be created: what those of its revision have in common stands here once for all of them, as a plan asks for
/// hundreds, and a whole pod takes fifty kilobytes in memory. The object is made where it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct NewPod {
    /// Its name.
    pub name: String,
    /// Labels that are its own.
    pub labels: Vec<(&'static str, String)>,
    /// The object but for what stands beside.
    pub common: Arc<Value>,
    /// The fields of its spec that are its own: they name the pod, its node, or claims of it. They are instead of the common ones.
    pub own: Map<String, Value>,
}

impl NewPod {
    /// The object.
    pub fn body(&self) -> Value {
        let mut body = Value::clone(&self.common);
        body["metadata"]["name"] = json!(self.name);
        for (key, value) in &self.labels {
            body["metadata"]["labels"][key] = json!(value);
        }
        for (field, value) in &self.own {
            body["spec"][field] = value.clone();
        }
        body
    }
}
