//! What the demo prints in the end. Pure.

use std::fmt::Write as _;

use serde::Serialize;

use afloat_probe::Report as Probed;

/// Lost requests by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Lost {
    /// Nobody listened.
    pub(crate) refused: u64,
    /// The connection was cut before the answer was complete.
    pub(crate) reset: u64,
    /// No answer in time.
    pub(crate) timeout: u64,
    /// An answer that says that the server failed.
    #[serde(rename = "5xx")]
    pub(crate) server_error: u64,
    /// Another answer than the right one.
    pub(crate) other: u64,
    /// Never sent, because thousands were still waiting.
    pub(crate) overload: u64,
}

impl Lost {
    /// Of all modes of a run.
    pub(crate) fn of(report: &Probed) -> Self {
        report.modes.iter().fold(Self::default(), |sum, mode| {
            let lost = mode.counts.lost;
            Self {
                refused: sum.refused + lost.refused,
                reset: sum.reset + lost.reset,
                timeout: sum.timeout + lost.timeout,
                server_error: sum.server_error + lost.server_error,
                other: sum.other + lost.other,
                overload: sum.overload + mode.counts.skipped,
            }
        })
    }

    pub(crate) fn total(self) -> u64 {
        self.refused + self.reset + self.timeout + self.server_error + self.other + self.overload
    }
}

/// One strategy's result.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) strategy: &'static str,
    pub(crate) replicas: u32,
    /// From the change to all pods updated and Ready.
    pub(crate) update_seconds: f64,
    pub(crate) requests: u64,
    pub(crate) lost: u64,
    pub(crate) lost_by_kind: Lost,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) pods_kept: usize,
    pub(crate) ips_kept: usize,
    pub(crate) nodes_kept: usize,
    pub(crate) untouched_kept: usize,
    /// Writes of everybody to this application's objects, Events and Leases left out.
    pub(crate) writes_per_pod: f64,
    /// What the operator warned of.
    pub(crate) warnings: Vec<String>,
}

/// The cluster that they ran on.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ClusterFigures {
    pub(crate) nodes: u32,
    /// From the start of the command to all nodes Ready.
    pub(crate) boot_seconds: f64,
    /// Resident memory of afloat's own processes, idle after the boot.
    pub(crate) rss_mib: f64,
}

/// Everything, in the form that `--json` prints.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) cluster: ClusterFigures,
}

/// The conditions that the rows were measured under, for the sentence above the table.
pub(crate) struct Conditions {
    pub(crate) rate: u32,
    pub(crate) max_unavailable: String,
    pub(crate) proxy_lag: std::time::Duration,
    pub(crate) app_start: std::time::Duration,
    pub(crate) quiet_seconds: u32,
    /// The last node's proxy learns of nothing during a release.
    pub(crate) stuck: bool,
}

impl Report {
    /// A table for people.
    pub(crate) fn table(&self, conditions: &Conditions) -> String {
        let mut text = String::new();
        let c = &self.cluster;
        let _ = writeln!(
            text,
            "Cluster: {} nodes, Ready {:.2} s after the start, {:.0} MiB of memory when idle.",
            c.nodes, c.boot_seconds, c.rss_mib
        );
        let _ = writeln!(
            text,
            "Load: {} requests/s through a Service. Proxies learn of changes {:?} late; the app listens {:?} after its start; at most {} of the pods down at once.\n",
            conditions.rate, conditions.proxy_lag, conditions.app_start, conditions.max_unavailable
        );
        let mut lines = vec![HEADER.map(str::to_owned)];
        lines.extend(self.rows.iter().map(Row::cells));
        text.push_str(&aligned(&lines));
        let _ = write!(
            text,
            "\nlost by kind: {}\nkept: of the pods before the release, how many are still there with the same UID, IP, node, and how many\nsecond containers (a log collector that no release touched) ran on. Writes: to the API, by everybody, per pod.\ncloneset-inplace: a pod leaves its Service {} s before its container is stopped; cloneset-observed: as soon as all proxies have let go\nof it. The others sleep as long in preStop, except the naive one.\n",
            self.losses(),
            conditions.quiet_seconds
        );
        if conditions.stuck {
            text.push_str(
                "The last node's proxy learned of nothing during each release, and went on sending to all old pods.\n",
            );
        }
        for row in &self.rows {
            for warning in &row.warnings {
                let _ = writeln!(text, "{}: {warning}", row.strategy);
            }
        }
        if self
            .rows
            .iter()
            .any(|row| may_all_be_down(&conditions.max_unavailable, row.replicas))
        {
            text.push_str("All pods may be down at once: what was lost then was lost by --max-unavailable and --replicas, not by the strategy.\n");
        }
        text
    }

