//! What the proof says. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use afloat_probe::{Loss, Mode, ModeReport};
use afloat_proxy::Snapshot;
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::plan::{Fault, Motion};

/// Losses that the text shows one by one; JSON has all.
const SHOWN_MAX: usize = 50;

/// What the run was made of.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Conditions {
    pub(super) seed: u64,
    pub(super) nodes: u32,
    pub(super) replicas: u32,
    /// Each change reaches each proxy so late at most, by chance.
    pub(super) proxy_lag_max_seconds: f64,
    /// How long the API server, an agent or a reporter was away.
    pub(super) outage_seconds: f64,
}

/// One rollout.
#[derive(Clone, Debug, Serialize)]
pub(super) struct RoundReport {
    pub(super) motion: Motion,
    pub(super) fault: Fault,
    #[serde(serialize_with = "milliseconds")]
    pub(super) begin: Timestamp,
    #[serde(serialize_with = "milliseconds")]
    pub(super) end: Timestamp,
    pub(super) seconds: f64,
    /// Sent during it, in the order of the protocols.
    pub(super) requests: Vec<u64>,
    /// Of those that were due during it, in the order of the protocols.
    pub(super) lost: Vec<u64>,
    /// Restarts of containers.
    pub(super) restarted: i64,
    /// Pods that are new.
    pub(super) replaced: usize,
    /// How often the operator was killed.
    pub(super) operator_kills: u64,
}

fn milliseconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

/// All rollouts under one fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct FaultReport {
    pub(super) rollouts: u64,
    pub(super) requests: u64,
    pub(super) lost: u64,
    /// By protocol.
    pub(super) lost_by_protocol: BTreeMap<&'static str, u64>,
}

/// Connections as the proxies counted them, which know nothing of the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Metered {
    /// Carried to an endpoint.
    pub(super) opened: u64,
    /// Refused, aborted or not answered in time by one, or failed on the way.
    pub(super) lost: u64,
}

impl Metered {
    /// What all of these proxies counted for a Service.
    pub(super) fn of(service: &str, proxies: &[Snapshot]) -> Self {
        let services = proxies.iter().flat_map(|proxy| &proxy.services);
        let endpoints = services.filter(|s| s.name == service).flat_map(|s| &s.endpoints);
        endpoints.fold(Self::default(), |sum, endpoint| Self {
            opened: sum.opened + endpoint.opened,
            lost: sum.lost + endpoint.refused + endpoint.reset + endpoint.timed_out + endpoint.failed,
        })
    }
}

/// The whole result.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) conditions: Conditions,
    /// Whether all that was due was sent.
    pub(super) valid: bool,
    pub(super) seconds: f64,
    pub(super) requests: u64,
    pub(super) lost: u64,
    /// The proxies' side of it.
    pub(super) proxies: Metered,
    pub(super) protocols: Vec<ModeReport>,
    pub(super) faults: BTreeMap<Fault, FaultReport>,
    pub(super) rollouts: Vec<RoundReport>,
    pub(super) losses: Vec<Loss>,
}

impl Outcome {
    /// Gives each loss to the rollout during which it was due, and sums up.
    pub(super) fn new(
        conditions: Conditions,
        seconds: f64,
        report: afloat_probe::Report,
        proxies: Metered,
        mut rollouts: Vec<RoundReport>,
    ) -> Self {
        let modes: Vec<Mode> = report.modes.iter().map(|mode| mode.mode).collect();
        let mut faults: BTreeMap<Fault, FaultReport> = BTreeMap::new();
        for round in &mut rollouts {
            let during = |mode: &Mode| {
                let losses = report.losses.iter();
                losses
                    .filter(|loss| loss.mode == *mode && loss.due >= round.begin && loss.due < round.end)
                    .count() as u64
            };
            round.lost = modes.iter().map(during).collect();
            let sum = faults.entry(round.fault).or_default();
            sum.rollouts += 1;
            sum.requests += round.requests.iter().sum::<u64>();
            for (mode, lost) in modes.iter().zip(&round.lost) {
                sum.lost += lost;
                *sum.lost_by_protocol.entry(mode.name()).or_default() += lost;
            }
        }
        Self {
            conditions,
            valid: report.valid,
            seconds,
            requests: report.sent,
            lost: report.lost,
            proxies,
            protocols: report.modes,
            faults,
            rollouts,
            losses: report.losses,
        }
    }

