//! The handle that everybody holds.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::disk::{self, Disk};
use crate::shared::Shared;
use crate::state::Limits;
use crate::writer::{Intent, Message, Write, Writer};
use crate::{Entry, Error, Expect, Page, Revision, Stamp, Watch};

/// How many writes may wait for the writer; more callers wait until there is room.
const QUEUE: usize = 1024;

/// Who does the writing.
enum Writing {
    /// A thread that may wait for the disk.
    Thread(mpsc::Sender<Message>),
    /// The caller: nothing to wait for, and a simulation stays deterministic.
    Inline(Mutex<Writer>),
}

struct Inner {
    shared: Arc<Shared>,
    writing: Writing,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A thread ends by itself: its queue has no sender any more.
        if let Writing::Inline(_) = self.writing {
            self.shared.end();
        }
    }
}

/// A store of objects; a cheap handle to be cloned. When the last is dropped the store closes in the background.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.inner.shared.read();
        formatter
            .debug_struct("Store")
            .field("revision", &state.revision())
            .field("oldest", &state.floor())
            .finish()
    }
}

impl Store {
    /// Opens the store in the file at `path`, which is made if there is none (its directory must exist).
    ///
    /// Reads all of it into memory and may wait for the disk: call it before serving, or on a thread that may block.
    ///
    /// # Errors
    /// [`Error::Backend`] if the file cannot be read or is not a store, [`Error::InUse`] if it is open already.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let disk = Disk::open(path)?;
        disk::reading(path, || Self::threaded(disk, Limits::default()))
    }

    /// A store that is gone when it is dropped. Writes are done by the calling task, without any thread.
    pub fn memory() -> Self {
        Self::inline(Limits::default())
    }

    /// Opens the store on anything that stores bytes, for tests of what happens if it fails. Blocks as [`Store::open`].
    ///
    /// # Errors
    /// [`Error::Backend`] as in [`Store::open`].
    pub fn with_backend(backend: impl redb::StorageBackend) -> Result<Self, Error> {
        Self::threaded(Disk::with_backend(backend, None)?, Limits::default())
    }

    /// The same on something that can be opened again after it has failed.
    ///
    /// # Errors
    /// [`Error::Backend`] as in [`Store::open`].
    pub fn with_backends<B: redb::StorageBackend>(
        mut make: impl FnMut() -> std::io::Result<B> + Send + 'static,
    ) -> Result<Self, Error> {
        let first = make().map_err(|error| Error::Backend(error.to_string()))?;
        let disk = Disk::with_backend(first, Some(disk::reopening(make)))?;
        Self::threaded(disk, Limits::default())
    }

    /// Whether writing works, as far as is known. If it does not, this has it tried again.
    ///
    /// # Errors
    /// Why the last write failed.
    pub fn health(&self) -> Result<(), Error> {
        let Some(error) = self.inner.shared.failure() else {
            return Ok(());
        };
        if let Writing::Thread(queue) = &self.inner.writing {
            // If the queue is full the writer tries by itself.
            drop(queue.try_send(Message::Compact));
        }
        Err(error)
    }

    fn inline(limits: Limits) -> Self {
        let shared = Arc::new(Shared::default());
        let writer = Writer::new(Arc::clone(&shared), None, VecDeque::new(), limits);
        Self {
            inner: Arc::new(Inner {
                shared,
                writing: Writing::Inline(Mutex::new(writer)),
            }),
        }
    }

    fn threaded(disk: Disk, limits: Limits) -> Result<Self, Error> {
        let loaded = disk.load()?;
        let shared = Arc::new(Shared::new(loaded.state));
        let writer = Writer::new(Arc::clone(&shared), Some(disk), loaded.garbage, limits);
        let (sender, queue) = mpsc::channel(QUEUE);
        // Even if the thread panicked nobody may wait for it for ever.
        let end = End(Arc::clone(&shared));
        let run = move || {
            let _end = end;
            writer.write_queue(queue);
        };
        let spawned = thread::Builder::new().name("store-writer".to_owned()).spawn(run);
        spawned.map_err(|error| Error::Backend(format!("no thread for the writer: {error}")))?;
        Ok(Self {
            inner: Arc::new(Inner {
                shared,
                writing: Writing::Thread(sender),
            }),
        })
    }

    /// The newest committed revision; 0 if nothing was ever written.
    pub fn revision(&self) -> Revision {
        self.inner.shared.read().revision()
    }

    /// The oldest revision that can still be watched from.
    pub fn oldest(&self) -> Revision {
        self.inner.shared.read().floor()
    }

    /// The object with this key, as committed.
    pub fn get(&self, key: &str) -> Option<Entry> {
        self.inner.shared.read().get(key)
    }

    /// The objects whose keys begin with `prefix`, in key order: at most `limit` of them (0: all), from the first key
    /// behind `after_key` on.
    pub fn list(&self, prefix: &str, after_key: Option<&str>, limit: usize) -> Page {
        self.inner.shared.read().list(prefix, after_key, limit)
    }

    /// At most `limit` objects whose keys begin with `prefix`, from the first key behind `after_key` on, and whether there are more.
    /// Unlike [`Store::list`] it does not count those.
    pub fn next(&self, prefix: &str, after_key: Option<&str>, limit: usize) -> (Vec<Entry>, bool) {
        self.inner.shared.read().next(prefix, after_key, limit)
    }

    /// Creates or replaces an object. `stamp` runs once it is certain that the write meets `expect`, on the writer's
    /// thread: it must be quick. Returns when the write is on the disk and visible.
    ///
    /// If the future is dropped the write may happen all the same.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NotFound`] and [`Error::Conflict`] if the object is not as expected, [`Error::Backend`]
    /// or [`Error::Full`] if the disk fails (later writes then fail, too, until the file could be opened again),
    /// [`Error::Closed`].
    pub async fn put(&self, key: &str, expect: Expect, stamp: Stamp) -> Result<Entry, Error> {
        self.write(Write {
            key: Arc::from(key),
            intent: Intent::Put(expect),
            stamp,
        })
        .await
    }

    /// Deletes an object, if given only if it was last written at that revision. The entry that it returns has the bytes
    /// that `stamp` made and the revision of the deletion; watchers see the same.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn delete(&self, key: &str, expect: Option<Revision>, stamp: Stamp) -> Result<Entry, Error> {
        self.write(Write {
            key: Arc::from(key),
            intent: Intent::Delete(expect),
            stamp,
        })
        .await
    }

    async fn write(&self, write: Write) -> Result<Entry, Error> {
        match &self.inner.writing {
            Writing::Thread(queue) => {
                let (done, result) = oneshot::channel();
                queue
                    .send(Message::Write(write, done))
                    .await
                    .map_err(|_| Error::Closed)?;
                result.await.unwrap_or(Err(Error::Closed))
            }
            Writing::Inline(writer) => {
                let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                if self.inner.shared.ended.is_cancelled() {
                    return Err(Error::Closed);
                }
                writer.write(write)
            }
        }
    }

    /// Every change after revision `after` to keys that begin with `prefix`, those to come included. A revision that does
    /// not exist yet is fine: changes up to it are left out.
    ///
    /// After the store was opened again, watches from revisions that it could be watched from before work as before.
    ///
    /// # Errors
    /// [`Error::Compacted`] if changes after that revision are forgotten.
    pub fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, Error> {
        Watch::new(Arc::clone(&self.inner.shared), prefix, after)
    }

    /// Forgets changes up to revision `before`, soon: then [`Store::oldest`] is `before` (or the newest revision, if that
    /// is less). Objects are not touched.
    ///
    /// Hardly ever needed, since the store by itself keeps the last 10,000 changes or 64 MiB of them, whichever is less.
    pub fn compact(&self, before: Revision) {
        let before = before.min(self.revision());
        self.inner.shared.forget.fetch_max(before, Ordering::AcqRel);
        match &self.inner.writing {
            // If the queue is full the writer has work, and looks at what is to be forgotten in the course of it.
            Writing::Thread(queue) => drop(queue.try_send(Message::Compact)),
            Writing::Inline(writer) => {
                // In memory nothing can fail.
                let _ = writer.lock().unwrap_or_else(PoisonError::into_inner).compact();
            }
        }
    }

    /// Cancelled when nothing will be written any more: after [`Store::close`], or when the last handle is gone. It is no handle
    /// itself.
    pub fn closed(&self) -> CancellationToken {
        self.inner.shared.ended.child_token()
    }

    /// Commits what was handed in before, closes the file and returns when another process could open it. Writes after
    /// that fail with [`Error::Closed`], watches end with it; reading still works.
    pub async fn close(&self) {
        match &self.inner.writing {
            Writing::Thread(queue) => {
                // Failing to send means that somebody else is closing it.
                let _ = queue.send(Message::Close).await;
                self.inner.shared.ended.cancelled().await;
            }
            Writing::Inline(writer) => {
                let _writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                self.inner.shared.end();
            }
        }
    }
}

/// Tells everybody that the writer has ended, however it ends.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}
