//! The node agent: pods become containers.
//!
//! Reaches the API server only through [`kube::Client`] and containers only through [`afloat_runtime::Runtime`]; has
//! never heard of the operator.
//!
//! One worker task per pod (`worker`) does: observe → [`pod::plan::plan`] → act (`worker::act`). Everything that is decided is
//! decided in [`pod`], without I/O and with the time as an argument.

pub mod agent;
pub mod clock;
mod context;
mod dirs;
mod events;
pub mod fake;
mod handler;
mod mailbox;
pub mod node_status;
mod options;
pub mod pod;
mod server;
mod spdy;
mod told;
mod usage;
mod volume;
mod worker;

pub use agent::{Agent, AgentError};
pub use clock::Clock;
pub use handler::tls::unverified;
pub use options::{AgentOptions, Capacity};
pub use pod::back_off::BackOffLimits;
pub use pod::found::{Kept, container_id, kept};
pub use volume::claim::claims as claims_dir;
