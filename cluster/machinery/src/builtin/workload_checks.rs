//! Checks of workloads.
use crate::FieldError;
use crate::kinds::Resource;
use serde_json::Value;
pub(super) fn validate(_resource: &Resource, _object: &Value) -> Vec<FieldError> {
    Vec::new()
}
pub(super) fn validate_update(_resource: &Resource, _old: &Value, _new: &Value) -> Vec<FieldError> {
    Vec::new()
}
