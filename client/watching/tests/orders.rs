//! Every order in which writes, answers, events, broken watches, pages of a listing and deletions can come, for small numbers.
//! In each state: if an author's writes count as seen, then its view is the cluster as it was at one moment at or after the
//! last of them. A cache that gets one of these things wrong is found (`Mistake`).

#![allow(clippy::unwrap_used)] // helpers of tests may fail as tests do
#![allow(clippy::print_stdout)] // how much was walked is part of the result

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use afloat_watching::content::{Content, Event, Progress};
use afloat_watching::kind::Kind;
use afloat_watching::written::{Expected, Sight, Written};
use afloat_words::key::Key;

/// An object of the cluster: of these there are two, `a` and `b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Thing {
    name: char,
    uid: u8,
    revision: u64,
    deleting: bool,
    /// Whether the cache keeps it (it has an index), and whether the watch's selector selects it.
    kept: bool,
    selected: bool,
}

/// What is kept of it.
#[derive(Clone, Debug)]
struct Kept(Thing, String);

impl Kind for Kept {
    type Wire = Thing;
    type Kept = Self;
    type Index = ();
    fn keep(wire: Thing) -> Self {
        kept(wire)
    }
    fn key(object: &Self) -> Key {
        key(object.0.name)
    }
    fn uid(object: &Self) -> &str {
        &object.1
    }
    fn deleting(object: &Self) -> bool {
        object.0.deleting
    }
    fn indexes(object: &Self) -> Vec<()> {
        object.0.kept.then_some(()).into_iter().collect()
    }
}

fn key(name: char) -> Key {
    Key::new("n", name.to_string())
}

fn kept(thing: Thing) -> Kept {
    Kept(thing, thing.uid.to_string())
}

/// One commit of the server: what became of the object of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Commit {
    name: char,
    before: Option<Thing>,
    after: Option<Thing>,
    ours: bool,
}

/// What somebody does to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Create,
    Change,
    /// It waits for a finalizer.
    Mark,
    Delete,
    /// Deleted and created again, in one go.
    Replace,
    /// Out of the selector of the watch, or back.
    Select,
    /// Into another group, of which nothing is kept, or back.
    Keep,
}

const DEEDS: [Deed; 7] = [
    Deed::Create,
    Deed::Change,
    Deed::Mark,
    Deed::Delete,
    Deed::Replace,
    Deed::Select,
    Deed::Keep,
];

/// Where the watch is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Feed {
    /// It has said so many commits.
    Watching(usize),
    /// A listing was begun; the server has not looked yet.
    Begun,
    /// A listing of what there was after so many commits; these objects of it are still to come, a page each.
    Listing(usize, Vec<Thing>),
}

/// A write that the author still waits for: the number of its last commit, and what its answer will say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Open {
    written: Written,
    commits: usize,
}

/// A mistake that a cache might make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// A page of a listing counts before the listing is complete (what this project's first cache did).
    EarlyPage,
    /// An event counts before its object can be seen (the same, by two locks).
    EarlyEvent,
    /// A listing that was begun before the answer counts as one begun after it.
    LateListing,
    /// What a listing lacks stays.
    KeepsWhatIsGone,
    /// What leaves the selector stays.
    KeepsWhatLeft,
    /// A listing that was under way when the answer came is trusted to bring an event; not safe or unsafe, but it may never come.
    NoDoubt,
    /// A deletion counts as seen without a look.
    GoneAtOnce,
    /// A deletion counts as seen only by the name: another object of that name keeps it open; safe, but never settled.
    ByName,
}

/// A cache, with a mistake.
#[derive(Clone)]
struct Cache {
    mistake: Mistake,
    content: Content<Kept>,
    early: u64,
    pending: Option<Event<Kept>>,
}

impl Cache {
    fn new(mistake: Mistake) -> Self {
        Self {
            mistake,
            content: Content::default(),
            early: 0,
            pending: None,
        }
    }

    fn take(&mut self, event: Event<Kept>) {
        if let Some(pending) = self.pending.take() {
            self.content.take(pending);
        }
        match (self.mistake, &event) {
            (Mistake::EarlyPage, Event::Listed(_, revision)) => self.early = self.early.max(*revision),
            (Mistake::EarlyEvent, Event::Applied(_, revision) | Event::Gone(_, revision)) => {
                self.early = self.early.max(*revision);
                self.pending = Some(event);
                return;
            }
            (Mistake::KeepsWhatLeft, Event::Gone(thing, revision)) if !thing.0.selected => {
                self.early = self.early.max(*revision);
                return;
            }
            (Mistake::KeepsWhatIsGone, Event::ListEnds) => {
                let old: Vec<_> = self.content.all().map(|kept| kept.0).collect();
                self.content.take(event);
                for thing in old {
                    if self.content.get(&key(thing.name)).is_none() {
                        self.content.take(Event::Applied(kept(thing), 0));
                    }
                }
                return;
            }
            _ => {}
        }
        self.content.take(event);
    }

