//! A request for an object or a collection, understood, and its body.

use std::sync::Arc;

use afloat_machinery::kinds::Resource;
use bytes::Bytes;
use serde_json::Value;

use crate::wire::protobuf;
use crate::wire::request::{Accept, ObjectPath, Query};
use crate::wire::status::Status;
use afloat_machinery::authorization::User;

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
}

/// Reads a request's body as an object: JSON, YAML or protobuf.
pub(crate) fn document(content_type: &str, body: &Bytes) -> Result<Value, Status> {
    match content_type {
        "application/vnd.kubernetes.protobuf" => protobuf::decode(body).map_err(Status::unsupported_media),
        "application/yaml" | "application/x-yaml" | "text/yaml" => {
            let text =
                std::str::from_utf8(body).map_err(|e| Status::bad_request(format!("the body is not UTF-8: {e}")))?;
            serde_saphyr::from_str(text).map_err(|e| Status::bad_request(format!("error parsing YAML: {e}")))
        }
        _ => serde_json::from_slice(body).map_err(|e| Status::bad_request(format!("error decoding the body: {e}"))),
    }
}
