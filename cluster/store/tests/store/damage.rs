//! Files that somebody or something has damaged.

use std::fs;

use afloat_store::{Error, Store};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::{contents, create, update};

const PAGE: usize = 4096;

/// A folder with the file of a store that was closed, and what is in it.
async fn closed() -> (tempfile::TempDir, std::path::PathBuf, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = Store::open(&path).unwrap();
    for number in 0..200 {
        let entry = create(&store, &format!("/objects/{number}"), &"x".repeat(300))
            .await
            .unwrap();
        update(&store, &entry.key, entry.revision, "y").await.unwrap();
    }
    let all = contents(&store);
    store.close().await;
    (dir, path, all)
}

#[tokio::test]
async fn an_empty_or_shorter_file_is_no_new_store() {
    let (_dir, path, _) = closed().await;
    let bytes = fs::read(&path).unwrap();
    for length in [0, 1, 512, PAGE, bytes.len() / 2, bytes.len() - PAGE, bytes.len() - 1] {
        fs::write(&path, &bytes[..length]).unwrap();
        let told = Store::open(&path).expect_err("it is damaged");
        assert!(
            matches!(&told, Error::Backend(why) if why.contains("store.redb") && why.contains("put a copy in its place")),
            "{length}: {told}"
        );
        assert_eq!(
            fs::metadata(&path).unwrap().len(),
            length as u64,
            "it was left as it is"
        );
    }
}

#[tokio::test]
async fn an_overwritten_page_is_refused_or_means_nothing() {
    let (_dir, path, all) = closed().await;
    let bytes = fs::read(&path).unwrap();
    let mut random = StdRng::seed_from_u64(7);
    let mut refused = 0;
    // Pages that hold nothing are most of the file.
    let used = |page: &[u8]| page.iter().any(|byte| *byte != 0);
    let pages: Vec<usize> = (0..bytes.len() / PAGE)
        .filter(|page| used(&bytes[page * PAGE..][..PAGE]))
        .collect();
    for page in pages {
        let mut damaged = bytes.clone();
        random.fill(&mut damaged[page * PAGE..][..PAGE]);
        fs::write(&path, &damaged).unwrap();
        match Store::open(&path) {
            Ok(store) => {
                assert_eq!(contents(&store), all, "page {page}");
                store.close().await;
            }
            Err(Error::Backend(why)) => {
                assert!(why.contains("put a copy in its place"), "{why}");
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 5, "{refused}");
}
