//! Conversion between the versions of a custom resource: what is asked of a webhook, whether its answer may be taken, and what the
//! server does itself. The sentences are Kubernetes' own (`apiextensions-apiserver/pkg/apiserver/conversion`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::get;
use crate::schema::{default_by, prune_by};

/// How stored objects of a definition with several versions, or with defaults, become those that are served.
#[derive(Debug)]
pub struct Conversion {
    /// The schema of each version, served or not.
    pub(crate) schemas: BTreeMap<String, Arc<Value>>,
    /// Versions whose schemas have defaults.
    filling: BTreeSet<String>,
    /// Who is asked. None (strategy None): only `apiVersion` changes.
    pub webhook: Option<Webhook>,
}

/// A webhook, as its definition names it.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// `spec.conversion.webhook.clientConfig`.
    pub client_config: Value,
    /// Versions of ConversionReview that it understands, in its order.
    review_versions: Vec<String>,
}

impl Conversion {
    /// Of a definition; None for one with a single version and no default.
    pub(crate) fn of(definition: &Value) -> Option<Self> {
        let versions = get(definition, &["spec", "versions"])?.as_array()?;
        let one = |version: &Value| {
            let schema = get(version, &["schema", "openAPIV3Schema"])
                .cloned()
                .unwrap_or_default();
            Some((version.get("name")?.as_str()?.to_owned(), Arc::new(schema)))
        };
        let conversion = get(definition, &["spec", "conversion"]);
        let webhook = conversion
            .filter(|conversion| conversion["strategy"] == "Webhook")
            .map(|conversion| {
                let versions = conversion["webhook"]["conversionReviewVersions"].as_array();
                let versions = versions.into_iter().flatten().filter_map(Value::as_str);
                Webhook {
                    client_config: conversion["webhook"]["clientConfig"].clone(),
                    review_versions: versions.map(str::to_owned).collect(),
                }
            });
        let schemas: BTreeMap<_, Arc<Value>> = versions.iter().filter_map(one).collect();
        let filling = schemas.iter().filter(|(_, schema)| has_defaults(schema));
        let filling: BTreeSet<_> = filling.map(|(version, _)| version.clone()).collect();
        (schemas.len() > 1 || !filling.is_empty()).then_some(Self {
            schemas,
            filling,
            webhook,
        })
    }

    fn schema(&self, api_version: &str) -> Option<&Value> {
        let (_, version) = api_version.rsplit_once('/')?;
        self.schemas.get(version).map(Arc::as_ref)
    }

    /// Whether objects of a version may lack what its schema has defaults for: it may have got them after they were stored.
    pub fn fills(&self, api_version: &str) -> bool {
        let version = api_version.rsplit_once('/').map(|(_, version)| version);
        version.is_some_and(|version| self.filling.contains(version))
    }

    /// Sets the defaults of the version that an object is in. Kubernetes does so whenever it reads one from its store.
    pub fn complete(&self, object: &mut Value) {
        let version = object["apiVersion"].as_str().unwrap_or_default().to_owned();
        if let Some(schema) = self.schema(&version) {
            default_by(schema, object);
        }
    }

    /// Drops what the version that an object has been converted to does not know.
    pub fn prune(&self, object: &mut Value) {
        let version = object["apiVersion"].as_str().unwrap_or_default().to_owned();
        if let Some(schema) = self.schema(&version) {
            prune_by(schema, object);
        }
    }
}

/// Whether a schema has a default at any depth. A property may be named `default` itself.
fn has_defaults(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            let properties = |fields: &Map<String, Value>| fields.values().any(has_defaults);
            fields.iter().any(|(name, value)| match (name.as_str(), value) {
                ("default", _) => true,
                ("properties", Value::Object(all)) => properties(all),
                (_, value) => has_defaults(value),
            })
        }
        Value::Array(items) => items.iter().any(has_defaults),
        _ => false,
    }
}

/// `example.com/v1, Kind=Widget`: how the original prints what it is about.
pub fn described(kind: &str, api_version: &str) -> String {
    format!("{api_version}, Kind={kind}")
}

