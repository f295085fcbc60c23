//! The node agent: pods become containers.
//!
//! Reaches the API server only through [`kube::Client`] and containers only through [`afloat_runtime::Runtime`]; has
//! never heard of the operator.
//!
//! One worker task per pod (`worker`) does: observe → [`pod::plan::plan`] → act (`act`). Everything that is decided is
//! decided in [`pod`], without I/O and with the time as an argument.

mod act;
pub mod agent;
pub mod clock;
mod context;
mod dirs;
mod events;
pub mod fake;
mod host_ports;
mod logs;
mod mailbox;
pub mod node_status;
pub mod pod;
mod pull;
mod refresh;
mod resize;
mod server;
mod spdy;
mod token;
mod usage;
mod volume;
mod worker;

pub use agent::{Agent, AgentError, AgentOptions, Capacity};
pub use clock::Clock;
pub use pod::back_off::BackOffLimits;
pub use pod::claim::claims as claims_dir;
