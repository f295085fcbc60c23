//! Checks of pods.
use crate::FieldError;
use serde_json::Value;
pub(super) fn pod(_pod: &Value) -> Vec<FieldError> {
    Vec::new()
}
pub(super) fn warnings(_spec: Option<&Value>, _path: &str) -> Vec<String> {
    Vec::new()
}
