//! The shell around [`Pods`]: watches EndpointSlices, looks at the node when something is awaited of it, and keeps what
//! there is to tell.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use afloat_api::TrafficStatus;
use afloat_watching::feed::{Pauses, Seen, follow};
use futures::FutureExt as _;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::Api;
use kube::runtime::watcher::Config;
use tokio::sync::watch;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::look::{Blind, Eyes, Options};
use super::pods::Pods;
use super::slice::{self, Slice, SliceKey};
use crate::ProxyView;

/// How often to look where nothing is awaited: only whether it is still possible.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);
/// Pauses after a look that saw nothing grow up to this.
const BLIND_INTERVAL: Duration = Duration::from_secs(30);
/// The pause after a look is so many times what the look took: with very many rules, about two seconds.
const COST_SHARE: u32 = 3;
/// The same where nothing is awaited.
const IDLE_COST_SHARE: u32 = 100;

/// What is known of a node's kube-proxy.
pub struct KubeProxy {
    status: Mutex<TrafficStatus>,
    changes: watch::Sender<u64>,
    eyes: Eyes,
}

impl ProxyView for KubeProxy {
    fn status(&self) -> TrafficStatus {
        self.lock().clone()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl KubeProxy {
    /// Looks once.
    ///
    /// # Errors
    /// If nothing can be seen and that will not change by itself: a tool is missing, or a right.
    pub async fn new(options: Options) -> Result<Self, Blind> {
        let eyes = Eyes::new(options);
        let why = match eyes.look((true, false), false).await {
            Err(blind) if blind.lasting => return Err(blind),
            Err(blind) => blind.why,
            Ok(_) => "EndpointSlices are not listed yet".to_owned(),
        };
        let status = TrafficStatus {
            method: "KubeProxy".to_owned(),
            message: Some(why),
            ..TrafficStatus::default()
        };
        Ok(Self {
            status: Mutex::new(status),
            changes: watch::Sender::new(0),
            eyes,
        })
    }

    /// Watches until `shutdown`.
    pub fn run(&self, client: Client, shutdown: CancellationToken) -> BoxFuture<'_, ()> {
        // Boxed where nothing is async: the code of a future is made where it is awaited, which would be each program that calls this.
        self.watch_until(client, shutdown).boxed()
    }

    async fn watch_until(&self, client: Client, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.watch(client) => {}
        }
    }

    async fn watch(&self, client: Client) {
        let api: Api<EndpointSlice> = Api::all(client);
        let mut slices = pin!(follow(api, Config::default(), Pauses::Patient, slice::read));
        let mut feed = Feed::default();
        let mut failures = 0;
        let mut looked = Instant::now();
        let mut cost = Duration::ZERO;
        loop {
            let pause = if failures > 0 {
                Duration::from_secs(1 << failures.min(5)).min(BLIND_INTERVAL)
            } else {
                match feed.pods.pause(Instant::now()) {
                    Some(pause) => pause.max(cost * COST_SHARE),
                    None => IDLE_INTERVAL.max(cost * IDLE_COST_SHARE),
                }
            };
            let due = if feed.looked_at { looked + pause } else { Instant::now() };
            tokio::select! {
                seen = slices.next() => match seen {
                    Some(seen) => feed.take(seen),
                    // A watch goes on for ever.
                    None => return,
                },
                () = sleep_until(due.into()), if feed.listed => {
                    let began = Instant::now();
                    failures = if self.look(&mut feed).await { 0 } else { failures + 1 };
                    looked = Instant::now();
                    cost = looked - began;
                }
            }
        }
    }

    /// True if something could be seen.
    async fn look(&self, feed: &mut Feed) -> bool {
        feed.looked_at = true;
        let pods = &mut feed.pods;
        let (v4, v6) = pods.families();
        match self.eyes.look((v4 || !v6, v6), pods.counts()).await {
            Ok(seen) => {
                let now = Instant::now();
                pods.looked(&seen.look, now);
                self.tell(TrafficStatus {
                    method: format!("KubeProxy/{}", seen.mode.name()),
                    synced: true,
                    message: (!seen.gaps.is_empty()).then(|| seen.gaps.join("; ")),
                    // Rules count nothing.
                    services: BTreeMap::new(),
                    pods: pods.told(now),
                    ..TrafficStatus::default()
                });
                true
            }
            Err(blind) => {
                self.tell(TrafficStatus {
                    method: "KubeProxy".to_owned(),
                    message: Some(blind.why),
                    ..TrafficStatus::default()
                });
                false
            }
        }
    }

    fn tell(&self, status: TrafficStatus) {
        let mut told = self.lock();
        if *told == status {
            return;
        }
        if told.message != status.message || told.synced != status.synced {
            match &status.message {
                Some(message) => tracing::warn!("{message}"),
                None => tracing::info!(method = status.method, "kube-proxy is seen"),
            }
        }
        *told = status;
        drop(told);
        self.changes.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, TrafficStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the watch brought.
#[derive(Default)]
struct Feed {
    pods: Pods,
    /// All slices have been listed once.
    listed: bool,
    looked_at: bool,
    /// Newest version of any slice.
    newest: u64,
}

impl Feed {
    fn take(&mut self, seen: Seen<(SliceKey, u64, Slice)>) {
        let now = Instant::now();
        match seen {
            Seen::Listed(all) => {
                let list: BTreeSet<SliceKey> = all.iter().map(|(key, ..)| key.clone()).collect();
                for (key, version, slice) in all {
                    self.newest = self.newest.max(version);
                    self.pods.apply(&key, version, Some(slice), self.listed, now);
                }
                let gone: Vec<_> = self.pods.slices().filter(|key| !list.contains(*key)).cloned().collect();
                for key in gone {
                    self.pods.apply(&key, self.newest, None, true, now);
                }
                self.listed = true;
            }
            Seen::Changed((key, version, slice)) => {
                self.newest = self.newest.max(version);
                self.pods.apply(&key, version, Some(slice), false, now);
            }
            // A deleted object comes with the version of its deletion.
            Seen::Gone((key, version, _)) => {
                self.newest = self.newest.max(version);
                self.pods.apply(&key, version, None, false, now);
            }
        }
    }
}
