//! Create, update and patch. One loop, [`ApiServer::modify`], stands behind every change of an object that exists: it
//! decides on what is stored now, writes only if that is still so, and writes nothing if nothing changes.

use afloat_machinery::kinds::Resource;
use afloat_machinery::patch::{self, PatchError, PatchType};
use afloat_machinery::strategy::{self, Part};
use afloat_machinery::{Checked, WriteContext};
use afloat_store::{Error as StoreError, Stamp};
use bytes::Bytes;
use http::Response;
use rand::Rng;
use serde_json::Value;

use crate::admission::Decided;
use crate::request::Accept;
use crate::route::{Call, document};
use crate::status::Status;
use crate::{ApiServer, Body, fields, reply, table, view};

/// How often a write that carries no precondition is decided anew when somebody else was faster.
const RETRIES: usize = 64;
/// How many names `generateName` may try.
const NAME_ATTEMPTS: usize = 8;

/// What shall become of an object.
pub(crate) enum Change {
    /// This shall be stored (in the served version).
    Put(Value),
    /// It shall be gone; watchers see this last form of it.
    Remove(Value),
}

/// What has become of an object.
pub(crate) struct Written {
    /// Stored bytes; the last form of an object that is gone.
    pub(crate) bytes: Bytes,
    /// Whether there was a write at all.
    pub(crate) changed: bool,
}

/// Time and randomness for one write.
pub(crate) fn context() -> WriteContext {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rng = rand::rng();
    let suffix = (0..5)
        .filter_map(|_| ALPHABET.get(rng.random_range(0..ALPHABET.len())))
        .map(|&b| char::from(b))
        .collect();
    WriteContext {
        now: now(),
        uid: uuid::Uuid::new_v4().to_string(),
        suffix,
    }
}

/// Now, RFC 3339 with seconds, as Kubernetes writes times.
pub(crate) fn now() -> String {
    after(jiff::Timestamp::now(), 0)
}

/// A time some seconds later, in the same form.
pub(crate) fn after(time: jiff::Timestamp, seconds: i64) -> String {
    let later = time
        .checked_add(jiff::SignedDuration::from_secs(seconds))
        .unwrap_or(jiff::Timestamp::MAX);
    afloat_words::time::whole_seconds(later)
}

/// Writes the revision into an object and serialises it.
pub(crate) fn stamp(mut object: Value) -> Stamp {
    Box::new(move |revision| {
        view::metadata(&mut object).insert("resourceVersion".into(), revision.to_string().into());
        Bytes::from(object.to_string())
    })
}

fn checked(checked: Checked, resource: &Resource, name: &str) -> Result<Vec<String>, Status> {
    checked.map_err(|errors| Status::invalid(resource, name, &errors))
}

