//! What a change will do.
