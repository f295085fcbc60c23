//! Follows Services, EndpointSlices and Namespaces, and keeps the zone up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use afloat_words::key::Key;
use backon::ExponentialBuilder;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::ResetTimerBackoff;
use kube::runtime::watcher::{Config, Event, ExponentialBackoff, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::view;
use crate::zone::Change;

/// Follows all three kinds, until never; a broken watch begins anew after a pause.
pub(crate) async fn run(client: &Client, see: &(impl Fn(Change) + Sync)) {
    let services = follow::<Service, _>(
        client,
        |object| view::service(object).map(|service| (Key::of(&object.metadata), service)),
        |all| see(Change::Services(all)),
        |object, found| see(Change::Service(Key::of(&object.metadata), found)),
    );
    let slices = follow::<EndpointSlice, _>(
        client,
        |object| view::slice(object).map(|slice| (Key::of(&object.metadata), slice)),
        |all| see(Change::Slices(all)),
        |object, found| see(Change::Slice(Key::of(&object.metadata), found)),
    );
    let namespaces = follow::<Namespace, ()>(
        client,
        |object| Some((Key::of(&object.metadata), ())),
        |all: BTreeMap<_, _>| {
            let names: BTreeSet<String> = all.into_keys().map(|key| key.name.to_string()).collect();
            see(Change::Namespaces(names));
        },
        |object, found| see(Change::Namespace(object.name_any(), found.is_some())),
    );
    tokio::join!(services, slices, namespaces);
}

/// Turns one kind's watch into changes: a list becomes one change, applied as a whole.
async fn follow<K, Value>(
    client: &Client,
    entry: impl Fn(&K) -> Option<(Key, Value)>,
    all: impl Fn(BTreeMap<Key, Value>),
    one: impl Fn(&K, Option<Value>),
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Default + Eq + Hash,
{
    let mut events = watcher(Api::<K>::all(client.clone()), Config::default())
        .backoff(pauses())
        .boxed();
    let mut listed = BTreeMap::new();
    loop {
        match events.try_next().await {
            Ok(None) => return,
            Err(error) => tracing::debug!(%error, "watch broken, trying again"),
            Ok(Some(Event::Init)) => listed = BTreeMap::new(),
            Ok(Some(Event::InitApply(object))) => listed.extend(entry(&object)),
            Ok(Some(Event::InitDone)) => all(std::mem::take(&mut listed)),
            Ok(Some(Event::Apply(object))) => one(&object, entry(&object).map(|(_, value)| value)),
            Ok(Some(Event::Delete(object))) => one(&object, None),
        }
    }
}

/// Pauses between attempts of a watch: from 30 ms, doubling to 2 s, each up to twice as long by chance, so that not all begin anew at once.
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
