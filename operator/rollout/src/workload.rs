//! Many pods of one owner: how many may go, which first, at which revision, who sends to them, what is lost.

pub mod budget;
pub mod loss;
pub mod order;
pub mod revision;
pub mod status;
pub mod traffic;
