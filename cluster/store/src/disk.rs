//! How revisions lie on the disk: the only file that names redb's tables.
//!
//! One table holds the log, revision → change. The live objects are not stored a second time, they are what reading the
//! log from its start leaves over. A row goes away when a later row of its key (or, for the row of a deletion, the row
//! itself) is no longer part of the history, so the file holds the live objects and a bounded history.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use redb::backends::FileBackend;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use crate::row::{Row, Superseded};
use crate::state::State;
use crate::{Change, Entry, Error, Revision};

/// Revision → (revision of the object's creation, whether this deletes it, key, bytes).
const LOG: TableDefinition<'_, u64, (u64, bool, &str, &[u8])> = TableDefinition::new("log");
/// The few numbers beside the log.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Row of [`META`]: which layout the file has.
const FORMAT: &str = "format";
/// Row of [`META`]: changes up to this revision are forgotten.
const FLOOR: &str = "floor";
/// The layout that this code reads and writes.
const FORMAT_VERSION: u64 = 1;
/// Bytes of redb's page cache: small, because what is read is in [`State`]; it only spares the pages at both ends of the
/// log from being read again.
const CACHE_BYTES: usize = 4 << 20;

/// Opens what holds the bytes once more.
pub(crate) type Again = Box<dyn FnMut() -> Result<Database, Error> + Send>;

/// The open file.
pub(crate) struct Disk {
    /// None: it failed, and was not opened again since.
    db: Option<Database>,
    /// None: it cannot be.
    again: Option<Again>,
}

/// A row of the log as it is read: revision, revision of the object's creation, whether this deletes it, key, bytes.
pub(crate) type Read = (Revision, Revision, bool, Arc<str>, Bytes);

/// What a file held when it was opened.
pub(crate) struct Loaded {
    /// Live objects and the history.
    pub(crate) state: State,
    /// Rows that can be removed as the history moves on, oldest first.
    pub(crate) garbage: VecDeque<Superseded>,
}

