//! Findings for people, by object.

use super::place::{Places, count};
use crate::finding::Finding;
use crate::rule::Severity;

/// How the text looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// With colours.
    pub colour: bool,
    /// With the fix of each finding.
    pub fixes: bool,
}

fn paint(style: Style, severity: Severity) -> String {
    let code = match severity {
        Severity::Error => 31,
        Severity::Warning => 33,
        Severity::Info => 36,
    };
    let word = severity.as_str();
    if style.colour {
        format!("\u{1b}[{code}m{word}\u{1b}[0m")
    } else {
        word.to_owned()
    }
}

/// The findings, and a line that counts them.
pub fn text(findings: &[Finding], objects: usize, places: Places<'_>, style: Style) -> String {
    let mut out = String::new();
    let mut last = None;
    for finding in findings {
        let place = places(finding);
        if last != Some(finding.index) {
            let file = if place.file.is_empty() {
                String::new()
            } else {
                format!("  ({})", place.file)
            };
            out.push_str(&format!("{}{file}\n", finding.object));
            last = Some(finding.index);
        }
        let line = if place.line > 0 {
            format!("line {}, ", place.line)
        } else {
            String::new()
        };
        out.push_str(&format!(
            "  {} [{}] {}\n      at {line}{}\n      {}\n",
            paint(style, finding.severity),
            finding.rule,
            finding.message,
            finding.path,
            finding.remedy
        ));
        if let Some(fix) = finding.fix.as_ref().filter(|_| style.fixes) {
            out.push_str(&format!("      fix (JSON patch): {fix}\n"));
        }
    }
    let number = |severity, word: &str| {
        let count = count(findings, severity);
        format!("{count} {word}{}", if count == 1 { "" } else { "s" })
    };
    out.push_str(&format!(
        "{objects} object{} looked at: {}, {}, {}\n",
        if objects == 1 { "" } else { "s" },
        number(Severity::Error, "error"),
        number(Severity::Warning, "warning"),
        number(Severity::Info, "info")
    ));
    out
}
