//! The result as a table.

use std::fmt::Write as _;

use afloat_api::CloneSet;
use k8s_openapi::Resource as _;

use super::phases::{Outcome, Phase};

/// What OpenKruise's manager needed, measured once, elsewhere: kube-apiserver 1.32.10, a machine with 2 cores, simulated
/// nodes whose containers take 0.5 s to start, two containers a pod, in place, its client's rate limits out of the way.
struct Reference {
    pods: u32,
    max_unavailable: &'static str,
    create_seconds: f64,
    create_cpu: f64,
    update_seconds: f64,
    update_cpu: f64,
    rss_mib: f64,
    writes_created: f64,
    /// With conflicts; not known for the larger one.
    writes_updated: Option<f64>,
}

const REFERENCES: [Reference; 2] = [
    Reference {
        pods: 1000,
        max_unavailable: "20%",
        create_seconds: 52.0,
        create_cpu: 12.8,
        update_seconds: 77.0,
        update_cpu: 15.5,
        rss_mib: 135.0,
        writes_created: 4.0,
        writes_updated: Some(4.46),
    },
    Reference {
        pods: 4000,
        max_unavailable: "50%",
        create_seconds: 247.0,
        create_cpu: 53.8,
        update_seconds: 336.0,
        update_cpu: 59.9,
        rss_mib: 244.0,
        writes_created: 4.0,
        writes_updated: None,
    },
];

/// The figures that may be compared with: only where the set-up is the same.
fn reference(outcome: &Outcome) -> Option<&'static Reference> {
    let real = !outcome.embedded && !outcome.server.contains("+afloat");
    REFERENCES.iter().find(|reference| {
        // Its nodes said as little as possible about bare pods.
        real && !outcome.real_pods
            && !outcome.each_step
            && outcome.kind == CloneSet::KIND
            && outcome.sets == 1
            && outcome.container_start_ms == 500
            && outcome.pods == reference.pods
            && outcome.max_unavailable == reference.max_unavailable
    })
}

/// The table that is printed.
pub(super) fn table(outcome: &Outcome) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} {} pods in {} {}(s), {} containers each, {}, maxUnavailable {}, a container starts in {} ms, Kubernetes {}{}\n",
        outcome.pods,
        if outcome.real_pods { "real" } else { "bare" },
        outcome.sets,
        outcome.kind,
        outcome.containers_per_pod,
        if outcome.each_step {
            "a status for each step"
        } else {
            "few statuses"
        },
        outcome.max_unavailable,
        outcome.container_start_ms,
        outcome.server,
        if outcome.embedded { " (started for this)" } else { "" }
    );
    let _ = writeln!(
        text,
        "{:<14}{:>8}{:>9}{:>12}{:>12}{:>11}{:>11}{:>11}{:>10}{:>9}{:>11}{:>8}",
        "phase",
        "pods",
        "seconds",
        "operator",
        "CPU ms per",
        "API server",
        "simulated",
        "RSS MiB",
        "writes",
        "per pod",
        "conflicts",
        "failed"
    );
    let _ = writeln!(
        text,
        "{:<14}{:>8}{:>9}{:>12}{:>12}{:>11}{:>11}{:>11}{:>10}{:>9}{:>11}{:>8}",
        "", "changed", "", "CPU s", "pod changed", "CPU s", "nodes CPU s", "(operator)", "to pods", "", "", ""
    );
    for phase in &outcome.phases {
        text.push_str(&row(phase));
    }
    let _ = writeln!(text, "\nOperator's writes by reason:");
    for phase in &outcome.phases {
        let list: Vec<String> = phase
            .writes
            .iter()
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        let list = if list.is_empty() {
            "none".to_owned()
        } else {
            list.join(", ")
        };
        let _ = writeln!(text, "  {:<14}{list}", phase.name);
    }
    if let Some(idle) = outcome.phases.iter().find(|phase| phase.name == "idle") {
        let _ = writeln!(text, "\nIdle: {:.2} % of a core.", idle.cpu_percent);
    }
    let _ = writeln!(
        text,
        "Operator's peak memory: {:.1} MiB. Events recorded: {}.",
        outcome.operator_peak_rss_mib, outcome.events
    );
    if let Some(reference) = reference(outcome) {
        text.push_str(&compare(outcome, reference));
    }
    text
}

