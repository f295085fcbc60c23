//! Pods that have names, claims and an order of their own: one for each ordinal, and never two.

mod claims;
mod create;
mod foresight;
mod grow;
mod growth;
mod kind;
mod ordinals;
mod places;
mod plan;
mod planner;
mod report;
mod scale;
mod turns;

pub use plan::plan;

#[cfg(test)]
mod tests;
