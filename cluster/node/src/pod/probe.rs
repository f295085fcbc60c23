//! Probe answers and the thresholds that turn them into a verdict. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::instance::ProbeTrack;
use super::spec::{ProbeKind, ProbeTiming};
use super::state::PodState;
use crate::clock::later;

/// What a probe's question was answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Success,
    /// With a warning: a redirect to another host counts as success.
    Warning(String),
    Failure(String),
    /// The question could not be asked; counts as nothing, except for a fresh readiness, which stays false.
    Error(String),
}

impl ProbeTrack {
    /// Takes an answer in. True when the verdict is another one now.
    pub(crate) fn record(&mut self, ok: bool, timing: ProbeTiming) -> bool {
        let before = self.result;
        if ok {
            self.failures = 0;
            self.successes = self.successes.saturating_add(1);
            if self.successes >= timing.success_threshold {
                self.result = Some(true);
            }
        } else {
            self.successes = 0;
            self.failures = self.failures.saturating_add(1);
            if self.failures >= timing.failure_threshold {
                self.result = Some(false);
            }
        }
        self.result != before
    }

    /// Whether a failure is worth an event: one a period, however often the question is asked.
    pub(crate) fn worth_telling(&mut self, now: Timestamp, period: Duration) -> bool {
        let due = self.told_at.is_none_or(|told| now >= later(told, period));
        if due {
            self.told_at = Some(now);
        }
        due
    }
}

impl PodState {
    /// See [`ProbeTrack::worth_telling`].
    pub(crate) fn worth_telling(&mut self, id: &str, kind: ProbeKind, now: Timestamp, period: Duration) -> bool {
        self.instance_mut(id)
            .is_some_and(|instance| instance.probe_mut(kind).worth_telling(now, period))
    }

    /// A probe was answered; `timing` None if the spec has no such probe any more.
    pub(crate) fn probed(&mut self, id: &str, kind: ProbeKind, answer: &Answer, timing: Option<ProbeTiming>) {
        let Some(instance) = self.instance_mut(id) else { return };
        let track = instance.probe_mut(kind);
        track.in_flight = false;
        let Some(timing) = timing else { return };
        match answer {
            Answer::Success | Answer::Warning(_) => track.record(true, timing),
            Answer::Failure(_) | Answer::Error(_) => track.record(false, timing),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_consecutive_answers() {
        let timing = ProbeTiming {
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            success_threshold: 2,
            failure_threshold: 3,
        };
        let mut track = ProbeTrack::default();
        let verdicts: Vec<_> = [
            true, false, true, true, false, false, true, false, false, false, true, true,
        ]
        .into_iter()
        .map(|ok| {
            track.record(ok, timing);
            match track.result {
                None => '-',
                Some(true) => '+',
                Some(false) => '!',
            }
        })
        .collect();
        assert_eq!(verdicts.iter().collect::<String>(), "---++++++!!+");
    }

    #[test]
    fn failures_are_told_once_a_period() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut track = ProbeTrack::default();
        let period = Duration::from_secs(1);
        let told =
            (0..30).filter(|tenth| track.worth_telling(later(start, Duration::from_millis(tenth * 100)), period));
        assert_eq!(told.collect::<Vec<_>>(), [0, 10, 20]);
    }
}
