//! A rollout as text.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use afloat_api::{InPlaceUpdateState, Lost, NodeTraffic, RolloutReport, Status as _, Step, Steps, names, seconds};
use afloat_rollout::pod::same_revision;
use afloat_rollout::workload::kind::Workload;
use afloat_words::owner::controller_of;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

/// What there is.
pub(super) struct Seen<W> {
    pub(super) set: Arc<W>,
    /// Those that the selector finds, whose ever they are.
    pub(super) pods: Vec<Arc<Pod>>,
    /// Nodes that are Ready.
    pub(super) nodes: BTreeSet<String>,
    pub(super) traffic: Vec<Arc<NodeTraffic>>,
    /// Of all workloads.
    pub(super) reports: Vec<Arc<RolloutReport>>,
}

impl<W: Workload> Seen<W> {
    /// That of the wanted revision.
    pub(super) fn report(&self) -> Option<&RolloutReport> {
        let uid = self.set.metadata().uid.as_deref();
        let wanted = self.set.status().update_revision();
        let ours = self.reports.iter().map(Arc::as_ref).filter(|report| {
            let owner = controller_of(&report.metadata);
            owner.map(|owner| owner.uid.as_str()) == uid && same_revision(wanted, &report.status.revision)
        });
        ours.max_by_key(|report| report.status.started_at.as_ref().map(|at| at.0))
    }

    fn message(&self) -> Option<&str> {
        let status = self.set.status();
        let exceeded = status.condition(names::LOSS_EXCEEDED).filter(|it| it.status == "True");
        // Where nobody of us has been yet, there is OpenKruise's word.
        let rollout = status
            .condition(names::ROLLOUT)
            .or(status.condition(names::PROGRESSING));
        exceeded.or(rollout).map(|condition| condition.message.as_str())
    }

    fn losses(&self) -> String {
        match self.report() {
            None => "no rollout".into(),
            Some(report) => match report.status.lost {
                None => "losses are not counted (no agent reports)".into(),
                Some(0) => format!("{} connections, 0 lost", self.connections(report)),
                Some(lost) => {
                    let Lost {
                        refused,
                        reset,
                        timed_out,
                    } = report.status.kinds;
                    let connections = self.connections(report);
                    format!(
                        "{connections} connections, {lost} lost ({refused} refused, {reset} reset, {timed_out} timed out)"
                    )
                }
            },
        }
    }

    /// Connections since the rollout began, by what the proxies say now: reports are not written for them alone.
    fn connections(&self, report: &RolloutReport) -> u64 {
        if report.status.phase.ended() {
            return report.status.connections;
        }
        let namespace = self.set.metadata().namespace.as_deref().unwrap_or_default();
        let mut connections = report.status.connections;
        for counter in &report.status.services {
            let node = self
                .traffic
                .iter()
                .find(|node| node.metadata.name.as_ref() == Some(&counter.node));
            let now = node.and_then(|node| node.status.services.get(&format!("{namespace}/{}", counter.service)));
            connections += now.map_or(0, |now| now.checked_sub(counter.seen).unwrap_or(*now));
        }
        connections
    }
}

/// The rollout in one line, without anything that changes by itself.
pub(super) fn line<W: Workload>(seen: &Seen<W>) -> String {
    let figures = seen.set.figures();
    let phase = seen.report().map_or("-", |report| report.status.phase.as_str());
    format!(
        "{phase}: {} of {} updated, {} available; {}; {}",
        figures.updated,
        figures.expected,
        figures.available,
        seen.losses(),
        seen.message().unwrap_or_default()
    )
}

/// The rollout, and pod by pod `most` of them.
pub(super) fn picture<W: Workload>(seen: &Seen<W>, now: Timestamp, most: usize) -> String {
    let set = &seen.set;
    let name = set.metadata().name.as_deref().unwrap_or_default();
    let mut out = format!("{} {name}, revision {}", W::KIND, set.status().update_revision());
    if let Some(report) = seen.report() {
        let status = &report.status;
        if !status.from.is_empty() {
            out += &format!(" (from {})", status.from);
        }
        let since = status.started_at.as_ref().map(|at| now.duration_since(at.0));
        let lasts = match since {
            _ if !status.duration.is_empty() => status.duration.clone(),
            Some(since) => seconds(since),
            None => String::new(),
        };
        out += &format!(": {} {lasts}", status.phase.as_str());
    }
    let figures = set.figures();
    out += &format!(
        "\n{} of {} updated, {} of {} available; {}\n{}\n\n",
        figures.updated,
        figures.expected,
        figures.available,
        figures.total,
        seen.losses(),
        seen.message().unwrap_or_default()
    );
    if let Some(told) = seen.report().and_then(|report| steps(&report.status.steps)) {
        out.insert_str(out.trim_end().len(), &format!("\n{told}"));
    }
    let mut rows: Vec<Row> = seen.pods.iter().map(|pod| row(seen, pod, now)).collect();
    // Those that something is happening to come first.
    rows.sort_by(|a, b| (a.quiet, &a.pod).cmp(&(b.quiet, &b.pod)));
    let heads = [
        "POD",
        "NODE",
        "REVISION",
        "STATE",
        "SENT BY",
        "OPEN",
        "CONNECTIONS",
        "REFUSED",
        "RESET",
        "TIMED OUT",
    ];
    let cells: Vec<[String; 10]> = rows.iter().take(most).map(Row::cells).collect();
    let mut widths = heads.map(str::len);
    for cells in &cells {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut print = |cells: &[String; 10]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        out += padded.collect::<Vec<_>>().join("  ").trim_end();
        out.push('\n');
    };
    print(&heads.map(str::to_owned));
    cells.iter().for_each(&mut print);
    if rows.len() > most {
        out += &format!("and {} more\n", rows.len() - most);
    }
    out
}

