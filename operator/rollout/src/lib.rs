//! What to do next, given what is seen. Pure: no I/O, no clock, no async, no logging.
//!
//! Start with [`cloneset`]: `plan(&Observed) -> Plan`. Everything else answers one question for it: which revision is
//! wanted ([`revision`]), can a pod change in place ([`inplace`]), which of its containers go
//! first ([`batch`]), is such a change complete ([`complete`]), how many
//! may go ([`budget`]), which first ([`order`]) and whether nobody sends to it any more ([`traffic`]). A plan is recomputed from what is observed and never resumed; each
//! of its actions names the version of the object that it was decided on.

pub mod action;
pub mod batch;
pub mod budget;
pub mod claim;
pub mod cloneset;
pub mod complete;
pub mod environment;
pub mod images;
pub mod inplace;
pub mod launch;
pub mod lifecycle;
pub mod loss;
pub mod order;
pub mod pod;
pub mod resources;
mod restart;
pub mod revision;
pub mod state;
pub mod status;
pub mod texts;
pub mod traffic;
pub mod wire;

#[cfg(test)]
mod model;
#[cfg(test)]
mod world;
