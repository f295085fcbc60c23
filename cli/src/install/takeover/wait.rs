//! Waiting for what a step brings about.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Tries until it succeeds, or gives the last error when the limit has passed.
pub(super) async fn until<T>(
    limit: Duration,
    mut attempt: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if Instant::now() >= deadline => {
                return Err(error.context(format!("not seen within {} s", limit.as_secs())));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}
