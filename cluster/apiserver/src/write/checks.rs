//! Whether a body is about what its URL is about, and what a write may rest on.

use afloat_machinery::kinds::Resource;
use afloat_machinery::{Checked, fields, strategy};
use serde_json::Value;

use crate::view;
use crate::wire::call::Call;
use crate::wire::status::Status;
use crate::wire::twice::Twice;

pub(in crate::write) fn checked(checked: Checked, resource: &Resource, name: &str) -> Result<Vec<String>, Status> {
    checked.map_err(|errors| Status::invalid(resource, name, &errors))
}

/// Takes out of an object what its kind does not have, and says so as `fieldValidation` has it: what a client sends unknowingly, or twice,
/// is refused, warned of, or passed over. What is stored (`current`) is never held against the client that sends it back.
pub(in crate::write) fn check_fields(
    call: &Call,
    current: Option<&Value>,
    object: &mut Value,
    twice: &[Twice],
) -> Result<Vec<String>, Status> {
    let mode = call.query.get("fieldValidation").unwrap_or("Warn");
    if !matches!(mode, "Strict" | "Warn" | "Ignore") {
        let message = format!(
            "fieldValidation: Unsupported value: \"{mode}\": supported values: \"Ignore\", \"Strict\", \"Warn\""
        );
        return Err(Status::bad_request(message));
    }
    let mut unknown = fields::drop_unknown(&call.resource, object);
    if mode == "Ignore" {
        return Ok(Vec::new());
    }
    unknown.extend(strategy::unknown_fields(&call.resource, object));
    if let Some(current) = current.filter(|_| !unknown.is_empty()) {
        let mut stored = current.clone();
        let mut known = fields::drop_unknown(&call.resource, &mut stored);
        known.extend(strategy::unknown_fields(&call.resource, &stored));
        unknown.retain(|path| !known.contains(path));
    }
    let lost =
        |twice: &Twice| matches!(twice, Twice::Field(path) if unknown.iter().any(|unknown| lies_in(path, unknown)));
    let twice = twice.iter().filter(|twice| !lost(twice));
    let say = |path: &String| format!("unknown field \"{path}\"");
    if mode == "Warn" {
        return Ok(twice.map(Twice::sentence).chain(unknown.iter().map(say)).collect());
    }
    let sentences: Vec<String> = twice.map(Twice::refusal).chain(unknown.iter().map(say)).collect();
    if sentences.is_empty() {
        return Ok(sentences);
    }
    let why = format!("strict decoding error: {}", sentences.join(", "));
    Err(match call.verb {
        "patch" => Status::unpatchable(&call.resource, call.name(), &why),
        _ => Status::undecodable(&call.resource.kind, &call.resource.version, &why),
    })
}

/// Whether a path is another one, or leads into it.
fn lies_in(path: &str, whole: &str) -> bool {
    path.strip_prefix(whole)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
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
