//! Whether a body is about what its URL is about, and what a write may rest on.

use afloat_machinery::kinds::Resource;
use afloat_machinery::{Checked, fields, strategy};
use serde_json::Value;

use crate::view;
use crate::wire::call::Call;
use crate::wire::status::Status;

pub(in crate::write) fn checked(checked: Checked, resource: &Resource, name: &str) -> Result<Vec<String>, Status> {
    checked.map_err(|errors| Status::invalid(resource, name, &errors))
}

/// Fields that a client sends unknowingly, per `fieldValidation`: refused, warned of, or ignored.
pub(in crate::write) fn check_fields(call: &Call, object: &Value) -> Result<Vec<String>, Status> {
    let mode = call.query.get("fieldValidation").unwrap_or("Warn");
    if !matches!(mode, "Strict" | "Warn" | "Ignore") {
        let message = format!(
            "fieldValidation: Unsupported value: \"{mode}\": supported values: \"Ignore\", \"Strict\", \"Warn\""
        );
        return Err(Status::bad_request(message));
    }
    let asked = call.query.has("fieldValidation");
    let unknown = match (mode, call.resource.is_custom()) {
        ("Ignore", _) => Vec::new(),
        (_, true) => strategy::unknown_fields(&call.resource, object),
        // Nothing is lost of what a built-in kind does not know, so only who asks is told.
        (_, false) if asked => fields::unknown(&call.resource.api_version(), &call.resource.kind, object),
        (_, false) => Vec::new(),
    };
    let sentences: Vec<String> = unknown
        .iter()
        .map(|field| format!("unknown field \"{field}\""))
        .collect();
    if mode == "Strict" && !sentences.is_empty() {
        let kind = &call.resource.kind;
        let list = sentences.join(", ");
        let message = format!(
            "{kind} in version \"{}\" cannot be handled as a {kind}: strict decoding error: {list}",
            call.resource.version
        );
        return Err(Status::bad_request(message));
    }
    Ok(sentences)
}

/// Checks that a body is about what the URL is about, and completes what it leaves out.
pub(in crate::write) fn match_url(call: &Call, object: &mut Value) -> Result<(), Status> {
    let resource = &call.resource;
    if !object.is_object() {
        return Err(Status::bad_request("the body must be an object"));
    }
    let expected = [("apiVersion", resource.api_version()), ("kind", resource.kind.clone())];
    for (field, expected) in expected {
        match object[field].as_str() {
            None | Some("") => object[field] = expected.into(),
            Some(given) if given != expected => {
                let what = if field == "kind" { "kind" } else { "API version" };
                let message =
                    format!("the {what} in the data ({given}) does not match the expected {what} ({expected})");
                return Err(Status::bad_request(message));
            }
            Some(_) => {}
        }
    }
    let namespace = view::meta(object, "namespace").to_owned();
    let name = view::meta(object, "name").to_owned();
    let meta = view::metadata(object);
    meta.remove("managedFields");
    meta.remove("selfLink");
    match call.namespace() {
        Some(expected) if !namespace.is_empty() && namespace != expected => {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        Some(expected) => meta.insert("namespace".into(), expected.into()),
        None if resource.namespaced => {
            return Err(Status::bad_request(
                "an object of this kind must be created in a namespace",
            ));
        }
        None => meta.remove("namespace"),
    };
    match call.path.name.as_deref() {
        Some(expected) if name.is_empty() => {
            meta.insert("name".into(), expected.into());
        }
        Some(expected) if name != expected => {
            let message = format!("the name of the object ({name}) does not match the name on the URL ({expected})");
            return Err(Status::bad_request(message));
        }
        _ => {}
    }
    Ok(())
}

/// Refuses a write that was decided on another version or another object of the name.
pub(in crate::write) fn check_versions(resource: &Resource, current: &Value, new: &Value) -> Result<(), Status> {
    let name = view::meta(current, "name");
    let (expected, actual) = (view::meta(new, "uid"), view::meta(current, "uid"));
    if !expected.is_empty() && expected != actual {
        let why = format!("Precondition failed: UID in precondition: {expected}, UID in object meta: {actual}");
        return Err(Status::conflict(resource, name, &why));
    }
    match view::meta(new, "resourceVersion") {
        "" | "0" => Ok(()),
        given if given == view::meta(current, "resourceVersion") => Ok(()),
        _ => Err(Status::modified(resource, name)),
    }
}

/// A custom resource is only replaced as the version that the client has read: the original takes no blind PUT of one.
pub(in crate::write) fn check_conditional(call: &Call, new: &Value) -> Result<(), Status> {
    let blind = matches!(view::meta(new, "resourceVersion"), "" | "0");
    if call.verb == "update" && call.resource.is_custom() && blind {
        let message = "Invalid value: 0x0: must be specified for an update";
        let field = "metadata.resourceVersion";
        return Err(Status::invalid_field(
            &call.resource,
            call.name(),
            field,
            "FieldValueInvalid",
            message,
        ));
    }
    Ok(())
}
