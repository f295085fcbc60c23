//! How many durable writes a second the store does, and with how many fsyncs: `cargo run --release --example group_commit
//! [directory]` (a directory on the disk in question; default: the current one).

use std::io::{Error as IoError, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use afloat_store::{Expect, Store};
use futures::future::try_join_all;
use redb::StorageBackend;
use redb::backends::FileBackend;

/// Bytes of an object, about those of a small Pod.
const VALUE_BYTES: usize = 2048;
/// Writes for each number of writers.
const WRITES: u64 = 4096;

/// A file that counts its fsyncs.
#[derive(Debug)]
struct Counting {
    file: FileBackend,
    syncs: Arc<AtomicU64>,
}

impl StorageBackend for Counting {
    fn len(&self) -> Result<u64, IoError> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), IoError> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), IoError> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        self.file.write(offset, data)
    }

    fn close(&self) -> Result<(), IoError> {
        self.file.close()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from("."), PathBuf::from);
    for writers in [1, 8, 64] {
        let directory = tempfile::tempdir_in(&directory)?;
        let mut options = std::fs::OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(directory.path().join("store.redb"))?;
        let syncs = Arc::new(AtomicU64::new(0));
        let store = Store::with_backend(Counting {
            file: FileBackend::new(file)?,
            syncs: Arc::clone(&syncs),
        })?;
        syncs.store(0, Ordering::Relaxed);
        let start = Instant::now();
        let write = async |writer: u64| {
            for number in 0..WRITES / writers {
                let stamp = Box::new(|_| vec![b'x'; VALUE_BYTES].into());
                store
                    .put(&format!("/pods/{writer}/{number}"), Expect::Absent, stamp)
                    .await?;
            }
            Ok::<(), afloat_store::Error>(())
        };
        try_join_all((0..writers).map(write)).await?;
        let (seconds, syncs) = (start.elapsed().as_secs_f64(), syncs.load(Ordering::Relaxed));
        store.close().await;
        let rate = WRITES as f64 / seconds;
        writeln!(
            std::io::stdout(),
            "{writers:>3} writers: {rate:>8.0} writes/s, {syncs:>5} fsyncs for {WRITES} writes"
        )?;
    }
    Ok(())
}
