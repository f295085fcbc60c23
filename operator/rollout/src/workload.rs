//! Many pods of one owner: how many may go, which first, at which revision, who sends to them, what is lost; and the part of a
//! plan that does not ask which kind it serves. A kind is a room of its own that implements [`kind::Workload`].

pub mod budget;
pub mod claim;
pub mod conditions;
pub mod foresight;
pub mod history;
pub mod kind;
pub mod limit;
pub mod loss;
pub mod memo;
pub mod observed;
pub mod order;
pub mod owner;
pub mod plan;
pub mod progress;
pub(crate) mod recipe;
pub mod revision;
pub mod roster;
pub mod traffic;
pub mod waits;
