//! What every loop is made of beside the caches, queues and ledgers of `afloat_watching`: a [`shell`] to write through, and
//! [`events`] to tell users.

pub(crate) mod answer;
pub(crate) mod discovery;
pub(crate) mod events;
pub(crate) mod shell;