    fn expected(&self, written: Written, before: Progress, since: Instant) -> Expected {
        let mut expected = Expected::new(written, before, self.content.progress(), since);
        match self.mistake {
            Mistake::LateListing => expected.begun = self.content.progress().done,
            Mistake::NoDoubt => expected.amid = false,
            _ => {}
        }
        expected
    }

    fn shown(&self) -> BTreeMap<char, Thing> {
        self.content.all().map(|kept| (kept.0.name, kept.0)).collect()
    }
}

impl Sight for Cache {
    fn progress(&self) -> Progress {
        let mut progress = self.content.progress();
        progress.revision = progress.revision.max(self.early);
        progress
    }
    fn shows(&self, key: &Key, uid: &str) -> bool {
        match self.mistake {
            Mistake::GoneAtOnce => false,
            Mistake::ByName => self.content.get(key).is_some(),
            _ => self.content.shows(key, uid),
        }
    }
}

#[derive(Clone)]
struct World {
    log: Vec<Commit>,
    now: BTreeMap<char, Thing>,
    feed: Feed,
    cache: Cache,
    /// The round that the author is in: what it saw of each object that it has not written yet.
    round: Option<BTreeMap<char, Option<Thing>>>,
    /// How far the cache had seen when it began.
    before: Progress,
    waiting: Vec<Open>,
    expected: Vec<(Expected, usize)>,
    /// How many of each may still come: own writes, writes of others, broken watches.
    left: [u8; 3],
    since: Instant,
}

/// All that tells one world from another.
type Known = (
    Vec<Commit>,
    Feed,
    Progress,
    Vec<Thing>,
    bool,
    Option<BTreeMap<char, Option<Thing>>>,
    Progress,
    Vec<Open>,
    Vec<(Written, u64, bool, usize)>,
    [u8; 3],
);

impl World {
    fn start(mistake: Mistake, left: [u8; 3]) -> Self {
        let mut world = Self {
            log: Vec::new(),
            now: BTreeMap::new(),
            feed: Feed::Begun,
            cache: Cache::new(mistake),
            round: None,
            before: Progress::default(),
            waiting: Vec::new(),
            expected: Vec::new(),
            left,
            since: Instant::now(),
        };
        world.commit('a', Deed::Create, false);
        world.cache.take(Event::ListBegins);
        world
    }

    fn known(&self) -> Known {
        let expected = self.expected.iter();
        let expected =
            expected.map(|(expected, commits)| (expected.written.clone(), expected.begun, expected.amid, *commits));
        (
            self.log.clone(),
            self.feed.clone(),
            self.cache.progress(),
            self.cache.shown().into_values().collect(),
            self.cache.pending.is_some(),
            self.round.clone(),
            self.before,
            self.waiting.clone(),
            expected.collect(),
            self.left,
        )
    }

    /// The cluster after so many commits, as far as a cache with this selector and these groups shows it.
    fn at(&self, commits: usize) -> BTreeMap<char, Thing> {
        let mut things = BTreeMap::new();
        for commit in &self.log[..commits] {
            match commit.after.filter(|thing| thing.kept && thing.selected) {
                Some(thing) => drop(things.insert(commit.name, thing)),
                None => drop(things.remove(&commit.name)),
            }
        }
        things
    }

    /// The server does what it is asked to; None if it refuses.
    fn commit(&mut self, name: char, deed: Deed, ours: bool) -> Option<Written> {
        let before = self.now.get(&name).copied();
        let revision = self.log.len() as u64 + 2;
        let changed = |change: fn(&mut Thing)| {
            let mut thing = before?;
            change(&mut thing);
            thing.revision = revision;
            Some(thing)
        };
        let new = Thing {
            name,
            uid: u8::try_from(self.log.len()).unwrap(),
            revision,
            deleting: false,
            kept: true,
            selected: true,
        };
        let after = match deed {
            Deed::Create if before.is_some() => return None,
            Deed::Create => Some(new),
            Deed::Delete => {
                before?;
                None
            }
            Deed::Replace => {
                self.commit(name, Deed::Delete, ours)?;
                return self.commit(name, Deed::Create, ours);
            }
            Deed::Change => Some(changed(|_| ())?),
            Deed::Mark if before?.deleting => return None,
            Deed::Mark => Some(changed(|thing| thing.deleting = true)?),
            Deed::Select => Some(changed(|thing| thing.selected = !thing.selected)?),
            Deed::Keep => Some(changed(|thing| thing.kept = !thing.kept)?),
        };
        match after {
            Some(thing) => self.now.insert(name, thing),
            None => self.now.remove(&name),
        };
        self.log.push(Commit {
            name,
            before,
            after,
            ours,
        });
        Some(match (deed, before) {
            (Deed::Delete | Deed::Mark, Some(before)) => Written::Gone {
                key: key(name),
                uid: before.uid.to_string(),
            },
            _ => Written::Version(revision),
        })
    }

