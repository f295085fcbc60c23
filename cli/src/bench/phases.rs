//! What is done and measured, one phase after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use afloat_api::Figures;
use afloat_watching::feed::{Pauses, events};
use anyhow::Context as _;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{Config, Event};
use serde::Serialize;
use serde_json::{Value, json};

use super::options::{BenchOperatorOptions, KubeletStatuses};
use super::scrape::Writes;
use super::template::{PodForm, containers};
use super::{cluster, figures, scrape};

/// Reasons of writes that are about a workload, not about one of its pods.
const OF_THE_SET: [&str; 4] = ["status", "revision", "prune", "report"];
/// Nothing is written for that long: the work is done.
const QUIET: Duration = Duration::from_secs(2);
/// How long the operator may take to come to rest.
const QUIET_LIMIT: Duration = Duration::from_secs(60);

/// What measures.
pub(super) struct Bench<'a> {
    pub(super) options: &'a BenchOperatorOptions,
    pub(super) client: Client,
    pub(super) namespace: String,
    /// The operator's metrics.
    pub(super) address: SocketAddr,
    /// The operator's process.
    pub(super) operator: u32,
    /// The API server's, if it is ours.
    pub(super) server: Option<u32>,
}

/// Everything that was found out.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// The API server's version.
    pub(super) server: String,
    /// It was started for this.
    pub(super) embedded: bool,
    pub(super) pods: u32,
    pub(super) kind: &'static str,
    pub(super) sets: u32,
    pub(super) containers_per_pod: u32,
    pub(super) max_unavailable: String,
    pub(super) container_start_ms: u64,
    /// Pods as in real clusters, not bare ones.
    pub(super) real_pods: bool,
    /// A status for each step, as kubelets write them.
    pub(super) each_step: bool,
    pub(super) phases: Vec<Phase>,
    /// Of the whole run.
    pub(super) operator_peak_rss_mib: f64,
    /// Events that are there at the end; they are writes, too, one per pod created or updated at most.
    pub(super) events: u64,
}

/// One phase.
#[derive(Debug, Serialize)]
pub(super) struct Phase {
    pub(super) name: String,
    /// Pods that were created or changed.
    pub(super) changed: u32,
    pub(super) seconds: f64,
    pub(super) operator_cpu_seconds: f64,
    /// None where the API server is not ours.
    pub(super) server_cpu_seconds: Option<f64>,
    /// The simulated nodes, and the measuring.
    pub(super) fleet_cpu_seconds: f64,
    /// At the end of the phase.
    pub(super) operator_rss_mib: f64,
    /// The operator's writes that took effect, by reason.
    pub(super) writes: BTreeMap<String, u64>,
    /// Those about pods.
    pub(super) pod_writes: u64,
    pub(super) writes_per_pod: Option<f64>,
    pub(super) cpu_ms_per_pod: Option<f64>,
    pub(super) cpu_percent: f64,
    /// Writes that met a changed object.
    pub(super) conflicts: u64,
    /// Writes that were refused or got no answer.
    pub(super) failed: u64,
}

/// The figures at one moment.
struct Moment {
    at: Instant,
    operator: Duration,
    server: Option<Duration>,
    fleet: Duration,
    writes: Writes,
}

