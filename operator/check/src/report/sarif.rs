//! Findings as SARIF 2.1.0 (<https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>), which code hosts show beside
//! the lines of a change.

use serde_json::{Value, json};

use super::place::Places;
use crate::finding::Finding;
use crate::rule::Severity;
use crate::rules::RULES;

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

/// A log of one run.
pub fn sarif(findings: &[Finding], version: &str, places: Places<'_>) -> Value {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|rule| {
            json!({
                "id": rule.id,
                "shortDescription": {"text": rule.title},
                "fullDescription": {"text": rule.why},
                "help": {"text": rule.remedy},
                "helpUri": rule.link,
                "defaultConfiguration": {"level": level(rule.severity)},
            })
        })
        .collect();
    let results: Vec<Value> = findings.iter().map(|finding| result(finding, places)).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "afloat check", "version": version, "rules": rules}},
            "results": results,
        }],
    })
}

fn result(finding: &Finding, places: Places<'_>) -> Value {
    let place = places(finding);
    let mut location = json!({
        "logicalLocations": [{"fullyQualifiedName": format!("{}:{}", finding.object, finding.path), "kind": "member"}],
    });
    if !place.file.is_empty() {
        let mut physical = json!({"artifactLocation": {"uri": uri(&place.file)}});
        if place.line > 0 {
            physical["region"] = json!({"startLine": place.line});
        }
        location["physicalLocation"] = physical;
    }
    json!({
        "ruleId": finding.rule,
        "ruleIndex": RULES.iter().position(|rule| rule.id == finding.rule),
        "level": level(finding.severity),
        "message": {"text": format!("{}: {}. {}", finding.object, finding.message, finding.remedy)},
        "locations": [location],
    })
}

/// A file's name as a relative URI reference.
fn uri(file: &str) -> String {
    let mut out = String::new();
    for byte in file.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
