//! Response times before, during and after each rollout, for its RolloutReport.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use afloat_api::{API_VERSION, Latency, RolloutReport};
use afloat_probe::Window;
use afloat_rollout::kinds;
use afloat_watching::feed::{Pauses, events};
use afloat_words::owner::controller_of;
use anyhow::Context as _;
use backon::{ExponentialBuilder, Retryable as _};
use futures::FutureExt as _;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::runtime::watcher::{Config, Event};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

/// How long what comes after a rollout is looked at, unless the probe ends or the next one begins.
const AFTER: Duration = Duration::from_secs(10);
/// Time limit of one request to the API server.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// Times that a write is tried again: the operator writes to the same object.
const TRIES: usize = 4;
/// Rollouts that begin or end faster than they are looked at.
const QUEUE: usize = 64;

/// Something after which other response times are to be expected.
pub(super) enum Border {
    /// A rollout is seen for the first time, and goes on.
    Begin(String),
    /// It has ended.
    End(String),
    /// Enough was seen after it.
    Enough,
}

/// Watches for rollouts, and writes what was measured around them.
pub(super) struct Recorder {
    borders: mpsc::Receiver<Border>,
    /// The rollout that goes on or ended last, what is known of it, and when enough is known.
    present: Option<(String, Latency, Option<Instant>)>,
    /// To the one that writes, in order.
    writes: mpsc::Sender<(String, Latency)>,
    writer: JoinHandle<anyhow::Result<()>>,
    _watch: JoinSet<()>,
}

/// The next border; never where nothing is recorded.
pub(super) async fn next(recorder: &mut Option<Recorder>) -> Border {
    let Some(recorder) = recorder else {
        return std::future::pending().await;
    };
    let until = recorder.present.as_ref().and_then(|(_, _, until)| *until);
    let enough = async {
        match until {
            Some(until) => sleep_until(until).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        border = recorder.borders.recv() => match border {
            Some(border) => border,
            None => std::future::pending().await,
        },
        () = enough => Border::Enough,
    }
}

impl Recorder {
    /// Begins to watch the workloads whose pods are the Service's.
    pub(super) async fn start(client: &Client, service: &Service) -> anyhow::Result<Self> {
        let namespace = service.namespace().unwrap_or_else(|| "default".into());
        let api: Api<RolloutReport> = Api::namespaced(client.clone(), &namespace);
        let first = timeout(REQUEST_LIMIT, api.list(&ListParams::default())).await;
        first
            .context("the API server does not answer")?
            .context("cannot list rolloutreports, which --record writes to")?;
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone());
        let (told, borders) = mpsc::channel(QUEUE);
        let mut tasks = JoinSet::new();
        let sets = Sets {
            client: client.clone(),
            namespace,
        };
        tasks.spawn(follow(api.clone(), sets, selector.unwrap_or_default(), told).boxed());
        let (writes, queue) = mpsc::channel(QUEUE);
        Ok(Self {
            borders,
            present: None,
            writes,
            writer: tokio::spawn(write_all(api, queue).boxed()),
            _watch: tasks,
        })
    }

    /// Takes in what was measured until a border.
    pub(super) fn pass(&mut self, border: Border, window: Window) {
        let text = |window: &Window| {
            let latency = window.latency.as_ref();
            latency
                .map(|latency| format!("{:.3}s", latency.p99_ms / 1000.0))
                .unwrap_or_default()
        };
        match (border, self.present.take()) {
            (Border::Begin(name), before) => {
                if let Some((name, mut latency, Some(_))) = before {
                    latency.after = text(&window);
                    latency.requests += window.ok + window.lost;
                    self.write(name, latency);
                }
                let latency = Latency {
                    before: text(&window),
                    requests: window.ok + window.lost,
                    ..Latency::default()
                };
                self.present = Some((name, latency, None));
            }
            (Border::End(name), Some((present, mut latency, None))) if present == name => {
                latency.during = text(&window);
                latency.requests += window.ok + window.lost;
                latency.lost = window.lost;
                self.write(name.clone(), latency.clone());
                self.present = Some((name, latency, Some(Instant::now() + AFTER)));
            }
            (Border::Enough, Some((name, mut latency, Some(_)))) => {
                latency.after = text(&window);
                latency.requests += window.ok + window.lost;
                self.write(name, latency);
            }
            // Of one that was not seen from its beginning.
            (Border::End(_) | Border::Enough, present) => self.present = present,
        }
    }

    /// The probe has ended.
    ///
    /// # Errors
    /// When something could not be written.
    pub(super) async fn finish(mut self, window: Window) -> anyhow::Result<()> {
        if self.present.as_ref().is_some_and(|(_, _, until)| until.is_some()) {
            self.pass(Border::Enough, window);
        }
        drop(self.writes);
        self.writer.await?
    }

    fn write(&self, name: String, latency: Latency) {
        if self.writes.try_send((name, latency)).is_err() {
            tracing::warn!("response times of a rollout are not written: the API server does not keep up");
        }
    }
}

