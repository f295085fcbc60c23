//! One situation, one outcome.

use std::collections::BTreeSet;
use std::path::Path;

use afloat_store::{Error, Expect, Store};
use futures::future::join_all;

use crate::{assert_quiet, contents, create, next, show, stamp, update};

/// In memory and on a disk the same must hold.
fn both() -> (tempfile::TempDir, [Store; 2]) {
    let directory = tempfile::tempdir().unwrap();
    let stores = [Store::memory(), open(directory.path())];
    (directory, stores)
}

fn open(directory: &Path) -> Store {
    Store::open(&directory.join("store.redb")).unwrap()
}

#[tokio::test]
async fn a_write_must_meet_what_it_expects() {
    let (_directory, stores) = both();
    for store in stores {
        let key = || "/pods/a".into();
        assert_eq!(
            update(&store, "/pods/a", 1, "x").await.unwrap_err(),
            Error::NotFound { key: key() }
        );
        assert_eq!(
            store.delete("/pods/a", None, stamp("x")).await.unwrap_err(),
            Error::NotFound { key: key() }
        );
        let first = create(&store, "/pods/a", "one").await.unwrap();
        assert_eq!((first.revision, first.created, &first.value[..]), (1, 1, &b"one@1"[..]));
        assert_eq!(
            create(&store, "/pods/a", "x").await.unwrap_err(),
            Error::Exists { key: key() }
        );
        let second = update(&store, "/pods/a", 1, "two").await.unwrap();
        assert_eq!((second.revision, second.created), (2, 1));
        let conflict = Error::Conflict { key: key(), actual: 2 };
        assert_eq!(update(&store, "/pods/a", 1, "x").await.unwrap_err(), conflict);
        assert_eq!(
            store.delete("/pods/a", Some(1), stamp("x")).await.unwrap_err(),
            conflict
        );
        assert_eq!(store.revision(), 2, "a refused write takes no revision");
        let gone = store.delete("/pods/a", Some(2), stamp("gone")).await.unwrap();
        assert_eq!((gone.revision, gone.created, &gone.value[..]), (3, 1, &b"gone@3"[..]));
        assert!(store.get("/pods/a").is_none());
        let again = create(&store, "/pods/a", "again").await.unwrap();
        assert_eq!((again.revision, again.created), (4, 4));
        let mut watch = store.watch("", 0).unwrap();
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(show(&next(&mut watch).await.unwrap()));
        }
        let expected = [
            "1 +/pods/a one@1 ()",
            "2 ~/pods/a two@2 (one@1)",
            "3 -/pods/a gone@3 (two@2)",
            "4 +/pods/a again@4 ()",
        ];
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn a_listing_comes_in_pages() {
    let store = Store::memory();
    for key in ["/a/1", "/b/1", "/b/2", "/b/3", "/b", "/c/1"] {
        create(&store, key, "x").await.unwrap();
    }
    let page = |prefix: &str, after: Option<&str>, limit| {
        let page = store.list(prefix, after, limit);
        let keys: Vec<String> = page.entries.iter().map(|entry| entry.key.to_string()).collect();
        assert_eq!(page.revision, 6);
        (keys.join(" "), page.remaining)
    };
    assert_eq!(page("/b/", None, 0), ("/b/1 /b/2 /b/3".into(), 0));
    assert_eq!(page("/b/", None, 2), ("/b/1 /b/2".into(), 1));
    assert_eq!(page("/b/", Some("/b/2"), 2), ("/b/3".into(), 0));
    assert_eq!(page("/b/", Some("/b/2x"), 2), ("/b/3".into(), 0));
    assert_eq!(page("/b/", Some("/a"), 1), ("/b/1".into(), 2));
    assert_eq!(page("/b/", Some("/c"), 1), (String::new(), 0));
    assert_eq!(page("/x/", None, 0), (String::new(), 0));
}

#[tokio::test]
async fn a_panicking_stamp_harms_nobody_else() {
    let (_directory, stores) = both();
    for store in stores {
        let error = store
            .put("/a", Expect::Absent, Box::new(|_| panic!("on purpose")))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Backend(text) if text.contains("/a panicked")));
        assert_eq!(create(&store, "/a", "x").await.unwrap().revision, 1);
    }
}

