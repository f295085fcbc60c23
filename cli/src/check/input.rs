//! Objects from files: YAML with any number of documents, JSON (which is YAML), lists. Each field keeps its line.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Context as _;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Spanned, UserMessageFormatter};

/// An object and where it came from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Read {
    pub(crate) value: Value,
    /// As it was named; empty for a cluster.
    pub(crate) file: String,
    /// Line by JSON pointer.
    lines: BTreeMap<String, u64>,
}

impl Read {
    /// The same without lines: those of what a tool printed say nothing to anybody.
    pub(crate) fn rendered(self) -> Self {
        Self {
            lines: BTreeMap::new(),
            ..self
        }
    }

    /// The same, where another one stands.
    pub(crate) fn at(self, origin: &Self) -> Self {
        Self {
            value: self.value,
            file: origin.file.clone(),
            lines: origin.lines.clone(),
        }
    }

    /// From a cluster.
    pub(crate) fn live(value: Value) -> Self {
        Self {
            value,
            ..Self::default()
        }
    }

    /// Line of the field, or of the nearest one above it; 0 if there is none.
    pub(crate) fn line(&self, pointer: &str) -> u64 {
        let mut at = pointer;
        loop {
            if let Some(line) = self.lines.get(at) {
                return *line;
            }
            match at.rsplit_once('/') {
                Some((parent, _)) => at = parent,
                None => return 0,
            }
        }
    }
}

/// How much of what is no object is let by.
pub(crate) enum Strictness<'a> {
    /// It was named, or came from a tool that prints only objects.
    All,
    /// It lay in a folder beside objects: so many documents were none.
    Lenient(&'a mut usize),
}

/// Reads a text with any number of documents.
///
/// # Errors
/// Names the document and the field that cannot be read.
pub(crate) fn parse(
    file: &str,
    text: &str,
    mut strictness: Strictness<'_>,
    found: &mut Vec<Read>,
) -> anyhow::Result<()> {
    let options = serde_saphyr::options! { with_snippet: false };
    let documents: Vec<Spanned<Node>> = serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        let before = text.lines().take(usize::try_from(line).unwrap_or(0));
        let number = 1 + before.skip(1).filter(|line| line.starts_with("---")).count();
        // Without what the library tells programmers about its own options.
        let error = error.render_with_formatter(&UserMessageFormatter);
        anyhow::anyhow!("{file}: document {number}: {error}")
    })?;
    for (index, document) in documents.into_iter().enumerate() {
        let mut lines = BTreeMap::new();
        let value = plain(document, "", &mut lines);
        let object = Read {
            value,
            file: file.to_owned(),
            lines,
        };
        let place = format!("{file}: document {}", index + 1);
        match &mut strictness {
            Strictness::Lenient(skipped) if is_something_else(&object.value) => **skipped += 1,
            _ => accept(object, &place, found)?,
        }
    }
    Ok(())
}

/// Whether a document is none of an API server's: a chart's values, a tool's settings. What rules read is never let by.
fn is_something_else(value: &Value) -> bool {
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let named = ["/metadata/name", "/metadata/generateName"]
        .iter()
        .any(|pointer| value.pointer(pointer).is_some());
    let listed = value.get("items").is_some();
    api_version.is_empty()
        || kind.is_empty()
        || !(named || listed || afloat_check::template_of(api_version, kind).is_some() || kind == "Service")
}

/// Takes lists apart, and refuses what is no object.
fn accept(object: Read, place: &str, found: &mut Vec<Read>) -> anyhow::Result<()> {
    anyhow::ensure!(
        object.value.is_object(),
        "{place}: is no object with apiVersion and kind"
    );
    for field in ["apiVersion", "kind"] {
        let text = object.value.get(field).and_then(Value::as_str).unwrap_or_default();
        anyhow::ensure!(!text.is_empty(), "{place}: {field} is missing or no text");
    }
    let kind = object.value["kind"].as_str().unwrap_or_default().to_owned();
    if kind == "List" || (kind.ends_with("List") && object.value.get("items").is_some()) {
        let items = object.value.get("items").and_then(Value::as_array);
        let items = items.with_context(|| format!("{place}: items is missing or no list"))?;
        for (index, item) in items.iter().enumerate() {
            let prefix = format!("/items/{index}");
            let below = object.lines.iter().filter_map(|(pointer, line)| {
                let rest = pointer.strip_prefix(&prefix)?;
                (rest.is_empty() || rest.starts_with('/')).then(|| (rest.to_owned(), *line))
            });
            let item = Read {
                value: item.clone(),
                file: object.file.clone(),
                lines: below.collect(),
            };
            accept(item, &format!("{place}: items[{index}]"), found)?;
        }
        return Ok(());
    }
    // What kustomize is told is not applied.
    let api = object.value["apiVersion"].as_str().unwrap_or_default();
    if !api.starts_with("kustomize.config.k8s.io/") {
        shape(&object.value).with_context(|| place.to_owned())?;
        found.push(object);
    }
    Ok(())
}

