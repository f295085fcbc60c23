//! What every loop is made of: a [`cache`] of what it reads, a [`queue`] of keys, a [`shell`] to write through, and [`events`] to
//! tell users.

pub(crate) mod answer;
pub(crate) mod cache;
pub(crate) mod discovery;
pub(crate) mod events;
pub(crate) mod queue;
pub(crate) mod shell;
