//! Who answers for a subresource; those of the kubelet go another way.

use afloat_machinery::kinds::Resource;
use afloat_machinery::strategy::Part;
use bytes::Bytes;
use http::Response;

use crate::serve::Router;
use crate::wire::body::Body;
use crate::wire::call::Call;
use crate::wire::status::Status;

/// Whether a kind has a subresource.
fn has(resource: &Resource, name: &str) -> bool {
    match name {
        "status" => resource.status,
        "scale" => resource.scale.is_some(),
        other => resource.subresources.contains(&other),
    }
}

impl Router {
    /// A request for a subresource.
    pub(crate) async fn subresource(&self, call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
        let name = call.subresource();
        if !has(&call.resource, name) {
            return Err(Status::no_such_resource());
        }
        self.writer.admission().restrict_posted(call, body)?;
        match (name, call.verb) {
            ("status" | "approval" | "ephemeralcontainers" | "resize", "get") => self.reader.get(call).await,
            ("status", "update" | "patch") => self.writer.change_part(call, body, Part::Status).await,
            ("approval", "update" | "patch") => self.writer.change_part(call, body, Part::Approval).await,
            ("scale", "get" | "update" | "patch") => self.writer.scale(call, body).await,
            ("binding", "create") => self.writer.bind(call, body).await,
            ("eviction", "create") => self.writer.evict(call, body).await,
            ("ephemeralcontainers", "update" | "patch") => {
                self.writer.change_part(call, body, Part::EphemeralContainers).await
            }
            ("resize", "update" | "patch") => self.writer.change_part(call, body, Part::Resize).await,
            ("token", "create") => self.tokens.issue(call, body),
            ("finalize", "update") => self.writer.finalize(call, body).await,
            _ => Err(Status::method_not_allowed()),
        }
    }
}
