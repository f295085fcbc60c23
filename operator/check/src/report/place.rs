//! Where findings are, and how many.

use crate::finding::Finding;
use crate::rule::Severity;

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
