//! Events: what users read under `kubectl describe`. News, not state: best effort, written by one task behind a bounded queue,
//! so that no loop waits for them or fails with them.
//!
//! Repeated events are counted on one object, many similar ones are folded into one, and an object that talks without end is
//! cut off; numbers and wording are those of client-go's `EventCorrelator`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::loops::answer::is_status;
use crate::objects::Kind;
use crate::objects::time::{seconds, whole_seconds};

/// Events that may wait to be written; more are dropped.
const QUEUE: usize = 4096;
/// Taken from the queue at once; equal ones among them are one write.
const BATCH: usize = 128;
/// Objects whose events are remembered for counting.
const REMEMBERED: usize = 1024;
/// Longest wait for one write.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// So many different messages with one reason about one object within [`SIMILAR_WITHIN`] are told as they are; then folded.
const SIMILAR_MOST: usize = 10;
const SIMILAR_WITHIN: SignedDuration = SignedDuration::from_mins(10);
/// Writes about one object: so many at once, and one more for each [`REFILL`].
const TOKENS: u32 = 25;
const REFILL: SignedDuration = SignedDuration::from_mins(5);
/// After a batch the writer rests for so many times what it took, within the limit: in a burst the loops' own writes go first.
const REST: u32 = 8;
const REST_MOST: Duration = Duration::from_secs(1);
/// The API server's limit of a message, in bytes.
const MESSAGE_MOST: usize = 1024;

/// Whether something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tone {
    Normal,
    Warning,
}

impl Tone {
    fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// One thing that happened to an object.
#[derive(Clone, Debug)]
struct Note {
    component: &'static str,
    about: ObjectReference,
    tone: Tone,
    reason: &'static str,
    message: String,
    at: Timestamp,
    /// How often it has happened.
    times: i32,
}

impl Note {
    fn subject(&self) -> Subject {
        Subject {
            component: self.component,
            kind: self.about.kind.clone().unwrap_or_default(),
            uid: self.about.uid.clone().unwrap_or_default(),
        }
    }

    /// Events live in the namespace of what they are about, those about cluster-scoped objects in `default`.
    fn namespace(&self) -> &str {
        self.about.namespace.as_deref().unwrap_or("default")
    }
}

/// Who tells about which object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Subject {
    component: &'static str,
    kind: String,
    uid: String,
}

/// Takes events and never waits.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Note>,
}

/// The other end: events to be written.
pub(crate) struct Pending(mpsc::Receiver<Note>);

impl Recorder {
    /// A recorder, and what its events come out of.
    pub(crate) fn new() -> (Self, Pending) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        (Self { queue }, Pending(receiver))
    }

    /// Notes that something happened to the object that `about` was read from. Dropped when too many wait.
    pub(crate) fn note<K: Kind>(
        &self,
        component: &'static str,
        about: &ObjectMeta,
        tone: Tone,
        reason: &'static str,
        message: String,
    ) {
        let note = Note {
            component,
            about: ObjectReference {
                api_version: Some(K::api_version(&()).into_owned()),
                kind: Some(K::kind(&()).into_owned()),
                namespace: about.namespace.clone(),
                name: about.name.clone(),
                uid: about.uid.clone(),
                resource_version: about.resource_version.clone(),
                field_path: None,
            },
            tone,
            reason,
            message: shortened(message),
            at: Timestamp::now(),
            times: 1,
        };
        if self.queue.try_send(note).is_err() {
            tracing::debug!(component, reason, "event dropped: too many are waiting");
        }
    }
}

fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE_MOST {
        let end = (0..=MESSAGE_MOST).rev().find(|at| message.is_char_boundary(*at));
        message.truncate(end.unwrap_or(0));
    }
    message
}

/// What is remembered of one event object.
#[derive(Clone, Debug)]
struct Known {
    tone: Tone,
    reason: &'static str,
    /// None: the one that similar events are folded into.
    message: Option<String>,
    /// Name of the Event, and its count so far.
    name: String,
    count: i32,
}

