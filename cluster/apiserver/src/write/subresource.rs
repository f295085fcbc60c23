//! Subresources that are more than a part of their object.

mod eviction;
mod namespace;
mod pod;
mod scale;
