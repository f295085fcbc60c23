//! How late a proxy applies what it sees: real ones are late by what their node is busy with, another time for each change.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Gives each change its lag. Changes keep their order: one with a short lag waits for those before it.
#[derive(Clone)]
pub struct Lag(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Lag {
    /// What `next` says, asked once for each change.
    pub fn drawn(next: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(next))
    }

    /// That of the next change.
    pub(crate) fn next(&self) -> Duration {
        (self.0)()
    }
}

/// The same for every change.
impl From<Duration> for Lag {
    fn from(lag: Duration) -> Self {
        Self::drawn(move || lag)
    }
}

impl fmt::Debug for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lag")
    }
}
