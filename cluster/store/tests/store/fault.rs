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
