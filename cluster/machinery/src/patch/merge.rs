//! RFC 7396.

use serde_json::Value;

use super::PatchError;

pub(super) fn apply(current: &Value, patch: &Value) -> Result<Value, PatchError> {
    if !patch.is_object() {
        return Err(PatchError::Malformed("merge patch must be an object".to_owned()));
    }
    let mut result = current.clone();
    json_patch::merge(&mut result, patch);
    Ok(result)
}
