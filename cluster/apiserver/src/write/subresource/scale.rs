//! `scale`: the number of replicas of anything, read and written where the kind keeps it.

use afloat_machinery::kinds::Resource;
use afloat_machinery::scale;
use afloat_machinery::strategy::{self, Part};
use bytes::Bytes;
use http::Response;
use serde_json::Value;

use crate::clock::context;
use crate::view;
use crate::wire::body::Body;
use crate::wire::call::Call;
use crate::wire::reply;
use crate::wire::status::Status;
use crate::write::checks::check_versions;
use crate::write::patch::ParsedPatch;
use crate::write::{Change, Writer};

/// The object with the replicas of a Scale.
fn scaled(resource: &Resource, object: &Value, scale: &Value) -> Result<Value, Status> {
    let name = view::meta(object, "name");
    check_versions(resource, object, scale)?;
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 || replicas > i64::from(i32::MAX) {
        let message = format!("Invalid value: {replicas}: must be greater than or equal to 0");
        return Err(Status::invalid_field(
            resource,
            name,
            "spec.replicas",
            "FieldValueInvalid",
            &message,
        ));
    }
    let mut new = object.clone();
    scale::set_replicas(resource, &mut new, replicas).map_err(Status::unprocessable)?;
    Ok(new)
}

impl Writer {
    pub(crate) async fn scale(&self, call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
        let resource = &*call.resource;
        let scale_of = |object: &Value| scale::scale_of(resource, object).map_err(Status::internal);
        let answer = async |stored: &Bytes| {
            let served = self.reader.converted_one(resource, stored).await?;
            let scale = scale_of(&view::parse(resource, &served)?)?;
            reply::rendered(200, call.accept, scale.to_string().into())
        };
        if call.verb == "get" {
            let entry = self.reader.entry(resource, call.namespace(), call.name())?;
            return answer(&entry.value).await;
        }
        let patch = if call.verb == "patch" {
            Some(ParsedPatch::read(call, body)?)
        } else {
            None
        };
        let given = if patch.is_none() {
            call.object_of("autoscaling/v1", "Scale", body)?
        } else {
            Value::Null
        };
        let written = self
            .modify(
                resource,
                call.namespace(),
                call.name(),
                call.query.dry_run()?,
                |current| {
                    let wanted = match &patch {
                        Some(patch) => patch.apply_to(resource, &scale_of(current)?)?,
                        None => given.clone(),
                    };
                    let mut new = scaled(resource, current, &wanted)?;
                    strategy::prepare_update(resource, Part::Main, current, &mut new, &context())
                        .map_err(|errors| Status::invalid(resource, call.name(), &errors))?;
                    Ok(Change::Put(new))
                },
            )
            .await?;
        if written.changed {
            self.metrics
                .wrote(&call.user, call.verb, resource, "scale", call.namespace());
        }
        answer(&written.bytes).await
    }
}
