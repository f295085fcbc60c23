//! Who decides, and what comes out of it.

use super::attributes::Attributes;
use super::rule::PolicyRule;
use super::user::User;

/// What somebody who may decide says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, and why.
    Allow(String),
    /// No, whatever others say, and why.
    Deny(String),
    /// Not for me to say. What was in the way; empty if nothing was.
    NoOpinion(String),
}

/// Decides about requests.
pub trait Authorizer: Send + Sync {
    /// Whether a request may go on.
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision;

    /// The rules that hold for somebody in a namespace, for `SelfSubjectRulesReview`.
    fn rules(&self, user: &User, namespace: &str) -> HeldRules;
}

/// What holds for somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldRules {
    /// The rules.
    pub rules: Vec<PolicyRule>,
    /// What could not be found out.
    pub errors: Vec<String>,
    /// Whether more is allowed than the rules say.
    pub incomplete: bool,
}
