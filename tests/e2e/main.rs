//! The program as its users meet it: real processes, real containers, an unmodified kubectl.
//!
//! Tests say so and pass where the machine cannot run containers or has no kubectl.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // helpers of tests may fail as tests do
#![allow(clippy::too_many_lines)] // a story is told in one piece

mod agent;
mod bad_input;
mod bench;
mod check;
mod cluster;
mod containers;
mod drain;
mod everyday;
mod images;
mod inplace;
mod leftovers;
mod lifecycle;
mod load;
mod loss;
mod losses;
mod lossless;
mod network;
mod operator;
mod plan;
#[path = "../ports.rs"]
mod ports;
mod probe;
#[path = "../../cluster/runtime/tests/registry/server.rs"]
mod registry;
mod resize;
mod restart;
mod security;
mod sharing;
mod sidecars;
mod streams;
mod tools;
mod volumes;