/// What is remembered of one object.
#[derive(Debug)]
struct Told {
    events: Vec<Known>,
    /// Different messages per reason since the time.
    similar: HashMap<(Tone, &'static str), (Timestamp, HashSet<String>)>,
    tokens: u32,
    refilled: Timestamp,
}

/// What has been told so far; the objects first told about are forgotten first.
#[derive(Default)]
struct Memory {
    told: HashMap<Subject, Told>,
    order: VecDeque<Subject>,
}

/// How to write an event.
#[derive(Clone, Debug, PartialEq)]
enum Write {
    /// A new object, with this message.
    Create { message: String },
    /// This object has happened so often now.
    Count { name: String, count: i32, message: String },
}

impl Memory {
    /// Decides how an event is written; None: the object has had its share.
    fn admit(&mut self, note: &Note) -> Option<Write> {
        let subject = note.subject();
        if !self.told.contains_key(&subject) {
            self.order.push_back(subject.clone());
            while self.order.len() > REMEMBERED {
                if let Some(oldest) = self.order.pop_front() {
                    self.told.remove(&oldest);
                }
            }
        }
        let told = self.told.entry(subject).or_insert_with(|| Told {
            events: Vec::new(),
            similar: HashMap::new(),
            tokens: TOKENS,
            refilled: note.at,
        });
        let folded = told.is_one_of_many(note);
        if !told.spend(note.at) {
            return None;
        }
        let message = if folded {
            shortened(format!("(combined from similar events): {}", note.message))
        } else {
            note.message.clone()
        };
        Some(match told.find(note, folded) {
            Some(known) => Write::Count {
                name: known.name.clone(),
                count: known.count.saturating_add(note.times),
                message,
            },
            None => Write::Create { message },
        })
    }

    /// Remembers what was written, or forgets the object if it turned out to be gone (`name` none).
    fn written(&mut self, note: &Note, write: &Write, name: Option<String>) {
        let Some(told) = self.told.get_mut(&note.subject()) else {
            return;
        };
        let (message, count) = match write {
            Write::Create { message } => (message, note.times),
            Write::Count { message, count, .. } => (message, *count),
        };
        let folded = *message != note.message;
        let (tone, reason) = (note.tone, note.reason);
        told.events
            .retain(|known| !known.is(tone, reason, (!folded).then_some(note.message.as_str())));
        if let Some(name) = name {
            told.events.push(Known {
                tone,
                reason,
                message: (!folded).then(|| note.message.clone()),
                name,
                count,
            });
        }
    }
}

impl Known {
    fn is(&self, tone: Tone, reason: &str, message: Option<&str>) -> bool {
        self.tone == tone && self.reason == reason && self.message.as_deref() == message
    }
}

impl Told {
    fn find(&self, note: &Note, folded: bool) -> Option<&Known> {
        let message = (!folded).then_some(note.message.as_str());
        self.events
            .iter()
            .find(|known| known.is(note.tone, note.reason, message))
    }

    /// Whether the note is told together with others like it.
    fn is_one_of_many(&mut self, note: &Note) -> bool {
        let entry = self.similar.entry((note.tone, note.reason));
        let (since, messages) = entry.or_insert_with(|| (note.at, HashSet::new()));
        if note.at.duration_since(*since) > SIMILAR_WITHIN {
            messages.clear();
        }
        *since = note.at;
        if messages.contains(&note.message) {
            return false;
        }
        if messages.len() >= SIMILAR_MOST {
            return true;
        }
        messages.insert(note.message.clone());
        false
    }

