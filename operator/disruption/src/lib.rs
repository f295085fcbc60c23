//! How many pods may still go: one fact, for the status of a budget, for the webhook that is asked before a pod goes, and for the
//! planners that take pods out of service themselves.
//!
//! [`count`] says what a PodUnavailableBudget allows, [`take`] takes one of it, [`written`] says which budget cannot be, [`guards`] is what
//! a planner has to heed of budgets that select its pods. Pure. The rules are OpenKruise's (1.8.0 to 1.9.1), but for its miscounts, each of which is named where it is put right.

pub mod change;
pub mod count;
pub mod evict;
pub mod guards;
pub mod owners;
pub mod take;
pub mod written;
