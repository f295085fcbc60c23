//! The power fails at every write and sync of a run; what was acknowledged must be there afterwards.
//!
//! The run happens once and is recorded. From the record follows what the disk may hold at any moment: all that was
//! synced, and of what was written since then nothing, everything, a part, or a part of a part.

use std::io::{Error as IoError, ErrorKind};
use std::sync::{Arc, Mutex};

use afloat_store::Store;
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redb::StorageBackend;

use crate::{contents, create, stamp, update};

/// What reached the device.
#[derive(Clone, Debug)]
enum Event {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

#[derive(Debug, Default)]
pub(crate) struct Image {
    bytes: Vec<u8>,
    events: Vec<Event>,
}

/// A disk in memory that remembers what happened to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder(Arc<Mutex<Image>>);

impl Recorder {
    /// A disk as it was found after a crash.
    pub(crate) fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Image {
            bytes,
            events: Vec::new(),
        })))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().bytes.clone()
    }

    fn syncs(&self) -> usize {
        self.0
            .lock()
            .unwrap()
            .events
            .iter()
            .filter(|event| matches!(event, Event::Sync))
            .count()
    }

    fn events(&self) -> usize {
        self.0.lock().unwrap().events.len()
    }
}

impl StorageBackend for Recorder {
    fn len(&self) -> Result<u64, IoError> {
        Ok(self.0.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), IoError> {
        let image = self.0.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        let bytes = image
            .bytes
            .get(start..start + out.len())
            .ok_or(ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), IoError> {
        let mut image = self.0.lock().unwrap();
        image.events.push(Event::SetLen(len));
        apply(&mut image.bytes, &Event::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.0.lock().unwrap().events.push(Event::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        let mut image = self.0.lock().unwrap();
        let event = Event::Write(offset, data.to_vec());
        apply(&mut image.bytes, &event);
        image.events.push(event);
        Ok(())
    }
}

fn apply(bytes: &mut Vec<u8>, event: &Event) {
    match event {
        Event::Write(offset, data) => {
            let start = usize::try_from(*offset).unwrap();
            if bytes.len() < start + data.len() {
                bytes.resize(start + data.len(), 0);
            }
            bytes[start..start + data.len()].copy_from_slice(data);
        }
        Event::SetLen(len) => bytes.resize(usize::try_from(*len).unwrap(), 0),
        Event::Sync => {}
    }
}

/// The same write, but only some of its sectors have arrived.
fn torn(event: &Event, random: &mut StdRng) -> Vec<Event> {
    let Event::Write(offset, data) = event else {
        return vec![event.clone()];
    };
    let mut parts = Vec::new();
    for (index, sector) in data.chunks(512).enumerate() {
        if random.random_bool(0.5) {
            parts.push(Event::Write(offset + 512 * index as u64, sector.to_vec()));
        }
    }
    parts
}

/// What is on the disk if the power fails with `unsynced` on the way.
fn crash(synced: &[u8], unsynced: &[Event], way: usize, random: &mut StdRng) -> Vec<u8> {
    let mut bytes = synced.to_vec();
    match way {
        0 => {}
        1 => unsynced.iter().for_each(|event| apply(&mut bytes, event)),
        2 => {
            let Some((last, rest)) = unsynced.split_last() else {
                return bytes;
            };
            rest.iter().for_each(|event| apply(&mut bytes, event));
            torn(last, random).iter().for_each(|event| apply(&mut bytes, event));
        }
        _ => {
            for event in unsynced {
                // Lengths are kept: a file system journals them in order.
                if matches!(event, Event::SetLen(_)) {
                    apply(&mut bytes, event);
                } else {
                    torn(event, random).iter().for_each(|event| apply(&mut bytes, event));
                }
            }
        }
    }
    bytes
}

/// The record of a run.
struct Recorded {
    recorder: Recorder,
    /// How many events it took to make the file. A crash before that leaves none: it has its name only afterwards.
    created: usize,
    /// (events so far, revision) whenever writes were acknowledged.
    acknowledged: Vec<(usize, u64)>,
    /// Contents at each revision, as seen when it was the newest; None between two of one batch.
    states: Vec<Option<Vec<String>>>,
}

/// About 200 commits of all kinds: alone and together, with deletions and compaction.
async fn record() -> Recorded {
    let recorder = Recorder::default();
    let store = Store::with_backend(recorder.clone()).unwrap();
    let created = recorder.events();
    let mut recorded = Recorded {
        recorder,
        created,
        acknowledged: Vec::new(),
        states: vec![Some(Vec::new())],
    };
    for round in 0..100_u64 {
        let key = format!("/k/{}", round % 7);
        match (store.get(&key), round % 5) {
            (Some(_), 0) => drop(store.delete(&key, None, stamp("gone")).await.unwrap()),
            (Some(entry), _) => drop(
                update(&store, &key, entry.revision, &"long ".repeat(200))
                    .await
                    .unwrap(),
            ),
            (None, _) => drop(create(&store, &key, "new").await.unwrap()),
        }
        recorded.note(&store);
        let many = (0..3).map(|index| {
            let (store, key) = (store.clone(), format!("/many/{round}/{index}"));
            async move { create(&store, &key, "together").await.unwrap() }
        });
        if round % 2 == 0 {
            join_all(many).await;
        } else {
            create(&store, &format!("/one/{round}"), "alone").await.unwrap();
        }
        recorded.note(&store);
        if round % 20 == 19 {
            store.compact(store.revision() - 5);
        }
    }
    store.close().await;
    recorded
}

impl Recorded {
    fn note(&mut self, store: &Store) {
        let revision = store.revision();
        self.acknowledged.push((self.recorder.events(), revision));
        self.states.resize(usize::try_from(revision).unwrap() + 1, None);
        *self.states.last_mut().unwrap() = Some(contents(store));
    }

    /// What was acknowledged before the event with this number, and the newest revision that can have been committed.
    fn bounds(&self, event: usize) -> (u64, u64) {
        let known = self.acknowledged.partition_point(|(events, _)| *events <= event);
        let revision = |index: usize| self.acknowledged.get(index).map(|(_, revision)| *revision);
        let newest = revision(known).or_else(|| revision(known.wrapping_sub(1))).unwrap_or(0);
        (known.checked_sub(1).and_then(revision).unwrap_or(0), newest)
    }

    /// Opens what a crash left and compares.
    async fn check(&self, image: Vec<u8>, event: usize, way: usize) {
        let (acknowledged, newest) = self.bounds(event);
        let store = Store::with_backend(Recorder::holding(image))
            .unwrap_or_else(|error| panic!("cannot be opened after a crash before event {event}, way {way}: {error}"));
        let revision = store.revision();
        assert!(
            (acknowledged..=newest).contains(&revision),
            "revision {revision} after a crash before event {event}, way {way}: {acknowledged} was acknowledged"
        );
        if let Some(expected) = &self.states[usize::try_from(revision).unwrap()] {
            assert_eq!(
                &contents(&store),
                expected,
                "after a crash before event {event}, way {way}"
            );
        }
        if event.is_multiple_of(8) {
            assert_eq!(create(&store, "/after", "x").await.unwrap().revision, revision + 1);
        }
        store.close().await;
    }
}

/// Cuts the power before every event of the run, in every way. With `honest` false the disk forgets what it was told to
/// sync.
async fn cut_everywhere(honest: bool) {
    let recorded = record().await;
    let events = std::mem::take(&mut recorded.recorder.0.lock().unwrap().events);
    assert!(
        recorded.acknowledged.len() >= 200 && events.len() > 1000,
        "{} events",
        events.len()
    );
    let mut random = StdRng::seed_from_u64(1);
    let mut synced = Vec::new();
    let mut unsynced: Vec<Event> = Vec::new();
    for (index, event) in events.into_iter().enumerate() {
        let ways = match unsynced.len() {
            _ if index < recorded.created => 0..0,
            // Nothing is on the way, all ways are the same.
            0 => 0..1,
            // What was synced has not changed since then.
            _ if honest => 1..4,
            _ => 0..1,
        };
        for way in ways {
            let image = crash(&synced, &unsynced, way, &mut random);
            recorded.check(image, index, way).await;
        }
        if matches!(event, Event::Sync) && (honest || index < recorded.created) {
            unsynced.drain(..).for_each(|event| apply(&mut synced, &event));
        } else {
            unsynced.push(event);
        }
    }
}

#[tokio::test]
async fn whatever_was_acknowledged_survives_a_power_cut_at_any_moment() {
    cut_everywhere(true).await;
}

/// That the test above can fail.
#[tokio::test]
#[should_panic(expected = "was acknowledged")]
async fn a_disk_that_only_pretends_to_sync_is_found_out() {
    cut_everywhere(false).await;
}

#[tokio::test]
async fn writes_that_wait_together_are_synced_together() {
    let recorder = Recorder::default();
    let store = Store::with_backend(recorder.clone()).unwrap();
    let before = recorder.syncs();
    let keys: Vec<String> = (0..200).map(|number| format!("/k/{number}")).collect();
    join_all(keys.iter().map(|key| create(&store, key, "x"))).await;
    let syncs = recorder.syncs() - before;
    assert!(
        syncs < 100,
        "{syncs} syncs for 200 writes, one by one they would need 400"
    );
}