#[tokio::test]
async fn a_watcher_sees_its_prefix_only_and_waits_for_more() {
    let (_directory, stores) = both();
    for store in stores {
        create(&store, "/pods/a", "x").await.unwrap();
        let mut pods = store.watch("/pods/", 1).unwrap();
        let mut later = store.watch("/pods/", 4).unwrap();
        assert_quiet(&mut pods).await;
        create(&store, "/nodes/a", "x").await.unwrap();
        assert_quiet(&mut pods).await;
        for key in ["/pods/b", "/pods/c", "/pods/d"] {
            create(&store, key, "x").await.unwrap();
        }
        for revision in 3..=5 {
            assert_eq!(next(&mut pods).await.unwrap().revision, revision);
        }
        assert_eq!(
            next(&mut later).await.unwrap().revision,
            5,
            "started behind the newest revision"
        );
        assert_quiet(&mut pods).await;
        let waiting = tokio::spawn(async move { next(&mut pods).await });
        tokio::task::yield_now().await;
        create(&store, "/pods/e", "x").await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap().revision, 6);
    }
}

#[tokio::test]
async fn a_slow_watcher_is_told_so_and_an_idle_one_is_not_slow() {
    let store = Store::memory();
    let mut slow = store.watch("/pods/", 0).unwrap();
    let mut idle = store.watch("/nodes/", 0).unwrap();
    assert_quiet(&mut slow).await;
    assert_quiet(&mut idle).await;
    let mut revision = create(&store, "/pods/a", "x").await.unwrap().revision;
    for _ in 0..12_000 {
        revision = update(&store, "/pods/a", revision, "x").await.unwrap().revision;
    }
    assert!(store.oldest() > 0, "history is bounded");
    assert!(revision - store.oldest() >= 10_000, "but not shorter than promised");
    assert_eq!(next(&mut slow).await.unwrap_err(), Error::Lagged);
    assert!(slow.next_change().await.is_none());
    create(&store, "/nodes/a", "x").await.unwrap();
    assert_eq!(&*next(&mut idle).await.unwrap().key, "/nodes/a");
    let oldest = store.oldest();
    assert_eq!(
        store.watch("", 7).unwrap_err(),
        Error::Compacted { requested: 7, oldest }
    );
    assert_eq!(
        next(&mut store.watch("", oldest).unwrap()).await.unwrap().revision,
        oldest + 1
    );
}

#[tokio::test]
async fn large_changes_shorten_the_history() {
    let store = Store::memory();
    let large = |_| vec![0; 4 << 20].into();
    let mut revision = store.put("/a", Expect::Absent, Box::new(large)).await.unwrap().revision;
    for _ in 0..40 {
        revision = store
            .put("/a", Expect::Revision(revision), Box::new(large))
            .await
            .unwrap()
            .revision;
    }
    assert!((2..5).contains(&(revision - store.oldest())), "{store:?}");
}

#[tokio::test]
async fn compaction_forgets_changes_but_no_object() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    create(&store, "/kept", "x").await.unwrap();
    create(&store, "/gone", "x").await.unwrap();
    store.delete("/gone", None, stamp("gone")).await.unwrap();
    let mut watch = store.watch("", 3).unwrap();
    store.compact(u64::MAX);
    while store.oldest() < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(
        store.watch("", 2).unwrap_err(),
        Error::Compacted {
            requested: 2,
            oldest: 3
        }
    );
    update(&store, "/kept", 1, "y").await.unwrap();
    assert_eq!(show(&next(&mut watch).await.unwrap()), "4 ~/kept y@4 (x@1)");
    let before = contents(&store);
    store.close().await;
    let store = open(directory.path());
    assert_eq!((contents(&store), store.oldest(), store.revision()), (before, 3, 4));
    let mut watch = store.watch("", 3).unwrap();
    assert_eq!(show(&next(&mut watch).await.unwrap()), "4 ~/kept y@4 (x@1)");
    store.compact(4);
    store.close().await;
    let store = open(directory.path());
    assert_eq!((store.oldest(), store.revision()), (4, 4));
    assert_eq!(
        create(&store, "/new", "x").await.unwrap().revision,
        5,
        "revisions never go back"
    );
}