    fn losses(&self) -> String {
        let mut parts = Vec::new();
        for row in &self.rows {
            let kinds = [
                ("refused", row.lost_by_kind.refused),
                ("reset", row.lost_by_kind.reset),
                ("timeout", row.lost_by_kind.timeout),
                ("5xx", row.lost_by_kind.server_error),
                ("other", row.lost_by_kind.other),
                ("overload", row.lost_by_kind.overload),
            ];
            let kinds: Vec<String> = kinds
                .iter()
                .filter(|(_, n)| *n > 0)
                .map(|(kind, n)| format!("{n} {kind}"))
                .collect();
            if !kinds.is_empty() {
                parts.push(format!("{}: {}", row.strategy, kinds.join(", ")));
            }
        }
        if parts.is_empty() {
            "none".to_owned()
        } else {
            parts.join("; ")
        }
    }
}

/// Whether a budget lets nobody serve. Percentages are rounded up, as the CloneSet does without surge.
fn may_all_be_down(max_unavailable: &str, replicas: u32) -> bool {
    match max_unavailable.strip_suffix('%') {
        Some(percent) => percent
            .parse::<u32>()
            .is_ok_and(|p| (u64::from(p) * u64::from(replicas)).div_ceil(100) >= u64::from(replicas)),
        None => max_unavailable.parse::<u32>().is_ok_and(|n| n >= replicas),
    }
}

const HEADER: [&str; 11] = [
    "STRATEGY",
    "SECONDS",
    "REQUESTS",
    "LOST",
    "P50 MS",
    "P99 MS",
    "PODS KEPT",
    "IPS",
    "NODES",
    "UNTOUCHED",
    "WRITES/POD",
];

impl Row {
    fn cells(&self) -> [String; 11] {
        let of = |n: usize| format!("{n}/{}", self.replicas);
        [
            self.strategy.to_owned(),
            format!("{:.1}", self.update_seconds),
            self.requests.to_string(),
            self.lost.to_string(),
            format!("{:.1}", self.p50_ms),
            format!("{:.1}", self.p99_ms),
            of(self.pods_kept),
            of(self.ips_kept),
            of(self.nodes_kept),
            of(self.untouched_kept),
            format!("{:.1}", self.writes_per_pod),
        ]
    }
}

/// The first column to the left, the others to the right.
fn aligned(lines: &[[String; 11]]) -> String {
    let mut widths = [0; 11];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.len());
        }
    }
    let mut text = String::new();
    for line in lines {
        let _ = write!(text, "{:<1$}", line[0], widths[0]);
        for (cell, width) in line.iter().zip(widths).skip(1) {
            let _ = write!(text, "  {cell:>width$}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Report {
        let row = Row {
            strategy: "deployment-naive",
            replicas: 4,
            update_seconds: 2.34,
            requests: 1000,
            lost: 7,
            lost_by_kind: Lost {
                refused: 5,
                reset: 2,
                ..Lost::default()
            },
            p50_ms: 0.5,
            p99_ms: 3.25,
            pods_kept: 0,
            ips_kept: 1,
            nodes_kept: 0,
            untouched_kept: 0,
            writes_per_pod: 12.5,
            warnings: vec!["DrainLimit: pod a".into()],
        };
        Report {
            rows: vec![row],
            cluster: ClusterFigures {
                nodes: 3,
                boot_seconds: 0.8,
                rss_mib: 42.0,
            },
        }
    }

    #[test]
    fn the_json_has_the_promised_keys() {
        let value = serde_json::to_value(report()).unwrap();
        for key in [
            "strategy",
            "replicas",
            "update_seconds",
            "requests",
            "lost",
            "p50_ms",
            "p99_ms",
            "pods_kept",
            "ips_kept",
            "untouched_kept",
            "writes_per_pod",
            "warnings",
        ] {
            assert!(value["rows"][0].get(key).is_some(), "{key}");
        }
        assert_eq!(
            value["cluster"],
            json!({"nodes": 3, "boot_seconds": 0.8, "rss_mib": 42.0})
        );
    }

    #[test]
    fn a_budget_of_all_pods_is_recognised() {
        for (budget, replicas, all) in [
            ("50%", 1, true),
            ("50%", 2, false),
            ("100%", 4, true),
            ("3", 4, false),
            ("4", 4, true),
        ] {
            assert_eq!(may_all_be_down(budget, replicas), all, "{budget} of {replicas}");
        }
    }

    #[test]
    fn the_table_lines_up_and_names_the_losses() {
        let conditions = Conditions {
            rate: 200,
            max_unavailable: "50%".into(),
            proxy_lag: std::time::Duration::from_millis(500),
            app_start: std::time::Duration::from_secs(1),
            quiet_seconds: 2,
            stuck: true,
        };
        let text = report().table(&conditions);
        assert!(text.contains("\ndeployment-naive: DrainLimit: pod a\n"), "{text}");
        assert!(text.contains("deployment-naive: 5 refused, 2 reset"), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        let header = lines.iter().position(|l| l.starts_with("STRATEGY")).unwrap();
        assert_eq!(lines[header].len(), lines[header + 1].len());
    }
}
