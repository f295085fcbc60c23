//! Pods without names of their own: as many as are wanted, each as good as another.

mod claim;
mod create;
mod observed;
mod owner;
mod plan;
mod planner;
mod progress;
mod report;
mod scale;

pub use claim::Claim;
pub use observed::{Observed, Plan, roster};
pub use owner::owner;
pub use plan::plan;
pub use scale::topology;

#[cfg(test)]
mod tests;
