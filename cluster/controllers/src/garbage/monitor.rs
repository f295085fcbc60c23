//! One metadata watch per kind, started and ended as kinds come and go.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use afloat_watching::feed::{Pauses, events};
use futures::StreamExt;
use kube::api::{DynamicObject, PartialObjectMeta};
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::loops::discovery::{Discovered, discover};

use super::graph::Node;
use super::shared::Shared;

/// How long to wait for the first lists before collecting anyway (owners not seen are asked for).
const FIRST_LISTS: Duration = Duration::from_secs(5);
/// Kinds come in groups, and a new one is served a moment after it is created.
const DEBOUNCE: Duration = Duration::from_millis(100);
const SECOND_LOOK: Duration = Duration::from_secs(2);
/// Without news, kinds are asked for this often.
const REFRESH: Duration = Duration::from_secs(300);

struct Monitor {
    stop: CancellationToken,
    listed: watch::Receiver<bool>,
}

/// The watches.
pub(super) struct Monitors {
    client: Client,
    shared: Arc<Shared>,
    stop: CancellationToken,
    running: HashMap<String, (Arc<Discovered>, Monitor)>,
}

impl Monitors {
    pub(super) fn new(client: Client, shared: Arc<Shared>, stop: CancellationToken) -> Self {
        Self {
            client,
            shared,
            stop,
            running: HashMap::new(),
        }
    }

    /// Starts and ends watches so that there is one for each kind.
    pub(super) async fn refresh(&mut self) -> Result<(), Error> {
        let kinds: Vec<Arc<Discovered>> = discover(&self.client).await?.into_iter().map(Arc::new).collect();
        self.shared
            .kinds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&kinds);
        let wanted: HashMap<String, Arc<Discovered>> = kinds
            .into_iter()
            .filter(|kind| kind.watchable)
            .map(|kind| (name(&kind), kind))
            .collect();
        self.running.retain(|name, (kind, monitor)| {
            let keep = wanted.get(name) == Some(kind);
            if !keep {
                monitor.stop.cancel();
                let mut graph = self.shared.graph();
                for uid in graph.of_kind(kind) {
                    graph.forget(&uid);
                }
            }
            keep
        });
        for (name, kind) in wanted {
            self.running.entry(name).or_insert_with(|| {
                let stop = self.stop.child_token();
                let (sender, listed) = watch::channel(false);
                tokio::spawn(observe(
                    self.client.clone(),
                    self.shared.clone(),
                    kind.clone(),
                    sender,
                    stop.clone(),
                ));
                (kind, Monitor { stop, listed })
            });
        }
        Ok(())
    }

    /// Waits for the first lists.
    pub(super) async fn settle(&self) {
        let all = async {
            for (_, monitor) in self.running.values() {
                let mut listed = monitor.listed.clone();
                let _ = listed.wait_for(|done| *done).await;
            }
        };
        if tokio::time::timeout(FIRST_LISTS, all).await.is_err() {
            tracing::debug!("some kinds have not been listed yet, collecting anyway");
        }
    }

    /// Follows the kinds until stopped.
    pub(super) async fn follow(mut self) {
        let mut second_look = false;
        loop {
            let wait = if second_look { SECOND_LOOK } else { REFRESH };
            let news = tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.shared.kinds_changed.notified() => true,
                () = tokio::time::sleep(wait) => false,
            };
            second_look = news;
            if news {
                tokio::time::sleep(DEBOUNCE).await;
            }
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "could not ask for the kinds, will ask again");
                second_look = true;
            }
        }
    }
}

fn name(kind: &Discovered) -> String {
    format!("{}/{}", kind.resource.api_version, kind.resource.plural)
}

/// Feeds the graph with one kind until stopped.
async fn observe(
    client: Client,
    shared: Arc<Shared>,
    kind: Arc<Discovered>,
    listed: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &kind.resource);
    let mut events = std::pin::pin!(events(api, watcher::Config::default(), Pauses::Patient));
    let defines_kinds = kind.resource.kind == "CustomResourceDefinition";
    let mut seen: HashSet<String> = HashSet::new();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        let Some(event) = event else { return };
        match event {
            watcher::Event::Init => seen.clear(),
            watcher::Event::InitApply(object) => {
                seen.extend(object.metadata.uid.clone());
                put(&shared, &kind, &object.metadata);
            }
            watcher::Event::InitDone => {
                let gone: Vec<String> = shared
                    .graph()
                    .of_kind(&kind)
                    .into_iter()
                    .filter(|uid| !seen.contains(uid))
                    .collect();
                for uid in gone {
                    let concerned = shared.graph().remove(&uid);
                    shared.look_at(concerned);
                }
                seen = HashSet::new();
                listed.send_replace(true);
                if defines_kinds {
                    shared.kinds_changed.notify_one();
                }
            }
            watcher::Event::Apply(object) => {
                put(&shared, &kind, &object.metadata);
                if defines_kinds {
                    shared.kinds_changed.notify_one();
                }
            }
            watcher::Event::Delete(object) => {
                let concerned = shared
                    .graph()
                    .remove(object.metadata.uid.as_deref().unwrap_or_default());
                shared.look_at(concerned);
                if defines_kinds {
                    shared.kinds_changed.notify_one();
                }
            }
        }
    }
}

fn put(shared: &Shared, kind: &Arc<Discovered>, meta: &kube::api::ObjectMeta) {
    let Some(uid) = meta.uid.as_deref() else { return };
    let concerned = shared.graph().put(uid, Node::of(kind, meta));
    shared.look_at(concerned);
}