impl Disk {
    /// Opens the file at `path`, which it makes if there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        if !exists(path)?
            && let Some(disk) = Self::create(path)?
        {
            return Ok(disk);
        }
        let (backend, file) = lock(path, OpenOptions::new().read(true).write(true))?;
        // redb makes a new store of an empty file. Whoever has one had something else before.
        if file.metadata().map_err(|error| at(path, error))?.len() == 0 {
            let why = "the file is empty, which no store ever is";
            return Err(damaged(path, why));
        }
        reading(path, || {
            let db = database(backend, true)?;
            let disk = Self {
                db: Some(db),
                again: Some(again(file)),
            };
            disk.check_format()?;
            Ok(disk)
        })
    }

    /// Makes the file under another name first, and gives it its own when it is complete and synced: redb refuses a file
    /// whose creation was interrupted. None if somebody else made it meanwhile.
    fn create(path: &Path) -> Result<Option<Self>, Error> {
        let draft = path.with_added_extension("new");
        // Readable for its owner only: it holds Secrets.
        let (backend, file) = lock(
            &draft,
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600),
        )?;
        // Only now, with the lock held, is it certain that nobody else is about to give the draft its name.
        if exists(path)? {
            return Ok(None);
        }
        let failed = |error| at(path, error);
        file.set_len(0).map_err(failed)?;
        let again = again(file.try_clone().map_err(failed)?);
        let disk = Self::with_backend(backend, Some(again))?;
        std::fs::rename(&draft, path).map_err(failed)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))
            .and_then(|directory| directory.sync_all())
            .map_err(failed)?;
        Ok(Some(disk))
    }

    /// Opens whatever stores bytes, and makes a store of it if it is empty.
    pub(crate) fn with_backend(backend: impl StorageBackend, again: Option<Again>) -> Result<Self, Error> {
        let db = Some(database(backend, false)?);
        let disk = Self { db, again };
        disk.prepare()?;
        disk.check_format()?;
        Ok(disk)
    }

    fn db(&self) -> Result<&Database, Error> {
        let closed = || Error::Backend("the file failed and is not open".to_owned());
        self.db.as_ref().ok_or_else(closed)
    }

    /// Makes the tables of a fresh file.
    fn prepare(&self) -> Result<(), Error> {
        let db = self.db()?;
        let make = || -> Result<(), redb::Error> {
            match db.begin_read()?.open_table(META) {
                Ok(_) => return Ok(()),
                Err(redb::TableError::TableDoesNotExist(_)) => {}
                Err(error) => return Err(error.into()),
            }
            let write = begin(db)?;
            {
                write.open_table(LOG)?;
                let mut meta = write.open_table(META)?;
                meta.insert(FORMAT, FORMAT_VERSION)?;
                meta.insert(FLOOR, 0)?;
            }
            Ok(write.commit()?)
        };
        make().map_err(failure)
    }

    fn check_format(&self) -> Result<(), Error> {
        match meta(self.db()?, FORMAT).map_err(failure)? {
            FORMAT_VERSION => Ok(()),
            other => Err(Error::Backend(format!(
                "the file has format {other}, this version reads {FORMAT_VERSION}: use the version that wrote it"
            ))),
        }
    }

    /// Reads the log from its start.
    pub(crate) fn load(&self) -> Result<Loaded, Error> {
        let db = self.db()?;
        let floor = meta(db, FLOOR).map_err(failure)?;
        let mut live: BTreeMap<Arc<str>, Entry> = BTreeMap::new();
        let mut history: VecDeque<Change> = VecDeque::new();
        let mut garbage = VecDeque::new();
        let read = db.begin_read().map_err(failure)?;
        let log = read.open_table(LOG).map_err(failure)?;
        for row in log.iter().map_err(failure)? {
            let (revision, row) = row.map_err(failure)?;
            let (revision, (created, deleted, key, value)) = (revision.value(), row.value());
            let before = live.remove(key);
            let key = before
                .as_ref()
                .map_or_else(|| Arc::from(key), |entry| Arc::clone(&entry.key));
            let now = Entry {
                key,
                value: Bytes::copy_from_slice(value),
                revision,
                created,
            };
            if !deleted {
                live.insert(Arc::clone(&now.key), now.clone());
            }
            let row = Row::after(before, now, deleted);
            garbage.extend(row.supersedes());
            if revision > floor {
                if revision != floor + history.len() as u64 + 1 {
                    return Err(Error::Backend(format!(
                        "the log has no row before revision {revision}: the file is damaged"
                    )));
                }
                history.push_back(row.change);
            }
        }
        Ok(Loaded {
            state: State::new(live, floor, history),
            garbage,
        })
    }

    /// Writes a batch so that it is on the disk when this returns: `rows` are added, `remove` go, and if `floor` is given
    /// history starts there. All or nothing.
    pub(crate) fn commit(&self, rows: &[Row], remove: &[Superseded], floor: Option<Revision>) -> Result<(), Error> {
        try_commit(self.db()?, rows, remove, floor).map_err(failure)
    }

    /// Opens the file once more after it has failed, and gives the rows after a revision: what was in the transaction that failed may
    /// be on the disk all the same. Writes to it before it says that it works.
    pub(crate) fn reopen(&mut self, after: Revision) -> Result<Vec<Read>, Error> {
        let again = self
            .again
            .as_mut()
            .ok_or_else(|| Error::Backend("it cannot be opened again".to_owned()))?;
        // Gives up its lock, which the next one takes.
        self.db = None;
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let db = again()?;
            let rows = rows_after(&db, after).map_err(failure)?;
            let floor = meta(&db, FLOOR).map_err(failure)?;
            try_commit(&db, &[], &[], Some(floor)).map_err(failure)?;
            Ok((db, rows))
        }));
        let (db, rows) = opened.unwrap_or_else(|_| Err(Error::Backend("the file is damaged".to_owned())))?;
        self.db = Some(db);
        Ok(rows)
    }

    /// Marks the file as cleanly closed.
    pub(crate) fn close(self) -> Result<(), Error> {
        self.db.map_or(Ok(()), |db| db.close().map_err(failure))
    }
}

