//! How the plan is checked: `model` walks every state of small worlds, `world` plays bigger ones at random, `daemons` does both for
//! DaemonSets, `ordinals` for StatefulSets, `budgets` for PodUnavailableBudgets. All are made to fail by planted mistakes.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // helpers of tests may fail as tests do

extern crate afloat_model as afloat_rollout;

mod budgets;
mod daemons;
#[path = "../../rollout/src/cloneset/tests/merge.rs"]
mod merge;
mod model;
mod ordinals;
mod search;
mod world;