#[tokio::test]
async fn the_file_stays_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let value = |_| vec![7; 64 << 10].into();
    let mut revision = store.put("/a", Expect::Absent, Box::new(value)).await.unwrap().revision;
    for round in 0..600 {
        revision = store
            .put("/a", Expect::Revision(revision), Box::new(value))
            .await
            .unwrap()
            .revision;
        if round % 20 == 0 {
            store.compact(revision);
        }
    }
    let size = directory.path().join("store.redb").metadata().unwrap().len();
    assert!(size < 16 << 20, "{size} bytes for one object of 64 KiB, 37 MiB written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_get_distinct_revisions_in_the_order_that_watchers_see() {
    let (_directory, stores) = both();
    for store in stores {
        let mut watch = store.watch("/k/", 0).unwrap();
        let writers = (0..32).map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut revisions = Vec::new();
                for round in 0..10 {
                    let entry = create(&store, &format!("/k/{writer}/{round}"), "x").await.unwrap();
                    assert_eq!(
                        store.get(&entry.key).unwrap().revision,
                        entry.revision,
                        "own writes are visible"
                    );
                    revisions.push(entry.revision);
                }
                assert!(revisions.is_sorted());
                revisions
            })
        });
        let all: BTreeSet<u64> = join_all(writers).await.into_iter().flat_map(Result::unwrap).collect();
        assert_eq!(all, (1..=320).collect());
        for revision in 1..=320 {
            assert_eq!(next(&mut watch).await.unwrap().revision, revision);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_replace_the_same_one_wins() {
    let (_directory, stores) = both();
    for store in stores {
        create(&store, "/a", "x").await.unwrap();
        let attempts = (0..50).map(|_| {
            let store = store.clone();
            tokio::spawn(async move { update(&store, "/a", 1, "y").await })
        });
        let results: Vec<_> = join_all(attempts).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        assert_eq!(store.revision(), 2);
    }
}

#[tokio::test]
async fn closing_commits_ends_watches_and_frees_the_file() {
    let (directory, stores) = both();
    for store in stores {
        let mut watch = store.watch("", 0).unwrap();
        create(&store, "/a", "x").await.unwrap();
        store.close().await;
        store.close().await;
        assert_eq!(create(&store, "/b", "x").await.unwrap_err(), Error::Closed);
        assert_eq!(next(&mut watch).await.unwrap().revision, 1);
        assert_eq!(next(&mut watch).await.unwrap_err(), Error::Closed);
        assert!(store.get("/a").is_some(), "reading still works");
    }
    let store = open(directory.path());
    let second = Store::open(&directory.path().join("store.redb"));
    assert!(matches!(second, Err(Error::InUse)), "{second:?}");
    assert_eq!(store.revision(), 1);
}

#[tokio::test]
async fn dropping_the_last_handle_ends_watches() {
    let (_directory, stores) = both();
    for store in stores {
        let mut watch = store.watch("", 0).unwrap();
        drop(store.clone());
        drop(store);
        assert_eq!(next(&mut watch).await.unwrap_err(), Error::Closed);
    }
}

#[test]
fn the_file_is_private_and_anything_else_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let mode = directory
        .path()
        .join("store.redb")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let other = directory.path().join("other");
    std::fs::write(&other, "not a store").unwrap();
    assert!(matches!(Store::open(&other), Err(Error::Backend(_))));
}

#[tokio::test]
async fn a_damaged_file_is_named_and_does_not_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let store = open(directory.path());
    for number in 0..200 {
        create(&store, &format!("/{number}"), &"x".repeat(1000)).await.unwrap();
    }
    store.close().await;
    let whole = std::fs::read(&path).unwrap();
    for (from, to) in [(0, 4096), (4096, 8192), (80_000, 200_000), (8192, whole.len())] {
        let mut damaged = whole.clone();
        damaged[from..to].fill(93);
        std::fs::write(&path, damaged).unwrap();
        if let Err(error) = Store::open(&path) {
            let text = error.to_string();
            assert!(text.contains("store.redb: ") && text.contains("damaged"), "{text}");
        }
    }
    std::fs::write(&path, &whole[..100_000]).unwrap();
    assert!(Store::open(&path).unwrap_err().to_string().contains("move it away"));
}

#[tokio::test]
async fn a_creation_that_was_interrupted_is_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let draft = directory.path().join("store.redb.new");
    std::fs::write(&draft, "redb".repeat(10_000)).unwrap();
    let store = open(directory.path());
    create(&store, "/a", "x").await.unwrap();
    store.close().await;
    assert!(!draft.exists());
    assert_eq!(open(directory.path()).revision(), 1);
}

/// What a bookmark of a watch rests on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_with_nothing_left_to_read_is_as_far_as_the_revision_shown_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let mut watch = store.watch("/k", 0).unwrap();
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..300 {
                create(&store, &format!("/k{n}"), "x").await.unwrap();
            }
        })
    };
    let mut seen = 0;
    while seen < 300 {
        let shown = store.revision();
        while let Some(change) = futures::FutureExt::now_or_never(next(&mut watch)) {
            seen = change.unwrap().revision;
        }
        assert!(seen >= shown, "{shown} was shown, {seen} read");
        std::hint::spin_loop();
    }
    writer.await.unwrap();
}
