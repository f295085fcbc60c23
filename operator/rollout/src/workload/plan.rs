//! The part of a plan that does not ask how pods are named: the budget, each pod's next step, what is told of it. What is wanted
//! and what is there comes in as [`seen::Seen`].

mod adopt;
pub(crate) mod begin;
mod deletion;
mod difference;
mod finish;
mod guarded;
mod hooks;
pub(crate) mod leave;
mod life;
mod losses;
pub(crate) mod planner;
mod queue;
mod record;
mod refresh;
pub mod seen;
pub mod tally;
mod update;
