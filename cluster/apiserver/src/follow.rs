//! What follows from committed writes: a definition is served, a policy is heeded, an address is taken or free.
//!
//! Each such state is a function of the store's log and of nothing else. Whoever looks at one first takes in the changes that
//! are committed, under the state's lock, so that a state is never behind what its reader could have seen in the store. The
//! request that made a change has no part in it: its client may be gone by then.

mod addresses;
mod definitions;
mod nodes;
mod policies;
mod roles;

use std::sync::{Mutex, MutexGuard, PoisonError};

use afloat_store::{Entry, Error as StoreError, Store, Watch};
use futures::FutureExt;
use serde_json::Value;

pub(crate) use addresses::{Addresses, Reservation, Taking, owner, protocol};
pub(crate) use definitions::Definitions;
pub(crate) use policies::{Bound, Prefixes};

use crate::Error;

/// How often a state is built anew at once if the store forgets its changes meanwhile; the next look goes on.
const BEGINNINGS: usize = 8;

/// A state that follows from the objects below a prefix of the store. None of this may wait or look at other followed states.
pub(crate) trait Follows: Send {
    /// An object was stored under a key, for the first time or once more.
    fn put(&mut self, key: &str, object: &Value);
    /// An object is gone. `last`: its last form.
    fn removed(&mut self, key: &str, last: &Value);
    /// Forgets all objects; those that there are will be put again.
    fn clear(&mut self);
}

/// A state that keeps up with the store.
pub(crate) struct Followed<S> {
    store: Store,
    prefix: String,
    inner: Mutex<Inner<S>>,
}

struct Inner<S> {
    state: S,
    /// What has not been taken in. None: the changes since the last look are forgotten, so all is to be read again.
    watch: Option<Watch>,
}

impl<S: Follows> Followed<S> {
    /// The state that follows from what is stored now, and from whatever will be.
    ///
    /// # Errors
    /// [`Error::Corrupt`] names an object that cannot be read.
    pub(crate) fn new(store: Store, prefix: String, state: S) -> Result<Self, Error> {
        let mut inner = Inner { state, watch: None };
        inner.begin(&store, &prefix)?;
        let inner = Mutex::new(inner);
        Ok(Self { store, prefix, inner })
    }

    /// Looks at the state as it follows from everything that is committed. Holds the state's lock meanwhile.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut S) -> T) -> T {
        let mut inner: MutexGuard<'_, Inner<S>> = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.catch_up(&self.store, &self.prefix);
        look(&mut inner.state)
    }
}

impl<S: Follows> Inner<S> {
    fn catch_up(&mut self, store: &Store, prefix: &str) {
        loop {
            let Some(watch) = self.watch.as_mut() else {
                return self.begin_again(store, prefix);
            };
            let change = match watch.next_change().now_or_never() {
                Some(Some(Ok(change))) => change,
                Some(Some(Err(StoreError::Lagged))) => {
                    self.watch = None;
                    continue;
                }
                // Nothing new; or a closed store, in which nothing will be.
                Some(Some(Err(_)) | None) | None => return,
            };
            match serde_json::from_slice(&change.value) {
                Ok(object) if change.deleted => self.state.removed(&change.key, &object),
                Ok(object) => self.state.put(&change.key, &object),
                Err(error) => tracing::error!(key = %change.key, %error, "a stored object is unreadable"),
            }
        }
    }

    fn begin_again(&mut self, store: &Store, prefix: &str) {
        if let Err(error) = self.begin(store, prefix) {
            tracing::error!(%error, "what follows from the stored objects is not complete");
        }
    }

    /// Reads everything. Afterwards there is a watch, unless the store forgets faster than this reads.
    fn begin(&mut self, store: &Store, prefix: &str) -> Result<(), Error> {
        for _ in 0..BEGINNINGS {
            let page = store.list(prefix, None, 0);
            self.state.clear();
            let mut outcome = Ok(());
            for entry in &page.entries {
                match read(entry) {
                    Ok(object) => self.state.put(&entry.key, &object),
                    Err(error) => outcome = Err(error),
                }
            }
            self.watch = store.watch(prefix, page.revision).ok();
            if self.watch.is_some() {
                return outcome;
            }
        }
        Ok(())
    }
}

fn read(entry: &Entry) -> Result<Value, Error> {
    serde_json::from_slice(&entry.value).map_err(|error| Error::Corrupt {
        key: entry.key.to_string(),
        why: error.to_string(),
    })
}

#[cfg(test)]
mod tests;
