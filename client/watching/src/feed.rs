//! The watch: a listing, then every change, begun anew after a pause whenever it breaks.

use std::collections::HashSet;
use std::fmt::Debug;
use std::time::Duration;

use backon::ExponentialBuilder;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::ResetTimerBackoff;
use kube::runtime::watcher::{self, Config, DefaultBackoff, Event, ExponentialBackoff, watcher};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::item::{Item, Read, Unreadable};

/// How long to wait before a broken watch is begun anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pauses {
    /// As client-go: from 0.8 s, doubling to 30 s. For those whose view may be late.
    Patient,
    /// From 30 ms, doubling to 2 s, each up to twice as long by chance, so that nodes do not ask all at once. For those
    /// whose lateness loses connections.
    Quick,
}

/// Failures in a row of which the first are no news: every watch ends now and then, and the next attempt succeeds.
const NEWS: u32 = 3;
/// Objects that were told of as unreadable are remembered, so that each is told of once; no more than these.
const REMEMBERED: usize = 1000;

/// Everything that the watch says. It never ends by itself; a watch that fails again and again is told of once in the log,
/// until it works again. An object that cannot be read is told of once in the log, without its content, and left out as if it
/// were not there.
pub fn events<K>(api: Api<K>, config: Config, pauses: Pauses) -> impl Stream<Item = Event<K>> + Send
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    events_as(api, config, pauses, |text| serde_json::from_str(text))
}

/// The same, of objects that `read` reads.
pub(crate) fn events_as<K>(
    api: Api<K>,
    config: Config,
    pauses: Pauses,
    read: Read<K>,
) -> impl Stream<Item = Event<K>> + Send
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let path = api.resource_url().to_owned();
    if K::metadata_api() {
        let items = partial_items(api.into_client(), path.clone(), config, pauses);
        each(path, items, read).left_stream()
    } else {
        let items = items(api.into_client(), path.clone(), config, pauses);
        each(path, items, read).right_stream()
    }
}

fn items(client: Client, path: String, config: Config, pauses: Pauses) -> BoxStream<'static, Event<Item<false>>> {
    followed(Api::all_with(client, &path), path, config, pauses).boxed()
}

fn partial_items(
    client: Client,
    path: String,
    config: Config,
    pauses: Pauses,
) -> BoxStream<'static, Event<Item<true>>> {
    followed(Api::all_with(client, &path), path, config, pauses).boxed()
}

fn followed<const METADATA: bool>(
    api: Api<Item<METADATA>>,
    path: String,
    config: Config,
    pauses: Pauses,
) -> impl Stream<Item = Event<Item<METADATA>>> + Send {
    let stream = watcher(api, config);
    let stream = match pauses {
        Pauses::Patient => stream.backoff(DefaultBackoff::default()).left_stream(),
        Pauses::Quick => stream.backoff(quick()).right_stream(),
    };
    let mut failures = 0_u32;
    stream.filter_map(move |event| {
        let event = match event {
            Ok(event) => {
                // A watch that begins anew says so before its listing has succeeded.
                if !matches!(event, Event::Init) {
                    failures = 0;
                }
                Some(event)
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                tell(&path, &error, failures);
                None
            }
        };
        std::future::ready(event)
    })
}

fn each<K, const METADATA: bool>(
    path: String,
    items: BoxStream<'static, Event<Item<METADATA>>>,
    read: Read<K>,
) -> impl Stream<Item = Event<K>> {
    let mut told = HashSet::new();
    items.filter_map(move |event| {
        let heard = match event {
            Event::Init => Ok(Event::Init),
            Event::InitDone => Ok(Event::InitDone),
            Event::InitApply(item) => item
                .read(read)
                .map(Event::InitApply)
                .map_err(|unreadable| (unreadable, None)),
            // Whoever has seen it while it could be read has it no longer.
            Event::Apply(item) => item
                .read(read)
                .map(Event::Apply)
                .map_err(|unreadable| gone(unreadable, read)),
            Event::Delete(item) => item
                .read(read)
                .map(Event::Delete)
                .map_err(|unreadable| gone(unreadable, read)),
        };
        std::future::ready(heard.map(Some).unwrap_or_else(|(unreadable, instead)| {
            skipped(&path, unreadable, &mut told);
            instead
        }))
    })
}

/// That an object which cannot be read is gone, told by an object of the same name with nothing in it. None if its kind allows no such one.
fn gone<K>(object: Unreadable, read: Read<K>) -> (Unreadable, Option<Event<K>>) {
    let metadata = json!({"namespace": object.namespace, "name": object.name, "resourceVersion": object.revision});
    let empty = [json!({"metadata": metadata}), json!({"metadata": metadata, "spec": {}})];
    let instead = empty.iter().find_map(|empty| read(&empty.to_string()).ok());
    (object, instead.map(Event::Delete))
}

