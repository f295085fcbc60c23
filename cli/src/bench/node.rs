//! `afloat bench node`: what the node agent costs, with real containers on nodes of this machine.
//!
//! Pods are created, given another image and deleted, all at once; how long each took is what a watch shows. The
//! time of each verb of the runtime is taken between the agent and the runtime. At the end it is counted what is left
//! of them: mounts, network devices, processes, descriptors, control groups.

mod alone;
mod left;
mod phase;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use afloat_cluster::ClusterOptions;
use afloat_cluster::layout::{self, Inherited};
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde::{Deserialize, Serialize};

use super::timed::{Timed, Verb, Verbs};
use crate::embedded;
use crate::options::parse_duration;
use crate::output;
use crate::process::inner::{Role, run_apart, whole};
use crate::process::memory;
use crate::process::signals::Stop;
use left::Left;
use phase::{IMAGES, Move, Phase};

/// How long the boot may take.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// How long what is being taken away may take, after the last pod is gone.
const LEAVING_LIMIT: Duration = Duration::from_secs(20);
/// Pods and containers that are taken one after another.
const ROUNDS: u32 = 50;
/// Where the pods are.
const NAMESPACE: &str = "default";

/// `afloat bench node`
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BenchNodeOptions {
    /// Pods, of one container each
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub(crate) pods: u32,
    /// Nodes that share them; a node has addresses for 250 pods and room for 110
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub(crate) nodes: u32,
    /// Limit for each phase
    #[arg(long, default_value = "10m", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// OCI runtime program to use instead of the built-in one, for example runc
    #[arg(long, value_name = "PATH")]
    pub(crate) oci_runtime: Option<PathBuf>,
}

/// In the outer process, single-threaded.
pub(super) fn bench_node(options: &BenchNodeOptions) -> anyhow::Result<i32> {
    run_apart(options)
}

impl Role for BenchNodeOptions {
    const NAME: &'static str = "bench-node";

    async fn run_inside(self, inherited: Inherited, stop: Stop) -> anyhow::Result<i32> {
        whole(inherited.restarts, stop, measure_nodes(self, &inherited)).await
    }
}

/// Everything that was measured; seconds, MiB.
#[derive(Serialize)]
struct Outcome {
    pods: u32,
    nodes: u32,
    boot_seconds: f64,
    phases: Vec<Phase>,
    /// Pods that were started one after another, until each was Ready.
    one_by_one: Verb,
    /// A container by an OCI runtime alone (made, begun, forgotten), by the runtime's name: ours and those that are installed.
    alone: BTreeMap<String, Verb>,
    /// Of all of afloat's own processes, before the first pod and with all of them running.
    rss_mib: [f64; 2],
    /// What each pod adds, KiB.
    kib_per_pod: f64,
    /// Before the first pod and after the last.
    before: Left,
    after: Left,
}