/// Where the time of the pods went, in the order in which it went; None while nothing was measured.
fn steps(steps: &Steps) -> Option<String> {
    let all = [
        ("drain", &steps.drain),
        ("replace", &steps.replace),
        ("return", &steps.back),
    ];
    let measured = all.iter().filter(|(_, step)| step.pods > 0);
    let told = measured.map(|(name, Step { pods, mean, max })| format!("{name} {mean} (at most {max}, {pods} pods)"));
    let told = told.collect::<Vec<_>>().join(", ");
    (!told.is_empty()).then(|| format!("each pod: {told}"))
}

/// Since when a pod is where it is on its way: out of service, changed, back.
fn since(pod: &Pod, state: &str) -> Option<Timestamp> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let gate = conditions.and_then(|all| all.iter().find(|condition| condition.type_ == names::INPLACE_READY));
    let turned = || gate?.last_transition_time.as_ref().map(|at| at.0);
    match state {
        "Draining" => turned(),
        "Updating" => {
            let annotations = pod.metadata.annotations.as_ref()?;
            let state: InPlaceUpdateState = serde_json::from_str(annotations.get(names::INPLACE_STATE)?).ok()?;
            state.update_timestamp.parse().ok()
        }
        "Starting" => turned().or_else(|| pod.metadata.creation_timestamp.as_ref().map(|at| at.0)),
        _ => None,
    }
}

struct Row {
    pod: String,
    node: String,
    revision: String,
    state: &'static str,
    /// How long it is in that state, where that is a step of an update.
    lasts: Option<String>,
    /// Nodes that send to it of all that tell; None where nobody tells anything of it.
    sent: Option<(usize, usize)>,
    open: u64,
    connections: Option<u64>,
    lost: Lost,
    quiet: bool,
}

impl Row {
    fn cells(&self) -> [String; 10] {
        let dash = || "-".to_owned();
        [
            self.pod.clone(),
            self.node.clone(),
            self.revision.clone(),
            self.lasts
                .as_ref()
                .map_or_else(|| self.state.to_owned(), |time| format!("{} {time}", self.state)),
            self.sent.map_or_else(dash, |(sent, nodes)| format!("{sent}/{nodes}")),
            self.open.to_string(),
            self.connections.map_or_else(dash, |count| count.to_string()),
            self.lost.refused.to_string(),
            self.lost.reset.to_string(),
            self.lost.timed_out.to_string(),
        ]
    }
}

fn row<W: Workload>(seen: &Seen<W>, pod: &Pod, now: Timestamp) -> Row {
    let meta = &pod.metadata;
    let uid = meta.uid.as_deref().unwrap_or_default();
    let label = |key: &str| {
        meta.labels
            .iter()
            .flatten()
            .find(|(known, _)| *known == key)
            .map(|(_, value)| value.as_str())
    };
    let conditions: BTreeMap<&str, &str> = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .map(|condition| (condition.type_.as_str(), condition.status.as_str()))
        .collect();
    let ready = conditions.get("Ready") == Some(&"True");
    let gate = conditions.get(names::INPLACE_READY);
    let revision = label(names::REVISION).unwrap_or_default();
    let updated = same_revision(revision, seen.set.status().update_revision());
    let state = match (meta.deletion_timestamp.is_some(), gate, updated, ready) {
        (true, ..) => "Leaving",
        (_, Some(&"False"), false, _) => "Draining",
        (_, Some(&"False"), true, _) => "Updating",
        (_, _, _, true) => "Serving",
        _ => "Starting",
    };
    let told: Vec<_> = seen
        .traffic
        .iter()
        .filter(|node| {
            node.metadata
                .name
                .as_ref()
                .is_some_and(|name| seen.nodes.contains(name))
        })
        .filter_map(|node| node.status.pods.get(uid))
        .collect();
    let mut lost = Lost::default();
    let counters = seen.report().into_iter().flat_map(|report| &report.status.counters);
    for counter in counters.filter(|counter| counter.uid == uid) {
        lost = lost.plus(&counter.lost);
    }
    Row {
        pod: meta.name.clone().unwrap_or_default(),
        node: pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .unwrap_or_else(|| "-".into()),
        revision: revision.rsplit('-').next().unwrap_or_default().to_owned(),
        state,
        lasts: since(pod, state).map(|at| seconds(now.duration_since(at))),
        sent: (!told.is_empty()).then(|| (told.iter().filter(|pod| pod.routed).count(), told.len())),
        open: told.iter().filter_map(|pod| pod.open).sum(),
        connections: told.iter().filter_map(|pod| pod.opened).reduce(|a, b| a + b),
        lost,
        quiet: state == "Serving" && lost.total() == 0,
    }
}
