//! How far the demo is: a bar on a terminal, plain lines elsewhere; on standard error, so that the result can be piped.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Counts updated pods over all rows.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    last: Mutex<String>,
    /// Pods of the rows that are finished.
    before: AtomicU64,
}

impl Progress {
    /// `total`: pods of all rows together.
    pub(crate) fn new(total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total);
            if let Ok(style) = ProgressStyle::with_template("{spinner} [{bar:24}] {pos}/{len} pods  {wide_msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self {
            bar,
            last: Mutex::default(),
            before: AtomicU64::new(0),
        }
    }

    /// What happens now. Elsewhere than on a terminal only a new phase is a line: what stands before the first comma.
    pub(crate) fn say(&self, text: &str) {
        let Some(bar) = &self.bar else {
            let phase = text.split(", ").next().unwrap_or(text);
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if *last != phase {
                eprintln!("afloat: {text}");
                phase.clone_into(&mut last);
            }
            return;
        };
        bar.set_message(text.to_owned());
    }

    /// How many pods of this row are updated.
    pub(crate) fn updated(&self, pods: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.before.load(Ordering::Relaxed) + pods);
        }
    }

    /// A row of so many pods is done.
    pub(crate) fn finish_row(&self, pods: u64) {
        self.before.fetch_add(pods, Ordering::Relaxed);
        self.updated(0);
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
