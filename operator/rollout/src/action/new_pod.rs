//! A pod that is to be created.

use std::sync::Arc;

use serde_json::{Value, json};

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
    /// Its spec where that is its own: it names the pod, or claims of it.
    pub spec: Option<Value>,
}

impl NewPod {
    /// The object.
    pub fn body(&self) -> Value {
        let mut body = Value::clone(&self.common);
        body["metadata"]["name"] = json!(self.name);
        for (key, value) in &self.labels {
            body["metadata"]["labels"][key] = json!(value);
        }
        if let Some(spec) = &self.spec {
            body["spec"] = spec.clone();
        }
        body
    }
}
