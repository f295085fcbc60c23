//! Which ConfigMaps and Secrets the containers of a template read, and what of them.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// Which kind a source is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// A ConfigMap or a Secret of the workload's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// Its kind.
    pub kind: SourceKind,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            SourceKind::ConfigMap => "ConfigMap",
            SourceKind::Secret => "Secret",
        };
        write!(f, "{kind} {}", self.name)
    }
}

/// What a container reads of one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// All keys, whichever there are.
    pub whole: bool,
    /// Whether the container cannot start without the object.
    pub required: bool,
    /// These keys, and whether the container cannot start without them.
    pub keys: BTreeMap<String, bool>,
}

impl Read {
    fn add(&mut self, part: Part) {
        self.required |= part.required;
        match part.keys {
            None => self.whole = true,
            Some(keys) => {
                for key in keys {
                    *self.keys.entry(key).or_default() |= part.required;
                }
            }
        }
    }
}

/// One mention of a source: some keys of it, or all.
struct Part {
    source: Source,
    keys: Option<Vec<String>>,
    required: bool,
}

/// By container, those that only prepare the pod among them; those that read nothing are not there.
pub type Reads = BTreeMap<String, BTreeMap<Source, Read>>;

/// What the containers of a template read: environment one by one and whole, and the files of volumes that they mount (a `subPath` of
/// a volume counts as the volume).
pub fn reads(template: &Value) -> Reads {
    let mut all = Reads::new();
    let volumes = volumes(template);
    for container in ["/spec/containers", "/spec/initContainers"]
        .into_iter()
        .flat_map(|list| items(template, list))
    {
        let mut sources: BTreeMap<Source, Read> = BTreeMap::new();
        let mounted = items(container, "/volumeMounts").filter_map(|mount| volumes.get(mount["name"].as_str()?));
        let mentions = environment(container).chain(mounted.flat_map(|volume| files(volume)));
        for part in mentions {
            sources.entry(part.source.clone()).or_default().add(part);
        }
        if !sources.is_empty() {
            all.insert(text(container, "name"), sources);
        }
    }
    all
}

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn volumes(template: &Value) -> BTreeMap<&str, &Value> {
    let named = |volume| Some((Value::get(volume, "name")?.as_str()?, volume));
    items(template, "/spec/volumes").filter_map(named).collect()
}

/// What an object mentions under `fields`, each with where the name stands.
fn mentions<'a>(
    value: &'a Value,
    fields: [(&'a str, SourceKind, &'a str); 2],
) -> impl Iterator<Item = (Source, &'a Value)> {
    fields.into_iter().filter_map(move |(field, kind, name)| {
        let mention = value.get(field).filter(|mention| mention.is_object())?;
        let name = text(mention, name);
        (!name.is_empty()).then_some((Source { kind, name }, mention))
    })
}

fn required(mention: &Value) -> bool {
    mention["optional"] != true
}

fn environment(container: &Value) -> impl Iterator<Item = Part> + use<'_> {
    use SourceKind::{ConfigMap, Secret};
    let one = items(container, "/env").filter_map(|variable| variable.get("valueFrom"));
    let one = one.flat_map(|from| {
        let fields = [("configMapKeyRef", ConfigMap, "name"), ("secretKeyRef", Secret, "name")];
        mentions(from, fields).map(|(source, mention)| Part {
            source,
            keys: Some(vec![text(mention, "key")]),
            required: required(mention),
        })
    });
    let whole = items(container, "/envFrom").flat_map(|from| {
        let fields = [("configMapRef", ConfigMap, "name"), ("secretRef", Secret, "name")];
        mentions(from, fields).map(|(source, mention)| Part {
            source,
            keys: None,
            required: required(mention),
        })
    });
    one.chain(whole)
}

fn files(volume: &Value) -> Vec<Part> {
    use SourceKind::{ConfigMap, Secret};
    let part = |(source, mention): (Source, &Value)| {
        let keys = mention["items"].as_array().filter(|items| !items.is_empty());
        Part {
            source,
            keys: keys.map(|items| items.iter().map(|item| text(item, "key")).collect()),
            required: required(mention),
        }
    };
    let own = [("configMap", ConfigMap, "name"), ("secret", Secret, "secretName")];
    let projected = [("configMap", ConfigMap, "name"), ("secret", Secret, "name")];
    let sources = items(volume, "/projected/sources").flat_map(|source| mentions(source, projected));
    mentions(volume, own).chain(sources).map(part).collect()
}
