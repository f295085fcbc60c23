//! The clock of all that is done in the background.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often what may have been left over is looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(30);

pub(super) fn ticks() -> Interval {
    let mut ticks = interval(HOUSEKEEPING);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