impl Bench<'_> {
    /// All phases.
    pub(super) async fn measure(&self, version: &str) -> anyhow::Result<Outcome> {
        let options = self.options;
        let mut phases = Vec::new();
        let sizes = sizes(options.pods, options.sets);
        eprintln!("afloat: {} pods on Kubernetes {version}", options.pods);

        let before = self.moment().await?;
        for (number, size) in sizes.iter().enumerate() {
            let set = cluster::set(&name(number), &self.namespace, *size, options);
            let api = self.sets();
            api.create(&PostParams::default(), &serde_json::from_str(&set.to_string())?)
                .await
                .with_context(|| format!("cannot create a {}", options.kind.kind))?;
        }
        self.until(|index, set| ready(set) >= sizes[index]).await?;
        phases.push(self.phase("create", options.pods, before).await?);

        let before = self.moment().await?;
        self.patch(&sizes, |_| "app:2", |_| 0).await?;
        self.until(|index, set| updated(set) >= sizes[index] && ready(set) >= sizes[index])
            .await?;
        phases.push(self.phase("update", options.pods, before).await?);

        self.quiet().await?;
        let before = self.moment().await?;
        tokio::time::sleep(options.idle).await;
        phases.push(self.phase("idle", 0, before).await?);

        let mut done = 0;
        for part in parts(options) {
            let before = self.moment().await?;
            done += part;
            self.patch(
                &sizes,
                |index| if index == 0 { "app:3" } else { "app:2" },
                |index| {
                    if index == 0 { sizes[0].saturating_sub(done) } else { 0 }
                },
            )
            .await?;
            self.until(|index, set| index > 0 || (updated(set) >= done && ready(set) >= sizes[0]))
                .await?;
            phases.push(self.phase(&format!("update {part}"), part, before).await?);
            self.quiet().await?;
        }
        Ok(Outcome {
            server: version.to_owned(),
            embedded: self.server.is_some(),
            pods: options.pods,
            kind: options.kind.kind,
            sets: options.sets,
            containers_per_pod: 2,
            max_unavailable: options.max_unavailable.clone(),
            container_start_ms: u64::try_from(options.container_start.as_millis()).unwrap_or(u64::MAX),
            real_pods: options.pod_form == PodForm::Real,
            each_step: options.statuses == KubeletStatuses::Each,
            phases,
            operator_peak_rss_mib: figures::memory_mib(self.operator).1,
            events: self.events().await?,
        })
    }

    fn sets(&self) -> Api<DynamicObject> {
        let options = self.options;
        cluster::sets(&self.client, &self.namespace, options.kind, options.api_version)
    }

    async fn patch(
        &self,
        sizes: &[u32],
        image: impl Fn(usize) -> &'static str,
        partition: impl Fn(usize) -> u32,
    ) -> anyhow::Result<()> {
        let api = self.sets();
        for index in 0..sizes.len() {
            let kept = json!({"partition": partition(index)});
            let strategy = self.options.kind.strategy(self.options.api_version, &kept);
            let patch = json!({"spec": {
                "template": {"spec": {"containers": containers(self.options.pod_form, image(index))}},
                "updateStrategy": strategy,
            }});
            api.patch(&name(index), &PatchParams::default(), &Patch::Merge(patch))
                .await
                .with_context(|| format!("cannot change a {}", self.options.kind.kind))?;
        }
        Ok(())
    }

    /// Waits until every set passes, with a status that speaks of its present spec.
    async fn until(&self, pass: impl Fn(usize, &Figures) -> bool) -> anyhow::Result<()> {
        let api = self.sets();
        let mut open: BTreeSet<usize> = (0..self.options.sets as usize).collect();
        let mut last = Value::Null;
        let wait = async {
            let mut sets = events(api, Config::default(), Pauses::Quick).boxed();
            while !open.is_empty() {
                let Some(Event::Apply(set) | Event::InitApply(set)) = sets.next().await else {
                    continue;
                };
                let Some(index) = index(&set) else { continue };
                let set = serde_json::to_value(&set)?;
                last = set["status"].clone();
                if self
                    .options
                    .kind
                    .figures(set)
                    .is_some_and(|figures| pass(index, &figures))
                {
                    open.remove(&index);
                }
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(self.options.timeout, wait).await {
            Ok(result) => result,
            Err(_) => anyhow::bail!("not done within {} s: {last}", self.options.timeout.as_secs()),
        }
    }

    /// Waits until the operator writes nothing any more.
    async fn quiet(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut before = scrape::writes(self.address).await?;
        let mut since = Instant::now();
        while since.elapsed() < QUIET {
            anyhow::ensure!(
                started.elapsed() < QUIET_LIMIT,
                "the operator does not come to rest: {before:?}"
            );
            tokio::time::sleep(QUIET / 10).await;
            let now = scrape::writes(self.address).await?;
            if now != before {
                (before, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    async fn moment(&self) -> anyhow::Result<Moment> {
        Ok(Moment {
            writes: scrape::writes(self.address).await?,
            operator: figures::cpu(self.operator),
            server: self.server.map(figures::cpu),
            fleet: figures::cpu(std::process::id()),
            at: Instant::now(),
        })
    }

    async fn phase(&self, name: &str, changed: u32, before: Moment) -> anyhow::Result<Phase> {
        let seconds = before.at.elapsed().as_secs_f64();
        let after = self.moment().await?;
        let cpu = after.operator.saturating_sub(before.operator).as_secs_f64();
        let writes = after.writes.since(&before.writes);
        let of = |outcomes: &[&str]| -> u64 {
            let rows = writes
                .0
                .iter()
                .filter(|((_, outcome), _)| outcomes.contains(&outcome.as_str()));
            rows.map(|(_, count)| count).sum()
        };
        let done: BTreeMap<String, u64> = writes
            .0
            .iter()
            .filter(|((_, outcome), _)| outcome == "done")
            .map(|((reason, _), count)| (reason.clone(), *count))
            .collect();
        let about_pods = done.iter().filter(|(reason, _)| !OF_THE_SET.contains(&reason.as_str()));
        let pod_writes: u64 = about_pods.map(|(_, count)| count).sum();
        let per_pod = |value: f64| (changed > 0).then(|| value / f64::from(changed));
        let phase = Phase {
            name: name.to_owned(),
            changed,
            seconds,
            operator_cpu_seconds: cpu,
            server_cpu_seconds: match (before.server, after.server) {
                (Some(before), Some(after)) => Some(after.saturating_sub(before).as_secs_f64()),
                _ => None,
            },
            fleet_cpu_seconds: after.fleet.saturating_sub(before.fleet).as_secs_f64(),
            operator_rss_mib: figures::memory_mib(self.operator).0,
            #[allow(clippy::cast_precision_loss)] // far below 2^52
            writes_per_pod: per_pod(pod_writes as f64),
            pod_writes,
            cpu_ms_per_pod: per_pod(cpu * 1000.0),
            cpu_percent: if seconds > 0.0 { cpu / seconds * 100.0 } else { 0.0 },
            conflicts: of(&["conflict"]),
            failed: of(&["refused", "unknown"]),
            writes: done,
        };
        eprintln!(
            "afloat: {name}: {seconds:.2} s, operator {cpu:.2} CPU s, {:.1} MiB",
            phase.operator_rss_mib
        );
        Ok(phase)
    }

    async fn events(&self) -> anyhow::Result<u64> {
        let api: Api<v1::Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let page = api.list_metadata(&ListParams::default().limit(1)).await?;
        let rest = page.metadata.remaining_item_count.unwrap_or(0);
        Ok(u64::try_from(rest).unwrap_or(0) + page.items.len() as u64)
    }
}

/// Pods of each set.
fn sizes(pods: u32, sets: u32) -> Vec<u32> {
    let (each, more) = (pods / sets.max(1), pods % sets.max(1));
    (0..sets).map(|number| each + u32::from(number < more)).collect()
}

/// How many pods each partial update changes; all together no more than the first set has.
fn parts(options: &BenchOperatorOptions) -> Vec<u32> {
    let first = sizes(options.pods, options.sets).first().copied().unwrap_or(0);
    let mut parts = options.partial.clone();
    if parts.is_empty() {
        parts = vec![(options.pods / 100).max(1), (options.pods / 10).max(1)];
    }
    let mut left = first;
    parts.retain(|part| {
        let fits = *part <= left && *part > 0;
        left -= if fits { *part } else { 0 };
        fits
    });
    parts
}

fn name(index: usize) -> String {
    format!("set-{index}")
}

fn index(set: &DynamicObject) -> Option<usize> {
    set.metadata.name.as_deref()?.strip_prefix("set-")?.parse().ok()
}

fn ready(figures: &Figures) -> u32 {
    u32::try_from(figures.ready).unwrap_or(0)
}

fn updated(figures: &Figures) -> u32 {
    u32::try_from(figures.updated_ready).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_shared_out() {
        assert_eq!(sizes(10, 3), [4, 3, 3]);
        assert_eq!(sizes(10, 1), [10]);
    }
}
