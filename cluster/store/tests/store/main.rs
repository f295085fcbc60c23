//! What the store promises, checked from outside.

// clippy.toml allows these in tests, but does not see that the helpers here are part of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod damage;
mod fault;
mod kill;
mod model;
mod power;
mod rules;

use afloat_store::{Change, Entry, Error, Expect, Revision, Stamp, Store, Watch};
use bytes::Bytes;

/// A stamp that writes `text` and the revision, as the API server does.
fn stamp(text: &str) -> Stamp {
    let text = text.to_owned();
    Box::new(move |revision| Bytes::from(format!("{text}@{revision}")))
}

async fn create(store: &Store, key: &str, text: &str) -> Result<Entry, Error> {
    store.put(key, Expect::Absent, stamp(text)).await
}

async fn update(store: &Store, key: &str, at: Revision, text: &str) -> Result<Entry, Error> {
    store.put(key, Expect::Revision(at), stamp(text)).await
}

/// The next change, which must be there or come soon.
async fn next(watch: &mut Watch) -> Result<Change, Error> {
    let next = tokio::time::timeout(std::time::Duration::from_secs(60), watch.next_change());
    next.await
        .expect("a change within a minute")
        .expect("the watch has not ended")
}

/// That nothing more is to be read now.
async fn assert_quiet(watch: &mut Watch) {
    let next = tokio::time::timeout(std::time::Duration::from_millis(20), watch.next_change()).await;
    assert!(next.is_err(), "unexpected: {next:?}");
}

/// A change in one line, for comparisons.
fn show(change: &Change) -> String {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let sign = match (&change.previous, change.deleted) {
        (None, _) => "+",
        (Some(_), false) => "~",
        (Some(_), true) => "-",
    };
    let previous = change.previous.as_ref().map(text).unwrap_or_default();
    format!(
        "{} {sign}{} {} ({previous})",
        change.revision,
        change.key,
        text(&change.value)
    )
}

/// All live objects in one line each.
fn contents(store: &Store) -> Vec<String> {
    let page = store.list("", None, 0);
    assert_eq!(page.remaining, 0);
    let line = |entry: Entry| format!("{} {} {} {:?}", entry.key, entry.revision, entry.created, entry.value);
    page.entries.into_iter().map(line).collect()
}
