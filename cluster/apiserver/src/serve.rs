//! From a connection to an answer.

mod discovery;
pub(crate) mod openapi;
pub(crate) mod route;
mod socket;
