//! The agent against the real API server (in process) and the simulated runtime, in real time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // how tests fail; clippy.toml reaches `#[test]` only

mod ends;
mod faults;
mod kubelet_api;
mod life;
mod resize;
mod volumes;
mod world;
