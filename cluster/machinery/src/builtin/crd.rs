//! CustomResourceDefinitions.
use crate::FieldError;
use serde_json::Value;
pub(super) fn default(_crd: &mut Value) {}
pub(super) fn validate(_crd: &Value) -> Vec<FieldError> {
    Vec::new()
}
pub(super) fn validate_update(_old: &Value, _new: &Value) -> Vec<FieldError> {
    Vec::new()
}