async fn measure_nodes(options: BenchNodeOptions, inherited: &Inherited) -> anyhow::Result<i32> {
    let verbs = Arc::new(Verbs::default());
    let wrap = verbs.clone();
    let cluster = embedded::start_without_operator(ClusterOptions {
        oci_runtime: options.oci_runtime.clone(),
        wrap: Some(Arc::new(move |runtime| Timed::around(runtime, wrap.clone()))),
        ..ClusterOptions::inside(options.nodes, inherited)
    })
    .await?;
    cluster.wait_ready(BOOT_LIMIT).await?;
    let boot_seconds = layout::since_start().as_secs_f64();
    embedded::build_app_images(&cluster, &IMAGES).await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client("afloat-bench"), NAMESPACE);

    // Some on every node first: what is made once and kept (folders, opened files) is no leak.
    for step in [Move::Create, Move::Update, Move::Delete] {
        phase::take_all(step, &pods, 2 * options.nodes, options.timeout, &verbs).await?;
    }
    let before = settled(&pods, &inherited.data_dir, None).await?;
    memory::give_back_now().await;
    let mut rss_mib = [layout::rss_mib(), 0.0];
    let mut phases = Vec::new();
    for step in [Move::Create, Move::Update, Move::Delete] {
        eprintln!("afloat: {} {} pods", step.name(), options.pods);
        phases.push(phase::take_all(step, &pods, options.pods, options.timeout, &verbs).await?);
        if step == Move::Create {
            memory::give_back_now().await;
            rss_mib[1] = layout::rss_mib();
        }
    }
    let one_by_one = phase::one_by_one(&pods, ROUNDS, options.timeout, &verbs).await?;
    let after = settled(&pods, &inherited.data_dir, Some(before)).await?;
    cluster.stop().await;
    let alone = alone::measure(&inherited.data_dir, IMAGES[0].0, ROUNDS).await?;
    let outcome = Outcome {
        pods: options.pods,
        nodes: options.nodes,
        boot_seconds,
        phases,
        one_by_one,
        alone,
        kib_per_pod: (rss_mib[1] - rss_mib[0]) * 1024.0 / f64::from(options.pods),
        rss_mib,
        before,
        after,
    };
    if options.json {
        output::print(&format!("{}\n", serde_json::to_string_pretty(&outcome)?))?;
    } else {
        output::print(&table(&outcome))?;
    }
    if after.exceeds(&before) {
        eprintln!("afloat: something of the pods was left behind");
        return Ok(1);
    }
    Ok(0)
}

/// Counts until nothing more than before is there, or for as long as that may take.
async fn settled(pods: &Api<Pod>, data_dir: &std::path::Path, before: Option<Left>) -> anyhow::Result<Left> {
    let deadline = tokio::time::Instant::now() + LEAVING_LIMIT;
    let mut last = Left::count(pods.clone(), data_dir).await?;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = Left::count(pods.clone(), data_dir).await?;
        let done = before.map_or(now == last, |before| !now.exceeds(&before));
        if done || tokio::time::Instant::now() >= deadline {
            return Ok(now);
        }
        last = now;
    }
}

fn table(outcome: &Outcome) -> String {
    let mut text = format!(
        "{} pods on {} nodes, Ready {:.2} s after the start\n\n{:<10}{:>9}{:>9}{:>10}{:>10}{:>10}  runtime, ms p50/p99\n",
        outcome.pods, outcome.nodes, outcome.boot_seconds, "phase", "seconds", "pods/s", "p50 s", "p99 s", "max s"
    );
    for phase in &outcome.phases {
        let verbs = phase
            .verbs
            .iter()
            .map(|(name, verb)| format!("{name} {:.0}/{:.0}", verb.p50_ms, verb.p99_ms));
        let _ = writeln!(
            text,
            "{:<10}{:>9.2}{:>9.1}{:>10.2}{:>10.2}{:>10.2}  {}",
            phase.name,
            phase.seconds,
            phase.pods_per_second,
            phase.p50_seconds,
            phase.p99_seconds,
            phase.max_seconds,
            verbs.collect::<Vec<_>>().join(", ")
        );
    }
    let figures = |verb: &Verb| format!("{:.0}/{:.0} ms", verb.p50_ms, verb.p99_ms);
    let _ = writeln!(
        text,
        "\n{} pods one after another, each until Ready, p50/p99: {}.",
        outcome.one_by_one.calls,
        figures(&outcome.one_by_one)
    );
    let alone: Vec<String> = outcome
        .alone
        .iter()
        .map(|(name, verb)| format!("{name} {}", figures(verb)))
        .collect();
    let _ = writeln!(
        text,
        "A container by the OCI runtime alone, the same for each: {}.",
        alone.join(", ")
    );
    let _ = writeln!(
        text,
        "Memory of afloat's own processes: {:.1} MiB before, {:.1} MiB with all pods, {:.0} KiB a pod.",
        outcome.rss_mib[0], outcome.rss_mib[1], outcome.kib_per_pod
    );
    let _ = writeln!(
        text,
        "Left behind, before and after: {} / {}",
        outcome.before, outcome.after
    );
    text
}
