//! The only one who writes: decides each write against the state it will meet, commits many at once, then publishes.
//!
//! Group commit needs no timer: while one transaction is being synced the queue fills, and the next takes all that waits.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::disk::{Disk, Read};
use crate::row::{Row, Superseded};
use crate::shared::Shared;
use crate::state::Limits;
use crate::{Entry, Error, Expect, Revision, Stamp};

/// How many writes one transaction takes at most.
const BATCH_WRITES: usize = 256;
/// From how many bytes on a transaction takes no further write.
const BATCH_BYTES: usize = 8 << 20;
/// How many superseded rows one transaction removes at most.
const BATCH_REMOVALS: usize = 2048;

/// How long after a failure the file is opened again at the earliest.
const PAUSE: Duration = Duration::from_secs(1);

/// What a caller wants.
pub(crate) enum Intent {
    /// Create or replace.
    Put(Expect),
    /// Remove, if last written at that revision.
    Delete(Option<Revision>),
}

/// One write on its way.
pub(crate) struct Write {
    pub(crate) key: Arc<str>,
    pub(crate) intent: Intent,
    pub(crate) stamp: Stamp,
}

/// What the queue of the writer's thread carries.
pub(crate) enum Message {
    /// Do this and tell how it went.
    Write(Write, oneshot::Sender<Result<Entry, Error>>),
    /// Look at [`Shared::forget`].
    Compact,
    /// Commit what came before, then stop.
    Close,
}

/// Writes that become one transaction, decided but not committed.
struct Batch {
    rows: Vec<Row>,
    /// How the rows leave the keys that they touch.
    keys: HashMap<Arc<str>, Option<Entry>>,
    bytes: usize,
    next: Revision,
}

impl Batch {
    fn new(shared: &Shared) -> Self {
        let next = shared.read().revision() + 1;
        Self {
            rows: Vec::new(),
            keys: HashMap::new(),
            bytes: 0,
            next,
        }
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= BATCH_WRITES || self.bytes >= BATCH_BYTES
    }

    /// Decides one write against the state that the writes before it leave.
    fn add(&mut self, shared: &Shared, write: Write) -> Result<Entry, Error> {
        let current = match self.keys.get(&write.key) {
            Some(entry) => entry.clone(),
            None => shared.read().get(&write.key),
        };
        check(&write, current.as_ref())?;
        let revision = self.next;
        let key = current.as_ref().map_or(write.key, |entry| Arc::clone(&entry.key));
        let stamp = write.stamp;
        let value: Bytes = catch_unwind(AssertUnwindSafe(|| stamp(revision)))
            .map_err(|_| Error::Backend(format!("the stamp for {key} panicked, nothing was written")))?;
        self.next += 1;
        self.bytes += key.len() + value.len();
        let deleted = matches!(write.intent, Intent::Delete(_));
        let created = current.as_ref().map_or(revision, |entry| entry.created);
        let entry = Entry {
            key: Arc::clone(&key),
            value,
            revision,
            created,
        };
        self.keys.insert(Arc::clone(&key), (!deleted).then(|| entry.clone()));
        self.rows.push(Row::after(current, entry.clone(), deleted));
        Ok(entry)
    }
}

/// Whether the object is as the write expects it.
fn check(write: &Write, current: Option<&Entry>) -> Result<(), Error> {
    let key = || Arc::clone(&write.key);
    match (&write.intent, current) {
        (Intent::Put(Expect::Absent), None) => Ok(()),
        (Intent::Put(Expect::Absent), Some(_)) => Err(Error::Exists { key: key() }),
        (_, None) => Err(Error::NotFound { key: key() }),
        (Intent::Put(Expect::Revision(expected)) | Intent::Delete(Some(expected)), Some(entry))
            if entry.revision != *expected =>
        {
            Err(Error::Conflict {
                key: key(),
                actual: entry.revision,
            })
        }
        (_, Some(_)) => Ok(()),
    }
}

