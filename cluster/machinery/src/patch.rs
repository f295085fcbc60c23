//! JSON patch, JSON merge patch and strategic merge patch.

mod json;
mod keys;
mod merge;
mod strategic;

use serde_json::Value;

use crate::kinds::Resource;

/// Kind of a patch, from its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// `application/json-patch+json`, RFC 6902.
    Json,
    /// `application/merge-patch+json`, RFC 7396.
    Merge,
    /// `application/strategic-merge-patch+json`; built-in kinds only.
    Strategic,
}

/// Why a patch cannot be applied.
#[derive(Clone, Debug, PartialEq)]
pub enum PatchError {
    /// 400: the patch itself is malformed.
    Malformed(String),
    /// 422: it does not fit the object (failed `test`, missing path).
    Unprocessable(String),
    /// 415: not supported for this kind.
    Unsupported(String),
}

/// Applies a patch document to an object; the result is not validated yet.
///
/// # Errors
/// See [`PatchError`]; the object is left as it was.
pub fn apply(kind: PatchType, resource: &Resource, current: &Value, patch: &Value) -> Result<Value, PatchError> {
    match kind {
        PatchType::Json => json::apply(current, patch),
        PatchType::Merge => merge::apply(current, patch),
        PatchType::Strategic if resource.is_custom() => Err(PatchError::Unsupported(
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json"
                .to_owned(),
        )),
        PatchType::Strategic => strategic::apply(resource, current, patch),
    }
}

#[cfg(test)]
mod tests;
