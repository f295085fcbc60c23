//! Update and patch, of an object or a part of it.

use afloat_machinery::admission::Operation;
use afloat_machinery::strategy::{self, Part};
use bytes::Bytes;
use http::Response;
use serde_json::Value;

use super::checks::{check_conditional, check_fields, check_versions, checked, match_url};
use super::delete::finished;
use super::patch::ParsedPatch;
use super::{Change, Writer};
use crate::admit::webhook::Asked;
use crate::clock::context;
use crate::wire::body::Body;
use crate::wire::call::Call;
use crate::wire::status::Status;
use crate::wire::twice::Twice;

impl Writer {
    /// PUT of an object.
    pub(crate) async fn update(&self, call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
        // Kubernetes' `AllowCreateOnUpdate`, which kinds that grant rights have: `kubectl replace` makes what is not there.
        let grants = call.resource.builtin.is_some_and(|row| row.grants.is_some());
        if grants
            && self
                .reader
                .find(&call.resource, call.namespace(), call.name())
                .is_none()
        {
            self.admission.may_create(call)?;
            return self.create(call, body).await;
        }
        self.replace(call, body, Part::Main).await
    }

    /// PUT of an object or a part of it.
    async fn replace(&self, call: &Call, body: &Bytes, part: Part) -> Result<Response<Body>, Status> {
        let (mut object, twice) = call.read(body)?;
        match_url(call, &mut object)?;
        self.change(call, part, &twice, |_| Ok(object.clone())).await
    }

    /// PATCH of an object.
    pub(crate) async fn patch(&self, call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
        let patch = ParsedPatch::read(call, body)?;
        self.change(call, Part::Main, patch.twice(), |current| patch.apply(call, current))
            .await
    }

    /// Changes an object or a part of it to what `make` makes of the current one. `twice`: what the request says twice.
    async fn change(
        &self,
        call: &Call,
        part: Part,
        twice: &[Twice],
        make: impl Fn(&Value) -> Result<Value, Status> + Send + Sync,
    ) -> Result<Response<Body>, Status> {
        let resource = &*call.resource;
        let dry_run = call.query.dry_run()?;
        let mut warnings = Vec::new();
        let mut step = None;
        let plan = |current: &Value| {
            let mut new = make(current)?;
            check_conditional(call, &new)?;
            check_versions(resource, current, &new)?;
            warnings = check_fields(call, Some(current), &mut new, twice)?;
            self.admission.restrict_node(Some(call), Some(current), Some(&new))?;
            self.admission.complete_update(resource, current, &mut new)?;
            self.admission.check_rights(call, Some(current), &new)?;
            let prepared = strategy::prepare_update(resource, part, current, &mut new, &context());
            warnings.extend(checked(prepared, resource, call.name())?);
            warnings.extend(
                self.admission
                    .review_security(resource, call.subresource(), Some(current), &new)?,
            );
            if resource.is_namespace() && part == Part::Main {
                step = Some((current.clone(), new.clone()));
            }
            warnings.extend(
                self.admission
                    .ask_policies(Some(call), Some(current), Some(&new), dry_run)?,
            );
            // Also a status write may take the last finalizer away.
            let gone = finished(resource, &new);
            Ok(if gone { Change::Remove(new) } else { Change::Put(new) })
        };
        let asked = Asked {
            call,
            operation: Operation::Update,
            dry_run,
        };
        let (written, more) = self
            .modify_asked(resource, call.namespace(), call.name(), dry_run, Some(asked), plan)
            .await?;
        warnings.extend(more);
        if let Some((old, new)) = &step {
            warnings.extend(self.admission.survey(resource, old, new).await);
        }
        self.answer_write(call, &written, &warnings).await
    }

    /// PUT or PATCH of a part of an object.
    pub(crate) async fn change_part(&self, call: &Call, body: &Bytes, part: Part) -> Result<Response<Body>, Status> {
        if call.verb == "patch" {
            let patch = ParsedPatch::read(call, body)?;
            return self
                .change(call, part, patch.twice(), |current| patch.apply(call, current))
                .await;
        }
        self.replace(call, body, part).await
    }
}