/// Commits batches.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    /// None: memory only.
    disk: Option<Disk>,
    /// Rows to remove from the disk when the history has moved past them, oldest first.
    garbage: VecDeque<Superseded>,
    limits: Limits,
    /// Why nothing can be written, and when that was found out.
    failed: Option<(Error, Instant)>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, disk: Option<Disk>, garbage: VecDeque<Superseded>, limits: Limits) -> Self {
        Self {
            shared,
            disk,
            garbage,
            limits,
            failed: None,
        }
    }

    /// Does one write, in a transaction of its own.
    pub(crate) fn write(&mut self, write: Write) -> Result<Entry, Error> {
        self.recover();
        let mut batch = Batch::new(&self.shared);
        let entry = batch.add(&self.shared, write)?;
        self.commit(&batch.rows)?;
        Ok(entry)
    }

    /// Forgets what [`Shared::forget`] asks for.
    pub(crate) fn compact(&mut self) -> Result<(), Error> {
        self.commit(&[])
    }

    /// Serves the queue until it is told to close or nobody can send any more.
    pub(crate) fn write_queue(mut self, mut queue: mpsc::Receiver<Message>) {
        while self.turn(&mut queue) {}
        queue.close();
        // Whoever still waits in the queue loses its oneshot and learns from that that the store is closed.
        while queue.blocking_recv().is_some() {}
        if let Some(Err(error)) = self.disk.take().map(Disk::close) {
            tracing::warn!(%error, "the store's file was not closed cleanly, opening it will take longer");
        }
    }

    /// One batch: waits for a first message unless there are rows left to remove. False: stop.
    fn turn(&mut self, queue: &mut mpsc::Receiver<Message>) -> bool {
        let backlog = self.failed.is_none() && self.removable() > 0;
        let mut message = if backlog {
            queue.try_recv().ok()
        } else {
            queue.blocking_recv()
        };
        if message.is_none() && !backlog {
            return false;
        }
        self.recover();
        let mut batch = Batch::new(&self.shared);
        let mut waiting = Vec::new();
        let mut open = true;
        while let Some(next) = message.take() {
            match next {
                Message::Write(write, done) => waiting.push((batch.add(&self.shared, write), done)),
                Message::Compact => {}
                Message::Close => {
                    open = false;
                    break;
                }
            }
            if !batch.is_full() && waiting.len() < BATCH_WRITES {
                message = queue.try_recv().ok();
            }
        }
        let committed = self.commit(&batch.rows);
        for (result, done) in waiting {
            // Even a refusal may rest on a write of this batch, so if the batch fails all of it fails. A caller that has
            // gone away is none of our business.
            let _ = done.send(committed.clone().and(result));
        }
        open
    }

    /// How many rows are superfluous now.
    fn removable(&self) -> usize {
        let floor = self.shared.read().floor();
        self.garbage.partition_point(|superseded| superseded.at <= floor)
    }

    /// Makes a batch durable, then visible. If the disk fails nothing of it becomes visible, and as redb takes no write
    /// after a failure and what it left on the disk is unknown, the writer takes none either until [`Writer::recover`]: reads and
    /// watches go on.
    fn commit(&mut self, rows: &[Row]) -> Result<(), Error> {
        if let Some((error, _)) = &self.failed {
            return Err(error.clone());
        }
        let (old, floor) = {
            let state = self.shared.read();
            (
                state.floor(),
                state.next_floor(rows, self.shared.forget.load(Ordering::Acquire), self.limits),
            )
        };
        if let Some(disk) = &self.disk {
            let known = self.garbage.len();
            self.garbage.extend(rows.iter().flat_map(Row::supersedes));
            let removable = self
                .garbage
                .partition_point(|superseded| superseded.at <= floor)
                .min(BATCH_REMOVALS);
            let remove: Vec<Superseded> = self.garbage.drain(..removable).collect();
            let moved = (floor > old).then_some(floor);
            if !(rows.is_empty() && remove.is_empty() && moved.is_none())
                && let Err(error) = disk.commit(rows, &remove, moved)
            {
                tracing::error!(%error, "the store's disk failed, nothing can be written until it works again");
                // As if this batch had never been: its revisions will be those of other rows.
                for superseded in remove.into_iter().rev() {
                    self.garbage.push_front(superseded);
                }
                self.garbage.truncate(known);
                self.fail(error.clone());
                return Err(error);
            }
        }
        self.shared.publish(rows, floor);
        Ok(())
    }

    fn fail(&mut self, error: Error) {
        self.shared.set_failure(Some(error.clone()));
        // The only clock here: how often to try is no decision about objects.
        self.failed = Some((error, Instant::now()));
    }

    /// Opens the file once more if it has failed, now and then.
    fn recover(&mut self) {
        let Some((_, at)) = &self.failed else { return };
        let Some(disk) = self.disk.as_mut().filter(|_| at.elapsed() >= PAUSE) else {
            return;
        };
        let revision = self.shared.read().revision();
        match disk.reopen(revision) {
            Ok(rows) => {
                tracing::info!(found = rows.len(), "the store's disk works again");
                self.adopt(rows);
                self.failed = None;
                self.shared.set_failure(None);
            }
            Err(error) => self.fail(error),
        }
    }

    /// Shows what of a failed batch is on the disk: its callers were told that nobody knows.
    fn adopt(&mut self, read: Vec<Read>) {
        for (revision, created, deleted, key, value) in read {
            let before = self.shared.read().get(&key);
            let now = Entry {
                key,
                value,
                revision,
                created,
            };
            let row = Row::after(before, now, deleted);
            self.garbage.extend(row.supersedes());
            let floor = self.shared.read().floor();
            self.shared.publish(&[row], floor);
        }
    }
}