/// Whether an object that is being deleted has nothing left to wait for.
pub(crate) fn finished(resource: &Resource, object: &Value) -> bool {
    let meta = &object["metadata"];
    let waits = resource.plural == "namespaces"
        && resource.group.is_empty()
        && object["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    meta["deletionTimestamp"].is_string()
        && view::finalizers(object).is_empty()
        && meta["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && !waits
}

/// Fields that a client sends unknowingly, per `fieldValidation`: refused, warned of, or ignored.
fn check_fields(call: &Call, object: &Value) -> Result<Vec<String>, Status> {
    let mode = call.query.get("fieldValidation").unwrap_or("Warn");
    if !matches!(mode, "Strict" | "Warn" | "Ignore") {
        let message = format!(
            "fieldValidation: Unsupported value: \"{mode}\": supported values: \"Ignore\", \"Strict\", \"Warn\""
        );
        return Err(Status::bad_request(message));
    }
    let asked = call.query.has("fieldValidation");
    let unknown = match (mode, call.resource.is_custom()) {
        ("Ignore", _) => Vec::new(),
        (_, true) => strategy::unknown_fields(&call.resource, object),
        // Nothing is lost of what a built-in kind does not know, so only who asks is told.
        (_, false) if asked => fields::unknown(&view::api_version(&call.resource), &call.resource.kind, object),
        (_, false) => Vec::new(),
    };
    let sentences: Vec<String> = unknown
        .iter()
        .map(|field| format!("unknown field \"{field}\""))
        .collect();
    if mode == "Strict" && !sentences.is_empty() {
        let kind = &call.resource.kind;
        let list = sentences.join(", ");
        let message = format!(
            "{kind} in version \"{}\" cannot be handled as a {kind}: strict decoding error: {list}",
            call.resource.version
        );
        return Err(Status::bad_request(message));
    }
    Ok(sentences)
}

/// Checks that a body is about what the URL is about, and completes what it leaves out.
pub(crate) fn match_url(call: &Call, object: &mut Value) -> Result<(), Status> {
    let resource = &call.resource;
    if !object.is_object() {
        return Err(Status::bad_request("the body must be an object"));
    }
    let expected = [
        ("apiVersion", view::api_version(resource)),
        ("kind", resource.kind.clone()),
    ];
    for (field, expected) in expected {
        match object[field].as_str() {
            None | Some("") => object[field] = expected.into(),
            Some(given) if given != expected => {
                let what = if field == "kind" { "kind" } else { "API version" };
                let message =
                    format!("the {what} in the data ({given}) does not match the expected {what} ({expected})");
                return Err(Status::bad_request(message));
            }
            Some(_) => {}
        }
    }
    let namespace = view::meta(object, "namespace").to_owned();
    let name = view::meta(object, "name").to_owned();
    let meta = view::metadata(object);
    meta.remove("managedFields");
    meta.remove("selfLink");
    match call.namespace() {
        Some(expected) if !namespace.is_empty() && namespace != expected => {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        Some(expected) => meta.insert("namespace".into(), expected.into()),
        None if resource.namespaced => {
            return Err(Status::bad_request(
                "an object of this kind must be created in a namespace",
            ));
        }
        None => meta.remove("namespace"),
    };
    match call.path.name.as_deref() {
        Some(expected) if name.is_empty() => {
            meta.insert("name".into(), expected.into());
        }
        Some(expected) if name != expected => {
            let message = format!("the name of the object ({name}) does not match the name on the URL ({expected})");
            return Err(Status::bad_request(message));
        }
        _ => {}
    }
    Ok(())
}

/// Refuses a write that was decided on another version or another object of the name.
pub(crate) fn check_versions(resource: &Resource, current: &Value, new: &Value) -> Result<(), Status> {
    let name = view::meta(current, "name");
    let (expected, actual) = (view::meta(new, "uid"), view::meta(current, "uid"));
    if !expected.is_empty() && expected != actual {
        let why = format!("Precondition failed: UID in precondition: {expected}, UID in object meta: {actual}");
        return Err(Status::conflict(resource, name, &why));
    }
    match view::meta(new, "resourceVersion") {
        "" | "0" => Ok(()),
        given if given == view::meta(current, "resourceVersion") => Ok(()),
        _ => Err(Status::modified(resource, name)),
    }
}

/// A custom resource is only replaced as the version that the client has read: the original takes no blind PUT of one.
fn check_conditional(call: &Call, new: &Value) -> Result<(), Status> {
    let blind = matches!(view::meta(new, "resourceVersion"), "" | "0");
    if call.verb == "update" && call.resource.is_custom() && blind {
        let message = "Invalid value: 0x0: must be specified for an update";
        let field = "metadata.resourceVersion";
        return Err(Status::invalid_field(
            &call.resource,
            call.name(),
            field,
            "FieldValueInvalid",
            message,
        ));
    }
    Ok(())
}

impl ApiServer {
    /// The one loop behind all changes of existing objects. `plan` is asked again if somebody else was faster.
    pub(crate) async fn modify(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        dry_run: bool,
        mut plan: impl FnMut(&Value) -> Result<Change, Status> + Send,
    ) -> Result<Written, Status> {
        let key = view::key(resource, namespace, name);
        for attempt in 0..RETRIES {
            let entry = self
                .inner
                .store
                .get(&key)
                .ok_or_else(|| Status::not_found(resource, name))?;
            let current = view::parse(resource, &entry.value)?;
            let (mut object, remove) = match plan(&current)? {
                Change::Put(object) => (object, false),
                Change::Remove(object) => (object, true),
            };
            view::metadata(&mut object)
                .insert("resourceVersion".into(), current["metadata"]["resourceVersion"].clone());
            let reserved = if remove {
                None
            } else {
                self.admit_update(resource, &current, &mut object)?
            };
            // Only now: admission may have given back what a client left out.
            if !remove && object == current {
                return Ok(Written {
                    bytes: entry.value,
                    changed: false,
                });
            }
            view::to_stored(resource, &mut object);
            if dry_run {
                return Ok(Written {
                    bytes: object.to_string().into(),
                    changed: false,
                });
            }
            let decided = if remove {
                Decided::Remove(entry.revision, object)
            } else {
                Decided::Update(entry.revision, object)
            };
            match self.commit(key.clone(), decided, reserved).await {
                Ok(written) => {
                    self.written(resource, &written.value, remove);
                    return Ok(Written {
                        bytes: written.value,
                        changed: true,
                    });
                }
                Err(StoreError::Conflict { .. }) if attempt + 1 < RETRIES => {}
                Err(error) => return Err(Status::from_store(error, resource, name)),
            }
        }
        Err(Status::modified(resource, name))
    }

    /// POST to a collection.
    pub(crate) async fn create(&self, call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
        let mut object = document(&call.content_type, body)?;
        match_url(call, &mut object)?;
        if !matches!(view::meta(&object, "resourceVersion"), "" | "0") {
            return Err(Status::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        self.check_namespace(&call.resource, call.namespace(), view::meta(&object, "name"))?;
        let mut warnings = check_fields(call, &object)?;
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
            self.inner
                .metrics
                .wrote(&call.user, "create", &call.resource, "", call.namespace());
        }
        self.respond(&call.resource, call.accept, &call.query, 201, &bytes, &warnings)
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
                Err(status) if status.reason == "AlreadyExists" => last = Some(status),
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
        let name = view::meta(&object, "name").to_owned();
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
        let reserved = self.admit_create(resource, &mut object)?;
        warnings.extend(self.ask_policies(call, None, Some(&object), dry_run)?);
        view::to_stored(resource, &mut object);
        let key = view::key(resource, namespace, &name);
        if dry_run {
            return match self.inner.store.get(&key) {
                Some(_) => Err(Status::already_exists(resource, &name)),
                None => Ok((object.to_string().into(), warnings)),
            };
        }
        match self.commit(key, Decided::Create(object), reserved).await {
            Ok(entry) => {
                self.written(resource, &entry.value, false);
                Ok((entry.value, warnings))
            }
            Err(error) => Err(Status::from_store(error, resource, &name)),
        }
    }

    /// Nothing can be created in a namespace that is missing or about to go.
    fn check_namespace(&self, resource: &Resource, namespace: Option<&str>, name: &str) -> Result<(), Status> {
        let Some(namespace) = namespace else { return Ok(()) };
        let Some(entry) = self.inner.store.get(&view::namespace_key(namespace)) else {
            let registry = self.registry();
            let namespaces = registry.resolve("", "v1", "namespaces");
            return Err(namespaces.map_or_else(Status::no_such_resource, |r| Status::not_found(&r, namespace)));
        };
        let object: Value = serde_json::from_slice(&entry.value).map_err(Status::internal)?;
        if !object["metadata"]["deletionTimestamp"].is_string() {
            return Ok(());
        }
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut status = Status::forbidden(resource, name, &why);
        if let Some(details) = status.details.as_mut() {
            let message = format!("namespace {namespace} is being terminated");
            details["causes"] = serde_json::json!([{"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"}]);
        }
        Err(status)
    }

    /// PUT of an object.
    pub(crate) async fn update(&self, call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
        let mut object = document(&call.content_type, body)?;
        match_url(call, &mut object)?;
        self.change(call, Part::Main, |_| Ok(object.clone())).await
    }

    /// PATCH of an object.
    pub(crate) async fn patch(&self, call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
        let patch = ParsedPatch::read(call, body)?;
        self.change(call, Part::Main, |current| patch.apply(call, current))
            .await
    }

    /// Changes an object or its status to what `make` makes of the current one.
    pub(crate) async fn change(
        &self,
        call: &Call,
        part: Part,
        make: impl Fn(&Value) -> Result<Value, Status> + Send + Sync,
    ) -> Result<Response<Body>, Status> {
        let resource = &*call.resource;
        let dry_run = call.query.dry_run()?;
        let mut warnings = Vec::new();
        let plan = |current: &Value| {
            let mut new = make(current)?;
            check_conditional(call, &new)?;
            check_versions(resource, current, &new)?;
            warnings = check_fields(call, &new)?;
            self.complete_update(resource, current, &mut new)?;
            let prepared = strategy::prepare_update(resource, part, current, &mut new, &context());
            warnings.extend(checked(prepared, resource, call.name())?);
            warnings.extend(self.ask_policies(Some(call), Some(current), Some(&new), dry_run)?);
            // Also a status write may take the last finalizer away.
            let gone = finished(resource, &new);
            Ok(if gone { Change::Remove(new) } else { Change::Put(new) })
        };
        let written = self
            .modify(resource, call.namespace(), call.name(), dry_run, plan)
            .await?;
        self.answer_write(call, &written, &warnings)
    }

    /// Counts a write and answers with the object.
    pub(crate) fn answer_write(
        &self,
        call: &Call,
        written: &Written,
        warnings: &[String],
    ) -> Result<Response<Body>, Status> {
        if written.changed {
            self.inner.metrics.wrote(
                &call.user,
                call.verb,
                &call.resource,
                call.subresource(),
                call.namespace(),
            );
        }
        self.respond(&call.resource, call.accept, &call.query, 200, &written.bytes, warnings)
    }

    /// Answers with one object in the form asked for.
    pub(crate) fn respond(
        &self,
        resource: &Resource,
        accept: Accept,
        query: &crate::request::Query,
        code: u16,
        stored: &Bytes,
        warnings: &[String],
    ) -> Result<Response<Body>, Status> {
        let bytes = table::one(resource, accept.form, query, stored)?;
        Ok(reply::with_warnings(reply::rendered(code, accept, bytes)?, warnings))
    }
}

/// A patch that has been read but not applied.
pub(crate) struct ParsedPatch {
    kind: PatchType,
    document: Value,
}

impl ParsedPatch {
    pub(crate) fn read(call: &Call, body: &Bytes) -> Result<Self, Status> {
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
        let document =
            serde_json::from_slice(body).map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
        Ok(Self { kind, document })
    }

    /// The patched object, which must still be the one that the URL names.
    pub(crate) fn apply(&self, call: &Call, current: &Value) -> Result<Value, Status> {
        let mut new = self.apply_to(&call.resource, current)?;
        match_url(call, &mut new)?;
        Ok(new)
    }

    /// The patched document.
    pub(crate) fn apply_to(&self, resource: &Resource, current: &Value) -> Result<Value, Status> {
        patch::apply(self.kind, resource, current, &self.document).map_err(|error| match error {
            PatchError::Malformed(why) => Status::bad_request(why),
            PatchError::Unprocessable(why) => Status::unprocessable(why),
            PatchError::Unsupported(why) => Status::unsupported_media(why),
        })
    }
}
