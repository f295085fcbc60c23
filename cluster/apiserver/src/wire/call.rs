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
use crate::wire::twice::{self, Twice};
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

    /// Reads a body as an object of the kind that the URL names.
    ///
    /// # Errors
    /// 400 if it is none, or if a field holds what the kind's does not.
    pub(crate) fn object(&self, body: &Bytes) -> Result<Value, Status> {
        Ok(self.read(body)?.0)
    }

    /// The same, with what the body says twice.
    ///
    /// # Errors
    /// As [`Self::object`].
    pub(crate) fn read(&self, body: &Bytes) -> Result<(Value, Vec<Twice>), Status> {
        let (kind, version) = (&self.resource.kind, &self.resource.version);
        let (mut object, twice) = self.recognized(kind, body)?;
        fields::decode_as(&self.resource, &mut object).map_err(|why| Status::undecodable(kind, version, &why))?;
        Ok((object, twice))
    }

    /// Reads a body as an object of another kind, which a subresource takes.
    ///
    /// # Errors
    /// As [`Self::object`].
    pub(crate) fn object_of(&self, api_version: &str, kind: &str, body: &Bytes) -> Result<Value, Status> {
        let (mut object, _) = self.recognized(kind, body)?;
        let version = api_version.rsplit('/').next().unwrap_or_default();
        if let Some(message) = fields::message_name(api_version, kind) {
            fields::decode(message, &mut object).map_err(|why| Status::undecodable(kind, version, &why))?;
        }
        Ok(object)
    }

    fn recognized(&self, kind: &str, body: &Bytes) -> Result<(Value, Vec<Twice>), Status> {
        let (object, twice) = document(&self.content_type, body)?;
        match fields::unrecognized(&object) {
            None => Ok((object, twice)),
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

/// Reads a request's body as an object: JSON, YAML or protobuf. With what it says twice.
pub(crate) fn document(content_type: &str, body: &Bytes) -> Result<(Value, Vec<Twice>), Status> {
    let (value, twice) = match content_type {
        "application/vnd.kubernetes.protobuf" => {
            let value = protobuf::decode(body).map_err(Status::unsupported_media)?;
            (value, Vec::new())
        }
        "application/yaml" | "application/x-yaml" | "text/yaml" => {
            let text =
                std::str::from_utf8(body).map_err(|e| Status::bad_request(format!("the body is not UTF-8: {e}")))?;
            twice::yaml(text).map_err(|e| Status::bad_request(format!("error parsing YAML: {e}")))?
        }
        _ => twice::json(body).map_err(|e| Status::bad_request(format!("error decoding the body: {e}")))?,
    };
    Ok((shallow(value, "the body")?, twice))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// serde_json's own values would read what is in the text.
    #[test]
    fn texts_in_texts_stay_texts() {
        let text = r#"{"$serde_json::private::RawValue": "[[1]]"}"#;
        let (object, _) = document("application/json", &Bytes::from(text)).unwrap();
        assert_eq!(object["$serde_json::private::RawValue"], "[[1]]");
    }
}
