//! Findings for programs.

use serde_json::{Value, json};

use super::place::{Places, count};
use crate::finding::Finding;
use crate::rule::Severity;

/// Findings as one JSON object.
pub fn json(findings: &[Finding], places: Places<'_>) -> Value {
    let list: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let mut value = serde_json::to_value(finding).unwrap_or_default();
            let place = places(finding);
            value["file"] = json!(place.file);
            value["line"] = json!(place.line);
            value
        })
        .collect();
    json!({
        "findings": list,
        "errors": count(findings, Severity::Error),
        "warnings": count(findings, Severity::Warning),
        "infos": count(findings, Severity::Info),
    })
}