/// The figures of a phase.
fn row(phase: &Phase) -> String {
    format!(
        "{:<14}{:>8}{:>9.2}{:>12.3}{:>12}{:>11}{:>11.2}{:>11.1}{:>10}{:>9}{:>11}{:>8}\n",
        phase.name,
        phase.changed,
        phase.seconds,
        phase.operator_cpu_seconds,
        or_dash(phase.cpu_ms_per_pod, 3),
        or_dash(phase.server_cpu_seconds, 2),
        phase.fleet_cpu_seconds,
        phase.operator_rss_mib,
        phase.pod_writes,
        or_dash(phase.writes_per_pod, 2),
        phase.conflicts,
        phase.failed,
    )
}

fn or_dash(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn compare(outcome: &Outcome, reference: &Reference) -> String {
    let phase = |name: &str| outcome.phases.iter().find(|phase| phase.name == name);
    let (Some(create), Some(update)) = (phase("create"), phase("update")) else {
        return String::new();
    };
    let mut text = format!(
        "\nBeside OpenKruise's manager, measured elsewhere (not in this run): another machine of 2 cores, kube-apiserver \
         1.32.10, {} pods, the same set-up.\n{:<28}{:>10}{:>12}{:>10}\n",
        reference.pods, "", "here", "OpenKruise", "ratio"
    );
    let mut row = |what: &str, here: f64, there: f64| {
        let ratio = if here > 0.0 {
            format!("{:.1}x", there / here)
        } else {
            "-".to_owned()
        };
        let _ = writeln!(text, "{what:<28}{here:>10.2}{there:>12.2}{ratio:>10}");
    };
    row("create, seconds", create.seconds, reference.create_seconds);
    row("create, CPU s", create.operator_cpu_seconds, reference.create_cpu);
    row("update, seconds", update.seconds, reference.update_seconds);
    row("update, CPU s", update.operator_cpu_seconds, reference.update_cpu);
    row("RSS MiB after the update", update.operator_rss_mib, reference.rss_mib);
    let per_pod = |phase: &Phase| phase.writes_per_pod.unwrap_or(0.0);
    row("writes per pod created", per_pod(create), reference.writes_created);
    if let Some(there) = reference.writes_updated {
        row("writes per pod updated", per_pod(update), there);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(server: &str, pods: u32) -> Outcome {
        let phase = |name: &str| Phase {
            name: name.into(),
            changed: pods,
            seconds: 10.0,
            operator_cpu_seconds: 1.0,
            server_cpu_seconds: None,
            fleet_cpu_seconds: 1.0,
            operator_rss_mib: 20.0,
            writes: [("drain".to_owned(), 5)].into(),
            pod_writes: 5,
            writes_per_pod: Some(2.0),
            cpu_ms_per_pod: Some(1.0),
            cpu_percent: 10.0,
            conflicts: 0,
            failed: 0,
        };
        Outcome {
            server: server.into(),
            embedded: false,
            pods,
            kind: CloneSet::KIND,
            sets: 1,
            containers_per_pod: 2,
            max_unavailable: "20%".into(),
            container_start_ms: 500,
            real_pods: false,
            each_step: false,
            phases: vec![phase("create"), phase("update")],
            operator_peak_rss_mib: 25.0,
            events: 0,
        }
    }

    #[test]
    fn only_the_same_setup_is_compared() {
        let same = table(&outcome("v1.32.10", 1000));
        assert!(same.contains("measured elsewhere"), "{same}");
        assert!(same.contains("5.2x") && same.contains("12.8x"), "{same}");
        assert!(!table(&outcome("v1.32.10", 999)).contains("OpenKruise"));
        assert!(!table(&outcome("v1.33.0+afloat", 1000)).contains("OpenKruise"));
    }
}
