//! JSON patch, JSON merge patch and strategic merge patch.

mod error;
mod json;
mod merge;
mod strategic;

use serde_json::Value;

pub use error::PatchError;

use crate::fields::message_of;
use crate::resource::Resource;

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

/// Applies a patch document to an object; the result is not validated yet.
///
/// # Errors
/// See [`PatchError`]; the object is left as it was.
pub fn apply(kind: PatchType, resource: &Resource, current: &Value, patch: &Value) -> Result<Value, PatchError> {
    match (kind, resource.builtin) {
        (PatchType::Json, _) => json::apply(current, patch),
        (PatchType::Merge, _) => merge::apply(current, patch),
        (PatchType::Strategic, None) => Err(PatchError::Unsupported(
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json"
                .to_owned(),
        )),
        (PatchType::Strategic, Some(_)) => strategic::apply(message_of(resource), current, patch),
    }
}

#[cfg(test)]
mod tests;
