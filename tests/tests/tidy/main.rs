//! Our own rules, checked (ARCHITECTURE.md names them).

#![allow(clippy::expect_used, clippy::unwrap_used)] // helpers of tests may fail as tests do

mod documents;
mod floors;
mod places;
mod sizes;
mod tree;
