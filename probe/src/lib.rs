//! Requests at a fixed rate, and an exact count of those that were lost.
//!
//! The load is *open-loop*: a request leaves when it is due, whether or not earlier ones were answered, and its latency counts
//! from then, so that a stall is not hidden by the requests that it kept from being sent (coordinated omission). What
//! could not be sent, because too many were under way, is counted and makes the result invalid: the probe never slows down
//! in silence.
//!
//! The schedule, what counts as lost, the report and the matching of losses with what happened to pods are pure;
//! [`Probe`] carries them out. It never decides that something is not a loss because a second attempt worked, but for
//! requests that provably never left or that the server said it did not process.

mod counts;
mod dial;
mod grpc;
mod h1;
mod h2c;
mod loss;
mod meter;
mod options;
mod outcome;
mod report;
mod run;
mod schedule;
mod tcp;
pub mod timeline;
pub mod watch;

pub use counts::{Counts, Latency, LostByKind};
pub use dial::{Dial, Dialed, Stream, TcpDial};
pub use loss::Loss;
pub use options::{Lane, Mode, ModeRate, Options, OptionsError};
pub use outcome::{Failure, Kind};
pub use report::{ModeReport, Report};
pub use run::{Probe, StartError, Window};
pub use schedule::Schedule;