/// Opens what holds bytes; `check`: looks at all of it first.
fn database(backend: impl StorageBackend, check: bool) -> Result<Database, Error> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder.set_check_integrity_on_open(check);
    builder.create_with_backend(backend).map_err(failure)
}

/// Opens a file that was open.
fn again(file: File) -> Again {
    Box::new(move || {
        let failed = |error: std::io::Error| Error::Backend(error.to_string());
        let file = file.try_clone().map_err(failed)?;
        let backend = FileBackend::new(file).map_err(failure)?;
        database(backend, false)
    })
}

/// The same for whatever stores bytes.
pub(crate) fn reopening<B: StorageBackend>(mut make: impl FnMut() -> std::io::Result<B> + Send + 'static) -> Again {
    Box::new(move || {
        let backend = make().map_err(|error| Error::Backend(error.to_string()))?;
        database(backend, false)
    })
}

fn meta(db: &Database, name: &str) -> Result<u64, redb::Error> {
    let value = db.begin_read()?.open_table(META)?.get(name)?.map(|value| value.value());
    Ok(value.unwrap_or_default())
}

fn rows_after(db: &Database, after: Revision) -> Result<Vec<Read>, redb::Error> {
    let log = db.begin_read()?.open_table(LOG)?;
    let mut rows = Vec::new();
    for row in log.range(after + 1..)? {
        let (revision, row) = row?;
        let (created, deleted, key, value) = row.value();
        let (key, value) = (Arc::from(key), Bytes::copy_from_slice(value));
        rows.push((revision.value(), created, deleted, key, value));
    }
    Ok(rows)
}

fn try_commit(db: &Database, rows: &[Row], remove: &[Superseded], floor: Option<Revision>) -> Result<(), redb::Error> {
    let write = begin(db)?;
    {
        let mut log = write.open_table(LOG)?;
        for Row { change, created, .. } in rows {
            log.insert(
                change.revision,
                (*created, change.deleted, &*change.key, &*change.value),
            )?;
        }
        for Superseded { row, .. } in remove {
            log.remove(row)?;
        }
        if let Some(floor) = floor {
            write.open_table(META)?.insert(FLOOR, floor)?;
        }
    }
    Ok(write.commit()?)
}

fn begin(db: &Database) -> Result<redb::WriteTransaction, redb::Error> {
    let mut write = db.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    // Costs a second fsync per commit. Without it, opening after a failure walks the whole file.
    write.set_quick_repair(true);
    Ok(write)
}

/// Opens a file and locks it, so that no two processes have it; beside the locked one another handle to it.
fn lock(path: &Path, options: &OpenOptions) -> Result<(FileBackend, File), Error> {
    let file = options.open(path).map_err(|error| at(path, error))?;
    let other = file.try_clone().map_err(|error| at(path, error))?;
    Ok((FileBackend::new(file).map_err(|error| at(path, error))?, other))
}

/// Reads a file that may be damaged: redb tells some kinds of damage by panicking. Nothing that `read` touched is looked
/// at again after that.
pub(crate) fn reading<T>(path: &Path, read: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let why = match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Err(Error::Backend(why))) => why,
        Ok(result) => return result,
        Err(_) => "the file is damaged".to_owned(),
    };
    Err(damaged(path, &why))
}

fn damaged(path: &Path, why: &str) -> Error {
    at(
        path,
        format!("{why} (if it is damaged, put a copy in its place, or move it away to start with an empty one)"),
    )
}

fn exists(path: &Path) -> Result<bool, Error> {
    path.try_exists().map_err(|error| at(path, error))
}

fn at(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Backend(format!("{}: {error}", path.display()))
}

fn failure(error: impl Into<redb::Error>) -> Error {
    match error.into() {
        redb::Error::DatabaseAlreadyOpen => Error::InUse,
        redb::Error::Io(error) if is_full(&error) => Error::Full(error.to_string()),
        error => Error::Backend(error.to_string()),
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
