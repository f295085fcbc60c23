//! Our own rules, checked (ARCHITECTURE.md and STYLE.md name them). Each rule that reads code is shown to find what it forbids.

#![allow(clippy::expect_used, clippy::unwrap_used)] // helpers of tests may fail as tests do

mod circles;
mod convention;
mod documents;
mod floors;
mod modules;
mod places;
mod sizes;
mod tree;
