//! ConfigMaps and Secrets that templates name, for workloads that roll them out. Each is read by its name and looked at again as long
//! as a workload names it: a right to list or watch them would be one to all Secrets of the cluster at once. Of one that has not changed
//! only the metadata is read; of the others digests are kept, and no value. Nothing of a value is ever in a log or an error.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use afloat_rollout::config::Known;
use afloat_rollout::config::content::Content;
use afloat_rollout::config::reads::{Source, SourceKind};
use afloat_rollout::config::settle::Settling;
use afloat_watching::{Queue, Urgency};
use afloat_words::key::Key;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::GetParams;
use kube::core::Request;
use kube::{Client, Resource as _};
use serde::Deserialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::round::act::REQUEST_TIMEOUT;

/// How old what is known may be.
const AGE: Duration = Duration::from_secs(5);
/// How old while a change settles.
const SETTLING_AGE: Duration = Duration::from_secs(1);
/// Of very many each is looked at less often, so that there are no more reads than one in this time.
const SPACING: Duration = Duration::from_millis(20);
/// Reads at the same time.
const PARALLEL: usize = 8;

/// See the module.
#[derive(Default)]
pub(crate) struct Configs {
    state: Mutex<State>,
    /// Something has to be read at once.
    hurry: Notify,
    /// By kind of workload.
    queues: Mutex<BTreeMap<&'static str, Arc<Queue>>>,
}

/// A ConfigMap or Secret of a namespace.
type At = (Arc<str>, Source);

/// A workload: its kind and its name.
type Reader = (&'static str, Key);

#[derive(Default)]
struct State {
    readers: BTreeMap<Reader, Named>,
    sources: BTreeMap<At, Held>,
}

/// What a workload named when it was looked at last.
struct Named {
    generation: Option<i64>,
    sources: BTreeSet<Source>,
}

/// What is known of one of them.
#[derive(Default)]
struct Held {
    readers: BTreeSet<Reader>,
    /// The last time that it was looked at.
    read: Option<Instant>,
    /// A workload that names it has changed since.
    stale: bool,
    version: Option<Version>,
    content: Settling,
    failure: Option<String>,
}

/// Tells one state of an object from all others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Version {
    uid: String,
    resource_version: String,
}

/// What a look found; None: what was known already.
type Found = Result<Option<(Option<Version>, Content)>, String>;