    /// The next event of the watch. What the selector does not select is told when it ceases to be, and not at all else.
    fn event(&mut self, at: usize) {
        let commit = self.log[at];
        let revision = at as u64 + 2;
        let seen = |thing: Option<Thing>| thing.filter(|thing| thing.selected);
        match (seen(commit.before), seen(commit.after)) {
            (_, Some(thing)) => self.cache.take(Event::Applied(kept(thing), revision)),
            (Some(before), None) => {
                // An end says the object as it was last, with the version of its end; a change of labels as it is.
                let thing = commit.after.unwrap_or(before);
                self.cache
                    .take(Event::Gone(kept(Thing { revision, ..thing }), revision));
            }
            (None, None) => {}
        }
        self.feed = Feed::Watching(at + 1);
    }

    fn begin(&mut self) {
        self.feed = Feed::Begun;
        self.cache.take(Event::ListBegins);
    }

    /// The author begins a round only when it has settled, and then writes each object once, as it saw it: the server refuses
    /// what has changed meanwhile.
    fn round(&self, then: &mut impl FnMut(String, &dyn Fn(&mut Self) -> Option<()>)) {
        let Some(round) = &self.round else {
            if self.left[0] > 0 && self.settled() {
                then("we look".into(), &|world| {
                    let shown = world.cache.shown();
                    let seen = ['a', 'b'].map(|name| (name, shown.get(&name).copied()));
                    world.round = Some(seen.into());
                    world.before = world.cache.progress();
                    world.expected.clear();
                    Some(())
                });
            }
            return;
        };
        for (name, seen) in round.clone() {
            for deed in DEEDS.into_iter().filter(|_| self.left[0] > 0) {
                then(format!("we {deed:?} {name}"), &|world| {
                    // What is being deleted is as good as gone to an author: it does not delete it once more.
                    let again = seen.is_some_and(|seen| seen.deleting) && matches!(deed, Deed::Mark | Deed::Delete);
                    if again || world.now.get(&name) != seen.as_ref() {
                        return None;
                    }
                    world.left[0] -= 1;
                    world.round.as_mut()?.remove(&name);
                    let written = world.commit(name, deed, true)?;
                    let commits = world.log.len();
                    world.waiting.push(Open { written, commits });
                    Some(())
                });
            }
        }
        if self.waiting.is_empty() {
            then("the round ends".into(), &|world| {
                world.round = None;
                Some(())
            });
        }
    }

    /// Every world that may come next.
    fn next(&self) -> Vec<(String, Self)> {
        let mut all = Vec::new();
        let mut then = |what: String, change: &dyn Fn(&mut Self) -> Option<()>| {
            let mut world = self.clone();
            if change(&mut world).is_some() {
                all.push((what, world));
            }
        };
        for name in ['a', 'b'] {
            for deed in DEEDS.into_iter().filter(|_| self.left[1] > 0) {
                then(format!("others {deed:?} {name}"), &|world| {
                    world.left[1] -= 1;
                    world.commit(name, deed, false).map(drop)
                });
            }
        }
        self.round(&mut then);
        for index in 0..self.waiting.len() {
            then(format!("answer {index}"), &|world| {
                let Open { written, commits } = world.waiting.remove(index);
                let expected = world.cache.expected(written, world.before, world.since);
                world.expected.push((expected, commits));
                Some(())
            });
            then(format!("no answer {index}"), &|world| {
                let Open { commits, .. } = world.waiting.remove(index);
                let expected = world.cache.expected(Written::Unknown, world.before, world.since);
                world.expected.push((expected, commits));
                world.begin();
                Some(())
            });
        }
        match &self.feed {
            Feed::Watching(at) if *at < self.log.len() => then("event".into(), &|world| {
                world.event(*at);
                Some(())
            }),
            Feed::Watching(_) => {}
            Feed::Begun => then("the server looks".into(), &|world| {
                let things = world.now.values().filter(|thing| thing.selected).copied();
                world.feed = Feed::Listing(world.log.len(), things.collect());
                Some(())
            }),
            Feed::Listing(at, things) => then("page".into(), &|world| {
                let Some((first, rest)) = things.split_first() else {
                    world.cache.take(Event::ListEnds);
                    world.feed = Feed::Watching(*at);
                    return Some(());
                };
                world.cache.take(Event::Listed(kept(*first), first.revision));
                world.feed = Feed::Listing(*at, rest.to_vec());
                Some(())
            }),
        }
        then("the author asks, and doubts".into(), &|world| {
            let World { cache, expected, .. } = world;
            let mut doubts = expected.iter_mut().map(|(expected, _)| expected.doubtful(cache));
            doubts.any(|doubtful| doubtful).then(|| world.begin())
        });
        if self.left[2] > 0 {
            then("the watch breaks".into(), &|world| {
                world.left[2] -= 1;
                world.begin();
                Some(())
            });
        }
        all
    }