fn skipped(path: &str, object: Unreadable, told: &mut HashSet<Unreadable>) {
    if told.contains(&object) {
        return;
    }
    let Unreadable {
        namespace,
        name,
        revision,
        line,
        column,
    } = &object;
    tracing::warn!(
        path,
        namespace,
        name,
        revision,
        "an object is none of its kind and is left out as if it were not there (line {line}, column {column})"
    );
    if told.len() < REMEMBERED {
        told.insert(object);
    }
}

fn tell(path: &str, error: &watcher::Error, failures: u32) {
    if failures == NEWS {
        tracing::warn!(path, %error, "watch fails again and again, will go on trying");
    } else {
        tracing::debug!(path, %error, failures, "watch broken, trying again");
    }
}

/// What the watch says, with each listing as one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen<T> {
    /// All that there is; whatever is not in it is gone.
    Listed(Vec<T>),
    /// It is new, or has changed.
    Changed(T),
    /// It is gone.
    Gone(T),
}

/// Follows a kind. `read` keeps what is needed of an object, as soon as it comes: a listing is held until it is complete.
pub fn follow<K, T: Send>(
    api: Api<K>,
    config: Config,
    pauses: Pauses,
    read: impl Fn(K) -> T + Send,
) -> impl Stream<Item = Seen<T>> + Send
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut listing = Vec::new();
    events(api, config, pauses).filter_map(move |event| {
        let seen = match event {
            Event::Init => {
                listing.clear();
                None
            }
            Event::InitApply(object) => {
                listing.push(read(object));
                None
            }
            Event::InitDone => Some(Seen::Listed(std::mem::take(&mut listing))),
            Event::Apply(object) => Some(Seen::Changed(read(object))),
            Event::Delete(object) => Some(Seen::Gone(read(object))),
        };
        std::future::ready(seen)
    })
}

fn quick() -> ResetTimerBackoff<ExponentialBackoff> {
    let pauses = ExponentialBuilder::new()
        .with_min_delay(Duration::from_micros(31_250))
        .with_max_delay(Duration::from_micros(1_875_000))
        .with_factor(2.0)
        .without_max_times()
        .with_jitter();
    // Reset by time: a watch that begins anew reports progress even if its list then fails.
    ResetTimerBackoff::new(pauses.into(), Duration::from_secs(10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn item(text: &str) -> Item<false> {
        serde_json::from_str(text).unwrap()
    }

    #[tokio::test]
    async fn an_object_that_is_none_of_its_kind_is_left_out() {
        let good = || item(r#"{"metadata":{"name":"good","resourceVersion":"1"},"data":{"a":"b"}}"#);
        let bad = || item(r#"{"metadata":{"name":"bad","resourceVersion":"2"},"data":["a"]}"#);
        let said = [
            Event::Init,
            Event::InitApply(bad()),
            Event::InitApply(good()),
            Event::InitDone,
            Event::Apply(good()),
            Event::Apply(item(
                r#"{"metadata":{"name":"good","resourceVersion":"3"},"data":["a"]}"#,
            )),
            Event::Apply(bad()),
            Event::Apply(item("null")),
            Event::Delete(good()),
        ];
        let read = |text: &str| serde_json::from_str::<ConfigMap>(text);
        let heard = each(String::new(), futures::stream::iter(said).boxed(), read);
        let name = |object: ConfigMap| object.metadata.name.unwrap();
        let heard: Vec<String> = heard
            .map(|event| match event {
                Event::Init => "Init".to_owned(),
                Event::InitApply(object) => format!("listed {}", name(object)),
                Event::InitDone => "InitDone".to_owned(),
                Event::Apply(object) => format!("changed {}", name(object)),
                Event::Delete(object) => format!("gone {}", name(object)),
            })
            .collect()
            .await;
        assert_eq!(
            heard,
            [
                "Init",
                "listed good",
                "InitDone",
                "changed good",
                "gone good",
                "gone bad",
                "gone ",
                "gone good"
            ]
        );
    }

    #[test]
    fn each_is_told_of_once() {
        let object = |revision: &str| Unreadable {
            namespace: None,
            name: "bad".into(),
            revision: revision.into(),
            line: 1,
            column: 2,
        };
        let mut told = HashSet::new();
        for revision in ["1", "1", "2"] {
            skipped("/api/v1/x", object(revision), &mut told);
        }
        assert_eq!(told.len(), 2);
    }
}
