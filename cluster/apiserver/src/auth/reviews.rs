//! Reviews: questions that are answered and not stored.

use afloat_machinery::FieldError;
use afloat_machinery::authorization::{Attributes, Decision, User, joined};
use afloat_machinery::kinds::Review;
use bytes::Bytes;
use http::Response;
use serde_json::{Map, Value, json};

use crate::auth::authorization::Authorization;
use crate::auth::token::{own_audiences, texts};
use crate::auth::{Tokens, subject};
use crate::view;
use crate::wire::body::Body;
use crate::wire::call::Call;
use crate::wire::reply;
use crate::wire::status::Status;

/// Answers a POST of a review.
pub(crate) fn review(
    call: &Call,
    asked: Review,
    body: &Bytes,
    tokens: &Tokens,
    authorization: &Authorization,
) -> Result<Response<Body>, Status> {
    let mut review = call.object(body)?;
    review["apiVersion"] = call.resource.api_version().into();
    review["kind"] = call.resource.kind.as_str().into();
    review["status"] = match asked {
        Review::Subject => json!({"userInfo": user_info(&call.user)}),
        Review::Rules => {
            let status = held_rules(&review, &call.user, authorization)?;
            review["spec"] = json!({});
            status
        }
        Review::Token => review_token(&review, tokens),
        Review::Access => access(call, &review, authorization)?,
    };
    reply::rendered(201, call.accept, review.to_string().into())
}

/// Somebody, as reviews have it.
fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn review_token(review: &Value, tokens: &Tokens) -> Value {
    let asked = texts(&review["spec"]["audiences"]);
    let audiences = if asked.is_empty() { own_audiences() } else { asked };
    match tokens.user(review["spec"]["token"].as_str().unwrap_or_default(), &audiences) {
        Some(known) => json!({"authenticated": true, "audiences": known.audiences, "user": user_info(&known.user)}),
        None => {
            json!({"authenticated": false, "error": "the token is not known, not valid any more, or not for this audience"})
        }
    }
}

/// `SelfSubjectRulesReview`.
fn held_rules(review: &Value, user: &User, authorization: &Authorization) -> Result<Value, Status> {
    let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let held = authorization.rules(user, namespace);
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in &held.rules {
        let mut fields = rule.to_value();
        let urls = fields
            .as_object_mut()
            .and_then(|fields| fields.remove("nonResourceURLs"));
        if !rule.resources.is_empty() {
            resources.push(fields);
        }
        if let Some(urls) = urls {
            paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": urls}));
        }
    }
    let mut status = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": held.incomplete});
    if !held.errors.is_empty() {
        status["evaluationError"] = joined(&held.errors).into();
    }
    Ok(status)
}

/// `SubjectAccessReview`, that of a namespace, and one's own.
fn access(call: &Call, review: &Value, authorization: &Authorization) -> Result<Value, Status> {
    let (about_self, spec) = (call.resource.kind == "SelfSubjectAccessReview", &review["spec"]);
    let errors = wrong(call, review, about_self);
    if !errors.is_empty() {
        return Err(Status::invalid(&call.resource, "", &errors));
    }
    if let Some(namespace) = call.namespace()
        && view::meta(review, "namespace") != namespace
    {
        let why = format!("spec.resourceAttributes.namespace must match namespace: {namespace}");
        return Err(Status::bad_request(why));
    }
    let other = subject(spec);
    let user = if about_self { &call.user } else { &other };
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let text = |field: &'static str| resource[field].as_str().unwrap_or_default();
    let attributes = if resource.is_object() {
        Attributes {
            namespace: text("namespace"),
            subresource: text("subresource"),
            name: text("name"),
            ..Attributes::resource(user, text("verb"), text("group"), text("resource"))
        }
    } else {
        let text = |field: &'static str| path[field].as_str().unwrap_or_default();
        Attributes::path(user, text("verb"), text("path"))
    };
    let (mut status, reason) = match authorization.decide(&attributes) {
        Decision::Allow(reason) => (json!({"allowed": true}), reason),
        Decision::Deny(reason) => (json!({"allowed": false, "denied": true}), reason),
        Decision::NoOpinion(reason) => (json!({"allowed": false}), reason),
    };
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    Ok(status)
}

/// What is wrong with the question.
fn wrong(call: &Call, review: &Value, about_self: bool) -> Vec<FieldError> {
    let spec = &review["spec"];
    let invalid = |field: &str, value: &str, why: &str| FieldError {
        field: field.to_owned(),
        cause: "FieldValueInvalid",
        message: format!("Invalid value: {value}: {why}"),
    };
    let mut errors = Vec::new();
    let (resource, path) = (
        spec["resourceAttributes"].is_object(),
        spec["nonResourceAttributes"].is_object(),
    );
    if resource && path {
        let why = "cannot be specified in combination with resourceAttributes";
        let value = &spec["nonResourceAttributes"];
        errors.push(invalid("spec.nonResourceAttributes", &value.to_string(), why));
    }
    if !resource && !path {
        let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.push(invalid("spec.resourceAttributes", "\"null\"", why));
    }
    let is_empty = |field: &str| spec[field].as_str().is_none_or(str::is_empty);
    if !about_self && is_empty("user") && texts(&spec["groups"]).is_empty() {
        errors.push(invalid(
            "spec.user",
            "\"\"",
            "at least one of user or group must be specified",
        ));
    }
    let empty = Map::new();
    let meta = review["metadata"].as_object().unwrap_or(&empty);
    let given = |(key, value): (&String, &Value)| {
        !value.is_null() && *key != "managedFields" && !(call.resource.namespaced && *key == "namespace")
    };
    if meta.iter().any(given) {
        let why = if call.resource.namespaced {
            "must be empty except for namespace"
        } else {
            "must be empty"
        };
        errors.push(invalid("metadata", &review["metadata"].to_string(), why));
    }
    if call.resource.namespaced {
        let named = spec["resourceAttributes"]["namespace"].as_str().unwrap_or_default();
        if resource && named != view::meta(review, "namespace") {
            let why = "must match metadata.namespace";
            errors.push(invalid(
                "spec.resourceAttributes.namespace",
                &format!("\"{named}\""),
                why,
            ));
        }
        if path {
            let value = spec["nonResourceAttributes"].to_string();
            errors.push(invalid(
                "spec.nonResourceAttributes",
                &value,
                "disallowed on this kind of request",
            ));
        }
    }
    errors
}
