//! Pods without names of their own: as many as are wanted, each as good as another.

mod claim;
mod create;
mod kind;
mod plan;
mod planner;
mod progress;
mod report;
mod scale;

pub use plan::plan;

#[cfg(test)]
mod tests;
