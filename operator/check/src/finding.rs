//! A finding, with all that its reader needs.

use serde::Serialize;
use serde_json::Value;

use crate::object::Id;
use crate::rule::Severity;

/// A rule that holds of an object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The rule's id.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Which object.
    pub object: Id,
    /// Its place in the input.
    #[serde(skip)]
    pub index: usize,
    /// The field, for example `spec.template.spec.containers[0].readinessProbe`; it may be missing.
    pub path: String,
    /// The field as a JSON pointer.
    #[serde(skip)]
    pub pointer: String,
    /// What was found.
    pub message: String,
    /// What happens, and why.
    pub explanation: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    /// A JSON patch of the object (`kubectl patch --type=json`), where one can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<Value>,
    /// Where to read on.
    pub link: &'static str,
}
