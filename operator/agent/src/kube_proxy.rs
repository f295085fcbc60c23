//! A real node's kube-proxy, seen from outside: by the rules that it wrote, by its own metrics, and by the kernel's list of
//! connections. docs/agent.md says what each of them proves.
//!
//! ```text
//! EndpointSlices ──▶ pods (pure: wanted, in force) ──▶ what is told
//!                       ▲
//! look: metrics, then rules, then connections (tools run here; what reads their texts is pure)
//! ```
//!
//! It must never take silence for an answer: what cannot be read makes the whole view unknown, and says why.

pub mod chains;
pub mod conntrack;
pub mod iptables;
pub mod ipvs;
mod look;
pub mod metrics;
pub mod nftables;
mod pods;
mod slice;
mod tool;
mod view;

pub use look::{Blind, Mode, Options};
pub use view::KubeProxy;
