//! Findings as text, JSON and SARIF.

mod json;
mod place;
mod sarif;
mod text;

pub use json::json;
pub use place::{Place, Places, count};
pub use sarif::sarif;
pub use text::{Style, text};

use crate::rule::Rule;
use crate::rules::RULES;

/// The rule of that name.
pub fn rule(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}
