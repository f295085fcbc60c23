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

/// What a collection is called in a form: kind and version, its items, and what else it has.
pub(crate) fn collection(resource: &Resource, form: Form) -> (Value, &'static str) {
    match form {
        Form::Object => (
            json!({"kind": resource.list_kind, "apiVersion": resource.api_version()}),
            "items",
        ),
        Form::Metadata => (
            json!({"kind": "PartialObjectMetadataList", "apiVersion": META_VERSION}),
            "items",
        ),
        Form::Table => {
            let table = json!({"kind": "Table", "apiVersion": META_VERSION, "columnDefinitions": columns(resource)});
            (table, "rows")
        }
    }
}

/// An object of a collection.
pub(crate) fn item(resource: &Resource, form: Form, include: Include, stored: &Bytes) -> Result<Bytes, Status> {
    if form == Form::Object {
        return view::served(resource, stored);
    }
    let object = view::parse(resource, stored)?;
    let value = match form {
        Form::Table => row(resource, include, &object, &clock::now()),
        _ => partial(&object),
    };
    Ok(value.to_string().into())
}

/// A collection of objects that are not stored.
pub(crate) fn many(
    resource: &Resource,
    form: Form,
    query: &Query,
    objects: &[Value],
    meta: Value,
) -> Result<Bytes, Status> {
    let (include, now) = (Include::parse(query)?, clock::now());
    let (mut whole, items) = collection(resource, form);
    let shown = |object: &Value| match form {
        Form::Object => object.clone(),
        Form::Metadata => partial(object),
        Form::Table => row(resource, include, object, &now),
    };
    whole["metadata"] = meta;
    whole[items] = objects.iter().map(shown).collect();
    Ok(whole.to_string().into())
}

/// What a row shows of its object besides the cells.
#[derive(Clone, Copy)]
pub(crate) enum Include {
    Nothing,
    Metadata,
    Object,
}

impl Include {
    /// # Errors
    /// If there is no such thing.
    pub(crate) fn parse(query: &Query) -> Result<Self, Status> {
        match query.get("includeObject").unwrap_or("Metadata") {
            "None" => Ok(Self::Nothing),
            "Metadata" => Ok(Self::Metadata),
            "Object" => Ok(Self::Object),
            other => Err(Status::bad_request(format!(
                "unrecognized includeObject value: \"{other}\": must be None, Metadata or Object"
            ))),
        }
    }
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
    let (include, now) = (Include::parse(query)?, clock::now());
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| row(resource, include, object, &now))
        .collect();
    let columns = if described { columns(resource) } else { Vec::new() };
    Ok(
        json!({"kind": "Table", "apiVersion": META_VERSION, "metadata": meta, "columnDefinitions": columns, "rows": rows}),
    )
}

fn row(resource: &Resource, include: Include, object: &Value, now: &str) -> Value {
    let shown = match include {
        Include::Object => object.clone(),
        Include::Metadata => partial(object),
        Include::Nothing => Value::Null,
    };
    json!({"cells": cells(resource, object, now), "object": shown})
}

fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": META_VERSION, "metadata": object["metadata"]})
}
