//! Findings as text, JSON and SARIF.

mod sarif;
mod text;

use serde_json::{Value, json};

use crate::{Finding, RULES, Rule, Severity};

pub use sarif::sarif;
pub use text::{Style, text};

/// Where an object or a field of it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file as it was named; empty for a cluster.
    pub file: String,
    /// Line from 1; 0 where it is not known.
    pub line: u64,
}

/// Tells where a finding is, by the object's place in the input and the field's JSON pointer.
pub type Places<'a> = &'a dyn Fn(&Finding) -> Place;

/// How many findings there are of a severity.
pub fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|finding| finding.severity == severity).count()
}

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

/// The rule of that name.
pub fn rule(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}
