//! One step of all pods at once.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use afloat_watching::feed::{Pauses, events};
use anyhow::Context as _;
use futures::FutureExt;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{Config, Event};
use kube::{Api, ResourceExt as _};
use serde::Serialize;
use serde_json::json;

use crate::bench::timed::{Verb, Verbs, quantile};

/// Old and new image of the pods; the program only waits there.
pub(super) static IMAGES: [(&str, &str, &str); 2] = [("pause:v1", "collect", "v1"), ("pause:v2", "collect", "v2")];
/// Requests under way at once.
const PARALLEL: usize = 32;

/// What is done to the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// Until Ready.
    Create,
    /// Another image, until the new container is Ready.
    Update,
    /// With their grace period, until the object is gone.
    Delete,
}

/// Figures of a phase. A pod's time is from the request to what the watch shows.
#[derive(Debug, Serialize)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    /// From the first request to the last pod.
    pub(super) seconds: f64,
    pub(super) pods_per_second: f64,
    pub(super) p50_seconds: f64,
    pub(super) p99_seconds: f64,
    pub(super) max_seconds: f64,
    /// The runtime's part, by verb.
    pub(super) verbs: BTreeMap<&'static str, Verb>,
}

impl Move {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    async fn begin(self, pods: &Api<Pod>, name: &str) -> kube::Result<()> {
        match self {
            Self::Create => {
                let pod = json!({
                    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
                    "spec": {"containers": [{"name": "app", "image": IMAGES[0].0}]},
                });
                let pod = serde_json::from_str(&pod.to_string()).map_err(kube::Error::SerdeError)?;
                pods.create(&PostParams::default(), &pod).await.map(drop)
            }
            Self::Update => {
                let patch = json!({"spec": {"containers": [{"name": "app", "image": IMAGES[1].0}]}});
                let (parameters, patch) = (PatchParams::default(), Patch::Strategic(patch));
                pods.patch(name, &parameters, &patch).await.map(drop)
            }
            Self::Delete => pods.delete(name, &DeleteParams::default()).await.map(drop),
        }
    }

    /// The pod that has come to the end of this step, if the event tells of one.
    fn arrived(self, event: &Event<Pod>) -> Option<String> {
        match (self, event) {
            (Self::Create, Event::Apply(pod)) => ready(pod, 0).then(|| pod.name_any()),
            (Self::Update, Event::Apply(pod)) => ready(pod, 1).then(|| pod.name_any()),
            (Self::Delete, Event::Delete(pod)) => Some(pod.name_any()),
            _ => None,
        }
    }
}

fn ready(pod: &Pod, restarts: i32) -> bool {
    let Some(status) = &pod.status else { return false };
    let conditions = status.conditions.iter().flatten();
    let mut containers = status.container_statuses.iter().flatten();
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
        && containers.all(|container| container.restart_count >= restarts)
}

/// Does it to that many pods, and waits for all of them.
pub(super) async fn take_all(
    step: Move,
    pods: &Api<Pod>,
    count: u32,
    limit: Duration,
    verbs: &Verbs,
) -> anyhow::Result<Phase> {
    let _ = verbs.take();
    let mut events = events(pods.clone(), Config::default(), Pauses::Quick).boxed();
    // The watch is there before the first request.
    while !matches!(events.next().await.context("the watch ended")?, Event::InitDone) {}
    let began = Instant::now();
    let requests = pods.clone();
    let requests = tokio::spawn(FutureExt::boxed(async move {
        let all = (0..count).map(|number| {
            let pods = &requests;
            async move {
                let (name, at) = (format!("bench-{number}"), Instant::now());
                step.begin(pods, &name)
                    .await
                    .with_context(|| format!("{} {name}", step.name()))?;
                anyhow::Ok((name, at))
            }
        });
        futures::stream::iter(all)
            .buffer_unordered(PARALLEL)
            .try_collect::<HashMap<String, Instant>>()
            .await
    }));
    let mut arrived: HashMap<String, Instant> = HashMap::new();
    let wait = async {
        while arrived.len() < count as usize {
            let event = events.next().await.context("the watch ended")?;
            if let Some(name) = step.arrived(&event) {
                arrived.entry(name).or_insert_with(Instant::now);
            }
        }
        anyhow::Ok(())
    };
    let waited = tokio::time::timeout(limit, wait).await;
    let seconds = began.elapsed().as_secs_f64();
    let begun = match waited {
        Ok(result) => {
            result?;
            requests.await??
        }
        Err(_) => {
            requests.abort();
            anyhow::bail!(
                "{}: only {} of {count} pods within {} s",
                step.name(),
                arrived.len(),
                limit.as_secs()
            );
        }
    };
    let mut times: Vec<Duration> = begun
        .iter()
        .filter_map(|(name, at)| Some(arrived.get(name)?.saturating_duration_since(*at)))
        .collect();
    times.sort_unstable();
    Ok(Phase {
        name: step.name(),
        seconds,
        pods_per_second: f64::from(count) / seconds,
        p50_seconds: quantile(&times, 0.5).as_secs_f64(),
        p99_seconds: quantile(&times, 0.99).as_secs_f64(),
        max_seconds: quantile(&times, 1.0).as_secs_f64(),
        verbs: verbs.take(),
    })
}

/// Starts that many pods one after another and takes each away again. Answers how long a start took.
pub(super) async fn one_by_one(pods: &Api<Pod>, count: u32, limit: Duration, verbs: &Verbs) -> anyhow::Result<Verb> {
    let mut times = Vec::new();
    for _ in 0..count {
        let started = take_all(Move::Create, pods, 1, limit, verbs).await?;
        times.push(Duration::from_secs_f64(started.max_seconds));
        take_all(Move::Delete, pods, 1, limit, verbs).await?;
    }
    Ok(Verb::of(times))
}
