//! Subresources of namespaces: finalize.

use bytes::Bytes;
use http::Response;
use serde_json::json;

use crate::view;
use crate::wire::body::Body;
use crate::wire::call::Call;
use crate::wire::status::Status;
use crate::write::checks::{check_versions, match_url};
use crate::write::delete::finished;
use crate::write::{Change, Writer};

impl Writer {
    /// `namespaces/finalize`: the one way to take away `spec.finalizers`.
    pub(crate) async fn finalize(&self, call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
        let mut object = call.object(body)?;
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
        self.answer_write(call, &written, &[]).await
    }
}
