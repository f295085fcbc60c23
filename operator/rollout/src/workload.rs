//! Many pods of one owner: how many may go, which first, at which revision, who sends to them, what is lost; and the part of a
//! plan that does not ask how the pods are named.

pub mod budget;
pub mod conditions;
pub mod history;
pub mod limit;
pub mod loss;
pub mod memo;
pub mod order;
pub mod owner;
pub mod plan;
pub mod revision;
pub mod roster;
pub mod traffic;
pub mod waits;
