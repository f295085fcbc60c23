//! One watch per kind, and a cache of what is kept of the objects that it delivers.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use afloat_words::annotation::LAST_APPLIED;
use afloat_words::key::Key;
use afloat_words::revision::revision_of;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt};
use kube::Api;
use kube::runtime::watcher;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::content::{Change, Content, Event, Follower, News, Progress};
use crate::feed::{self, Pauses};
use crate::kind::Kind;
use crate::written::{Expected, Sight};

/// What a watch asks of an object.
pub trait Wire: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}

impl<K> Wire for K where K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}

/// A kind whose objects a watch can follow. Who set which field, and kubectl's copy of the whole object, are gone from an
/// object before it is kept.
pub trait Watchable: Kind<Wire: Wire> {}

impl<K: Kind<Wire: Wire>> Watchable for K {}

/// Called for every change; returns false when it is to be called no more.
type Subscriber<T> = Box<dyn Fn(&Change<T>) -> bool + Send + Sync>;

/// Objects of one kind, fed by one watch. Its `peek` functions show what it holds now, for sending word to those who decide,
/// and for figures; to decide, an author takes a [`View`], which only [`crate::Looking`] gives.
pub struct Cache<K: Kind> {
    content: Mutex<Content<K>>,
    subscribers: Mutex<Vec<Subscriber<K::Kept>>>,
    progress: watch::Sender<Progress>,
    relist: Notify,
}

impl<K: Watchable> Cache<K> {
    /// An empty cache.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            content: Mutex::default(),
            subscribers: Mutex::new(Vec::new()),
            progress: watch::Sender::new(Progress::default()),
            relist: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Content<K>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One object, as the cache has it now.
    pub fn peek(&self, key: &Key) -> Option<Arc<K::Kept>> {
        self.lock().get(key).cloned()
    }

    /// What is under an index now, in order of namespace and name.
    pub fn peek_group(&self, index: &K::Index) -> Vec<Arc<K::Kept>> {
        self.lock().group(index).cloned().collect()
    }

    /// Everything that it holds now, in no order.
    pub fn peek_all(&self) -> Vec<Arc<K::Kept>> {
        self.lock().all().cloned().collect()
    }

    /// Calls `subscriber` for everything known now (as new), and for every change from now on, until it returns false. It is
    /// called when the change can be seen, and must neither wait nor subscribe.
    pub fn subscribe(&self, subscriber: impl Fn(&Change<K::Kept>) -> bool + Send + Sync + 'static) {
        // Locked throughout: a change in between waits, and is then told twice rather than never.
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        for object in self.peek_all() {
            let change = Change {
                old: None,
                new: Some(object),
                calm: true,
                same: false,
            };
            if !subscriber(&change) {
                return;
            }
        }
        subscribers.push(Box::new(subscriber));
    }

    /// Waits until the first listing is complete.
    pub async fn ready(&self) {
        let mut progress = self.progress.subscribe();
        // An error means that the sender is gone, and the sender lives as long as `self`.
        let _ = progress.wait_for(|now| now.done > 0).await;
    }

    /// Follows the API server until `shutdown`. Whenever the watch breaks, it is begun anew after a pause. For whoever runs it, it is
    /// the same with every kind.
    pub fn feed(
        self: Arc<Self>,
        api: Api<K::Wire>,
        config: watcher::Config,
        pauses: Pauses,
        shutdown: CancellationToken,
    ) -> BoxFuture<'static, ()> {
        self.follow(api, config, pauses, shutdown).boxed()
    }

    async fn follow(
        self: Arc<Self>,
        api: Api<K::Wire>,
        config: watcher::Config,
        pauses: Pauses,
        shutdown: CancellationToken,
    ) {
        loop {
            let mut events = std::pin::pin!(feed::events_as(api.clone(), config.clone(), pauses, K::read));
            loop {
                let event = tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = self.relist.notified() => break,
                    event = events.next() => event,
                };
                match event {
                    Some(event) => self.take(event),
                    None => return,
                }
            }
        }
    }

    /// Takes what a watch says.
    pub fn take(&self, event: watcher::Event<K::Wire>) {
        let event = match event {
            watcher::Event::Apply(object) => {
                let (object, revision) = trimmed::<K>(object);
                Event::Applied(object, revision)
            }
            watcher::Event::Delete(object) => {
                let (object, revision) = trimmed::<K>(object);
                Event::Gone(object, revision)
            }
            watcher::Event::Init => Event::ListBegins,
            watcher::Event::InitApply(object) => {
                let (object, revision) = trimmed::<K>(object);
                Event::Listed(object, revision)
            }
            watcher::Event::InitDone => Event::ListEnds,
        };
        let (changes, progress) = {
            let mut content = self.lock();
            (content.take(event), content.progress())
        };
        if !changes.is_empty() {
            let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
            subscribers.retain(|subscriber| changes.iter().all(subscriber));
        }
        // Those who wait for it are woken after those who are told of it: then nobody finds an old queue.
        self.progress.send_if_modified(|known| {
            let changed = *known != progress;
            *known = progress;
            changed || !changes.is_empty()
        });
    }
}

