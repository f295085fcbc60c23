//! The disk returns errors.

use std::io::Error as IoError;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use afloat_store::{Error, Store};
use futures::future::join_all;
use redb::StorageBackend;

use crate::power::Recorder;
use crate::{assert_quiet, contents, create, next};

/// Works for a number of writes and syncs, then never again.
#[derive(Clone, Debug)]
struct Failing {
    disk: Recorder,
    left: Arc<AtomicI64>,
}

impl Failing {
    fn spend(&self) -> Result<(), IoError> {
        if self.left.fetch_sub(1, Ordering::Relaxed) > 0 {
            Ok(())
        } else {
            Err(IoError::other("on purpose"))
        }
    }
}

impl StorageBackend for Failing {
    fn len(&self) -> Result<u64, IoError> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), IoError> {
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), IoError> {
        self.spend()?;
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.spend()?;
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        self.spend()?;
        self.disk.write(offset, data)
    }
}

#[tokio::test]
async fn nothing_of_a_failed_batch_is_visible_and_reading_goes_on() {
    for left in 0..40 {
        let backend = Failing {
            disk: Recorder::default(),
            left: Arc::new(AtomicI64::new(i64::MAX)),
        };
        let store = Store::with_backend(backend.clone()).unwrap();
        for number in 0..5 {
            create(&store, &format!("/before/{number}"), "x").await.unwrap();
        }
        let mut watch = store.watch("", 5).unwrap();
        backend.left.store(left, Ordering::Relaxed);
        let mut failed = 0;
        for round in 0..20 {
            let keys: Vec<String> = (0..3).map(|index| format!("/after/{round}/{index}")).collect();
            for result in join_all(keys.iter().map(|key| create(&store, key, "x"))).await {
                match result {
                    Ok(entry) => {
                        assert_eq!(failed, 0, "after a failure nothing can be written");
                        assert_eq!(next(&mut watch).await.unwrap().revision, entry.revision);
                    }
                    Err(Error::Backend(_)) => failed += 1,
                    Err(other) => panic!("{other}"),
                }
            }
        }
        assert!(failed > 0);
        assert_quiet(&mut watch).await;
        let (visible, revision) = (contents(&store), store.revision());
        assert_eq!(u64::try_from(visible.len()).unwrap(), revision);
        store.close().await;
        assert_eq!(next(&mut watch).await.unwrap_err(), Error::Closed);

        let reopened = Store::with_backend(Failing {
            disk: Recorder::holding(backend.disk.bytes()),
            left: Arc::new(AtomicI64::new(i64::MAX)),
        });
        let reopened = reopened.unwrap();
        assert!(reopened.revision() >= revision, "what was acknowledged is there");
        let all = contents(&reopened);
        assert!(visible.iter().all(|line| all.contains(line)));
        create(&reopened, "/works", "again").await.unwrap();
    }
}

#[test]
fn a_disk_that_fails_while_it_is_opened_is_an_error() {
    for left in 0..10 {
        let backend = Failing {
            disk: Recorder::default(),
            left: Arc::new(AtomicI64::new(left)),
        };
        assert!(
            matches!(Store::with_backend(backend), Err(Error::Backend(_))),
            "after {left} writes"
        );
    }
}

/// A disk with so much room, which a test changes.
#[derive(Clone, Debug)]
struct Small {
    disk: Recorder,
    room: Arc<AtomicI64>,
}

impl Small {
    fn holds(&self, length: u64) -> Result<(), IoError> {
        let room = u64::try_from(self.room.load(Ordering::Relaxed)).unwrap();
        if length <= room {
            Ok(())
        } else {
            Err(std::io::ErrorKind::StorageFull.into())
        }
    }
}

impl StorageBackend for Small {
    fn len(&self) -> Result<u64, IoError> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), IoError> {
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), IoError> {
        // A file may be longer than what the disk holds of it.
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        self.holds(offset + data.len() as u64)?;
        self.disk.write(offset, data)
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_room() {
    let small = Small {
        disk: Recorder::default(),
        room: Arc::new(AtomicI64::new(4 << 20)),
    };
    let make = small.clone();
    let store = Store::with_backends(move || Ok(make.clone())).unwrap();
    let large = "x".repeat(100_000);
    let mut written = 0;
    let mut watch = store.watch("", 0).unwrap();
    let told = loop {
        match create(&store, &format!("/fill/{written}"), &large).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "the disk is never full");
    };
    assert!(matches!(told, Error::Full(_)), "{told}");
    assert_eq!(store.health(), Err(told));
    assert_eq!(contents(&store).len(), written, "what was acknowledged can be read");
    small.room.store(64 << 20, Ordering::Relaxed);
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while store.health().is_err() {
        assert!(
            std::time::Instant::now() < limit,
            "it never works again: {:?}",
            store.health()
        );
        tokio::task::yield_now().await;
    }
    let entry = create(&store, "/after", &large).await.unwrap();
    let all = contents(&store);
    assert!(all.len() > written);
    // Watchers see everything once and in order, what was thought to have failed included.
    for revision in 1..=entry.revision {
        assert_eq!(next(&mut watch).await.unwrap().revision, revision);
    }
    store.close().await;
    let reopened = Store::with_backend(Recorder::holding(small.disk.bytes())).unwrap();
    assert_eq!(contents(&reopened), all);
}
