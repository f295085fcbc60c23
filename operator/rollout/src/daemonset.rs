//! One pod on every node that suits.

mod create;
mod demand;
mod foresight;
mod kind;
mod layout;
mod plan;
mod planner;
mod report;
mod site;

#[cfg(test)]
mod tests;
