//! Keeps a long-running process as small as what it holds.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Pause between two looks at whether there was work.
const PAUSE: Duration = Duration::from_secs(2);
/// With less work than that, in nanoseconds of CPU time, there is nothing to give back.
const WORK_NANOS: i64 = 50_000_000;
/// Memory, in bytes, from which on it is given back in the middle of the work, too.
const LARGE: usize = 96 << 20;
/// How many pauses long work may go on until something is given back all the same: what is given back in the middle of the work
/// is fetched again at once.
const PATIENCE: u32 = 5;

/// To be called before there are other threads: one heap for all, and of the program itself only the pages that are in use, which the
/// kernel lets us have for as long as the descriptor is open, if at all.
pub(crate) fn start_small() -> Option<OwnedFd> {
    afloat_runtime::heap::keep_compact();
    let singly = afloat_runtime::program::map_singly();
    let released = afloat_runtime::program::release_pages();
    if let Some(error) = singly.as_ref().err().or(released.as_ref().err()) {
        tracing::debug!(%error, "neighbours of the program's pages are mapped with them");
    }
    singly.ok()
}

/// Gives back what the allocator has kept, and the pages of the program that are not in use, after each time of
/// work. Ends with its runtime.
pub(crate) async fn give_back() {
    let (mut last, mut before, mut waited) = (cpu_nanos(), cpu_nanos(), 0);
    loop {
        tokio::time::sleep(PAUSE).await;
        let now = cpu_nanos();
        let goes_on = now - before >= WORK_NANOS;
        before = now;
        waited += 1;
        if now - last >= WORK_NANOS && !(goes_on && waited < PATIENCE && resident() < LARGE) {
            give_back_now().await;
            before = cpu_nanos();
            (last, waited) = (before, 0);
        }
    }
}

/// The same at once: for whoever tells how large the process is when it has nothing to do.
pub(crate) async fn give_back_now() {
    let released = tokio::task::spawn_blocking(|| {
        afloat_runtime::heap::trim();
        afloat_runtime::program::release_pages()
    });
    if let Ok(Err(error)) = released.await {
        tracing::debug!(%error, "pages of the program are kept");
    }
}

/// Memory of this process, in bytes; 0 if that cannot be read.
fn resident() -> usize {
    // Not a file: nobody waits for it.
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or_default() * rustix::param::page_size()
}

/// CPU time of this process so far.
fn cpu_nanos() -> i64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