    fn spend(&mut self, now: Timestamp) -> bool {
        let passed = now.duration_since(self.refilled).as_secs().max(0);
        let more = u32::try_from(passed / REFILL.as_secs()).unwrap_or(u32::MAX);
        if more > 0 {
            self.tokens = self.tokens.saturating_add(more).min(TOKENS);
            self.refilled = now;
        }
        let has = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        has
    }
}

/// Writes events as they come, one at a time and with rests, until shutdown.
pub(crate) async fn write_events(client: kube::Client, mut pending: Pending, shutdown: CancellationToken) {
    let mut memory = Memory::default();
    let mut names = Names::default();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let taken = tokio::select! {
            () = shutdown.cancelled() => return,
            taken = pending.0.recv_many(&mut batch, BATCH) => taken,
        };
        if taken == 0 {
            return;
        }
        let started = tokio::time::Instant::now();
        for note in merged(batch.drain(..)) {
            let work = write(&client, &mut names, &note, &mut memory);
            let result = tokio::select! {
                () = shutdown.cancelled() => return,
                result = tokio::time::timeout(WRITE_LIMIT, work) => result,
            };
            match result {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(%error, reason = note.reason, about = ?note.about.name, "event not written");
                }
                Err(_) => tracing::debug!(reason = note.reason, about = ?note.about.name, "event not written in time"),
            }
        }
        let rest = started.elapsed().saturating_mul(REST).min(REST_MOST);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(rest) => {}
        }
    }
}

/// The notes in order, equal ones as one.
fn merged(notes: impl Iterator<Item = Note>) -> Vec<Note> {
    let mut all: Vec<Note> = Vec::new();
    let mut places: HashMap<(Subject, Tone, &'static str, String), usize> = HashMap::new();
    for note in notes {
        let key = (note.subject(), note.tone, note.reason, note.message.clone());
        match places.get(&key).and_then(|at| all.get_mut(*at)) {
            Some(known) => {
                known.times = known.times.saturating_add(note.times);
                known.at = note.at;
                known.about = note.about;
            }
            None => {
                places.insert(key, all.len());
                all.push(note);
            }
        }
    }
    all
}

/// Names of events: what they are about and a time that no other has.
#[derive(Default)]
struct Names {
    last: i128,
}

impl Names {
    fn next(&mut self, note: &Note) -> String {
        self.last = note.at.as_nanosecond().max(self.last + 1);
        format!("{}.{:x}", note.about.name.as_deref().unwrap_or_default(), self.last)
    }
}

async fn write(client: &kube::Client, names: &mut Names, note: &Note, memory: &mut Memory) -> Result<(), kube::Error> {
    let Some(mut write) = memory.admit(note) else {
        return Ok(());
    };
    let api: Api<Event> = Api::namespaced(client.clone(), note.namespace());
    if let Write::Count { name, count, message } = &write {
        let patch = json!({"count": count, "lastTimestamp": seconds(note.at), "message": message});
        match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => {
                memory.written(note, &write, Some(name.clone()));
                return Ok(());
            }
            // It has expired: a new one.
            Err(error) if is_status(&error, 404) => {
                memory.written(note, &write, None);
                write = Write::Create {
                    message: message.clone(),
                };
            }
            Err(error) => return Err(error),
        }
    }
    let (Write::Create { message } | Write::Count { message, .. }) = &write;
    let name = names.next(note);
    api.create(&PostParams::default(), &event(note, name.clone(), message))
        .await?;
    memory.written(note, &write, Some(name));
    Ok(())
}

fn event(note: &Note, name: String, message: &str) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(note.namespace().to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: note.about.clone(),
        reason: Some(note.reason.to_owned()),
        message: Some(message.to_owned()),
        type_: Some(note.tone.name().to_owned()),
        count: Some(note.times),
        first_timestamp: Some(whole_seconds(note.at)),
        last_timestamp: Some(whole_seconds(note.at)),
        source: Some(EventSource {
            component: Some(note.component.to_owned()),
            host: None,
        }),
        reporting_component: Some(note.component.to_owned()),
        reporting_instance: Some(String::new()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests;
