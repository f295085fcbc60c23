//! Images before they are needed: which node is to pull what, and when. Pure: no I/O, no clock, no async, no logging.
//!
//! Two sides, which meet at the NodeImages:
//! * [`plan()`] is the manager's: from jobs, nodes and NodeImages to writes. It looks at all jobs at once, so that several that want
//!   something of one node are one write, and none waits for another (kruise #1528);
//! * [`puller::Puller`] is a node's: which pull begins next, which is tried again, and what there is to tell.

mod action;
mod difference;
mod edit;
mod grant;
mod job;
mod list;
mod plan;
pub mod puller;
mod secrets;
mod select;
mod tidy;
mod time;
mod warm;
pub mod world;

pub use action::{Action, At, Plan, Told};
pub use difference::difference;
pub use plan::plan;
pub use secrets::sources;
pub use time::seconds;
pub use warm::{Release, warm};
