//! What authors have written and must see before they decide again. Deciding on a view without its own writes is how
//! controllers exceed budgets and skip drains (kruise #2276, #1765; kubernetes #137409).
//!
//! A round of an author has two halves. [`Ledger::settle`] opens the first, [`Looking`]: only it gives views, and it does so
//! only when the caches show all that the author wrote before. [`Looking::write`] ends it, and every view with it, and opens
//! the second, [`Writing`], which notes what is written. So no view outlives the first write after it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use afloat_words::key::Key;

use crate::cache::{Cache, View, Watchable, Watched};
use crate::content::Progress;
use crate::kind::Kind;
use crate::written::{Expected, Written};

/// Writes that one cache is to show.
struct Open {
    cache: Arc<dyn Watched>,
    place: usize,
    expected: Vec<Expected>,
}

/// Everything that authors have written and the caches do not show yet, by author: the object that a round is about.
#[derive(Default)]
pub struct Ledger {
    open: Mutex<HashMap<Key, Vec<Open>>>,
}

/// The caches do not show everything yet that an author wrote.
#[derive(Clone, Copy, Debug)]
pub struct Behind {
    /// When the oldest of what is not seen was answered.
    pub since: Instant,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Vec<Open>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a round of `author`, who must have no other. `seen` is told of each write how long it took to be seen.
    ///
    /// # Errors
    /// If a cache does not show a write of the author yet. Each change in a cache is a reason to ask again.
    pub fn settle(&self, author: &Key, mut seen: impl FnMut(Duration)) -> Result<Looking<'_>, Behind> {
        let mut all = self.lock();
        if let Some(open) = all.get_mut(author) {
            open.retain_mut(|open| {
                // There may be hundreds, and this is asked with each change that comes.
                let mut tell = |expected: &Expected| seen(expected.since.elapsed());
                open.cache.take_seen(&mut open.expected, &mut tell);
                !open.expected.is_empty()
            });
            let unseen = open.iter().flat_map(|open| &open.expected);
            if let Some(since) = unseen.map(|expected| expected.since).min() {
                return Err(Behind { since });
            }
            all.remove(author);
        }
        Ok(Looking {
            ledger: self,
            author: author.clone(),
            before: Mutex::default(),
        })
    }

    /// The same, but waits for the caches, `limit` at most.
    ///
    /// # Errors
    /// If they do not show everything by then.
    pub async fn settled(&self, author: &Key, limit: Duration) -> Result<Looking<'_>, Behind> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            // Before the look, so that nothing that comes after it is missed.
            let mut news: Vec<_> = self
                .lock()
                .get(author)
                .into_iter()
                .flatten()
                .map(|open| open.cache.news())
                .collect();
            let behind = match self.settle(author, |_| ()) {
                Ok(looking) => return Ok(looking),
                Err(behind) => behind,
            };
            if news.is_empty() {
                // Written meanwhile: the next look finds which cache to wait for.
                tokio::task::yield_now().await;
                continue;
            }
            let any = futures::future::select_all(news.iter_mut().map(|news| Box::pin(news.changed())));
            if tokio::time::timeout_at(deadline, any).await.is_err() {
                return Err(behind);
            }
        }
    }

    /// Asks every cache that does not show what `author` wrote to list anew.
    pub fn relist(&self, author: &Key) {
        for open in self.lock().get(author).into_iter().flatten() {
            open.cache.relist();
        }
    }

    /// Whether the caches may not show everything yet that `author` wrote.
    pub fn waits(&self, author: &Key) -> bool {
        self.lock().contains_key(author)
    }

    /// Forgets an author who is gone.
    pub fn forget(&self, author: &Key) {
        self.lock().remove(author);
    }

    fn note(&self, author: &Key, place: usize, cache: Arc<dyn Watched>, expected: Expected) {
        let mut all = self.lock();
        let of_author = all.entry(author.clone()).or_default();
        match of_author.iter_mut().find(|open| open.place == place) {
            Some(open) => open.expected.push(expected),
            None => of_author.push(Open {
                cache,
                place,
                expected: vec![expected],
            }),
        }
    }
}

/// How far caches had seen when a round looked at them first, each by its place in memory.
type Before = Vec<(usize, Progress)>;

fn place<K: Kind>(cache: &Cache<K>) -> usize {
    std::ptr::from_ref(cache).addr()
}

/// A round that only looks so far.
pub struct Looking<'r> {
    ledger: &'r Ledger,
    author: Key,
    before: Mutex<Before>,
}

impl<'r> Looking<'r> {
    /// What a cache shows, until this round begins to write. A round should look at each cache of whose kind it may write.
    pub fn at<'l, K: Watchable>(&'l self, cache: &'l Cache<K>) -> View<'l, K> {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        if !before.iter().any(|(known, _)| *known == place(cache)) {
            before.push((place(cache), Watched::progress(cache)));
        }
        View::of(cache)
    }

    /// Ends the looking. Nothing that was seen may be looked at again in this round.
    pub fn write(self) -> Writing<'r> {
        Writing {
            ledger: self.ledger,
            author: self.author,
            before: self.before.into_inner().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// A round that writes.
pub struct Writing<'r> {
    ledger: &'r Ledger,
    author: Key,
    before: Before,
}

/// A cache of any kind, which is to show what is written: what writes is compiled once and not for each kind.
#[derive(Clone)]
pub struct Witness {
    cache: Arc<dyn Watched>,
    place: usize,
}

impl<K: Watchable> From<&Arc<Cache<K>>> for Witness {
    fn from(cache: &Arc<Cache<K>>) -> Self {
        Self {
            cache: cache.clone(),
            place: place(&**cache),
        }
    }
}

impl Writing<'_> {
    /// Notes a write of the kind that `cache` holds, as soon as it was answered, or will be answered no more. For one that
    /// was not answered the cache lists anew.
    pub fn wrote(&self, cache: impl Into<Witness>, written: Written) {
        self.note(cache.into(), written);
    }

    fn note(&self, Witness { cache, place }: Witness, written: Written) {
        let unknown = written == Written::Unknown;
        let now = cache.progress();
        let before = self.before.iter().find(|(known, _)| *known == place);
        let before = before.map_or(now, |(_, progress)| *progress);
        let expected = Expected::new(written, before, now, Instant::now());
        if unknown {
            cache.relist();
        }
        self.ledger.note(&self.author, place, cache, expected);
    }
}
