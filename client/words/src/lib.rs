//! The words that every client of Kubernetes reads and writes, once. Pure: no I/O, no clock, no async, no logging. It knows
//! neither half of Afloat; both may use it.

pub mod key;
pub mod texts;
