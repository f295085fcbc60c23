//! Errors as clients of Kubernetes know them: every refusal is a `Status` object with the code, reason and wording of the
//! original, since clients match on them.

use afloat_machinery::FieldError;
use afloat_machinery::admission::{Denial, Reason as Denied};
use afloat_machinery::authorization::{Attributes, quoted};
use afloat_machinery::bounds::MEMORY_LIMIT;
use afloat_machinery::kinds::Resource;
use afloat_store::Error as StoreError;
use http::{Response, StatusCode, header};
use serde_json::{Value, json};

use crate::wire::body::{BODY_LIMIT_BYTES, Body, full};

/// Machine readable reason of a refusal, as Kubernetes writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is Kubernetes' own word")]
pub enum Reason {
    AlreadyExists,
    BadRequest,
    Conflict,
    Expired,
    Forbidden,
    InternalError,
    Invalid,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    RequestEntityTooLarge,
    ServiceUnavailable,
    Timeout,
    TooManyRequests,
    Unauthorized,
    Unknown,
    UnsupportedMediaType,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The words are the variants' names.
        write!(formatter, "{self:?}")
    }
}

/// A refusal, to be rendered as a `v1.Status`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine readable reason, for example `NotFound`.
    pub reason: Reason,
    /// What went wrong, and what to do.
    pub message: String,
    /// `details` of the object.
    pub details: Option<Value>,
}

/// How a kind appears in `details`: Kubernetes puts the plural there, not the kind.
fn details(resource: &Resource, name: &str) -> Value {
    let mut details = json!({"kind": resource.plural});
    if !name.is_empty() {
        details["name"] = name.into();
    }
    if !resource.group.is_empty() {
        details["group"] = resource.group.as_str().into();
    }
    details
}

