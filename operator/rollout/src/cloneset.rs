//! Pods without names of their own: as many as are wanted, each as good as another.

pub mod claim;
mod create;
mod drain;
mod history;
mod lifecycle;
mod plan;
mod record;
mod refresh;
mod report;
mod scale;
mod tally;
mod waits;

pub use history::Revisions;
pub use plan::{Observed, Plan, plan};
pub use record::Recorded;
pub use report::Phases;
pub use scale::topology;

#[cfg(test)]
mod tests;