/// The fields that rules read have the type that the API wants. The others are the API server's business.
fn shape(object: &Value) -> anyhow::Result<()> {
    let is = |pointer: &str, what: &str, right: fn(&Value) -> bool| {
        let field = pointer.trim_start_matches('/').replace('/', ".");
        let value = object.pointer(pointer).filter(|value| !value.is_null());
        anyhow::ensure!(value.is_none_or(right), "{field} is not {what}");
        Ok(())
    };
    let named = ["/metadata/name", "/metadata/generateName"].iter().any(|pointer| {
        object
            .pointer(pointer)
            .is_some_and(|name| name.as_str().is_some_and(|name| !name.is_empty()))
    });
    anyhow::ensure!(named, "metadata.name is missing or no text");
    is("/metadata/annotations", "a map", Value::is_object)?;
    is("/metadata/labels", "a map", Value::is_object)?;
    is("/spec", "an object", Value::is_object)?;
    let kind = object["kind"].as_str().unwrap_or_default();
    if kind == "Service" {
        is("/spec/selector", "a map", Value::is_object)?;
        return is("/spec/ports", "a list", Value::is_array);
    }
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let Some(prefix) = afloat_check::template_of(api_version, kind) else {
        return Ok(());
    };
    if !prefix.is_empty() {
        anyhow::ensure!(
            object.pointer(prefix).is_some_and(Value::is_object),
            "spec.template is missing or no object"
        );
        is("/spec/replicas", "a whole number from 0", Value::is_u64)?;
    }
    is(
        &format!("{prefix}/spec/terminationGracePeriodSeconds"),
        "a whole number",
        Value::is_i64,
    )?;
    let objects = |list: &Value| list.as_array().is_some_and(|list| list.iter().all(Value::is_object));
    let containers = object.pointer(&format!("{prefix}/spec/containers"));
    let field = format!("{prefix}/spec/containers")
        .trim_start_matches('/')
        .replace('/', ".");
    anyhow::ensure!(
        containers.is_some_and(objects),
        "{field} is missing or no list of containers"
    );
    is(&format!("{prefix}/spec/initContainers"), "a list", Value::is_array)?;
    afloat_check::readable(object).map_err(anyhow::Error::msg)
}

/// A value whose parts know their places.
enum Node {
    Scalar(Value),
    List(Vec<Spanned<Node>>),
    Map(Vec<(String, Spanned<Node>)>),
}

fn plain(node: Spanned<Node>, pointer: &str, lines: &mut BTreeMap<String, u64>) -> Value {
    let line = node.referenced.line();
    if line > 0 {
        lines.insert(pointer.to_owned(), line);
    }
    match node.value {
        Node::Scalar(value) => value,
        Node::List(items) => {
            let items = items.into_iter().enumerate();
            items
                .map(|(index, item)| plain(item, &format!("{pointer}/{index}"), lines))
                .collect()
        }
        Node::Map(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                let below = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                let value = plain(value, &below, lines);
                map.insert(key, value);
            }
            Value::Object(map)
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number that JSON does not have"))?;
        Ok(Node::Scalar(number.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries: Vec<(String, Spanned<Node>)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if entries.iter().any(|(other, _)| *other == key) {
                return Err(A::Error::custom(format!("{key} stands there twice")));
            }
            entries.push((key, map.next_value()?));
        }
        Ok(Node::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_know_their_lines() {
        let mut found = Vec::new();
        let text = "# one\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: x\n    image: y\n---\n\
                    {\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [\n{\"apiVersion\": \"v1\", \"kind\": \"Service\",\n\"metadata\": {\"name\": \"s\"}}]}\n";
        parse("a.yaml", text, Strictness::All, &mut found).unwrap();
        let lines = |index: usize, pointer: &str| found[index].line(pointer);
        assert_eq!(found.len(), 2);
        assert_eq!(lines(0, "/spec/containers/0/image"), 8);
        assert_eq!(lines(0, "/spec/containers/0/readinessProbe"), 7);
        assert_eq!(lines(1, "/metadata/name"), 12);
        assert_eq!(found[0].value["spec"]["containers"][0]["name"], "x");
    }
}
