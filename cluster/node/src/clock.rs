//! Time for decisions. Planners get the moment as an argument; only the shells ask a [`Clock`], so tests can run on
//! tokio's paused time.

use std::time::Duration;

use jiff::Timestamp;

/// Where the agent takes the time from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// Follows tokio's timer, which tests may pause: `origin` at `start`, and as much later as the timer says.
    Virtual {
        /// The moment that `start` stands for.
        origin: Timestamp,
        /// When the virtual clock was made.
        start: tokio::time::Instant,
    },
}

impl Clock {
    /// A clock that follows tokio's timer from `origin` on.
    pub fn virtual_from(origin: Timestamp) -> Self {
        Self::Virtual {
            origin,
            start: tokio::time::Instant::now(),
        }
    }

    /// The moment.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Virtual { origin, start } => later(*origin, start.elapsed()),
        }
    }
}

/// `moment` + `duration`, saturating.
pub(crate) fn later(moment: Timestamp, duration: Duration) -> Timestamp {
    moment.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// How long `moment` is after `earlier`; zero if it is not.
pub(crate) fn since(moment: Timestamp, earlier: Timestamp) -> Duration {
    Duration::try_from(moment.duration_since(earlier)).unwrap_or(Duration::ZERO)
}

/// Whole seconds of an API field, negative ones as zero.
pub(crate) fn seconds(value: i64) -> Duration {
    Duration::from_secs(u64::try_from(value).unwrap_or(0))
}
