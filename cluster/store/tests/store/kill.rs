//! `kill -9` in the middle of writing: the test starts itself as a child, kills it, and opens what it left.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use afloat_store::Store;
use futures::future::join_all;

use crate::{create, update};

/// Where the child finds its file; unset in an ordinary run.
const FILE: &str = "AFLOAT_STORE_KILL_TEST_FILE";

/// Not a test: what the child does, for ever.
#[test]
#[ignore = "runs in a child of kill_9_loses_nothing_acknowledged"]
fn child() {
    let Some(file) = std::env::var_os(FILE) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(Path::new(&file)).unwrap();
        let epoch = store.revision();
        let write = async |writer: u64| {
            for round in 0_u64.. {
                let key = format!("/{epoch}/{writer}/{round}");
                let entry = create(&store, &key, "x").await.unwrap();
                let entry = update(&store, &key, entry.revision, "y").await.unwrap();
                writeln!(std::io::stdout(), "acknowledged {key} {}", entry.revision).unwrap();
            }
        };
        join_all((0..8).map(write)).await;
    });
}

#[test]
fn kill_9_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.redb");
    let mut acknowledged: Vec<(String, u64)> = Vec::new();
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child", "--ignored", "--nocapture"])
            .env(FILE, &file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        // Not before it has written something, then at some moment.
        let first = lines.by_ref().find(|line| line.contains("acknowledged"));
        std::thread::sleep(Duration::from_millis(30 + 37 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let complete = |line: String| {
            let mut words = line.split(' ').skip_while(|word| *word != "acknowledged").skip(1);
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        };
        let mut lines: Vec<String> = first.into_iter().chain(lines).collect();
        // The last line may be cut off.
        lines.pop();
        acknowledged.extend(lines.into_iter().filter_map(complete));

        let store = Store::open(&file).unwrap();
        for (key, revision) in &acknowledged {
            let entry = store
                .get(key)
                .unwrap_or_else(|| panic!("{key} is lost, it was acknowledged at {revision}"));
            assert_eq!(entry.revision, *revision);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(store.close());
    }
    assert!(acknowledged.len() > 50, "only {} writes", acknowledged.len());
}
