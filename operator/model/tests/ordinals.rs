//! StatefulSets: every state of small worlds, and bigger ones at random. What one pod goes through is walked in `model`; here it is about who has
//! which ordinal, in what order they come, go and change, and how many are away at a time.
//!
//! A state holds the pod of each ordinal, as it is and as the controller sees it, and what the user wants. Each possible move of each state is made:
//! the controller plans and carries out any subset of its writes, a node does something or is lost, somebody deletes a pod, the user changes their
//! mind. Safety is checked at every write; from every state the faults stop, lost nodes come back, and it must come to rest as it is wanted,
//! also when a revision that does not work is taken back.
//!
//! What keeps it finite: no time passes; a node does all that it can do for a pod in one step; the controller waits until it sees its own writes
//! and sees with them all that happened before; its view lags pod by pod, for a limited number of pods.

#![allow(clippy::disallowed_types)] // no order of these maps is ever seen

mod check;
mod control;
mod moves;
mod object;
mod planted;
mod search;
mod setup;
mod tests;
