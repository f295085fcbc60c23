//! Objects in the form a client asked for: whole, as rows of a Table (`kubectl get`), or their metadata only.

use afloat_machinery::kinds::Resource;
use afloat_machinery::table::{cells, columns};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::wire::request::{Form, Query};
use crate::wire::status::Status;
use crate::{clock, view};

const META_VERSION: &str = "meta.k8s.io/v1";

/// One object.
pub(crate) fn one(resource: &Resource, form: Form, query: &Query, stored: &Bytes) -> Result<Bytes, Status> {
    if form == Form::Object {
        return view::served(resource, stored);
    }
    let object = view::parse(resource, stored)?;
    let value = match form {
        Form::Table => {
            let meta = json!({"resourceVersion": view::meta(&object, "resourceVersion")});
            table(resource, query, std::slice::from_ref(&object), meta, true)?
        }
        _ => partial(&object),
    };
    Ok(value.to_string().into())
}

/// A collection.
pub(crate) fn many(
    resource: &Resource,
    form: Form,
    query: &Query,
    objects: &[Value],
    meta: Value,
) -> Result<Bytes, Status> {
    let value = match form {
        Form::Table => table(resource, query, objects, meta, true)?,
        _ => {
            let items: Vec<Value> = objects.iter().map(partial).collect();
            json!({"kind": "PartialObjectMetadataList", "apiVersion": META_VERSION, "metadata": meta, "items": items})
        }
    };
    Ok(value.to_string().into())
}

/// An object of a watch event. Only the first table of a watch describes its columns.
pub(crate) fn event(
    resource: &Resource,
    form: Form,
    query: &Query,
    object: Value,
    first: bool,
) -> Result<Value, Status> {
    match form {
        Form::Object => Ok(object),
        Form::Metadata => Ok(partial(&object)),
        Form::Table => {
            let meta = json!({"resourceVersion": view::meta(&object, "resourceVersion")});
            table(resource, query, std::slice::from_ref(&object), meta, first)
        }
    }
}

fn table(resource: &Resource, query: &Query, objects: &[Value], meta: Value, described: bool) -> Result<Value, Status> {
    let include = query.get("includeObject").unwrap_or("Metadata");
    if !matches!(include, "None" | "Metadata" | "Object") {
        let message = format!("unrecognized includeObject value: \"{include}\": must be None, Metadata or Object");
        return Err(Status::bad_request(message));
    }
    let now = clock::now();
    let row = |object: &Value| {
        let mut row = json!({"cells": cells(resource, object, &now)});
        match include {
            "Object" => row["object"] = object.clone(),
            "Metadata" => row["object"] = partial(object),
            _ => row["object"] = Value::Null,
        }
        row
    };
    let rows: Vec<Value> = objects.iter().map(row).collect();
    let columns = if described { columns(resource) } else { Vec::new() };
    Ok(
        json!({"kind": "Table", "apiVersion": META_VERSION, "metadata": meta, "columnDefinitions": columns, "rows": rows}),
    )
}

fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": META_VERSION, "metadata": object["metadata"]})
}
