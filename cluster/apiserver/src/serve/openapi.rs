//! OpenAPI documents, as much of them as clients need: kubectl asks them whether the server checks unknown fields itself,
//! and `kubectl explain` prints the schemas of custom kinds.
//!
//! The operations deliberately do not offer strategic merge patches: kubectl would then compute its patch from the merge
//! keys in our schemas, which have none, instead of from those that it has built in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use afloat_machinery::fields;
use afloat_machinery::kinds::{Registry, Resource};
use bytes::Bytes;
use http::{HeaderMap, Response, header};
use serde_json::{Map, Value, json};

use crate::serve::discovery::{groups_of, own_subresources, rows, version};
use crate::view;
use crate::wire::body::{self, Body};
use crate::wire::reply;
use crate::wire::status::Status;

/// The smallest `openapi.v2.Document` in protobuf: swagger "2.0", info {title "Kubernetes", version "v1"}.
const V2_PROTOBUF: &[u8] = b"\x0a\x032.0\x12\x10\x0a\x0aKubernetes\x12\x02v1";

/// Documents by path (`apis/apps/v1`) with a hash of each.
type Documents = BTreeMap<String, (Bytes, u64)>;

/// The documents and the kinds that they are of: made when first asked for, and anew when the kinds have changed.
#[derive(Default)]
pub(crate) struct Cache(Mutex<Option<(Arc<Registry>, Arc<Documents>)>>);

impl Cache {
    fn documents(&self, registry: &Arc<Registry>) -> Arc<Documents> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Some((known, documents)) if Arc::ptr_eq(known, registry) => Arc::clone(documents),
            _ => {
                let documents = Arc::new(documents(registry));
                *slot = Some((Arc::clone(registry), Arc::clone(&documents)));
                documents
            }
        }
    }
}

/// FNV-1a: tells versions of a document apart in URLs, nothing more.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": version()["gitVersion"]})
}

/// `/openapi/v2`: there is nothing in it, but clients want one.
pub(crate) fn v2(headers: &HeaderMap) -> Response<Body> {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    if accept.contains("com.github.proto-openapi.spec.v2") {
        let content_type = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
        return body::typed(200, content_type, body::full(V2_PROTOBUF));
    }
    reply::json(
        200,
        &json!({"swagger": "2.0", "info": info(), "paths": {}, "definitions": {}}),
    )
}

/// `/openapi/v3` and below.
pub(crate) fn v3(cache: &Cache, registry: &Arc<Registry>, path: Option<&str>) -> Result<Response<Body>, Status> {
    let documents = cache.documents(registry);
    let Some(path) = path else {
        let entry = |(path, (_, hash)): (&String, &(Bytes, u64))| {
            (
                path.clone(),
                json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash:016X}")}),
            )
        };
        let paths: Map<String, Value> = documents.iter().map(entry).collect();
        return Ok(reply::json(200, &json!({"paths": paths})));
    };
    let (bytes, _) = documents.get(path).ok_or_else(Status::no_such_resource)?;
    Ok(body::typed(200, "application/json", body::full(bytes.clone())))
}

fn documents(registry: &Registry) -> Documents {
    let mut all = Documents::new();
    for core in [true, false] {
        for (group, versions) in groups_of(registry, core) {
            for version in versions {
                let path = if core {
                    format!("api/{version}")
                } else {
                    format!("apis/{group}/{version}")
                };
                let bytes = Bytes::from(document(registry, &path, &group, &version));
                let hash = hash(&bytes);
                all.insert(path, (bytes, hash));
            }
        }
    }
    all
}

fn document(registry: &Registry, base: &str, group: &str, version: &str) -> String {
    let (mut paths, mut schemas) = (Map::new(), BTreeMap::new());
    for r in rows(registry, group, version) {
        let reference = json!({"$ref": format!("#/components/schemas/{}", add_schema(r, &mut schemas))});
        let root = if r.namespaced {
            format!("/{base}/namespaces/{{namespace}}/{}", r.plural)
        } else {
            format!("/{base}/{}", r.plural)
        };
        paths.insert(root.clone(), collection(r, &reference));
        if r.is_stored() {
            paths.insert(format!("{root}/{{name}}"), item(r, &reference));
            for name in own_subresources(r) {
                paths.insert(format!("{root}/{{name}}/{name}"), part(r, &reference));
            }
        }
    }
    let mut text = json!({"openapi": "3.0.0", "info": info(), "paths": paths}).to_string();
    text.pop();
    text.push_str(",\"components\":{\"schemas\":{");
    for (place, (name, schema)) in schemas.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        text.push_str(&format!("{comma}{}:{schema}", Value::from(name.as_str())));
    }
    text.push_str("}}}");
    text
}