    /// Whether it proves what it is to prove.
    pub(super) fn holds(&self) -> bool {
        self.valid && self.lost == 0
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let c = &self.conditions;
        let mut text = format!(
            "{} nodes, {} pods. Each change reaches each proxy up to {} s late, by chance; what is taken away is away for {} s. Seed {}.\n\n",
            c.nodes, c.replicas, c.proxy_lag_max_seconds, c.outage_seconds, c.seed
        );
        self.write_protocols(&mut text);
        self.write_faults(&mut text);
        self.write_rollouts(&mut text);
        self.write_losses(&mut text);
        let _ = writeln!(
            text,
            "\n{} of {} requests lost, in {} rollouts and {:.0} s",
            self.lost,
            self.requests,
            self.rollouts.len(),
            self.seconds
        );
        let _ = writeln!(
            text,
            "the proxies counted {} connections lost, and {} that were carried to a pod",
            self.proxies.lost, self.proxies.opened
        );
        if !self.valid {
            text.push_str("not valid: some requests were due and could not be sent, because too many were under way\n");
        }
        text
    }

    // Writing to a String cannot fail.
    fn write_protocols(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "{:<12} {:>8} {:>8} {:>6} {:>8} {:>6} {:>8} {:>9} {:>6} {:>9} {:>8} {:>8}",
            "PROTOCOL",
            "SENT",
            "OK",
            "LOST",
            "REFUSED",
            "RESET",
            "TIMEOUT",
            "HTTP-5XX",
            "OTHER",
            "REOPENED",
            "P50 MS",
            "P99 MS"
        );
        for mode in &self.protocols {
            let (counts, lost) = (&mode.counts, mode.counts.lost);
            let (p50, p99) = mode.latency.map_or((0.0, 0.0), |l| (l.p50_ms, l.p99_ms));
            let _ = writeln!(
                text,
                "{:<12} {:>8} {:>8} {:>6} {:>8} {:>6} {:>8} {:>9} {:>6} {:>9} {p50:>8.1} {p99:>8.1}",
                mode.mode,
                counts.sent,
                counts.ok,
                lost.total(),
                lost.refused,
                lost.reset,
                lost.timeout,
                lost.server_error,
                lost.other,
                counts.reopened,
            );
        }
    }

    fn write_faults(&self, text: &mut String) {
        let width = "operator killed before every 2nd write".len();
        let _ = writeln!(
            text,
            "\n{:<width$} {:>8} {:>8} {:>6}  BY PROTOCOL",
            "FAULT", "ROLLOUTS", "REQUESTS", "LOST"
        );
        for (fault, sum) in &self.faults {
            let lost = sum.lost_by_protocol.iter().filter(|(_, lost)| **lost > 0);
            let lost: Vec<String> = lost.map(|(mode, lost)| format!("{mode} {lost}")).collect();
            let _ = writeln!(
                text,
                "{:<width$} {:>8} {:>8} {:>6}  {}",
                fault.name(),
                sum.rollouts,
                sum.requests,
                sum.lost,
                if lost.is_empty() {
                    "-".to_owned()
                } else {
                    lost.join(", ")
                }
            );
        }
    }

    fn write_rollouts(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "\n{:<13} {:>7} {:>8} {:>6} {:>9} {:>8} {:>6}  FAULT",
            "ROLLOUT", "SECONDS", "REQUESTS", "LOST", "RESTARTED", "REPLACED", "KILLS"
        );
        for round in &self.rollouts {
            let _ = writeln!(
                text,
                "{:<13} {:>7.1} {:>8} {:>6} {:>9} {:>8} {:>6}  {}",
                round.motion.name(),
                round.seconds,
                round.requests.iter().sum::<u64>(),
                round.lost.iter().sum::<u64>(),
                round.restarted,
                round.replaced,
                round.operator_kills,
                round.fault.name()
            );
        }
    }

    fn write_losses(&self, text: &mut String) {
        for loss in self.losses.iter().take(SHOWN_MAX) {
            let remote = loss.remote.map(|remote| format!(" from {remote}")).unwrap_or_default();
            let _ = writeln!(
                text,
                "\n{:.3}  LOST {} {}: {}{remote}, due {:.3}",
                loss.time,
                loss.mode,
                loss.kind.name(),
                loss.detail,
                loss.due
            );
            for happening in &loss.around {
                let _ = writeln!(text, "    {happening}");
            }
        }
        if self.losses.len() > SHOWN_MAX {
            let _ = writeln!(text, "and {} more (--json has all)", self.losses.len() - SHOWN_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use afloat_probe::{Counts, Kind, LostByKind, Report};
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn round(fault: Fault, begin: i64) -> RoundReport {
        RoundReport {
            motion: Motion::InPlace,
            fault,
            begin: at(begin),
            end: at(begin + 10),
            seconds: 10.0,
            requests: vec![50, 50],
            lost: Vec::new(),
            restarted: 6,
            replaced: 0,
            operator_kills: 0,
        }
    }

    fn mode(mode: Mode, lost: u64) -> ModeReport {
        let lost = LostByKind {
            reset: lost,
            ..LostByKind::default()
        };
        let counts = Counts {
            sent: 100,
            ok: 100 - lost.total(),
            lost,
            ..Counts::default()
        };
        ModeReport {
            mode,
            rate: 10,
            counts,
            latency: None,
        }
    }

    fn outcome(due: Option<i64>) -> Outcome {
        let losses = due.map(|due| Loss {
            time: at(due + 3),
            due: at(due),
            mode: Mode::Tcp,
            kind: Kind::Reset,
            detail: "cut".into(),
            remote: None,
            around: vec!["pod web-1 Ready → False".into()],
        });
        let losses: Vec<Loss> = losses.into_iter().collect();
        let report = Report::new(vec![mode(Mode::Http, 0), mode(Mode::Tcp, losses.len() as u64)], losses);
        let conditions = Conditions {
            seed: 1,
            nodes: 3,
            replicas: 6,
            proxy_lag_max_seconds: 5.0,
            outage_seconds: 10.0,
        };
        let rounds = vec![round(Fault::None, 0), round(Fault::Agent, 10), round(Fault::None, 20)];
        Outcome::new(conditions, 30.0, report, Metered { opened: 9, lost: 1 }, rounds)
    }

    #[test]
    fn a_loss_belongs_to_the_fault_under_which_it_was_due() {
        let outcome = outcome(Some(19));
        assert!(!outcome.holds());
        assert_eq!(outcome.rollouts[1].lost, [0, 1]);
        assert_eq!(outcome.faults[&Fault::Agent].lost_by_protocol["tcp"], 1);
        assert_eq!(
            (outcome.faults[&Fault::None].lost, outcome.faults[&Fault::None].rollouts),
            (0, 2)
        );
        let text = outcome.text();
        assert!(text.contains("1 of 200 requests lost, in 3 rollouts"), "{text}");
        assert!(
            text.contains("LOST tcp reset: cut, due 1970-01-01T00:00:19.000Z\n    pod web-1 Ready → False"),
            "{text}"
        );
    }

    #[test]
    fn the_proxies_counts_of_one_service_are_put_together() {
        let endpoint = |refused: u64| {
            json!({"port": "web", "protocol": "TCP", "address": "10.244.1.2:8080", "routed": true, "opened": 10, "open": 1,
                "refused": refused, "reset": 2, "timedOut": 3, "failed": 4, "bytesToEndpoint": 0, "bytesFromEndpoint": 0})
        };
        let service = |name: &str, refused| json!({"namespace": "default", "name": name, "slices": {}, "endpoints": [endpoint(refused)]});
        let proxy = |refused| {
            let services = [service("web", refused), service("other", 100)];
            serde_json::from_value(json!({"node": "", "synced": true, "services": services})).unwrap()
        };
        let sum = Metered::of("web", &[proxy(1), proxy(5)]);
        assert_eq!(sum, Metered { opened: 20, lost: 24 });
    }

    #[test]
    fn it_holds_where_nothing_is_lost_and_all_was_sent() {
        let mut outcome = outcome(None);
        assert!(outcome.holds());
        outcome.valid = false;
        assert!(!outcome.holds());
        assert!(outcome.text().contains("not valid"));
    }
}
