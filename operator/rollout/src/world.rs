//! A small world to try plans in.
