//! How the controller sees the pods of this world: by the cache and the expectations that the operator itself has, fed by a
//! watch that is late, breaks, and lists anew in pages.

use std::sync::Arc;
use std::time::Instant;

use afloat_api::CloneSet;
use afloat_rollout::pod::object::Pod;
use afloat_rollout::workload::kind::Workload as _;
use afloat_rollout::workload::roster::Roster;
use afloat_watching::content::{Content, Event, Follower, News, Progress};
use afloat_watching::kind::Kind;
use afloat_watching::written::{Expected, Sight as Sees, Written};
use afloat_words::key::Key;
use afloat_words::revision::revision;

use super::{Bug, Dice, Snapshot};

/// Stands for pods in a cache.
struct Pods;

impl Kind for Pods {
    type Wire = Pod;
    type Kept = Pod;
    type Index = ();
    fn keep(wire: Pod) -> Pod {
        wire
    }
    fn key(pod: &Pod) -> Key {
        Key::new(pod.metadata.namespace.shared(), pod.metadata.name.shared())
    }
    fn uid(pod: &Pod) -> &str {
        &pod.metadata.uid
    }
    fn deleting(pod: &Pod) -> bool {
        pod.metadata.terminating
    }
    fn indexes(_: &Pod) -> Vec<()> {
        vec![()]
    }
}

enum Feed {
    /// It has told of so many versions of the world.
    Watching(usize),
    /// A listing was begun; the server has not looked yet.
    Begun,
    /// A listing of that version; so many pods of it have come.
    Listing(usize, usize),
}

/// Brings a roster to what the controller sees.
pub(super) fn catch_up(kept: &mut Roster, news: News<Pod>, set: &CloneSet) {
    match news {
        News::All(pods) => *kept = set.roster().with(pods),
        News::Changes(changes) => kept.take(changes.into_iter().map(|(key, pod)| (key.name, pod)).collect()),
    }
}

/// The controller's view of pods.
pub(super) struct Sight {
    content: Content<Pods>,
    follower: Follower<()>,
    feed: Feed,
    expected: Vec<Expected>,
    /// How far it had seen when the controller began to write.
    before: Progress,
    bug: Bug,
    /// What a mistake lets count before it can be seen.
    early: u64,
    pending: Option<Event<Pod>>,
}

impl Sight {
    pub(super) fn new(bug: Bug) -> Self {
        Self {
            content: Content::default(),
            follower: Follower::new(vec![()]),
            feed: Feed::Begun,
            expected: Vec::new(),
            before: Progress::default(),
            bug,
            early: 0,
            pending: None,
        }
    }

    /// As a controller does that starts anew: it forgets what it waits for, and lists everything.
    pub(super) fn all(&mut self, history: &[Snapshot]) {
        *self = Self::new(self.bug);
        self.begin();
        self.feed = Feed::Listing(history.len() - 1, 0);
        while matches!(self.feed, Feed::Listing(..)) {
            self.step(history);
        }
    }

    /// The watch goes on, some steps.
    pub(super) fn go_on(&mut self, history: &[Snapshot], dice: &mut Dice) {
        for _ in 0..dice.roll(8) {
            if dice.roll(16) == 0 {
                self.begin();
            }
            self.step(history);
        }
        let Self { content, expected, .. } = self;
        let doubts = expected
            .iter_mut()
            .filter_map(|expected| expected.doubtful(content).then_some(()));
        if doubts.count() > 0 {
            self.begin();
        }
    }

    /// Every pod, in order of names.
    pub(super) fn pods(&self) -> Vec<Arc<Pod>> {
        self.content.group(&()).cloned().collect()
    }

    /// What has happened to them since this was asked last.
    pub(super) fn news(&mut self) -> News<Pod> {
        self.content.news(&mut self.follower)
    }

    pub(super) fn settled(&self) -> bool {
        self.expected.iter().all(|expected| expected.seen(self))
    }

    pub(super) fn round_begins(&mut self) {
        self.before = self.content.progress();
        self.expected.clear();
    }

    pub(super) fn wrote(&mut self, written: Written) {
        let expected = Expected::new(written, self.before, self.content.progress(), Instant::now());
        self.expected.push(expected);
    }

    fn begin(&mut self) {
        self.take(Event::ListBegins);
        self.feed = Feed::Begun;
    }

    fn step(&mut self, history: &[Snapshot]) {
        let latest = history.len() - 1;
        match self.feed {
            Feed::Watching(at) if at < latest => {
                self.feed = Feed::Watching(at + 1);
                self.difference(&history[at], &history[at + 1]);
            }
            Feed::Watching(_) => {}
            Feed::Begun => {
                if self.content.progress().begun == 0 {
                    self.take(Event::ListBegins);
                }
                self.feed = Feed::Listing(latest, 0);
            }
            Feed::Listing(at, page) => match history[at].pods.get(page) {
                Some(pod) => {
                    self.take(Event::Listed(Pod::clone(pod), version(pod)));
                    self.feed = Feed::Listing(at, page + 1);
                }
                None => {
                    self.take(Event::ListEnds);
                    self.feed = Feed::Watching(at);
                }
            },
        }
    }

    /// The events between two versions of the world.
    fn difference(&mut self, old: &Snapshot, new: &Snapshot) {
        let find = |all: &[Arc<Pod>], uid: &str| all.iter().find(|pod| pod.metadata.uid == *uid).cloned();
        for gone in old
            .pods
            .iter()
            .filter(|pod| find(&new.pods, &pod.metadata.uid).is_none())
        {
            self.take(Event::Gone(Pod::clone(gone), new.version));
        }
        for pod in &new.pods {
            let before = find(&old.pods, &pod.metadata.uid);
            if before.is_none_or(|before| version(&before) != version(pod)) {
                self.take(Event::Applied(Pod::clone(pod), version(pod)));
            }
        }
    }

    fn take(&mut self, event: Event<Pod>) {
        if let Some(pending) = self.pending.take() {
            self.content.take(pending);
        }
        match (self.bug, &event) {
            (Bug::EarlyPage, Event::Listed(_, revision)) => self.early = self.early.max(*revision),
            (Bug::EarlyEvent, Event::Applied(_, revision) | Event::Gone(_, revision)) => {
                self.early = self.early.max(*revision);
                self.pending = Some(event);
                return;
            }
            _ => {}
        }
        self.content.take(event);
    }
}

impl Sees for Sight {
    fn progress(&self) -> Progress {
        let mut progress = self.content.progress();
        progress.revision = progress.revision.max(self.early);
        progress
    }
    fn shows(&self, key: &Key, uid: &str) -> bool {
        self.content.shows(key, uid)
    }
}

fn version(pod: &Pod) -> u64 {
    revision(&pod.metadata.resource_version)
}
