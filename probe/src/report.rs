//! What a run is told as. Pure.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use crate::counts::{Counts, Latency};
use crate::loss::Loss;
use crate::options::Mode;
use crate::timeline::Happening;

/// Lines of losses and happenings that the text shows; JSON has all.
const SHOWN_MAX: usize = 100;

/// One mode's part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModeReport {
    /// Which.
    pub mode: Mode,
    /// Requests a second that were due.
    pub rate: u32,
    /// How many were sent, and what became of them.
    #[serde(flatten)]
    pub counts: Counts,
    /// Of the answered ones; None if there are none.
    pub latency: Option<Latency>,
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Whether all that was due was sent; if not, the counts say less than they seem to.
    pub valid: bool,
    /// Over all modes.
    pub sent: u64,
    /// Over all modes.
    pub ok: u64,
    /// Over all modes.
    pub lost: u64,
    /// Over all modes.
    pub skipped: u64,
    /// Of the answered ones over all modes.
    pub latency: Option<Latency>,
    /// Each mode.
    pub modes: Vec<ModeReport>,
    /// Each lost request, in the order of time.
    pub losses: Vec<Loss>,
    /// What happened to the Service's pods, if it was looked at.
    pub happenings: Vec<Happening>,
}

impl Report {
    /// Puts modes and losses together.
    #[must_use]
    pub fn new(modes: Vec<ModeReport>, mut losses: Vec<Loss>) -> Self {
        losses.sort_by_key(|loss| loss.time);
        let sum = |of: fn(&Counts) -> u64| modes.iter().map(|mode| of(&mode.counts)).sum();
        let skipped = sum(|c| c.skipped);
        Self {
            valid: skipped == 0,
            sent: sum(|c| c.sent),
            ok: sum(|c| c.ok),
            lost: sum(|c| c.lost.total()),
            skipped,
            latency: None,
            modes,
            losses,
            happenings: Vec::new(),
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "{:<12} {:>6} {:>9} {:>9} {:>7} {:>8} {:>6} {:>8} {:>9} {:>6} {:>8}\n",
            "MODE", "RATE", "SENT", "OK", "LOST", "REFUSED", "RESET", "TIMEOUT", "HTTP-5XX", "OTHER", "SKIPPED"
        );
        // Writing to a String cannot fail.
        for mode in &self.modes {
            let (c, lost) = (&mode.counts, mode.counts.lost);
            let _ = writeln!(
                text,
                "{:<12} {:>6} {:>9} {:>9} {:>7} {:>8} {:>6} {:>8} {:>9} {:>6} {:>8}",
                mode.mode,
                mode.rate,
                c.sent,
                c.ok,
                lost.total(),
                lost.refused,
                lost.reset,
                lost.timeout,
                lost.server_error,
                lost.other,
                c.skipped
            );
        }
        let _ = writeln!(
            text,
            "\n{:<12} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "LATENCY ms", "P50", "P90", "P99", "P99.9", "MAX"
        );
        for mode in &self.modes {
            let Some(l) = mode.latency else { continue };
            let _ = writeln!(
                text,
                "{:<12} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
                mode.mode, l.p50_ms, l.p90_ms, l.p99_ms, l.p999_ms, l.max_ms
            );
        }
        self.write_timeline(&mut text);
        let _ = writeln!(text, "\n{} of {} lost", self.lost, self.sent);
        if !self.valid {
            let _ = writeln!(
                text,
                "not valid: {} requests were due and not sent, because too many were under way (--max-in-flight)",
                self.skipped
            );
        }
        text
    }

    fn write_timeline(&self, text: &mut String) {
        if self.losses.is_empty() {
            return;
        }
        let losses = self.losses.iter().map(|loss| {
            let remote = loss.remote.map(|r| format!(" from {r}")).unwrap_or_default();
            (
                loss.time,
                format!("LOST {} {}: {}{remote}", loss.mode, loss.kind.name(), loss.detail),
            )
        });
        let happenings = self.happenings.iter().map(|h| (h.time, h.text.clone()));
        let mut lines: Vec<(Timestamp, String)> = happenings.chain(losses).collect();
        lines.sort_by_key(|line| line.0);
        text.push('\n');
        for (time, line) in lines.iter().take(SHOWN_MAX) {
            let _ = writeln!(text, "{time:.3}  {line}");
        }
        if lines.len() > SHOWN_MAX {
            let _ = writeln!(text, "and {} more (--json has all)", lines.len() - SHOWN_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::LostByKind;
    use crate::outcome::Kind;

    fn mode(lost: u64, skipped: u64) -> ModeReport {
        let lost = LostByKind {
            reset: lost,
            ..LostByKind::default()
        };
        let counts = Counts {
            sent: 10,
            ok: 10 - lost.total(),
            lost,
            skipped,
            reopened: 0,
        };
        ModeReport {
            mode: Mode::Http,
            rate: 1,
            counts,
            latency: None,
        }
    }

    fn loss(second: i64) -> Loss {
        Loss {
            time: Timestamp::from_second(second).unwrap(),
            due: Timestamp::from_second(second).unwrap(),
            mode: Mode::Http,
            kind: Kind::Reset,
            detail: "cut".into(),
            remote: None,
            around: Vec::new(),
        }
    }

    #[test]
    fn sums_and_order() {
        let report = Report::new(vec![mode(1, 0), mode(2, 0)], vec![loss(9), loss(3)]);
        assert_eq!((report.sent, report.ok, report.lost), (20, 17, 3));
        assert!(report.valid);
        assert_eq!(report.losses[0].time.as_second(), 3);
        let text = report.text();
        assert!(
            text.contains("1970-01-01T00:00:03.000Z  LOST http reset: cut"),
            "{text}"
        );
        assert!(text.contains("3 of 20 lost"), "{text}");
    }

    #[test]
    fn what_was_not_sent_makes_it_invalid() {
        let report = Report::new(vec![mode(0, 4)], Vec::new());
        assert!(!report.valid);
        assert!(report.text().contains("not valid: 4 requests"));
    }

    #[test]
    fn a_long_list_is_cut_in_the_text_only() {
        let report = Report::new(vec![mode(1, 0)], (0..150).map(loss).collect());
        assert_eq!(report.text().matches("LOST http").count(), SHOWN_MAX);
        assert!(report.text().contains("and 50 more"));
        assert_eq!(
            serde_json::to_value(&report).unwrap()["losses"]
                .as_array()
                .unwrap()
                .len(),
            150
        );
    }
}
