//! The program as its users meet it: real processes, real containers, an unmodified kubectl.
//!
//! Tests say so and pass where the machine cannot run containers or has no kubectl.

mod bad_input;
mod cluster;
mod everyday;
mod inplace;
mod leftovers;
mod operator;
mod restart;
