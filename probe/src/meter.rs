//! Counts of one mode while it runs; they can be read at any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use jiff::Timestamp;

use crate::counts::{Counts, Latency, LostByKind};
use crate::loss::Loss;
use crate::options::Mode;
use crate::outcome::{Failure, Kind};
use crate::report::ModeReport;

/// Losses listed one by one for each mode; the counts go on beyond.
const LISTED_MAX: usize = 100_000;
/// Latencies above are recorded as this: an hour.
const LATENCY_MAX_US: u64 = 3_600_000_000;

pub(crate) struct Meter {
    mode: Mode,
    sent: AtomicU64,
    ok: AtomicU64,
    skipped: AtomicU64,
    reopened: AtomicU64,
    lost: [AtomicU64; Kind::ALL.len()],
    latency_us: Mutex<Histogram<u64>>,
    /// Of those since the last look.
    window_us: Mutex<Histogram<u64>>,
    losses: Mutex<Vec<Loss>>,
}

impl Meter {
    pub(crate) fn new(mode: Mode) -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self {
            mode,
            sent: AtomicU64::new(0),
            ok: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            reopened: AtomicU64::new(0),
            lost: Default::default(),
            latency_us: Mutex::new(Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)?),
            window_us: Mutex::new(Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)?),
            losses: Mutex::default(),
        })
    }

    pub(crate) fn sent(&self) {
        self.sent.fetch_add(1, Relaxed);
    }

    pub(crate) fn skipped(&self) {
        self.skipped.fetch_add(1, Relaxed);
    }

    pub(crate) fn reopened(&self) {
        self.reopened.fetch_add(1, Relaxed);
    }

    pub(crate) fn ok(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        for histogram in [&self.latency_us, &self.window_us] {
            let mut histogram = histogram.lock().unwrap_or_else(PoisonError::into_inner);
            histogram.saturating_record(us);
        }
        self.ok.fetch_add(1, Relaxed);
    }

    pub(crate) fn lost(&self, due: Timestamp, time: Timestamp, failure: Failure) {
        if let Some(place) = Kind::ALL.iter().position(|kind| *kind == failure.kind) {
            self.lost[place].fetch_add(1, Relaxed);
        }
        let mut losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        if losses.len() < LISTED_MAX {
            losses.push(Loss {
                time,
                due,
                mode: self.mode,
                kind: failure.kind,
                detail: failure.detail,
                remote: failure.remote,
                around: Vec::new(),
            });
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let lost = |kind: usize| self.lost[kind].load(Relaxed);
        Counts {
            sent: self.sent.load(Relaxed),
            ok: self.ok.load(Relaxed),
            lost: LostByKind {
                refused: lost(0),
                reset: lost(1),
                timeout: lost(2),
                server_error: lost(3),
                other: lost(4),
            },
            skipped: self.skipped.load(Relaxed),
            reopened: self.reopened.load(Relaxed),
        }
    }

    pub(crate) fn losses(&self) -> Vec<Loss> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn report(&self, rate: u32) -> ModeReport {
        let latency = self.latency_us.lock().unwrap_or_else(PoisonError::into_inner);
        ModeReport {
            mode: self.mode,
            rate,
            counts: self.counts(),
            latency: summary(&latency),
        }
    }
}

/// The latencies of all modes together.
pub(crate) fn latency<'a>(meters: impl Iterator<Item = &'a Meter>) -> Option<Latency> {
    together(meters, |meter| {
        meter.latency_us.lock().unwrap_or_else(PoisonError::into_inner).clone()
    })
}

/// The same since the last call.
pub(crate) fn window<'a>(meters: impl Iterator<Item = &'a Meter>) -> Option<Latency> {
    together(meters, |meter| {
        let mut window = meter.window_us.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = window.clone();
        window.reset();
        taken
    })
}

fn together<'a>(meters: impl Iterator<Item = &'a Meter>, of: impl Fn(&Meter) -> Histogram<u64>) -> Option<Latency> {
    let mut all: Option<Histogram<u64>> = None;
    for latency in meters.map(of) {
        match &mut all {
            // All have the same bounds, so there is nothing to refuse.
            Some(all) => all.add(latency).unwrap_or_default(),
            None => all = Some(latency),
        }
    }
    summary(&all?)
}

fn summary(latency: &Histogram<u64>) -> Option<Latency> {
    #[allow(clippy::cast_precision_loss)] // microseconds below 2^52
    let ms = |us: u64| us as f64 / 1000.0;
    let at = |quantile: f64| ms(latency.value_at_quantile(quantile));
    (!latency.is_empty()).then(|| Latency {
        p50_ms: at(0.50),
        p90_ms: at(0.90),
        p99_ms: at(0.99),
        p999_ms: at(0.999),
        max_ms: ms(latency.max()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_put_together() {
        let meters = [Meter::new(Mode::Http).unwrap(), Meter::new(Mode::Tcp).unwrap()];
        assert_eq!(latency(meters.iter()), None);
        meters[0].ok(Duration::from_millis(10));
        meters[1].ok(Duration::from_millis(50));
        let all = latency(meters.iter()).unwrap();
        assert!((10.0..10.1).contains(&all.p50_ms), "{all:?}");
        assert!((50.0..50.1).contains(&all.max_ms), "{all:?}");
        assert_eq!(window(meters.iter()), Some(all));
        assert_eq!(window(meters.iter()), None, "nothing since then");
        meters[0].ok(Duration::from_millis(20));
        assert!((20.0..20.1).contains(&window(meters.iter()).unwrap().max_ms));
    }
}
