//! DaemonSets: every state of small worlds, and bigger ones at random. What one pod goes through is walked in `model`; here it is about
//! which node has a pod, how many, and how many nodes are without one that serves.
//!
//! A state holds the nodes and the pods, as they are and as the controller sees them, and what the user wants. Each possible move of each state
//! is made: the controller plans and carries out any subset of its writes, a node does something for a pod, a pod fails or is deleted, a
//! hook lets go, a node is tainted, leaves or comes back, the user changes their mind. Safety is checked at every write; from every state
//! the faults stop, and it must come to rest as it is wanted, and then write nothing.
//!
//! What keeps it finite: no time passes; a node does all that it can do for a pod in one step; the controller waits until it sees its own writes;
//! its view lags pod by pod, for a limited number of pods, and in all nodes at once; revisions are there, the wanted one the newest.

#![allow(clippy::disallowed_types)] // no order of these maps is ever seen

mod check;
mod control;
mod moves;
mod object;
mod planted;
mod search;
mod setup;
mod tests;
