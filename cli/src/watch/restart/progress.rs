//! Lines that tell how something goes: each once, with its time.

use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout};

use crate::output;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(300);
/// How long one answer of the API server may take.
const ANSWER: Duration = Duration::from_secs(20);

/// What a look has found.
pub(super) struct Look {
    /// One line for people.
    pub(super) line: String,
    /// How it ended, once it has.
    pub(super) end: Option<u8>,
}

/// Looks until the end, or for so long.
pub(super) async fn follow<F, Fut>(limit: Duration, mut look: F) -> anyhow::Result<u8>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<Look>>,
{
    let deadline = Instant::now() + limit;
    let mut last = String::new();
    loop {
        let seen = answered(look()).await?;
        if seen.line != last {
            output::print(&format!(
                "{} {}\n",
                Timestamp::now().strftime("%H:%M:%S%.3f"),
                seen.line
            ))?;
            last = seen.line;
        }
        if let Some(end) = seen.end {
            return Ok(end);
        }
        anyhow::ensure!(
            Instant::now() < deadline,
            "not over after {} s: {last}",
            limit.as_secs()
        );
        sleep(PAUSE).await;
    }
}

/// An answer of the API server in time.
pub(super) async fn answered<T>(call: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    timeout(ANSWER, call).await.context("the API server does not answer")?
}
