//! What a rule is, and what it finds.

use serde::Serialize;
use serde_json::Value;

use crate::cel::Cel;
use crate::object::{Workload, World};

/// Annotation of an object with rules that shall not look at it, by comma; `*` is all.
pub const IGNORE: &str = "check.afloat.dev/ignore";

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Loses requests under some circumstances.
    Warning,
    /// Loses requests, or cannot work.
    Error,
}

impl Severity {
    /// As it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Something to look for.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Stable name: it stands in annotations, flags and reports.
    pub id: &'static str,
    /// How bad a finding is.
    pub severity: Severity,
    /// One sentence.
    pub title: &'static str,
    /// What happens, and why.
    pub why: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    /// Where to read on.
    pub link: &'static str,
    pub(crate) test: Test,
    pub(crate) cel: Cel,
}

/// What a rule looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Test {
    /// Whatever has a pod template, and pods that nobody controls.
    Workload(fn(&World<'_>, &Workload<'_>) -> Vec<Hit>),
    /// Every object, with its kind.
    Object(fn(&World<'_>, &Value) -> Vec<Hit>),
}

/// What a rule finds in an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hit {
    /// JSON pointer.
    pub(crate) pointer: String,
    pub(crate) message: String,
    /// JSON patch.
    pub(crate) fix: Option<Value>,
}

impl Hit {
    pub(crate) fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            message: message.into(),
            fix: None,
        }
    }

    pub(crate) fn with_fix(mut self, fix: Vec<Value>) -> Self {
        self.fix = Some(Value::Array(fix));
        self
    }
}
