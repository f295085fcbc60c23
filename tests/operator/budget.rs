//! Watches the pods of a case at every instant: each event of a watch is a state that the cluster was in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use kube::api::DynamicObject;
use kube::runtime::watcher::{Config, Event, watcher};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::case::{Case, name, ready};
use crate::process::PATIENCE;

/// The extremes of what was seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extremes {
    /// Fewest pods Ready at once, those being deleted not counted.
    pub(crate) ready_min: usize,
    /// Most pods at once, those being deleted not counted.
    pub(crate) pods_max: usize,
}

/// What the watch has told: the pods as they are, and the extremes.
struct Told {
    pods: BTreeMap<String, Value>,
    extremes: Extremes,
    /// A listing is under way, so `pods` is not a state that the cluster was in.
    listing: bool,
}

/// A watch under way.
pub(crate) struct Budget {
    told: Arc<Mutex<Told>>,
    task: JoinHandle<()>,
}

impl Budget {
    /// Starts to watch a case whose pods are at rest.
    pub(crate) async fn watch(case: &Case) -> Self {
        let pods = case.pods().await;
        let extremes = Extremes {
            ready_min: pods.iter().filter(|pod| ready(pod)).count(),
            pods_max: pods.len(),
        };
        let told = Arc::new(Mutex::new(Told {
            pods: BTreeMap::new(),
            extremes,
            listing: true,
        }));
        let stream = watcher(case.api("", "v1", "Pod"), Config::default());
        let task = tokio::spawn(follow(stream.boxed(), told.clone()));
        let budget = Self { told, task };
        budget.seen(case).await;
        budget
    }

    /// The extremes up to now: waits until the watch has told everything that there is.
    pub(crate) async fn seen(&self, case: &Case) -> Extremes {
        let version = |pod: &Value| pod["metadata"]["resourceVersion"].clone();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let list = case.list("", "v1", "Pod").await;
            {
                let told = self.told.lock().expect("no panic there");
                if !told.listing && list.iter().map(version).eq(told.pods.values().map(version)) {
                    return told.extremes;
                }
            }
            assert!(Instant::now() < deadline, "the watch does not tell everything");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Stream = BoxStream<'static, kube::runtime::watcher::Result<Event<DynamicObject>>>;

async fn follow(mut stream: Stream, told: Arc<Mutex<Told>>) {
    while let Some(event) = stream.next().await {
        let mut told = told.lock().expect("no panic there");
        match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                let pod = serde_json::to_value(&pod).expect("JSON");
                told.pods.insert(name(&pod).to_owned(), pod);
            }
            Ok(Event::Delete(pod)) => drop(told.pods.remove(&pod.metadata.name.unwrap_or_default())),
            Ok(Event::Init) => {
                told.pods.clear();
                told.listing = true;
            }
            Ok(Event::InitDone) => told.listing = false,
            Err(error) => eprintln!("watch: {error}"),
        }
        if told.listing {
            continue;
        }
        let there = told
            .pods
            .values()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let (all, serving) = there.fold((0, 0), |(all, serving), pod| {
            (all + 1, serving + usize::from(ready(pod)))
        });
        told.extremes.ready_min = told.extremes.ready_min.min(serving);
        told.extremes.pods_max = told.extremes.pods_max.max(all);
    }
}