impl Webhook {
    /// The question whether these objects can be had in a version.
    ///
    /// # Errors
    /// If there is no version of the question that both know.
    pub fn question(&self, uid: &str, wanted: &str, objects: &[Value]) -> Result<Value, String> {
        let known = self
            .review_versions
            .iter()
            .find(|version| matches!(version.as_str(), "v1" | "v1beta1"));
        let version = known.ok_or("no supported conversion review versions")?;
        Ok(json!({
            "kind": "ConversionReview", "apiVersion": format!("apiextensions.k8s.io/{version}"),
            "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": objects},
        }))
    }
}

/// Takes the converted objects out of an answer. `question`: what it is the answer to; `gvk`: what is converted, as
/// [`described`]; `single`: one object was asked about, and not a list.
///
/// # Errors
/// The sentence of the original: what the webhook says, or what is wrong with its answer.
pub fn answered(question: &Value, answer: &Value, gvk: &str, single: bool) -> Result<Vec<Value>, String> {
    let failed = |why: &str| format!("conversion webhook for {gvk} failed: {why}");
    let response = response(question, answer).map_err(|why| failed(&why))?;
    let given = question["request"]["objects"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let empty = Vec::new();
    let converted = response["convertedObjects"].as_array().unwrap_or(&empty);
    if converted.len() != given.len() {
        let (got, expected) = (converted.len(), given.len());
        return Err(format!(
            "conversion webhook for {gvk} returned {got} objects, expected {expected}"
        ));
    }
    let wanted = question["request"]["desiredAPIVersion"].as_str().unwrap_or_default();
    let pairs = given.iter().zip(converted).enumerate();
    pairs
        .map(|(at, (given, converted))| {
            let (object, metadata) = if single {
                ("object".to_owned(), "metadata".to_owned())
            } else {
                (
                    format!("converted object at index {at}"),
                    format!("metadata in object at index {at}"),
                )
            };
            let version = if single { "object at index 0" } else { object.as_str() };
            let invalid =
                |what: &str, why: String| format!("conversion webhook for {gvk} returned invalid {what}: {why}");
            version_and_kind(given, converted, wanted).map_err(|why| invalid(version, why))?;
            identity(given, converted).map_err(|why| invalid(&object, why))?;
            let mut converted = converted.clone();
            restore(given, &mut converted).map_err(|why| invalid(&metadata, why))?;
            Ok(converted)
        })
        .collect()
}

/// The answer's response, if it is one to this question and a good one.
fn response<'a>(question: &Value, answer: &'a Value) -> Result<&'a Value, String> {
    let text = |value: &'a Value| value.as_str().unwrap_or_default();
    let v1 = question["apiVersion"] == "apiextensions.k8s.io/v1";
    // The older form never asked for these.
    if v1 && (answer["apiVersion"] != question["apiVersion"] || answer["kind"] != "ConversionReview") {
        let (version, kind) = (text(&answer["apiVersion"]), text(&answer["kind"]));
        return Err(format!(
            "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got {version}, Kind={kind}"
        ));
    }
    let response = answer.get("response").filter(|response| response.is_object());
    let response = response.ok_or("no response provided")?;
    let (expected, got) = (&question["request"]["uid"], text(&response["uid"]));
    if v1 && *expected != got {
        return Err(format!("expected response.uid={expected}, got {got:?}"));
    }
    match (
        text(&response["result"]["status"]),
        text(&response["result"]["message"]),
    ) {
        ("Success", _) => Ok(response),
        (status, "") => Err(format!("response.result.status was '{status}', not 'Success'")),
        (_, message) => Err(message.to_owned()),
    }
}

fn version_and_kind(given: &Value, converted: &Value, wanted: &str) -> Result<(), String> {
    let got = converted["apiVersion"].as_str().unwrap_or_default();
    if got != wanted {
        return Err(format!("invalid groupVersion (expected {wanted}, received {got})"));
    }
    let kind = |object: &Value| object["kind"].as_str().unwrap_or_default().to_owned();
    if kind(given) != kind(converted) {
        let (expected, got) = (kind(given), kind(converted));
        return Err(format!("invalid kind (expected {expected}, received {got})"));
    }
    Ok(())
}