    fn settled(&self) -> bool {
        self.round.is_none()
            && self.waiting.is_empty()
            && self.cache.progress().done > 0
            && self.expected.iter().all(|(expected, _)| expected.seen(&self.cache))
    }

    /// The author may plan: it must see the cluster as it was at one moment, with all its writes.
    fn check(&self) -> Result<(), String> {
        if !self.settled() {
            return Ok(());
        }
        let shown = self.cache.shown();
        let from = self.expected.iter().map(|(_, commits)| *commits).max().unwrap_or(0);
        if (from..=self.log.len()).any(|commits| self.at(commits) == shown) {
            return Ok(());
        }
        Err(format!("sees {shown:?} after {:?}", self.log))
    }

    /// Nothing more happens but that the watch goes on: the author must be able to plan in the end.
    fn comes_to_rest(&self) -> Result<(), String> {
        let mut world = self.clone();
        world.left = [0; 3];
        while let Some((_, next)) = world.next().into_iter().next() {
            world = next;
        }
        world.check()?;
        if !world.settled() || world.cache.shown() != world.at(world.log.len()) {
            return Err(format!("never settles: {:?} after {:?}", world.expected, world.log));
        }
        Ok(())
    }
}

/// Walks every world; the number of them, or how the first bad one came about.
fn walk(mistake: Mistake, left: [u8; 3]) -> Result<usize, String> {
    let start = World::start(mistake, left);
    let mut known: HashSet<Known> = [start.known()].into();
    let mut open = vec![(start, Vec::new())];
    while let Some((world, trace)) = open.pop() {
        world.check().and_then(|()| world.comes_to_rest()).map_err(|why| {
            let trace: &Vec<String> = &trace;
            format!("{}: {why}", trace.join(", "))
        })?;
        for (what, next) in world.next() {
            if known.insert(next.known()) {
                let mut trace = trace.clone();
                trace.push(what);
                open.push((next, trace));
            }
        }
    }
    Ok(known.len())
}

/// Own writes, writes of others, broken watches: few enough for every day; with `AFLOAT_ORDERS=more` some five million worlds.
fn numbers() -> &'static [[u8; 3]] {
    if std::env::var("AFLOAT_ORDERS").is_ok_and(|wanted| wanted == "more") {
        return &[[2, 1, 1], [3, 0, 1], [1, 2, 1], [1, 1, 2]];
    }
    &[[2, 1, 0], [2, 0, 1], [1, 1, 1], [1, 0, 2]]
}

#[test]
fn whoever_has_settled_sees_its_own_writes_in_every_order() {
    for left in numbers() {
        let worlds = walk(Mistake::None, *left).unwrap();
        println!("{left:?}: {worlds} worlds");
        assert!(worlds > 1000, "{worlds}");
    }
}

#[test]
fn every_mistake_is_found() {
    for mistake in [
        Mistake::EarlyPage,
        Mistake::EarlyEvent,
        Mistake::LateListing,
        Mistake::KeepsWhatIsGone,
        Mistake::KeepsWhatLeft,
        Mistake::NoDoubt,
        Mistake::GoneAtOnce,
        Mistake::ByName,
    ] {
        match walk(mistake, [2, 1, 1]) {
            Ok(worlds) => panic!("{mistake:?} not found in {worlds} worlds"),
            Err(how) => println!("{mistake:?}: {how}"),
        }
    }
}
