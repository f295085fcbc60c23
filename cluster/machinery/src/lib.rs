//! The meaning of Kubernetes objects: kinds, patches, schemas, defaults, validation, selectors, printed columns. Pure.
//!
//! Objects are [`serde_json::Value`] end to end; what a built-in kind has is in one table ([`fields`]), no typed struct stands between a
//! client and the store. No I/O, no clock, no randomness here: what a write needs of those comes in through [`WriteContext`].

pub mod admission;
pub mod authorization;
pub mod bounds;
mod builtin;
mod cel;
pub mod convert;
mod field;
pub mod fields;
#[cfg(test)]
mod fuzz;
mod json;
pub mod kinds;
mod metadata;
mod names;
pub mod patch;
mod resource;
pub mod schema;
pub mod selector;
pub mod strategy;
pub mod table;

pub use builtin::certificates;
pub use builtin::classes::{give_priority, give_runtime, one_default, system_priority_classes};
pub use cel::until_given_up;
pub use kinds::scale;
pub use names::fits_generate_name;

use serde_json::Value;

/// What is wrong with one field; becomes one entry of `status.details.causes`.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// Path as Kubernetes writes it: `spec.template.spec.containers[0].image`.
    pub field: String,
    /// Kubernetes' `CauseType`: `FieldValueRequired`, `FieldValueInvalid`, `FieldValueNotSupported`, `FieldValueForbidden`, `FieldValueDuplicate`, `FieldValueTypeInvalid`, …
    pub cause: &'static str,
    /// The whole sentence as Kubernetes prints it behind `field: `, for example `Required value: must be set`.
    pub message: String,
}

/// What a write takes from outside: nothing in this crate looks at a clock or makes up a name.
#[derive(Clone, Debug)]
pub struct WriteContext {
    /// RFC 3339, seconds, UTC.
    pub now: String,
    /// Fresh random UUID for `metadata.uid`.
    pub uid: String,
    /// Five random characters of `bcdfghjklmnpqrstvwxz2456789` for `generateName`.
    pub suffix: String,
}

/// The outcome of preparing a write: warnings for the client (`Warning:` headers), or what is wrong.
pub type Checked = Result<Vec<String>, Vec<FieldError>>;

/// Follows a path of object keys; None where something on the way is missing.
pub fn get<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |v, key| v.get(key))
}
