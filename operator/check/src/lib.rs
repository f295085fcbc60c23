//! What there is to say before anything is applied: rules about objects that lose requests ([`check()`]), and what a change
//! will do ([`plan`]). Pure: objects come in as JSON values, findings go out; who reads files or asks a cluster is not here.

mod cel;
mod check;
mod finding;
mod form;
mod image;
mod object;
mod patch;
pub mod plan;
pub mod policy;
pub mod report;
mod rule;
mod rules;

pub use check::{check, references};
pub use finding::Finding;
pub use form::template_of;
pub use image::{Image, Images};
pub use object::{Id, readable};
pub use rule::{IGNORE, Rule, Severity};
pub use rules::RULES;
