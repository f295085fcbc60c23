//! Create.

use afloat_machinery::admission::Operation;
use afloat_machinery::kinds::Resource;
use afloat_machinery::strategy;
use bytes::Bytes;
use http::Response;
use serde_json::Value;

use super::checks::{check_fields, checked, match_url};
use super::{Decided, Writer};
use crate::admit::webhook::Asked;
use crate::clock::context;
use crate::view;
use crate::wire::body::Body;
use crate::wire::call::Call;
use crate::wire::status::{Reason, Status};

/// How many names `generateName` may try.
const NAME_ATTEMPTS: usize = 8;

impl Writer {
    /// POST to a collection.
    pub(crate) async fn create(&self, call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
        let (mut object, twice) = call.read(body)?;
        match_url(call, &mut object)?;
        if !matches!(view::meta(&object, "resourceVersion"), "" | "0") {
            return Err(Status::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        self.admission
            .check_namespace(&call.resource, call.namespace(), view::meta(&object, "name"))?;
        let mut warnings = check_fields(call, None, &mut object, &twice)?;
        self.admission.restrict_node(Some(call), None, Some(&object))?;
        self.admission.check_rights(call, None, &object)?;
        self.admission.complete_new(call, &mut object);
        let (bytes, more) = self
            .insert(
                &call.resource,
                call.namespace(),
                object,
                call.query.dry_run()?,
                Some(call),
            )
            .await?;
        warnings.extend(more);
        if !call.query.dry_run()? {
            self.metrics
                .wrote(&call.user, "create", &call.resource, "", call.namespace());
        }
        self.reader.answer(call, 201, &bytes, &warnings).await
    }

    /// Stores a new object; tries other names if its name is generated. `call`: of the client whose object it is.
    pub(crate) async fn insert(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        object: Value,
        dry_run: bool,
        call: Option<&Call>,
    ) -> Result<(Bytes, Vec<String>), Status> {
        let generated = view::meta(&object, "name").is_empty() && !view::meta(&object, "generateName").is_empty();
        let attempts = if generated { NAME_ATTEMPTS } else { 1 };
        let mut last = None;
        for _ in 0..attempts {
            match self
                .insert_once(resource, namespace, object.clone(), dry_run, call)
                .await
            {
                Err(status) if status.reason == Reason::AlreadyExists => last = Some(status),
                other => return other,
            }
        }
        Err(last.unwrap_or_else(|| Status::internal("no name was tried")))
    }

    async fn insert_once(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        mut object: Value,
        dry_run: bool,
        call: Option<&Call>,
    ) -> Result<(Bytes, Vec<String>), Status> {
        let context = context();
        let meta = view::metadata(&mut object);
        for field in [
            "resourceVersion",
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ] {
            meta.remove(field);
        }
        let result = strategy::prepare_create(resource, &mut object, &context);
        let mut name = view::meta(&object, "name").to_owned();
        let mut warnings = checked(result, resource, &name)?;
        if name.is_empty() {
            let message = "Required value: name or generateName is required";
            return Err(Status::invalid_field(
                resource,
                "",
                "metadata.name",
                "FieldValueRequired",
                message,
            ));
        }
        let asked = call.map(|call| Asked {
            call,
            operation: Operation::Create,
            dry_run,
        });
        if let Some(asked) = asked {
            let (changed, said) = self.admission.ask_mutating(asked, &mut object).await?;
            warnings.extend(said);
            if changed {
                let result = strategy::prepare_create(resource, &mut object, &context);
                name = view::meta(&object, "name").to_owned();
                warnings.extend(checked(result, resource, &name)?);
            }
        }
        let reserved = self.admission.create(resource, &mut object)?;
        warnings.extend(self.admission.review_security(resource, "", None, &object)?);
        warnings.extend(self.admission.ask_policies(call, None, Some(&object), dry_run)?);
        if let Some(asked) = asked {
            warnings.extend(self.admission.ask_webhooks(asked, None, Some(&object)).await?);
        }
        let mut object = self.reader.to_stored(resource, object).await?;
        view::to_stored(resource, &mut object);
        let key = view::key(resource, namespace, &name);
        if dry_run {
            return match self.store.get(&key) {
                Some(_) => Err(Status::already_exists(resource, &name)),
                None => Ok((object.to_string().into(), warnings)),
            };
        }
        match self.commit(key, Decided::Create(object), reserved).await {
            Ok(entry) => Ok((entry.value, warnings)),
            Err(error) => Err(Status::from_store(error, resource, &name)),
        }
    }
}
