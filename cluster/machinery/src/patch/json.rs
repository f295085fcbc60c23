//! RFC 6902.

use json_patch::{Patch, PatchErrorKind};
use serde_json::Value;

use super::PatchError;

/// Kubernetes' limit on the operations of one patch.
const MAX_OPERATIONS: usize = 10_000;

pub(super) fn apply(current: &Value, patch: &Value) -> Result<Value, PatchError> {
    let operations = patch
        .as_array()
        .ok_or_else(|| PatchError::Malformed("json patch must be a list of operations".to_owned()))?;
    if operations.len() > MAX_OPERATIONS {
        let message = format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        );
        return Err(PatchError::Malformed(message));
    }
    // Kubernetes' decoder calls a missing `value` null; serde's would refuse the operation.
    let Patch(operations) =
        serde_json::from_value(patch.clone()).map_err(|e| PatchError::Malformed(format!("json patch: {e}")))?;
    let mut result = current.clone();
    json_patch::patch(&mut result, &operations).map_err(|e| {
        let reason = match e.kind {
            PatchErrorKind::TestFailed => "testing value failed: values differ".to_owned(),
            other => other.to_string(),
        };
        PatchError::Unprocessable(format!("operation {} at path \"{}\": {reason}", e.operation, e.path))
    })?;
    Ok(result)
}
