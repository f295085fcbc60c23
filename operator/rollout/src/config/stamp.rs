//! What a template says of the ConfigMaps and Secrets that a container reads, as the text of an annotation:
//! `ConfigMap/web=5d41402abc4b2a76,Secret/tls=absent~7d793037a0760186`. Behind a `~` stands what was said the first time, where that is
//! something else now: so much is believed of pods whose annotation says nothing of the thing, as they were there before.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use afloat_api::names;
use serde_json::Value;

use super::reads::Source;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp(BTreeMap<String, Mark>);

/// What is said of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    now: String,
    first: Option<String>,
}

/// The annotation for a container.
pub fn key(container: &str) -> String {
    format!("{}{container}", names::CONFIG_PREFIX)
}

/// What a template says of a container.
pub fn stamp_of(template: &Value, container: &str) -> Stamp {
    let annotations = template.pointer("/metadata/annotations");
    let text = annotations.and_then(|all| all.get(key(container))?.as_str());
    text.map(Stamp::read).unwrap_or_default()
}

/// A source as it stands in the text; no name of an object has any of the signs.
fn word(source: &Source) -> String {
    source.to_string().replacen(' ', "/", 1)
}

impl Stamp {
    /// Reads the text; what means nothing says nothing.
    pub fn read(text: &str) -> Self {
        let mark = |part: &str| {
            let (word, said) = part.split_once('=')?;
            let (now, first) = said
                .split_once('~')
                .map_or((said, None), |(now, first)| (now, Some(first)));
            let (now, first) = (now.to_owned(), first.map(str::to_owned));
            Some((word.to_owned(), Mark { now, first }))
        };
        Self(text.split(',').filter_map(mark).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, source: &Source) -> Option<&Mark> {
        self.0.get(&word(source))
    }

    /// Says what is so now, after what was said `before`.
    pub(super) fn set(&mut self, source: &Source, before: Option<&Mark>, now: String) {
        let first = before.map(|before| before.first.as_ref().unwrap_or(&before.now));
        let first = first.filter(|first| **first != now).cloned();
        self.0.insert(word(source), Mark { now, first });
    }

    /// Says what was said before.
    pub(super) fn keep(&mut self, source: &Source, before: Option<&Mark>) {
        self.0.extend(before.map(|before| (word(source), before.clone())));
    }

    /// The things of which this says something else than what was said, or believed, before.
    fn since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = String> + 'a {
        let changed = self.0.iter().filter(|(word, mark)| {
            let had = before.0.get(*word).map(|had| &had.now).or(mark.first.as_ref());
            had.is_some_and(|had| *had != mark.now)
        });
        changed.map(|(word, _)| word.replacen('/', " ", 1))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (word, mark)) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{word}={}", mark.now)?;
            if let Some(first) = &mark.first {
                write!(f, "~{first}")?;
            }
        }
        Ok(())
    }
}

/// By container: the ConfigMaps and Secrets that it reads and of which a new template says something else than the old one.
pub type Changes = BTreeMap<String, BTreeSet<String>>;

/// What changed between two templates.
pub fn changes(old: &Value, new: &Value) -> Changes {
    let annotations = new.pointer("/metadata/annotations").and_then(Value::as_object);
    let containers = annotations.into_iter().flat_map(|all| all.keys());
    let containers = containers.filter_map(|key| key.strip_prefix(names::CONFIG_PREFIX));
    containers
        .filter_map(|container| {
            let changed: BTreeSet<String> = stamp_of(new, container).since(&stamp_of(old, container)).collect();
            (!changed.is_empty()).then(|| (container.to_owned(), changed))
        })
        .collect()
}

/// The change in a sentence; None where nothing changed.
pub fn sentence(changes: &Changes) -> Option<String> {
    let mut readers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (container, sources) in changes {
        for source in sources {
            readers.entry(source).or_default().push(container);
        }
    }
    let parts = readers.iter().map(|(source, containers)| {
        let noun = if containers.len() == 1 {
            "container"
        } else {
            "containers"
        };
        format!("{source} changed, read by {noun} {}", containers.join(", "))
    });
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}