fn identity(given: &Value, converted: &Value) -> Result<(), String> {
    for (field, word) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let text = |object: &Value| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let (expected, got) = (text(given), text(converted));
        if expected != got {
            return Err(format!("must have the same {word}: {expected} != {got}"));
        }
    }
    Ok(())
}

/// Of `metadata` a webhook changes labels and annotations only.
fn restore(given: &Value, converted: &mut Value) -> Result<(), String> {
    let metadata = converted
        .get("metadata")
        .ok_or("missing metadata in converted object")?;
    let new = metadata.as_object().ok_or("invalid metadata in converted object")?;
    let mut kept = given["metadata"].as_object().cloned().unwrap_or_else(Map::new);
    for field in ["labels", "annotations"] {
        match new.get(field).filter(|map| !map.is_null()) {
            None => drop(kept.remove(field)),
            Some(Value::Object(map)) => {
                if let Some((key, _)) = map.iter().find(|(_, value)| !value.is_string()) {
                    return Err(format!("metadata.{field}[{key}] must be a string in converted object"));
                }
                kept.insert(field.into(), Value::Object(map.clone()));
            }
            Some(_) => return Err(format!("invalid metadata.{field} in converted object")),
        }
    }
    converted["metadata"] = Value::Object(kept);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str) -> Value {
        json!({"apiVersion": version, "kind": "Widget",
            "metadata": {"name": "w", "namespace": "n", "uid": "u", "generation": 2, "labels": {"a": "b"}}})
    }

    fn question() -> Value {
        let webhook = Webhook {
            client_config: Value::Null,
            review_versions: vec!["v2".into(), "v1".into()],
        };
        webhook
            .question("q", "example.com/v1", &[object("example.com/v2")])
            .unwrap()
    }

    fn answer(response: Value) -> Value {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response})
    }

    #[test]
    fn an_answer_is_taken_or_refused_in_kubernetes_words() {
        let good = |edit: fn(&mut Value)| {
            let mut object = object("example.com/v1");
            edit(&mut object);
            answer(json!({"uid": "q", "result": {"status": "Success"}, "convertedObjects": [object]}))
        };
        let rows = [
            (
                json!({}),
                "failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got , Kind=",
            ),
            (answer(Value::Null), "failed: no response provided"),
            (
                answer(json!({"uid": "other"})),
                "failed: expected response.uid=\"q\", got \"other\"",
            ),
            (
                answer(json!({"uid": "q"})),
                "failed: response.result.status was '', not 'Success'",
            ),
            (
                answer(json!({"uid": "q", "result": {"status": "Failure", "message": "no"}})),
                "failed: no",
            ),
            (
                answer(json!({"uid": "q", "result": {"status": "Success"}})),
                "returned 0 objects, expected 1",
            ),
            (
                good(|object| object["apiVersion"] = "example.com/v3".into()),
                "returned invalid object at index 0: invalid groupVersion (expected example.com/v1, received example.com/v3)",
            ),
            (
                good(|object| object["metadata"]["name"] = "x".into()),
                "returned invalid object: must have the same name: w != x",
            ),
            (
                good(|object| object["metadata"]["labels"] = json!({"a": 1})),
                "returned invalid metadata: metadata.labels[a] must be a string in converted object",
            ),
        ];
        for (answer, why) in rows {
            let error = answered(&question(), &answer, "example.com/v2, Kind=Widget", true).unwrap_err();
            assert_eq!(
                error,
                format!("conversion webhook for example.com/v2, Kind=Widget {why}")
            );
        }
    }

    #[test]
    fn of_metadata_labels_and_annotations_change_only() {
        let mut converted = object("example.com/v1");
        converted["metadata"] =
            json!({"name": "w", "namespace": "n", "uid": "u", "generation": 9, "annotations": {"c": "d"}});
        let answer = answer(json!({"uid": "q", "result": {"status": "Success"}, "convertedObjects": [converted]}));
        let taken = answered(&question(), &answer, "", true).unwrap().remove(0);
        assert_eq!(
            taken["metadata"],
            json!({"name": "w", "namespace": "n", "uid": "u", "generation": 2, "annotations": {"c": "d"}})
        );
    }
}
