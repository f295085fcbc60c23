//! What came of the releases, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use serde::Serialize;

use super::amounts::Bytes;
use super::manifest::Way;
use super::outage::{Outage, Parts, mean};

/// What was the same for all releases.
#[derive(Debug, Serialize)]
pub(super) struct Conditions {
    pub(super) pods: u32,
    pub(super) max_unavailable: String,
    pub(super) layer_bytes: Bytes,
    pub(super) bandwidth_bytes_per_second: Bytes,
    pub(super) attach_seconds: f64,
    /// The program was built with its checks: its times mean little.
    pub(super) debug_build: bool,
}

/// One release.
#[derive(Debug, Serialize)]
pub(super) struct Release {
    pub(super) way: Way,
    /// From the patch until the last pod is back.
    pub(super) release_seconds: f64,
    /// From the patch until the first pod leaves.
    pub(super) first_leaves_seconds: f64,
    /// That a pod is out of service: the mean and the longest.
    pub(super) out_seconds: f64,
    pub(super) out_seconds_max: f64,
    /// What that is made of, the mean.
    pub(super) parts: Parts,
    /// Pulls, and those among them that went on while their node's pod was out of service.
    pub(super) pulls: usize,
    pub(super) pulls_while_out: usize,
    /// What the registry has sent of layers and configurations.
    pub(super) bytes: u64,
    /// How much less than by new pods, in percent.
    pub(super) release_saved_percent: Option<f64>,
    pub(super) out_saved_percent: Option<f64>,
}

impl Release {
    /// `outages` are those of all pods, at least one.
    pub(super) fn new(
        way: Way,
        patched: Instant,
        outages: &BTreeMap<String, Outage>,
        (pulls, bytes): (usize, u64),
    ) -> Self {
        let since = |at: Option<Instant>| at.map_or(0.0, |at| at.saturating_duration_since(patched).as_secs_f64());
        let seconds: Vec<f64> = outages.values().map(Outage::seconds).collect();
        let parts = mean(outages);
        Self {
            way,
            release_seconds: since(outages.values().map(|outage| outage.ended).max()),
            first_leaves_seconds: since(outages.values().map(|outage| outage.began).min()),
            out_seconds: parts.all().iter().map(|(_, value)| value).sum(),
            out_seconds_max: seconds.iter().copied().fold(0.0, f64::max),
            parts,
            pulls,
            pulls_while_out: outages.values().map(|outage| outage.pulls).sum(),
            bytes,
            release_saved_percent: None,
            out_saved_percent: None,
        }
    }
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    conditions: Conditions,
    releases: Vec<Release>,
}

impl Outcome {
    /// The first release is what the others are measured by.
    pub(super) fn new(conditions: Conditions, mut releases: Vec<Release>) -> Self {
        let first = releases.first().map(|first| (first.release_seconds, first.out_seconds));
        if let Some((whole, out)) = first.filter(|(whole, out)| *whole > 0.0 && *out > 0.0) {
            for release in releases.iter_mut().skip(1) {
                release.release_saved_percent = Some(100.0 * (1.0 - release.release_seconds / whole));
                release.out_saved_percent = Some(100.0 * (1.0 - release.out_seconds / out));
            }
        }
        Self { conditions, releases }
    }

    pub(super) fn text(&self) -> String {
        let conditions = &self.conditions;
        let mut text = format!(
            "{} pods on as many nodes, {} out of service at once; a new layer of {} for each release, {}/s for each node, volumes take {} s.\n",
            conditions.pods,
            conditions.max_unavailable,
            conditions.layer_bytes,
            conditions.bandwidth_bytes_per_second,
            conditions.attach_seconds
        );
        if conditions.debug_build {
            text += "This is a debug build: its times mean little.\n";
        }
        let _ = write!(
            text,
            "\n{:<20}{:>9}{:>9}{:>9}{:>9}{:>7}{:>11}",
            "RELEASE", "SECONDS", "BEFORE", "OUT", "OUT MAX", "PULLS", "WHILE OUT"
        );
        for (name, _) in Parts::default().all() {
            let _ = write!(text, "{:>9}", name.to_uppercase());
        }
        text.push('\n');
        for release in &self.releases {
            let _ = write!(
                text,
                "{:<20}{:>9.2}{:>9.2}{:>9.2}{:>9.2}{:>7}{:>11}",
                release.way.name(),
                release.release_seconds,
                release.first_leaves_seconds,
                release.out_seconds,
                release.out_seconds_max,
                release.pulls,
                release.pulls_while_out
            );
            for (_, value) in release.parts.all() {
                // A sum of nothing may be -0.
                let value = if value > 0.0 { value } else { 0.0 };
                let _ = write!(text, "{value:>9.2}");
            }
            text.push('\n');
        }
        text += "\nSECONDS: from the patch until the last pod is back; BEFORE: until the first leaves; OUT: out of service, a pod, which is the \
                 sum of what follows.\n";
        for release in &self.releases {
            if let (Some(whole), Some(out), Some(aim)) = (
                release.release_saved_percent,
                release.out_saved_percent,
                release.way.aim(),
            ) {
                let _ = writeln!(
                    text,
                    "{}: {whole:.0} % faster than by new pods, {out:.1} % less time out of service (aim: {aim:.0} %{}).",
                    release.way.name(),
                    if out >= aim { "" } else { ", missed" }
                );
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_measured_by_the_first() {
        let release = |way, release_seconds, out_seconds| Release {
            release_seconds,
            out_seconds,
            ..Release::new(way, Instant::now(), &BTreeMap::new(), (3, 7))
        };
        let conditions = Conditions {
            pods: 3,
            max_unavailable: "1".into(),
            layer_bytes: Bytes(200_000_000),
            bandwidth_bytes_per_second: Bytes(50_000_000),
            attach_seconds: 3.0,
            debug_build: false,
        };
        let all = vec![
            release(Way::Recreate, 20.0, 8.0),
            release(Way::InPlace, 10.0, 4.0),
            release(Way::InPlacePrewarmed, 5.0, 0.4),
        ];
        let text = Outcome::new(conditions, all).text();
        for line in [
            "a new layer of 200MB for each release, 50MB/s for each node, volumes take 3 s",
            "in-place: 50 % faster than by new pods, 50.0 % less time out of service (aim: 80 %, missed).",
            "in-place-prewarmed: 75 % faster than by new pods, 95.0 % less time out of service (aim: 95 %).",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
