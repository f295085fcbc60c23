//! Subresources that the server answers itself; those of the kubelet are in `proxy.rs`.

mod eviction;
mod pod;
mod scale;

use afloat_machinery::kinds::Resource;
use afloat_machinery::strategy::Part;
use bytes::Bytes;
use http::Response;
use serde_json::json;

use crate::serve::route::{Call, document};
use crate::wire::status::Status;
use crate::write::{Change, ParsedPatch, check_versions, finished, match_url};
use crate::{ApiServer, Body, view};

/// Whether a kind has a subresource.
fn has(resource: &Resource, name: &str) -> bool {
    match name {
        "status" => resource.status,
        "scale" => resource.scale.is_some(),
        other => resource.subresources.contains(&other),
    }
}

impl ApiServer {
    /// A request for a subresource.
    pub(crate) async fn subresource(&self, call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
        let name = call.subresource();
        if !has(&call.resource, name) {
            return Err(Status::no_such_resource());
        }
        match (name, call.verb) {
            ("status" | "ephemeralcontainers" | "resize", "get") => self.get(call),
            ("status", "update" | "patch") => self.change_part(call, body, Part::Status).await,
            ("scale", "get" | "update" | "patch") => self.scale(call, body).await,
            ("binding", "create") => self.bind(call, body).await,
            ("eviction", "create") => self.evict(call, body).await,
            ("ephemeralcontainers", "update" | "patch") => {
                self.change_part(call, body, Part::EphemeralContainers).await
            }
            ("resize", "update" | "patch") => self.change_part(call, body, Part::Resize).await,
            ("token", "create") => self.token(call, body),
            ("finalize", "update") => self.finalize(call, body).await,
            _ => Err(Status::method_not_allowed()),
        }
    }

    /// PUT or PATCH of a part of an object.
    async fn change_part(&self, call: &Call, body: &Bytes, part: Part) -> Result<Response<Body>, Status> {
        if call.verb == "patch" {
            let patch = ParsedPatch::read(call, body)?;
            return self.change(call, part, |current| patch.apply(call, current)).await;
        }
        let mut object = document(&call.content_type, body)?;
        match_url(call, &mut object)?;
        self.change(call, part, |_| Ok(object.clone())).await
    }

    /// `namespaces/finalize`: the one way to take away `spec.finalizers`.
    async fn finalize(&self, call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
        let mut object = document(&call.content_type, body)?;
        match_url(call, &mut object)?;
        let written = self
            .modify(&call.resource, None, call.name(), call.query.dry_run()?, |current| {
                check_versions(&call.resource, current, &object)?;
                let mut new = current.clone();
                let finalizers = object["spec"]["finalizers"].clone();
                view::child(&mut new, "spec").insert(
                    "finalizers".into(),
                    if finalizers.is_null() { json!([]) } else { finalizers },
                );
                Ok(if finished(&call.resource, &new) {
                    Change::Remove(new)
                } else {
                    Change::Put(new)
                })
            })
            .await?;
        self.answer_write(call, &written, &[])
    }
}
