//! A request for an object or a collection, understood, and its body.

use std::sync::Arc;

use afloat_machinery::bounds::too_deep;
use afloat_machinery::fields;
use afloat_machinery::kinds::Resource;
use bytes::Bytes;
use serde_json::Value;

use crate::wire::protobuf;
use crate::wire::request::{Accept, ObjectPath, Query};
use crate::wire::status::Status;
use afloat_machinery::authorization::User;

/// Values that a document in YAML may have: its reader takes some hundred bytes for each.
const YAML_NODES: usize = 100_000;

/// A request for an object or a collection, understood.
pub(crate) struct Call {
    pub(crate) user: User,
    pub(crate) verb: &'static str,
    pub(crate) path: ObjectPath,
    pub(crate) resource: Arc<Resource>,
    pub(crate) query: Query,
    pub(crate) accept: Accept,
    pub(crate) content_type: String,
}

impl Call {
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.path.namespace.as_deref()
    }

    pub(crate) fn name(&self) -> &str {
        self.path.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn subresource(&self) -> &str {
        self.path.subresource.as_deref().unwrap_or_default()
    }

    /// Reads a body as an object of the kind that the URL names.
    ///
    /// # Errors
    /// 400 if it is none, or if a field holds what the kind's does not.
    pub(crate) fn object(&self, body: &Bytes) -> Result<Value, Status> {
        let (kind, version) = (&self.resource.kind, &self.resource.version);
        let mut object = self.recognized(kind, body)?;
        fields::decode_as(&self.resource, &mut object).map_err(|why| Status::undecodable(kind, version, &why))?;
        Ok(object)
    }

    /// Reads a body as an object of another kind, which a subresource takes.
    ///
    /// # Errors
    /// As [`Self::object`].
    pub(crate) fn object_of(&self, api_version: &str, kind: &str, body: &Bytes) -> Result<Value, Status> {
        let mut object = self.recognized(kind, body)?;
        let version = api_version.rsplit('/').next().unwrap_or_default();
        if let Some(message) = fields::message_name(api_version, kind) {
            fields::decode(message, &mut object).map_err(|why| Status::undecodable(kind, version, &why))?;
        }
        Ok(object)
    }

    fn recognized(&self, kind: &str, body: &Bytes) -> Result<Value, Status> {
        let object = document(&self.content_type, body)?;
        match fields::unrecognized(&object) {
            None => Ok(object),
            Some(why) => Err(Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {why}"
            ))),
        }
    }
}

/// The value, if it nests no deeper than a reader of JSON allows.
pub(crate) fn shallow(value: Value, what: &str) -> Result<Value, Status> {
    if too_deep(&value) {
        return Err(Status::bad_request(format!(
            "error decoding {what}: recursion limit exceeded"
        )));
    }
    Ok(value)
}

/// What a document in YAML may make of its text: aliases may stand for much that is written once.
fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: YAML_NODES,
            max_recorded_anchor_events: YAML_NODES,
        },
    }
}

/// Reads a request's body as an object: JSON, YAML or protobuf.
pub(crate) fn document(content_type: &str, body: &Bytes) -> Result<Value, Status> {
    match content_type {
        "application/vnd.kubernetes.protobuf" => protobuf::decode(body).map_err(Status::unsupported_media),
        "application/yaml" | "application/x-yaml" | "text/yaml" => {
            let text =
                std::str::from_utf8(body).map_err(|e| Status::bad_request(format!("the body is not UTF-8: {e}")))?;
            serde_saphyr::from_str_with_options(text, yaml_options())
                .map_err(|e| Status::bad_request(format!("error parsing YAML: {e}")))
        }
        _ => serde_json::from_slice(body).map_err(|e| Status::bad_request(format!("error decoding the body: {e}"))),
    }
    .and_then(|value| shallow(value, "the body"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As much as fits a small body; what a body of 3 MiB could nest needs a bigger stack than tests' unoptimised reader has.
    #[test]
    fn texts_in_texts_do_not_nest_deeper_than_lists() {
        let mut text = "1".to_owned();
        for _ in 0..3 {
            let inside = serde_json::to_string(&text).unwrap();
            text = format!(
                r#"{}{{"$serde_json::private::RawValue":{inside}}}{}"#,
                "[".repeat(60),
                "]".repeat(60)
            );
        }
        let body = Bytes::from(text);
        for kind in ["application/json", "application/yaml"] {
            assert_eq!(document(kind, &body).unwrap_err().code, 400, "{kind}");
        }
    }
}
