//! Who may do what: role based access control as Kubernetes has it. Pure: a decision is a function of the rules that are
//! stored and of what a request asks for.
//!
//! [`Roles`] is kept up with what is stored and decides; [`covers`] says what somebody would give away without having it;
//! [`aggregation`] computes the rules of roles that are put together of others, and [`bootstrap`] what every cluster begins with.

pub mod aggregation;
mod attributes;
pub mod bootstrap;
pub mod covers;
mod decision;
pub mod impersonation;
pub(crate) mod kind;
pub mod nodes;
mod roles;
mod rule;
mod subject;
mod text;
mod user;

pub use attributes::Attributes;
pub use decision::{Authorizer, Decision, HeldRules};
pub use kind::GROUP;
pub use roles::Roles;
pub use rule::PolicyRule;
pub use subject::RoleRef;
pub(crate) use text::quoted_list;
pub use text::{joined, quoted};
pub use user::{AUTHENTICATED, MASTERS, UNAUTHENTICATED, User};

#[cfg(test)]
mod tests;
