//! The watch: a listing, then every change, begun anew after a pause whenever it breaks.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use backon::ExponentialBuilder;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use kube::Api;
use kube::core::ObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::ResetTimerBackoff;
use kube::runtime::watcher::{self, Config, DefaultBackoff, Event, ExponentialBackoff, watcher};
use serde::de::DeserializeOwned;

use crate::item::{self, Item};

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

/// Everything that the watch says. It never ends by itself; a watch that fails again and again is told of once in the log,
/// until it works again. An object that is not readable as a `K` is left out as if it were not there, and told of once.
pub fn events<K>(api: Api<K>, config: Config, pauses: Pauses) -> impl Stream<Item = Event<K>> + Send
where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    events_of(api, (), config, pauses)
}

/// The same of a kind that is known at run time only.
pub fn events_of<K>(
    api: Api<K>,
    kind: K::DynamicType,
    config: Config,
    pauses: Pauses,
) -> impl Stream<Item = Event<K>> + Send
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Clone,
{
    let namespace = api.namespace().map(str::to_owned);
    let careful: Api<Item<K>> = match namespace {
        Some(namespace) => Api::namespaced_with(api.clone().into_client(), &namespace, &kind),
        None => Api::all_with(api.clone().into_client(), &kind),
    };
    let feed = Feed {
        path: api.resource_url().to_owned(),
        source: Source::Trusting(paused(watcher(api, config.clone()), pauses)),
        begin: move || paused(watcher(careful.clone(), config.clone()), pauses),
        left_out: LeftOut::default(),
        failures: 0,
    };
    futures::stream::unfold(feed, |mut feed| async move { Some((feed.next().await?, feed)) })
}

fn paused<T: Send + 'static>(
    stream: impl Stream<Item = watcher::Result<Event<T>>> + Send + 'static,
    pauses: Pauses,
) -> Said<T> {
    match pauses {
        Pauses::Patient => stream.backoff(DefaultBackoff::default()).boxed(),
        Pauses::Quick => stream.backoff(quick()).boxed(),
    }
}

type Said<T> = BoxStream<'static, watcher::Result<Event<T>>>;

/// A watch, in one of two ways.
enum Source<K> {
    /// Every object is read as it comes, at no cost. One that cannot be read spoils the whole listing.
    Trusting(Said<K>),
    /// Each object is read by itself, at twice the cost: once there has been one that could not be read.
    Careful(Said<Item<K>>),
}

/// What the watch says next.
enum Step<K> {
    Say(Event<K>),
    Skip,
    /// To be begun anew, carefully.
    Anew,
}

struct Feed<K, B> {
    path: String,
    source: Source<K>,
    begin: B,
    left_out: LeftOut,
    failures: u32,
}

impl<K: kube::Resource, B: Fn() -> Said<Item<K>>> Feed<K, B> {
    async fn next(&mut self) -> Option<Event<K>> {
        loop {
            let step = match &mut self.source {
                Source::Trusting(said) => match said.next().await? {
                    Ok(event) => Ok(Step::Say(event)),
                    Err(error) if item::is_unreadable(&error) => Ok(Step::Anew),
                    Err(error) => Err(error),
                },
                Source::Careful(said) => said.next().await?.map(|event| self.left_out.sift(&self.path, event)),
            };
            match step {
                Ok(Step::Say(event)) => {
                    // A watch that begins anew says so before its listing has succeeded.
                    if !matches!(event, Event::Init) {
                        self.failures = 0;
                    }
                    return Some(event);
                }
                Ok(Step::Skip) => {}
                Ok(Step::Anew) => self.source = Source::Careful((self.begin)()),
                Err(error) => {
                    self.failures = self.failures.saturating_add(1);
                    tell(&self.path, &error, self.failures);
                }
            }
        }
    }
}

/// The objects that are left out, by namespace and name.
#[derive(Default)]
struct LeftOut {
    known: BTreeSet<(String, String)>,
    /// Those of the listing that is under way.
    listing: BTreeSet<(String, String)>,
}

impl LeftOut {
    fn sift<K: kube::Resource>(&mut self, path: &str, event: Event<Item<K>>) -> Step<K> {
        match event {
            Event::Init => {
                self.listing.clear();
                Step::Say(Event::Init)
            }
            Event::InitDone => {
                self.known = std::mem::take(&mut self.listing);
                Step::Say(Event::InitDone)
            }
            Event::InitApply(Item::Readable(object)) => Step::Say(Event::InitApply(object)),
            Event::InitApply(Item::Unreadable(metadata, why)) => {
                let key = self.told(path, &metadata, &why);
                self.listing.insert(key);
                Step::Skip
            }
            Event::Apply(Item::Readable(object)) => {
                self.known.remove(&key(object.meta()));
                Step::Say(Event::Apply(object))
            }
            Event::Delete(Item::Readable(object)) => {
                self.known.remove(&key(object.meta()));
                Step::Say(Event::Delete(object))
            }
            // One that could be read before must be seen to go: only a listing without it can say so.
            Event::Apply(Item::Unreadable(metadata, _)) if self.known.contains(&key(&metadata)) => Step::Skip,
            Event::Delete(Item::Unreadable(metadata, _)) if self.known.remove(&key(&metadata)) => Step::Skip,
            Event::Apply(Item::Unreadable(..)) | Event::Delete(Item::Unreadable(..)) => Step::Anew,
        }
    }

    /// Tells of an object, unless it has been told of.
    fn told(&mut self, path: &str, metadata: &ObjectMeta, why: &str) -> (String, String) {
        let key = key(metadata);
        if self.known.insert(key.clone()) {
            let (namespace, name) = &key;
            tracing::warn!(
                path,
                namespace,
                name,
                why,
                "an object cannot be read: left out as if it were not there"
            );
        }
        key
    }
}

fn key(metadata: &ObjectMeta) -> (String, String) {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&metadata.namespace), text(&metadata.name))
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
    K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
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
mod tests;
