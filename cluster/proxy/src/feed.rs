//! What the proxy sees: Services and EndpointSlices, in order, each change stamped with the time when it is due.
//!
//! The queue between watching and applying is where a slow proxy is played: a change waits in it for the lag. It is
//! bounded; when it is full, the watches wait.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use afloat_words::key::Key;
use backon::ExponentialBuilder;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::ResetTimerBackoff;
use kube::runtime::watcher::{Config, Event, ExponentialBackoff, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::convert;
use crate::lag::Lag;
use crate::table::Change;

/// Changes that wait for their time.
pub(crate) const QUEUE_LENGTH: usize = 8192;

/// A change and when it is to be applied.
pub(crate) type Seen = (Instant, Change);

/// Watches both kinds until nobody listens any more; a broken watch begins anew after a pause.
pub(crate) async fn run(client: &Client, queue: &mpsc::Sender<Seen>, lag: &Lag) {
    let services = follow::<Service, _>(
        Api::all(client.clone()),
        (queue, lag),
        |object| convert::is_ours(object).then(|| (Key::of(&object.metadata), convert::service(object))),
        Change::Services,
        |object, value| Change::Service(Key::of(&object.metadata), value.map(|(_, service)| service)),
    );
    let slices = follow::<EndpointSlice, _>(
        Api::all(client.clone()),
        (queue, lag),
        |object| Some((Key::of(&object.metadata), convert::slice(object)?)),
        Change::Slices,
        |object, value| Change::Slice(Key::of(&object.metadata), value.map(|(_, slice)| slice)),
    );
    tokio::join!(services, slices);
}

/// Turns one kind's watch into changes: a list becomes one change, applied as a whole.
async fn follow<K, Value>(
    api: Api<K>,
    (queue, lag): (&mpsc::Sender<Seen>, &Lag),
    entry: impl Fn(&K) -> Option<(Key, Value)>,
    list: impl Fn(BTreeMap<Key, Value>) -> Change,
    single: impl Fn(&K, Option<(Key, Value)>) -> Change,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Default + Eq + Hash,
{
    let mut events = watcher(api, Config::default()).backoff(pauses()).boxed();
    let mut listed = BTreeMap::new();
    loop {
        let change = match events.try_next().await {
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "watch broken, trying again");
                continue;
            }
            Ok(Some(Event::Init)) => {
                listed = BTreeMap::new();
                continue;
            }
            Ok(Some(Event::InitApply(object))) => {
                listed.extend(entry(&object));
                continue;
            }
            Ok(Some(Event::InitDone)) => list(std::mem::take(&mut listed)),
            Ok(Some(Event::Apply(object))) => single(&object, entry(&object)),
            Ok(Some(Event::Delete(object))) => single(&object, None),
        };
        if queue.send((Instant::now() + lag.next(), change)).await.is_err() {
            return;
        }
    }
}

/// Pauses between attempts of a watch: from 30 ms, doubling to 2 s, each up to twice as long by chance, so that nodes do not ask all at once. Shorter
/// than kube's default, as a proxy that does not see is a proxy that loses connections.
fn pauses() -> ResetTimerBackoff<ExponentialBackoff> {
    let pauses = ExponentialBuilder::new()
        .with_min_delay(Duration::from_micros(31_250))
        .with_max_delay(Duration::from_micros(1_875_000))
        .with_factor(2.0)
        .without_max_times()
        .with_jitter();
    // Reset by time: a watch that begins anew reports progress even if its list then fails.
    ResetTimerBackoff::new(pauses.into(), Duration::from_secs(10))
}
