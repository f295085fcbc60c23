//! What is said about one thing, and what is read to say it.

use serde_json::Value;

use super::super::seen::Answer;

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::install::status) enum State {
    Ok,
    /// It works, but not as well as it could, or it cannot be known.
    Warning,
    Failure,
}

impl State {
    pub(in crate::install::status) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "FAILURE",
        }
    }
}

/// What is said about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::install::status) struct Line {
    /// One word for what it is about.
    pub(in crate::install::status) about: &'static str,
    pub(in crate::install::status) state: State,
    pub(in crate::install::status) says: String,
    /// What to do, where something is to be done.
    pub(in crate::install::status) remedy: Option<String>,
}

impl Line {
    pub(super) fn ok(about: &'static str, says: impl Into<String>) -> Self {
        Self {
            about,
            state: State::Ok,
            says: says.into(),
            remedy: None,
        }
    }

    pub(super) fn warning(about: &'static str, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            about,
            state: State::Warning,
            says: says.into(),
            remedy: Some(remedy.into()),
        }
    }

    pub(super) fn failure(about: &'static str, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            about,
            state: State::Failure,
            says: says.into(),
            remedy: Some(remedy.into()),
        }
    }

    /// Something could not be asked.
    pub(super) fn unknown(about: &'static str, why: &str) -> Self {
        Self::warning(
            about,
            format!("not known: {why}"),
            "ask with an account that may read it",
        )
    }
}

/// Some of the names, and how many more there are.
pub(super) fn few(names: &[&str]) -> String {
    let told = names.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(5) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

/// A text in an object; empty if there is none.
pub(super) fn word<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// What was answered, or nothing where there was no answer.
pub(super) fn known(answer: &Answer<Vec<Value>>) -> &[Value] {
    answer.as_deref().unwrap_or_default()
}