impl Configs {
    /// From now on changes put workloads of a kind into its queue.
    pub(crate) fn tell(&self, kind: &'static str, queue: &Arc<Queue>) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.insert(kind, queue.clone());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of what a workload names. None until they have been looked at since the workload has become what it is; then its
    /// name is put into its queue.
    pub(crate) fn look(
        &self,
        kind: &'static str,
        key: &Key,
        generation: Option<i64>,
        sources: BTreeSet<Source>,
    ) -> Option<Known> {
        let mut state = self.state();
        let reader = (kind, key.clone());
        let same = state
            .readers
            .get(&reader)
            .is_some_and(|named| named.generation == generation && named.sources == sources);
        if !same {
            state.forget(&reader, &sources);
            for source in &sources {
                let held = state
                    .sources
                    .entry((key.namespace.clone(), source.clone()))
                    .or_default();
                held.readers.insert(reader.clone());
                held.stale = true;
            }
            state.readers.insert(
                reader,
                Named {
                    generation,
                    sources: sources.clone(),
                },
            );
            self.hurry.notify_one();
        }
        let mut known = Known::new();
        for source in sources {
            let held = state.sources.get(&(key.namespace.clone(), source.clone()))?;
            if held.stale {
                return None;
            }
            let found = match &held.failure {
                Some(why) => Err(why.clone()),
                None => Ok(held.content.taken()?.clone()),
            };
            known.insert(source, found);
        }
        Some(known)
    }

    /// Forgets a workload that is gone, or names none any more.
    pub(crate) fn forget(&self, kind: &'static str, key: &Key) {
        let mut state = self.state();
        let reader = (kind, key.clone());
        if state.readers.contains_key(&reader) {
            state.forget(&reader, &BTreeSet::new());
        }
    }

    /// What has to be looked at now, and how long the others have time.
    fn due(&self) -> (Vec<(At, Option<Version>)>, Option<Duration>) {
        let state = self.state();
        let count = u32::try_from(state.sources.len()).unwrap_or(u32::MAX);
        let age = AGE.max(SPACING.saturating_mul(count));
        let left = |held: &Held| {
            let age = if held.content.due().is_some() {
                SETTLING_AGE
            } else {
                age
            };
            let read = held.read.filter(|_| !held.stale);
            read.map_or(Duration::ZERO, |read| age.saturating_sub(read.elapsed()))
        };
        let due = state.sources.iter().filter(|(_, held)| left(held).is_zero());
        let due = due.map(|(at, held)| (at.clone(), held.version.clone())).collect();
        let next = state.sources.values().map(left).filter(|left| !left.is_zero()).min();
        (due, next)
    }

    /// Notes what was found, and asks for rounds where it is something else to decide on.
    fn saw(&self, at: &At, found: Found) {
        let now = Timestamp::now();
        let readers = {
            let mut state = self.state();
            let Some(held) = state.sources.get_mut(at) else { return };
            let stale = std::mem::take(&mut held.stale);
            held.read = Some(Instant::now());
            let failed = held.failure.take();
            match found {
                Ok(Some((version, content))) => {
                    held.version = version;
                    held.content.saw(content, now);
                }
                Ok(None) => {}
                Err(why) => held.failure = Some(why),
            }
            // Who changed a template wants what is there now.
            let taken = if stale {
                held.content.take()
            } else {
                held.content.settle(now)
            };
            if !(stale || taken || failed != held.failure) {
                return;
            }
            held.readers.clone()
        };
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        for (kind, key) in readers {
            if let Some(queue) = queues.get(kind) {
                queue.add(key, Urgency::Now);
            }
        }
    }
}

impl State {
    /// Forgets a reader of all but these, and what nobody reads any more.
    fn forget(&mut self, reader: &Reader, but: &BTreeSet<Source>) {
        let Some(named) = self.readers.remove(reader) else {
            return;
        };
        for source in named.sources.difference(but) {
            let at = (reader.1.namespace.clone(), source.clone());
            let unread = self.sources.get_mut(&at).is_some_and(|held| {
                held.readers.remove(reader);
                held.readers.is_empty()
            });
            if unread {
                self.sources.remove(&at);
            }
        }
    }
}

/// Looks at them again and again until `shutdown`.
pub(crate) async fn follow(configs: Arc<Configs>, client: Client, shutdown: CancellationToken) {
    loop {
        let (due, next) = configs.due();
        let mut found = futures::stream::iter(due)
            .map(|(at, version)| {
                let client = client.clone();
                async move {
                    let answer = tokio::time::timeout(REQUEST_TIMEOUT, read(&client, &at, version.as_ref())).await;
                    let late = |_| Err(format!("no answer within {REQUEST_TIMEOUT:?}"));
                    (at, answer.unwrap_or_else(late))
                }
            })
            .buffer_unordered(PARALLEL);
        let mut looked = false;
        while let Some((at, found)) = found.next().await {
            configs.saw(&at, found);
            looked = true;
        }
        if looked {
            continue;
        }
        let pause = async {
            match next {
                Some(next) => tokio::time::sleep(next + Duration::from_millis(1)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = pause => {}
            () = configs.hurry.notified() => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// An object without its content.
#[derive(Deserialize)]
struct Meta {
    metadata: Version,
}

/// What is read of a ConfigMap or a Secret; bytes are as the API server writes them, in base64.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Whole {
    metadata: Version,
    #[serde(default)]
    data: Option<BTreeMap<String, String>>,
    #[serde(default)]
    binary_data: Option<BTreeMap<String, String>>,
}

async fn read(client: &Client, (namespace, source): &At, known: Option<&Version>) -> Found {
    let url = match source.kind {
        SourceKind::ConfigMap => ConfigMap::url_path(&(), Some(namespace)),
        SourceKind::Secret => Secret::url_path(&(), Some(namespace)),
    };
    let request = Request::new(url);
    let params = GetParams::default();
    if known.is_some() {
        let metadata = request.get_metadata(&source.name, &params);
        match ask::<Meta>(client, metadata).await? {
            Some(meta) if Some(&meta.metadata) == known => return Ok(None),
            Some(_) => {}
            None => return Ok(Some((None, Content::Missing))),
        }
    }
    let whole = request.get(&source.name, &params);
    let Some(whole) = ask::<Whole>(client, whole).await? else {
        return Ok(Some((None, Content::Missing)));
    };
    // Who may read pods and no Secrets does not know the UID of one.
    let salt = match source.kind {
        SourceKind::ConfigMap => "",
        SourceKind::Secret => &whole.metadata.uid,
    };
    let values = [&whole.data, &whole.binary_data];
    let values = values.into_iter().flatten().flatten();
    let content = Content::of(salt, values.map(|(key, value)| (key.as_str(), value.as_bytes())));
    Ok(Some((Some(whole.metadata), content)))
}

/// None: there is no such object.
async fn ask<T: serde::de::DeserializeOwned>(
    client: &Client,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<Option<T>, String> {
    let request = request.map_err(|error| error.to_string())?;
    match client.request(request).await {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        // Its text might be a part of the answer.
        Err(kube::Error::SerdeError(_)) => Err("the answer cannot be read".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Source {
        Source {
            kind: SourceKind::ConfigMap,
            name: "conf".into(),
        }
    }

    fn found(version: &str, value: &str) -> Found {
        let version = Version {
            uid: "u".into(),
            resource_version: version.into(),
        };
        Ok(Some((Some(version), Content::of("", [("k", value.as_bytes())]))))
    }

    fn look(configs: &Configs, name: &str, generation: i64) -> Option<Known> {
        configs.look("CloneSet", &Key::new("n", name), Some(generation), [source()].into())
    }

    async fn taken(queue: &Queue, count: usize) -> BTreeSet<Key> {
        let mut all = BTreeSet::new();
        for _ in 0..count {
            let key = queue.take().await;
            queue.done(&key, None, Duration::ZERO);
            all.insert(key);
        }
        all
    }

    #[tokio::test]
    async fn all_who_name_it_are_told_and_what_nobody_names_is_forgotten() {
        let (configs, queue) = (Configs::default(), Arc::<Queue>::default());
        configs.tell("CloneSet", &queue);
        let at = (Arc::from("n"), source());
        assert!(look(&configs, "a", 1).is_none(), "nobody has looked");
        assert_eq!(configs.due().0, [(at.clone(), None)]);
        configs.saw(&at, found("1", "one"));
        assert_eq!(taken(&queue, 1).await, [Key::new("n", "a")].into());
        assert!(look(&configs, "a", 1).is_some());
        assert!(look(&configs, "b", 1).is_none(), "it is looked at anew for who comes");
        configs.saw(&at, Ok(None));
        let both: BTreeSet<Key> = [Key::new("n", "a"), Key::new("n", "b")].into();
        assert_eq!(taken(&queue, 2).await, both);

        // A change settles first, unless a workload has changed, too.
        let before = look(&configs, "a", 1);
        configs.saw(&at, found("2", "two"));
        assert_eq!(look(&configs, "a", 1), before);
        assert!(look(&configs, "a", 2).is_none());
        configs.saw(&at, Ok(None));
        assert_ne!(look(&configs, "a", 2), before);
        assert_eq!(taken(&queue, 2).await, both);

        // What cannot be read is told once, and what was known is known again afterwards.
        configs.saw(&at, Err("no answer".into()));
        let failed = look(&configs, "a", 2).unwrap();
        assert_eq!(failed[&source()], Err("no answer".into()));
        configs.saw(&at, Ok(None));
        assert!(look(&configs, "a", 2).unwrap()[&source()].is_ok());

        configs.forget("CloneSet", &Key::new("n", "a"));
        assert!(look(&configs, "b", 1).is_some());
        configs.forget("CloneSet", &Key::new("n", "b"));
        assert!(configs.state().sources.is_empty());
    }
}
