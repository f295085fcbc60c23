//! RFC 6902.

use json_patch::{Patch, PatchErrorKind, PatchOperation};
use serde_json::Value;

use super::PatchError;
use crate::bounds::{BYTES_LIMIT, DEPTH_LIMIT, size};

/// Kubernetes' limit on the operations of one patch.
const MAX_OPERATIONS: usize = 10_000;
/// Elements of lists that all operations of a patch together may push aside: whatever is added or removed in front moves those behind.
/// As many as 10,000 operations on a list of 10,000 elements move.
const MOVES_LIMIT: usize = 100_000_000;

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
    let mut left = BYTES_LIMIT;
    let mut moves = MOVES_LIMIT;
    for (number, operation) in operations.iter().enumerate() {
        bounded(&result, operation, &mut left)?;
        moves = moves.checked_sub(moved(&result, operation)).ok_or_else(|| {
            let message = format!("json patch: moves more than the {MOVES_LIMIT} elements of lists that are allowed");
            PatchError::Unprocessable(message)
        })?;
        json_patch::patch(&mut result, std::slice::from_ref(operation)).map_err(|e| {
            let reason = match e.kind {
                PatchErrorKind::TestFailed => "testing value failed: values differ".to_owned(),
                other => other.to_string(),
            };
            PatchError::Unprocessable(format!("operation {number} at path \"{}\": {reason}", e.path))
        })?;
    }
    Ok(result)
}

/// Refuses an operation that would make the object too deep, or that copies more than all of a patch may (Kubernetes has
/// this limit, too): a few operations could otherwise double an object until there is no memory left.
fn bounded(object: &Value, operation: &PatchOperation, left: &mut usize) -> Result<(), PatchError> {
    let from = |pointer: &str| object.pointer(pointer).map(size).unwrap_or_default();
    let size = match operation {
        PatchOperation::Add(add) => size(&add.value),
        PatchOperation::Replace(replace) => size(&replace.value),
        PatchOperation::Copy(copy) => from(copy.from.as_str()),
        PatchOperation::Move(moved) => from(moved.from.as_str()),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => return Ok(()),
    };
    if operation.path().count() + size.depth > DEPTH_LIMIT {
        let message = format!("json patch: the object would be nested deeper than {DEPTH_LIMIT} levels");
        return Err(PatchError::Unprocessable(message));
    }
    if let PatchOperation::Copy(_) | PatchOperation::Move(_) = operation {
        *left = left.checked_sub(size.bytes).ok_or_else(|| {
            let message = format!("json patch: copies more than the {BYTES_LIMIT} bytes that are allowed");
            PatchError::Unprocessable(message)
        })?;
    }
    Ok(())
}

/// How many elements an operation pushes aside: those behind the one that it adds, removes or takes from.
fn moved(object: &Value, operation: &PatchOperation) -> usize {
    let behind = |pointer: &str| {
        let Some((list, place)) = pointer.rsplit_once('/') else {
            return 0;
        };
        let length = object.pointer(list).and_then(Value::as_array).map_or(0, Vec::len);
        place.parse().map_or(0, |place: usize| length.saturating_sub(place))
    };
    match operation {
        PatchOperation::Add(add) => behind(add.path.as_str()),
        PatchOperation::Remove(remove) => behind(remove.path.as_str()),
        PatchOperation::Copy(copy) => behind(copy.path.as_str()),
        PatchOperation::Move(moved) => behind(moved.from.as_str()) + behind(moved.path.as_str()),
        PatchOperation::Replace(_) | PatchOperation::Test(_) => 0,
    }
}