/// Adds the schema of a kind, as text, and gives its name. Those of strangers may be large: there is one at a time.
fn add_schema(r: &Resource, schemas: &mut BTreeMap<String, String>) -> String {
    let known = fields::message_of(r);
    let name = known.map_or_else(|| schema_name(r), fields::schema_name);
    let mut own = Map::new();
    match known {
        Some(message) => fields::add_schemas(message, &mut own),
        None => drop(own.insert(name.clone(), schema(r))),
    }
    if let Some(schema) = own.get_mut(&name).filter(|s| s.is_object()) {
        schema["x-kubernetes-group-version-kind"] = json!([kind(r)]);
        for field in ["apiVersion", "kind"] {
            view::child(schema, "properties").insert(field.into(), json!({"type": "string"}));
        }
    }
    for (part, schema) in own {
        // A kind's own says more than where it is a part of another.
        if part == name || !schemas.contains_key(&part) {
            schemas.insert(part, schema.to_string());
        }
    }
    name
}

/// `io.kruise.apps.v1alpha1.CloneSet`: the group backwards, as the original names them.
fn schema_name(r: &Resource) -> String {
    let group = if r.group.is_empty() {
        "core.api.k8s.io"
    } else {
        &r.group
    };
    let reversed: Vec<&str> = group.split('.').rev().collect();
    format!("{}.{}.{}", reversed.join("."), r.version, r.kind)
}

fn kind(r: &Resource) -> Value {
    json!({"group": r.group, "version": r.version, "kind": r.kind})
}

fn schema(r: &Resource) -> Value {
    match &r.schema {
        Some(schema) => (**schema).clone(),
        None => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
    }
}

fn parameter(name: &str, location: &str, kind: &str, required: bool) -> Value {
    let mut parameter = json!({"name": name, "in": location, "schema": {"type": kind, "uniqueItems": true}});
    if required {
        parameter["required"] = true.into();
    }
    parameter
}

fn operation(r: &Resource, action: &str, reference: &Value, bodies: &[&str]) -> Value {
    let content = |types: &[&str], schema: &Value| -> Value {
        types
            .iter()
            .map(|t| ((*t).to_owned(), json!({"schema": schema})))
            .collect::<Map<String, Value>>()
            .into()
    };
    let mut operation = json!({
        "operationId": format!("{action}{}{}{}", r.group.replace('.', "_"), r.version, r.kind),
        "responses": {"200": {"description": "OK", "content": content(&["application/json", "application/yaml"], reference)}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": kind(r),
    });
    if !bodies.is_empty() {
        let write = ["dryRun", "fieldManager", "fieldValidation"].map(|name| parameter(name, "query", "string", false));
        operation["parameters"] = write.into_iter().collect();
        operation["requestBody"] = json!({"required": true, "content": content(bodies, reference)});
    }
    operation
}

fn collection(r: &Resource, reference: &Value) -> Value {
    let mut path = json!({"post": operation(r, "post", reference, &["application/json", "application/yaml"])});
    if r.is_stored() {
        path["get"] = operation(r, "list", reference, &[]);
    }
    if r.namespaced {
        path["parameters"] = json!([parameter("namespace", "path", "string", true)]);
    }
    path
}

fn item(r: &Resource, reference: &Value) -> Value {
    let patches = ["application/json-patch+json", "application/merge-patch+json"];
    let mut parameters = vec![parameter("name", "path", "string", true)];
    if r.namespaced {
        parameters.push(parameter("namespace", "path", "string", true));
    }
    json!({
        "get": operation(r, "get", reference, &[]),
        "put": operation(r, "put", reference, &["application/json", "application/yaml"]),
        "patch": operation(r, "patch", reference, &patches),
        "delete": operation(r, "delete", reference, &[]),
        "parameters": parameters,
    })
}

/// A subresource that is a part of the object: `status`, `resize`.
fn part(r: &Resource, reference: &Value) -> Value {
    let mut path = item(r, reference);
    if let Some(operations) = path.as_object_mut() {
        operations.remove("delete");
    }
    path
}