impl Status {
    fn new(code: u16, reason: Reason, message: impl Into<String>, details: Option<Value>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details,
        }
    }

    /// 404 for an object.
    pub(crate) fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", resource.qualified_name());
        Self::new(404, Reason::NotFound, message, Some(details(resource, name)))
    }

    /// 404 for an object that a request is not itself about. `kind`: in lower case.
    pub(crate) fn not_found_of(kind: &str, name: &str) -> Self {
        let details = json!({"name": name, "kind": kind});
        Self::new(
            404,
            Reason::NotFound,
            format!("{kind} \"{name}\" not found"),
            Some(details),
        )
    }

    /// 404 for a path that names nothing.
    pub(crate) fn no_such_resource() -> Self {
        Self::new(
            404,
            Reason::NotFound,
            "the server could not find the requested resource",
            Some(json!({})),
        )
    }

    /// 409 for a create of what is there.
    pub(crate) fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", resource.qualified_name());
        Self::new(409, Reason::AlreadyExists, message, Some(details(resource, name)))
    }

    /// 409 with a given explanation.
    pub(crate) fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let mut status = Self::conflict_of(&resource.qualified_name(), name, why);
        status.details = Some(details(resource, name));
        status
    }

    /// 409 about something that is not the object of the request.
    pub(crate) fn conflict_of(what: &str, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {what} \"{name}\": {why}");
        Self::new(
            409,
            Reason::Conflict,
            message,
            Some(json!({"name": name, "kind": what})),
        )
    }

    /// 409 for a write that was decided on an older version.
    pub(crate) fn modified(resource: &Resource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// 400 for a body that is no object of its kind. The body itself is not repeated: it may be a Secret.
    pub(crate) fn undecodable(kind: &str, version: &str, why: &str) -> Self {
        Self::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"
        ))
    }

    /// 422 for a patch that makes something of an object that is none of its kind. The original repeats the whole object here.
    pub(crate) fn unpatchable(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("Invalid value: {why}");
        Self::invalid_field(resource, name, "patch", "FieldValueInvalid", &message)
    }

    /// 422 with its causes.
    pub(crate) fn invalid(resource: &Resource, name: &str, errors: &[FieldError]) -> Self {
        Self::invalid_as((resource.group.as_str(), resource.kind.as_str()), name, errors)
    }

    /// 422 for a body that is no object and has no name. `kind`: group and kind.
    pub(crate) fn invalid_request(kind: (&str, &str), error: FieldError) -> Self {
        Self::invalid_as(kind, "", &[error])
    }

    fn invalid_as((group, kind): (&str, &str), name: &str, errors: &[FieldError]) -> Self {
        let sentences: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
        let list = match sentences.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let causes: Vec<Value> = errors
            .iter()
            .map(|e| json!({"reason": e.cause, "message": e.message, "field": e.field}))
            .collect();
        let qualified = match group {
            "" => kind.to_owned(),
            group => format!("{kind}.{group}"),
        };
        // Unlike elsewhere, `details.kind` is the kind here: that is what the original does.
        let details = json!({"name": name, "group": group, "kind": kind, "causes": causes});
        Self::new(
            422,
            Reason::Invalid,
            format!("{qualified} \"{name}\" is invalid: {list}"),
            Some(details),
        )
    }

    /// 422 for one field.
    pub(crate) fn invalid_field(
        resource: &Resource,
        name: &str,
        field: &str,
        cause: &'static str,
        message: &str,
    ) -> Self {
        Self::invalid(
            resource,
            name,
            &[FieldError {
                field: field.to_owned(),
                cause,
                message: message.to_owned(),
            }],
        )
    }

    /// 422 for a patch that does not fit.
    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(422, Reason::Invalid, message, Some(json!({})))
    }

    /// 400.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, Reason::BadRequest, message, None)
    }

    /// 401.
    pub(crate) fn unauthorized() -> Self {
        Self::new(401, Reason::Unauthorized, "Unauthorized", None)
    }

    /// 403 for an object.
    pub(crate) fn forbidden(resource: &Resource, name: &str, why: &str) -> Self {
        let subject = match name {
            "" => resource.qualified_name(),
            name => format!("{} \"{name}\"", resource.qualified_name()),
        };
        let message = format!("{subject} is forbidden: {why}");
        Self::new(403, Reason::Forbidden, message, Some(details(resource, name)))
    }

    /// 403 with a sentence of its own.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(403, Reason::Forbidden, message, None)
    }

    /// 403 for a request that its user may not make, in the original's words.
    pub(crate) fn not_authorized(asked: &Attributes<'_>, reason: &str) -> Self {
        let user = quoted(&asked.user.name);
        let what = if asked.is_resource {
            let resource = match asked.subresource {
                "" => quoted(asked.resource),
                subresource => quoted(&format!("{}/{subresource}", asked.resource)),
            };
            let place = match asked.namespace {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {}", quoted(namespace)),
            };
            let (verb, group) = (asked.verb, quoted(asked.group));
            format!("User {user} cannot {verb} resource {resource} in API group {group} {place}")
        } else {
            format!("User {user} cannot {} path {}", asked.verb, quoted(asked.path))
        };
        let mut why = what.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        if !reason.is_empty() {
            why += &format!(": {reason}");
        }
        let mut details = json!({});
        let mut set = |field: &str, text: &str| {
            if !text.is_empty() {
                details[field] = text.into();
            }
        };
        set("name", asked.name);
        set("group", asked.group);
        set("kind", asked.resource);
        let subject = match (asked.resource, asked.group) {
            ("", _) => String::new(),
            (resource, "") => resource.to_owned(),
            (resource, group) => format!("{resource}.{group}"),
        };
        let subject = match (subject.as_str(), asked.name) {
            ("", _) => "forbidden".to_owned(),
            (subject, "") => format!("{subject} is forbidden"),
            (subject, name) => format!("{subject} {} is forbidden", quoted(name)),
        };
        Self::new(403, Reason::Forbidden, format!("{subject}: {why}"), Some(details))
    }

    /// What a policy has refused, with the reason that it gives.
    pub(crate) fn denied(resource: &Resource, name: &str, denial: &Denial) -> Self {
        let mut status = Self::forbidden(resource, name, &denial.message);
        if let Some(details) = status.details.as_mut() {
            details["causes"] = json!([{"message": denial.message}]);
        }
        (status.code, status.reason) = match denial.reason {
            Denied::Unauthorized => (401, Reason::Unauthorized),
            Denied::Forbidden => (403, Reason::Forbidden),
            Denied::RequestEntityTooLarge => (413, Reason::RequestEntityTooLarge),
            Denied::Invalid => (422, Reason::Invalid),
        };
        status
    }

    /// 405.
    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, Reason::MethodNotAllowed, message, Some(json!({})))
    }

    /// 406.
    pub(crate) fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json, application/yaml, \
                       application/json;as=Table;g=meta.k8s.io;v=v1";
        Self::new(406, Reason::NotAcceptable, message, None)
    }

    /// 410: the history asked for is gone.
    pub(crate) fn expired(requested: u64, oldest: u64) -> Self {
        Self::new(
            410,
            Reason::Expired,
            format!("too old resource version: {requested} ({oldest})"),
            None,
        )
    }

    /// 413.
    pub(crate) fn too_large() -> Self {
        let message = format!("Request entity too large: limit is {BODY_LIMIT_BYTES}");
        Self::new(413, Reason::RequestEntityTooLarge, message, None)
    }

    /// 415.
    pub(crate) fn unsupported_media(message: impl Into<String>) -> Self {
        Self::new(415, Reason::UnsupportedMediaType, message, None)
    }

    /// 429; clients wait and try again.
    pub(crate) fn too_many_requests(message: impl Into<String>, details: Value) -> Self {
        Self::new(429, Reason::TooManyRequests, message, Some(details))
    }

    /// 500.
    pub(crate) fn internal(message: impl std::fmt::Display) -> Self {
        let details = json!({"causes": [{"message": message.to_string()}]});
        Self::new(
            500,
            Reason::InternalError,
            format!("Internal error occurred: {message}"),
            Some(details),
        )
    }

    /// What an admission webhook says in place of the server; reasons beyond Kubernetes' own are none.
    pub(crate) fn of_webhook(given: &Value) -> Self {
        const KNOWN: [Reason; 10] = [
            Reason::BadRequest,
            Reason::Conflict,
            Reason::Forbidden,
            Reason::InternalError,
            Reason::Invalid,
            Reason::NotFound,
            Reason::ServiceUnavailable,
            Reason::Timeout,
            Reason::TooManyRequests,
            Reason::Unauthorized,
        ];
        let reason = given["reason"].as_str().unwrap_or_default();
        let reason = KNOWN.into_iter().find(|known| known.to_string() == reason);
        let code = given["code"].as_u64().and_then(|code| u16::try_from(code).ok());
        let details = Some(given["details"].clone()).filter(Value::is_object);
        let message = given["message"].as_str().unwrap_or_default();
        Self::new(code.unwrap_or(400), reason.unwrap_or(Reason::Unknown), message, details)
    }

    /// 500 for what a conversion webhook has not converted. As with the original it has no reason beyond its sentence.
    pub(crate) fn unconverted(why: impl Into<String>) -> Self {
        Self::new(500, Reason::InternalError, why, None)
    }

    /// 500 for what the original has no reason for.
    pub(crate) fn unknown(message: impl Into<String>) -> Self {
        Self::new(500, Reason::Unknown, message, None)
    }

    /// 503.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, Reason::ServiceUnavailable, message, None)
    }

    /// 504.
    pub(crate) fn timeout(message: impl Into<String>, details: Value) -> Self {
        Self::new(504, Reason::Timeout, message, Some(details))
    }

    /// 504 for a revision that has not been reached yet.
    pub(crate) fn future_revision(requested: u64, current: u64) -> Self {
        let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        let message = format!("Too large resource version: {requested}, current: {current}");
        Self::timeout(message, json!({"causes": [cause], "retryAfterSeconds": 1}))
    }

    /// 410 for a watch that was slower than the history is long.
    pub(crate) fn lagged() -> Self {
        let message = "too old resource version: the watch was slower than the history is long, list again";
        Self::new(410, Reason::Expired, message, None)
    }

    /// What the store said, about the object that it was asked for.
    pub(crate) fn from_store(error: StoreError, resource: &Resource, name: &str) -> Self {
        match error {
            StoreError::Exists { .. } => Self::already_exists(resource, name),
            StoreError::NotFound { .. } => Self::not_found(resource, name),
            StoreError::Conflict { .. } => Self::modified(resource, name),
            StoreError::Compacted { requested, oldest } => Self::expired(requested, oldest),
            StoreError::Closed => Self::unavailable("the store is closed"),
            other => Self::internal(other),
        }
    }

    /// 413 for a document of very many values.
    pub(crate) fn too_many_values() -> Self {
        let message =
            format!("Request entity too large: its values would take more than {MEMORY_LIMIT} bytes of memory");
        Self::new(413, Reason::RequestEntityTooLarge, message, None)
    }

    /// As the object that clients read.
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason.to_string(), "code": self.code,
        });
        if self.reason == Reason::Unknown {
            // As upstream, which writes no reason then.
            status.as_object_mut().and_then(|status| status.remove("reason"));
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let retry_after = self.details.as_ref().and_then(|d| d["retryAfterSeconds"].as_u64());
        let mut response = Response::new(full(self.to_value().to_string()));
        *response.status_mut() = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, http::HeaderValue::from(seconds));
        }
        response
    }
}

/// The `Status` of a successful deletion.
pub(crate) fn success(resource: &Resource, name: &str, uid: &str) -> Value {
    let mut details = details(resource, name);
    if !uid.is_empty() {
        details["uid"] = uid.into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
