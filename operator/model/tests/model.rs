//! Every small world, all of it. `world` draws moves at random; here each possible move of each state is made, until no
//! new state turns up. A state holds the pods, what their nodes know and run, what the controller sees of them, the
//! CloneSet and its revisions; nothing is counted and nothing bounds the number of moves, so crashes and changes of mind
//! are unlimited. Safety is checked at every write; from every state the faults stop, and it must come to rest.
//!
//! What keeps it finite, and what that leaves out:
//! * Pods of equal state are interchangeable, so a state is sorted; names go by place.
//! * Time is three steps: now, over a quiet period ago, long ago.
//! * A controller waits until it sees its own writes, and sees all that happened before them as well (every order of events in
//!   which its cache may learn of them is walked in `client/watching/tests/orders.rs`); a restart lists
//!   everything anew. Either way its view is complete, so a view lags by what others did since. It lags pod by pod (a
//!   watch would keep an order between pods, which is a special case of that), for a limited number of pods at a time.
//! * A plan is carried out at one instant, any subset of it. What happens to *other* pods between two of its writes is
//!   the same as if it had happened before and were not seen yet; a pod that changed meanwhile is not written, as the
//!   version does not match.
//! * A write of a dead controller that arrives after its successor has looked is not modelled.

// Millions of look-ups; no order of these maps is ever seen.
#![allow(clippy::disallowed_types)]

mod check;
mod control;
mod moves;
pub(crate) mod node;
mod object;
mod planted;
mod search;
mod setup;
mod state;
mod tests;
