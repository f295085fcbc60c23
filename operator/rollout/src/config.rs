//! ConfigMaps and Secrets as a part of the template, for workloads that wish it (annotation `afloat.dev/config`): what containers read
//! of them, what was read, and what is to be said of it in the template that a plan is made on.
//!
//! The template of a revision says in one annotation per container what its ConfigMaps and Secrets held ([`stamp::Stamp`]). What they hold
//! now makes another template, and so another revision, that is rolled out as any other: a container whose annotation says something else
//! of a thing that it reads restarts in place. Contents are not kept, only digests of them: what a revision said cannot be brought back
//! by anybody but who wrote it.

pub mod content;
pub mod reads;
pub mod settle;
pub mod stamp;

use std::collections::BTreeMap;

use afloat_api::names;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

use self::content::Content;
use self::reads::{Read, Source, reads};
use self::stamp::{Stamp, key, stamp_of};

/// What was found of each ConfigMap and Secret; an error is a sentence about one that could not be read.
pub type Known = BTreeMap<Source, Result<Content, String>>;

/// A template that says what its ConfigMaps and Secrets hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamped {
    /// The template.
    pub template: Value,
    /// What could not be told, in sentences.
    pub lacks: Vec<String>,
}

/// Whether a workload wishes its ConfigMaps and Secrets to be rolled out.
pub fn wished(metadata: &ObjectMeta) -> bool {
    asked(metadata) == Some(names::CONFIG_ROLLOUT)
}

fn asked(metadata: &ObjectMeta) -> Option<&str> {
    metadata.annotations.as_ref()?.get(names::CONFIG).map(String::as_str)
}

/// A sentence about an annotation that means nothing.
pub fn misspelt(metadata: &ObjectMeta) -> Option<String> {
    let text = asked(metadata).filter(|text| *text != names::CONFIG_ROLLOUT)?;
    let (name, word) = (names::CONFIG, names::CONFIG_ROLLOUT);
    Some(format!(
        "annotation {name} is {text:?}, which means nothing: say {word}"
    ))
}

/// Says in a template what is `known` of its ConfigMaps and Secrets. `last` is the template that was wanted last. What cannot be told,
/// because a thing that has to be there is missing or cannot be read, is said as it was: nothing restarts without its configuration.
/// What is told for the first time is what pods without such an annotation are believed to have read: nothing restarts for it.
pub fn stamped(template: &Value, last: Option<&Value>, known: &Known) -> Stamped {
    let mut lacks = Vec::new();
    let mut annotations = Map::new();
    for (container, sources) in reads(template) {
        let before = last.map(|last| stamp_of(last, &container)).unwrap_or_default();
        let mut stamp = Stamp::default();
        for (source, read) in &sources {
            match seen(source, read, known) {
                Some(Ok(now)) => stamp.set(source, before.get(source), now),
                lacking => {
                    stamp.keep(source, before.get(source));
                    if let Some(Err(why)) = lacking
                        && !lacks.contains(&why)
                    {
                        lacks.push(why);
                    }
                }
            }
        }
        if !stamp.is_empty() {
            annotations.insert(key(&container), json!(stamp.to_string()));
        }
    }
    let mut template = template.clone();
    put(&mut template, annotations);
    Stamped { template, lacks }
}

/// The digest of what a container reads, or why it cannot be told; None: nobody has looked yet.
fn seen(source: &Source, read: &Read, known: &Known) -> Option<Result<String, String>> {
    Some(match known.get(source)? {
        Ok(content) => content
            .digest(source, read)
            .map_err(|lack| format!("{lack}: who reads it is left as it is")),
        Err(why) => Err(format!(
            "{source} cannot be read, and who reads it is left as it is: {why}"
        )),
    })
}

/// Puts annotations into a template, in place of all that there were of this kind.
fn put(template: &mut Value, annotations: Map<String, Value>) {
    let present = template.pointer("/metadata/annotations").and_then(Value::as_object);
    let mut all = present.cloned().unwrap_or_default();
    all.retain(|key, _| !key.starts_with(names::CONFIG_PREFIX));
    all.extend(annotations);
    if all.is_empty() && present.is_none() {
        return;
    }
    if let Some(map) = template.as_object_mut()
        && let Some(metadata) = map.entry("metadata").or_insert_with(|| json!({})).as_object_mut()
    {
        metadata.insert("annotations".into(), Value::Object(all));
    }
}

#[cfg(test)]
mod tests;