/// What is kept of an object, and its version.
fn trimmed<K: Watchable>(mut object: K::Wire) -> (K::Kept, u64) {
    let meta = kube::Resource::meta_mut(&mut object);
    meta.managed_fields = None;
    meta.self_link = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove(LAST_APPLIED);
    }
    let revision = revision_of(meta);
    (K::keep(object), revision)
}

impl<K: Kind> Sight for Content<K> {
    fn progress(&self) -> Progress {
        Self::progress(self)
    }
    fn shows(&self, key: &Key, uid: &str) -> bool {
        Self::shows(self, key, uid)
    }
}

/// A cache of any kind, as the ledger asks it.
pub(crate) trait Watched: Send + Sync {
    fn progress(&self) -> Progress;
    /// Takes out the writes that it shows, and tells of each; asks for another listing if only that can tell of one.
    fn take_seen(&self, all: &mut Vec<Expected>, tell: &mut dyn FnMut(&Expected));
    /// Tells when it has seen more.
    fn news(&self) -> watch::Receiver<Progress>;
    fn relist(&self);
}

impl<K: Watchable> Watched for Cache<K> {
    fn progress(&self) -> Progress {
        self.lock().progress()
    }
    fn take_seen(&self, all: &mut Vec<Expected>, tell: &mut dyn FnMut(&Expected)) {
        let content = self.lock();
        all.retain_mut(|expected| {
            if expected.doubtful(&*content) {
                self.relist.notify_one();
            }
            let seen = expected.seen(&*content);
            if seen {
                tell(expected);
            }
            !seen
        });
    }
    fn news(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }
    fn relist(&self) {
        self.relist.notify_one();
    }
}

/// What a cache shows to an author whose own writes are all in it. It ends when its author begins to write.
pub struct View<'l, K: Kind> {
    cache: &'l Cache<K>,
}

impl<'l, K: Watchable> View<'l, K> {
    pub(crate) fn of(cache: &'l Cache<K>) -> Self {
        Self { cache }
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<Shown<'l, K::Kept>> {
        self.cache.peek(key).map(|object| Shown {
            object,
            look: PhantomData,
        })
    }

    /// What is under an index, in order of namespace and name.
    pub fn group(&self, index: &K::Index) -> Group<'l, K::Kept> {
        self.groups(std::slice::from_ref(index))
    }

    /// What is under each of the indexes, one after the other, as it is at one moment.
    pub fn groups(&self, indexes: &[K::Index]) -> Group<'l, K::Kept> {
        let content = self.cache.lock();
        let objects = indexes.iter().flat_map(|index| content.group(index)).cloned();
        Group {
            objects: objects.collect(),
            look: PhantomData,
        }
    }

    /// What has happened to the objects under some indexes since `follower` asked last, as it is at one moment. What it was told
    /// before is as it was: together that is what [`View::groups`] shows.
    pub fn news(&self, follower: &mut Follower<K::Index>) -> News<K::Kept> {
        self.cache.lock().news(follower)
    }

    /// Everything, in no order.
    pub fn all(&self) -> Group<'l, K::Kept> {
        Group {
            objects: self.cache.peek_all(),
            look: PhantomData,
        }
    }
}

/// One object of a view.
pub struct Shown<'l, T> {
    object: Arc<T>,
    look: PhantomData<&'l ()>,
}

impl<T> Shown<'_, T> {
    /// The object beyond the view: to tell of it, not to decide on it.
    pub fn to_tell(&self) -> Arc<T> {
        self.object.clone()
    }
}

impl<T> Deref for Shown<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.object
    }
}

/// Objects of a view.
pub struct Group<'l, T> {
    objects: Vec<Arc<T>>,
    look: PhantomData<&'l ()>,
}

impl<T> Deref for Group<'_, T> {
    type Target = [Arc<T>];
    fn deref(&self) -> &[Arc<T>] {
        &self.objects
    }
}
