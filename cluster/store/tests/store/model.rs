//! Random writes against the simplest thing that could be right.

use std::collections::BTreeMap;
use std::path::Path;

use afloat_store::{Error, Expect, Store, Watch};
use proptest::prelude::*;

use crate::{contents, next, show, stamp};

/// What a test does; `key` picks one of a few, `stale` makes the expectation wrong by that much.
#[derive(Clone, Debug)]
enum Step {
    Create { key: u8 },
    Update { key: u8, stale: u64 },
    Delete { key: u8, stale: Option<u64> },
    Watch { prefix: u8, back: u64 },
    Compact { back: u64 },
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let stale = prop_oneof![4 => Just(0_u64), 1 => 1..3_u64];
    let step = prop_oneof![
        6 => (0..8_u8).prop_map(|key| Step::Create { key }),
        8 => (0..8_u8, stale.clone()).prop_map(|(key, stale)| Step::Update { key, stale }),
        4 => (0..8_u8, proptest::option::of(stale)).prop_map(|(key, stale)| Step::Delete { key, stale }),
        2 => (0..3_u8, 0..20_u64).prop_map(|(prefix, back)| Step::Watch { prefix, back }),
        1 => (0..20_u64).prop_map(|back| Step::Compact { back }),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..80)
}

fn key(number: u8) -> String {
    format!("/{}/{number}", number % 2)
}

fn prefix(number: u8) -> &'static str {
    ["/0/", "/1/", ""][usize::from(number)]
}

#[derive(Default)]
struct Model {
    /// Key → (revision, creation, bytes).
    live: BTreeMap<String, (u64, u64, String)>,
    /// Key and line of every change; its index + 1 is its revision.
    log: Vec<(String, String)>,
    floor: u64,
}

impl Model {
    /// What a write does: None if it is refused.
    fn write(&mut self, key: &str, expect: Option<Expect>, delete: bool) -> Result<u64, Error> {
        let current = self.live.get(key).cloned();
        match (expect, &current) {
            (Some(Expect::Absent), Some(_)) => return Err(Error::Exists { key: key.into() }),
            (Some(Expect::Absent), None) => {}
            (_, None) => return Err(Error::NotFound { key: key.into() }),
            (Some(Expect::Revision(at)), Some((actual, ..))) if at != *actual => {
                return Err(Error::Conflict {
                    key: key.into(),
                    actual: *actual,
                });
            }
            _ => {}
        }
        let revision = self.log.len() as u64 + 1;
        let value = format!("v@{revision}");
        let sign = match (&current, delete) {
            (None, _) => "+",
            (_, false) => "~",
            (_, true) => "-",
        };
        let (created, previous) =
            current.map_or((revision, String::new()), |(_, created, previous)| (created, previous));
        self.log
            .push((key.to_owned(), format!("{revision} {sign}{key} {value} ({previous})")));
        if delete {
            self.live.remove(key);
        } else {
            self.live.insert(key.to_owned(), (revision, created, value));
        }
        Ok(revision)
    }

    fn contents(&self) -> Vec<String> {
        self.live
            .iter()
            .map(|(key, (at, created, value))| format!("{key} {at} {created} b{value:?}"))
            .collect()
    }

    fn changes(&self, prefix: &str, after: u64) -> impl Iterator<Item = &str> {
        let after = self.log.iter().skip(usize::try_from(after).unwrap());
        after
            .filter(move |(key, _)| key.starts_with(prefix))
            .map(|(_, line)| line.as_str())
    }
}

/// A store, what it should hold, and the watches that have been opened on it.
struct Run<'a> {
    file: Option<&'a Path>,
    store: Store,
    model: Model,
    watches: Vec<(Watch, &'static str, u64)>,
}

impl<'a> Run<'a> {
    fn new(file: Option<&'a Path>) -> Self {
        let store = file.map_or_else(Store::memory, |file| Store::open(file).unwrap());
        Self {
            file,
            store,
            model: Model::default(),
            watches: Vec::new(),
        }
    }

    async fn step(&mut self, step: &Step) {
        let at = |model: &Model, name: &str, stale| model.live.get(name).map_or(7, |(at, ..)| at.saturating_sub(stale));
        match *step {
            Step::Create { key: number } => self.put(&key(number), Expect::Absent).await,
            Step::Update { key: number, stale } => {
                let name = key(number);
                let expect = Expect::Revision(at(&self.model, &name, stale));
                self.put(&name, expect).await;
            }
            Step::Delete { key: number, stale } => {
                let name = key(number);
                let expect = stale.map(|stale| at(&self.model, &name, stale));
                let expected = self.model.write(&name, expect.map(Expect::Revision), true);
                let actual = self.store.delete(&name, expect, stamp("v")).await;
                assert_eq!(actual.map(|entry| entry.revision), expected);
            }
            Step::Watch { prefix: number, back } => {
                let after = self.store.revision().saturating_sub(back);
                match self.store.watch(prefix(number), after) {
                    Ok(watch) => self.watches.push((watch, prefix(number), after)),
                    Err(error) => {
                        assert_eq!(
                            error,
                            Error::Compacted {
                                requested: after,
                                oldest: self.model.floor
                            }
                        );
                        assert!(after < self.model.floor);
                    }
                }
            }
            Step::Compact { back } => {
                // So that a watch cannot lag, all are read first.
                self.drain().await;
                let before = self.store.revision().saturating_sub(back);
                self.store.compact(before);
                self.model.floor = self.model.floor.max(before);
                while self.store.oldest() < self.model.floor {
                    tokio::task::yield_now().await;
                }
            }
            Step::Reopen => self.reopen().await,
        }
    }

    async fn put(&mut self, name: &str, expect: Expect) {
        let expected = self.model.write(name, Some(expect), false);
        let actual = self.store.put(name, expect, stamp("v")).await;
        assert_eq!(actual.map(|entry| entry.revision), expected);
    }

    /// Each watch has exactly the changes that it should have.
    async fn drain(&mut self) {
        for (watch, prefix, after) in &mut self.watches {
            for expected in self.model.changes(prefix, *after) {
                assert_eq!(show(&next(watch).await.unwrap()), expected);
            }
            *after = self.model.log.len() as u64;
            let more = futures::FutureExt::now_or_never(watch.next_change());
            assert!(more.is_none(), "unexpected: {more:?}");
        }
    }

    async fn reopen(&mut self) {
        self.drain().await;
        if let Some(file) = self.file {
            self.store.close().await;
            for (mut watch, ..) in self.watches.drain(..) {
                assert_eq!(next(&mut watch).await.unwrap_err(), Error::Closed);
            }
            self.store = Store::open(file).unwrap();
        }
        self.check();
    }

    fn check(&self) {
        assert_eq!(contents(&self.store), self.model.contents());
        assert_eq!(self.store.revision(), self.model.log.len() as u64);
        assert_eq!(self.store.oldest(), self.model.floor);
    }
}

fn run(steps: &[Step], file: Option<&Path>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut run = Run::new(file);
        for step in steps {
            run.step(step).await;
        }
        run.drain().await;
        run.check();
        // The whole history again, as a late watcher sees it.
        run.watches
            .push((run.store.watch("", run.model.floor).unwrap(), "", run.model.floor));
        run.drain().await;
        run.store.close().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_memory_as_in_the_model(steps in steps()) {
        run(&steps, None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn on_the_disk_as_in_the_model(steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        run(&steps, Some(&directory.path().join("store.redb")));
    }
}