/// Writes one after the other; the last thing that went wrong is the result.
async fn write_all(api: Api<RolloutReport>, mut queue: mpsc::Receiver<(String, Latency)>) -> anyhow::Result<()> {
    let mut result = Ok(());
    while let Some((name, latency)) = queue.recv().await {
        let patch = json!({"status": {"latency": latency}});
        let write = || try_write(&api, &name, &patch);
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_times(TRIES);
        if let Err(error) = write.retry(pauses).await {
            result = Err(error);
        }
    }
    result
}

async fn try_write(api: &Api<RolloutReport>, name: &str, patch: &serde_json::Value) -> anyhow::Result<()> {
    let parameters = PatchParams::default();
    let merge = Patch::Merge(patch);
    let call = api.patch_metadata(name, &parameters, &merge);
    let what = || format!("cannot write to the rolloutreport {name}");
    timeout(REQUEST_LIMIT, call)
        .await
        .with_context(what)?
        .with_context(what)?;
    Ok(())
}

/// Tells of rollouts of workloads that the selector finds.
async fn follow(api: Api<RolloutReport>, sets: Sets, selector: BTreeMap<String, String>, told: mpsc::Sender<Border>) {
    let mut going: BTreeMap<String, bool> = BTreeMap::new();
    let mut stream = pin!(events(api, Config::default(), Pauses::Patient));
    while let Some(event) = stream.next().await {
        let (Event::Apply(report) | Event::InitApply(report)) = event else {
            continue;
        };
        let (name, ended) = (report.name_any(), report.status.phase.ended());
        let border = match going.insert(name.clone(), !ended) {
            Some(true) if ended => Border::End(name),
            None | Some(false) if !ended => Border::Begin(name),
            _ => continue,
        };
        if sets.selected(&selector, &report).await && told.send(border).await.is_err() {
            return;
        }
    }
}

/// Where the workloads are.
struct Sets {
    client: Client,
    namespace: String,
}

impl Sets {
    /// Whether the Service sends to the pods of the workload that a report is of.
    async fn selected(&self, selector: &BTreeMap<String, String>, report: &RolloutReport) -> bool {
        let Some(owner) = controller_of(&report.metadata) else {
            return false;
        };
        let Some(names) = kinds::of(&owner.api_version, &owner.kind) else {
            return false;
        };
        let (group, version) = API_VERSION.split_once('/').unwrap_or(("", API_VERSION));
        let kind = GroupVersionKind::gvk(group, version, names.kind);
        let kind = ApiResource::from_gvk_with_plural(&kind, names.plural);
        let sets: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &kind);
        let Ok(Ok(set)) = timeout(REQUEST_LIMIT, sets.get(&owner.name)).await else {
            return false;
        };
        let labels = set.data.pointer("/spec/template/metadata/labels");
        let has = |(key, value): (&String, &String)| labels.and_then(|labels| labels[key].as_str()) == Some(value);
        !selector.is_empty() && selector.iter().all(has)
    }
}
