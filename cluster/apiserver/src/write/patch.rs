//! Patches: read once, applied as often as a write is decided.

use afloat_machinery::fields;
use afloat_machinery::kinds::Resource;
use afloat_machinery::patch::{self, PatchError, PatchType};
use bytes::Bytes;
use serde_json::Value;

use super::checks::match_url;
use crate::wire::call::{Call, shallow};
use crate::wire::status::Status;
use crate::wire::twice::{self, Twice};

/// A patch that has been read but not applied.
pub(in crate::write) struct ParsedPatch {
    kind: PatchType,
    document: Value,
    twice: Vec<Twice>,
}

impl ParsedPatch {
    pub(in crate::write) fn read(call: &Call, body: &Bytes) -> Result<Self, Status> {
        let kind = match call.content_type.as_str() {
            "application/json-patch+json" => PatchType::Json,
            "application/merge-patch+json" => PatchType::Merge,
            "application/strategic-merge-patch+json" => PatchType::Strategic,
            "application/apply-patch+yaml" | "application/apply-patch+cbor" => {
                return Err(Status::unsupported_media(
                    "server-side apply is not supported by this server; use client-side apply (kubectl apply --server-side=false) or a merge patch",
                ));
            }
            other => {
                return Err(Status::unsupported_media(format!(
                    "the body of the request was in an unknown format ({other}) - accepted media types include: \
                     application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json"
                )));
            }
        };
        let (document, twice) =
            twice::json(body).map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
        let document = shallow(document, "patch")?;
        let twice = match kind {
            PatchType::Json => twice.into_iter().map(Twice::of_operation).collect(),
            PatchType::Merge | PatchType::Strategic => twice,
        };
        Ok(Self { kind, document, twice })
    }

    /// What it says twice.
    pub(in crate::write) fn twice(&self) -> &[Twice] {
        &self.twice
    }

    /// The patched object, which must still be the one that the URL names.
    pub(in crate::write) fn apply(&self, call: &Call, current: &Value) -> Result<Value, Status> {
        let mut new = self.apply_to(&call.resource, current)?;
        fields::decode_as(&call.resource, &mut new)
            .map_err(|why| Status::unpatchable(&call.resource, call.name(), &why))?;
        match_url(call, &mut new)?;
        Ok(new)
    }

    /// The patched document.
    pub(in crate::write) fn apply_to(&self, resource: &Resource, current: &Value) -> Result<Value, Status> {
        patch::apply(self.kind, resource, current, &self.document).map_err(|error| match error {
            PatchError::Malformed(why) => Status::bad_request(why),
            PatchError::Unprocessable(why) => Status::unprocessable(why),
            PatchError::Unsupported(why) => Status::unsupported_media(why),
        })
    }
}
