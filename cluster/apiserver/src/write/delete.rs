//! Delete: at once, after a grace period, or when the last finalizer has gone.

use afloat_machinery::admission::Operation;
use afloat_machinery::kinds::{Deletion, Resource};
use bytes::Bytes;
use http::Response;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Change, Writer, Written};
use crate::admit::webhook::Asked;
use crate::clock::after;
use crate::view;
use crate::wire::body::Body;
use crate::wire::call::Call;
use crate::wire::reply;
use crate::wire::status::{Reason, Status, success};

/// Grace period of a pod that names none.
const POD_GRACE_SECONDS: i64 = 30;

/// What happens to the objects that this one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// `DeleteOptions`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_seconds: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// From the body, or where it has none from the query.
    pub(crate) fn read(call: &Call, body: &Bytes) -> Result<Self, Status> {
        let given = if body.iter().all(u8::is_ascii_whitespace) {
            Value::Null
        } else {
            call.object_of("meta/v1", "DeleteOptions", body)?
        };
        let number = |name: &str| call.query.get(name).map(str::parse::<i64>).transpose();
        let from_query =
            number("gracePeriodSeconds").map_err(|e| Status::bad_request(format!("gracePeriodSeconds: {e}")))?;
        let policy = given["propagationPolicy"]
            .as_str()
            .or_else(|| call.query.get("propagationPolicy"));
        let orphans = given["orphanDependents"]
            .as_bool()
            .or_else(|| call.query.get("orphanDependents").map(|v| v == "true"));
        let propagation = match (policy, orphans) {
            (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
            (None, None) => None,
            (Some(other), _) => {
                let message = format!(
                    "propagationPolicy: Unsupported value: \"{other}\": supported values: \"Foreground\", \"Background\", \"Orphan\""
                );
                return Err(Status::unprocessable(message));
            }
        };
        let text = |field: &str| given["preconditions"][field].as_str().map(str::to_owned);
        let grace_seconds = given["gracePeriodSeconds"].as_i64().or(from_query);
        let dry_run = call.query.dry_run()? || given["dryRun"].as_array().is_some_and(|d| d.iter().any(|v| v == "All"));
        Ok(Self {
            grace_seconds,
            propagation,
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            dry_run,
        })
    }
}

/// Whether an object that is being deleted has nothing left to wait for.
pub(crate) fn finished(resource: &Resource, object: &Value) -> bool {
    let meta = &object["metadata"];
    let waits = resource.is_namespace() && object["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    meta["deletionTimestamp"].is_string()
        && view::finalizers(object).is_empty()
        && meta["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && !waits
}

/// Decides a deletion. Pure: `now` comes in.
pub(crate) fn plan(
    resource: &Resource,
    current: &Value,
    options: &DeleteOptions,
    now: Timestamp,
) -> Result<Change, Status> {
    check_preconditions(resource, current, options)?;
    let mut new = current.clone();
    let deleting = current["metadata"]["deletionTimestamp"].as_str();
    let grace = match deleting {
        Some(at) => match shortened(resource, current, options, at) {
            Some((grace, at)) => {
                view::metadata(&mut new).insert("deletionTimestamp".into(), at.into());
                grace
            }
            None => current["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0),
        },
        None => {
            let grace = first_grace(resource, current, options);
            let meta = view::metadata(&mut new);
            meta.insert("deletionTimestamp".into(), after(now, grace).into());
            if let Some(generation) = meta.get("generation").and_then(Value::as_i64) {
                meta.insert("generation".into(), (generation + 1).into());
            }
            grace
        }
    };
    view::metadata(&mut new).insert("deletionGracePeriodSeconds".into(), grace.into());
    set_finalizers(
        &mut new,
        options.propagation.or_else(|| propagation_of(resource, current)),
    );
    if resource.is_namespace() {
        view::child(&mut new, "status").insert("phase".into(), "Terminating".into());
    }
    Ok(if finished(resource, &new) {
        Change::Remove(new)
    } else {
        Change::Put(new)
    })
}

fn is_graceful(resource: &Resource) -> bool {
    resource.deletion() == Deletion::Graceful
}

fn check_preconditions(resource: &Resource, current: &Value, options: &DeleteOptions) -> Result<(), Status> {
    let name = view::meta(current, "name");
    let checks = [
        ("UID", "uid", &options.uid),
        ("ResourceVersion", "resourceVersion", &options.resource_version),
    ];
    for (what, field, expected) in checks {
        let actual = view::meta(current, field);
        if let Some(expected) = expected.as_ref().filter(|e| *e != actual) {
            let why =
                format!("Precondition failed: {what} in precondition: {expected}, {what} in object meta: {actual}");
            return Err(Status::conflict(resource, name, &why));
        }
    }
    Ok(())
}

/// Grace period of a first deletion. Only pods have one, and only where a kubelet may still run something of theirs.
fn first_grace(resource: &Resource, pod: &Value, options: &DeleteOptions) -> i64 {
    let over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let unscheduled = pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    if !is_graceful(resource) || over || unscheduled {
        return 0;
    }
    let own = pod["spec"]["terminationGracePeriodSeconds"].as_i64();
    match options.grace_seconds.or(own).unwrap_or(POD_GRACE_SECONDS) {
        negative if negative < 0 => 1,
        grace => grace,
    }
}

/// A later deletion may only shorten the time; gives the new grace period and the new end.
fn shortened(resource: &Resource, pod: &Value, options: &DeleteOptions, at: &str) -> Option<(i64, String)> {
    let old = pod["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    let new = options
        .grace_seconds
        .filter(|_| is_graceful(resource))
        .map(|g| if g < 0 { 1 } else { g })?;
    let end: Timestamp = at.parse().ok()?;
    (new < old).then(|| (new, after(end, new - old)))
}

/// What becomes of what an object owns if nobody says it: of some kinds all is left behind, unless the object itself says otherwise.
fn propagation_of(resource: &Resource, current: &Value) -> Option<Propagation> {
    let orphans = resource.builtin.is_some_and(|row| row.orphans);
    let finalizers = view::finalizers(current);
    let said = finalizers.iter().any(|one| &**one == "foregroundDeletion");
    (orphans && !said).then_some(Propagation::Orphan)
}

/// The garbage collector's finalizers follow the latest wish; without a wish they stay.
fn set_finalizers(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let wanted = match propagation {
        Propagation::Background => None,
        Propagation::Foreground => Some("foregroundDeletion"),
        Propagation::Orphan => Some("orphan"),
    };
    let mut finalizers: Vec<String> = view::finalizers(object)
        .iter()
        .filter(|f| !matches!(&***f, "foregroundDeletion" | "orphan"))
        .map(ToString::to_string)
        .collect();
    finalizers.extend(wanted.map(str::to_owned));
    let meta = view::metadata(object);
    if finalizers.is_empty() {
        meta.remove("finalizers");
    } else {
        meta.insert("finalizers".into(), finalizers.into());
    }
}

impl Writer {
    /// DELETE of an object.
    pub(crate) async fn delete(&self, call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
        let options = DeleteOptions::read(call, body)?;
        let (written, warnings) = self
            .remove(&call.resource, call.namespace(), call.name(), &options, Some(call))
            .await?;
        if written.changed {
            self.metrics
                .wrote(&call.user, "delete", &call.resource, "", call.namespace());
        }
        let last = view::parse(&call.resource, &written.bytes)?;
        if finished(&call.resource, &last) && !is_graceful(&call.resource) {
            let status = success(&call.resource, call.name(), view::meta(&last, "uid"));
            let answer = reply::rendered(200, call.accept, status.to_string().into())?;
            return Ok(reply::with_warnings(answer, &warnings));
        }
        self.reader.answer(call, 200, &written.bytes, &warnings).await
    }

    /// Deletes an object, or begins to. `call`: of the client who wants it, for whom there may be warnings.
    pub(crate) async fn remove(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        options: &DeleteOptions,
        call: Option<&Call>,
    ) -> Result<(Written, Vec<String>), Status> {
        let mut warnings = Vec::new();
        let asked = call.map(|call| Asked {
            call,
            operation: Operation::Delete,
            dry_run: options.dry_run,
        });
        let (written, more) = self
            .modify_asked(resource, namespace, name, options.dry_run, asked, |current| {
                if let Some((names, why)) = resource.builtin.and_then(|row| row.undeletable)
                    && names.contains(&name)
                {
                    return Err(Status::forbidden(resource, name, why));
                }
                self.admission.restrict_node(call, Some(current), None)?;
                warnings = self
                    .admission
                    .ask_policies(call, Some(current), None, options.dry_run)?;
                plan(resource, current, options, Timestamp::now())
            })
            .await?;
        warnings.extend(more);
        Ok((written, warnings))
    }

    /// DELETE of a collection.
    pub(crate) async fn delete_collection(&self, call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
        let options = DeleteOptions::read(call, body)?;
        let (mut items, mut warnings) = (Vec::new(), Vec::new());
        for entry in self.reader.selected(call).await? {
            let object = view::parse(&call.resource, &entry.value)?;
            let (namespace, name) = (view::meta(&object, "namespace"), view::meta(&object, "name"));
            let namespace = call.resource.namespaced.then_some(namespace);
            let removed = self.remove(&call.resource, namespace, name, &options, Some(call)).await;
            match removed {
                Ok((written, more)) => {
                    warnings.extend(more);
                    if written.changed {
                        self.metrics.wrote(&call.user, "delete", &call.resource, "", namespace);
                    }
                    let served = self.reader.converted_one(&call.resource, &written.bytes).await?;
                    items.push(view::parse(&call.resource, &served)?);
                }
                Err(status) if status.reason == Reason::NotFound => {}
                Err(status) => return Err(status),
            }
        }
        let (kind, version) = (&call.resource.list_kind, call.resource.api_version());
        let revision = self.store.revision().to_string();
        let list =
            json!({"kind": kind, "apiVersion": version, "metadata": {"resourceVersion": revision}, "items": items});
        let answer = reply::rendered(200, call.accept, list.to_string().into())?;
        Ok(reply::with_warnings(answer, &warnings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use afloat_machinery::kinds::Registry;

    fn decide(plural: &str, object: &Value, options: &DeleteOptions) -> Change {
        let resource = Registry::builtin().resolve("", "v1", plural).expect("built in");
        plan(&resource, object, options, "2026-01-01T00:00:00Z".parse().unwrap()).unwrap()
    }

    fn pod(node: &str) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": node, "terminationGracePeriodSeconds": 20}})
    }

    fn grace(seconds: i64) -> DeleteOptions {
        DeleteOptions {
            grace_seconds: Some(seconds),
            ..DeleteOptions::default()
        }
    }

    #[test]
    fn what_a_replication_controller_owns_stays_unless_it_is_said() {
        let object = json!({"metadata": {"name": "rc"}});
        let Change::Put(kept) = decide("replicationcontrollers", &object, &DeleteOptions::default()) else {
            panic!("kept until all is released")
        };
        assert_eq!(kept["metadata"]["finalizers"], json!(["orphan"]));
        let background = DeleteOptions {
            propagation: Some(Propagation::Background),
            ..DeleteOptions::default()
        };
        let said = decide("replicationcontrollers", &object, &background);
        assert!(matches!(said, Change::Remove(_)));
    }

    #[test]
    fn a_running_pod_waits_for_its_kubelet() {
        let Change::Put(first) = decide("pods", &pod("n"), &DeleteOptions::default()) else {
            panic!("kept")
        };
        assert_eq!(first["metadata"]["deletionTimestamp"], "2026-01-01T00:00:20Z");
        assert_eq!(first["metadata"]["deletionGracePeriodSeconds"], 20);
        // Longer: no change. Shorter: sooner. Zero: gone.
        assert!(matches!(decide("pods", &first, &grace(60)), Change::Put(p) if p == first));
        assert!(
            matches!(decide("pods", &first, &grace(5)), Change::Put(p) if p["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:05Z")
        );
        assert!(matches!(decide("pods", &first, &grace(0)), Change::Remove(_)));
    }

    #[test]
    fn nobody_waits_for_an_unscheduled_pod() {
        assert!(matches!(
            decide("pods", &pod(""), &DeleteOptions::default()),
            Change::Remove(_)
        ));
    }

    #[test]
    fn finalizers_keep_an_object() {
        let object = json!({"metadata": {"name": "c", "finalizers": ["a/b"]}});
        let Change::Put(kept) = decide("configmaps", &object, &DeleteOptions::default()) else {
            panic!("kept")
        };
        assert_eq!(kept["metadata"]["deletionTimestamp"], "2026-01-01T00:00:00Z");
        let orphan = DeleteOptions {
            propagation: Some(Propagation::Orphan),
            ..DeleteOptions::default()
        };
        let Change::Put(kept) = decide("configmaps", &json!({"metadata": {"name": "c"}}), &orphan) else {
            panic!("kept")
        };
        assert_eq!(kept["metadata"]["finalizers"], json!(["orphan"]));
    }

    #[test]
    fn a_namespace_waits_for_its_contents() {
        let object = json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}});
        let Change::Put(kept) = decide("namespaces", &object, &DeleteOptions::default()) else {
            panic!("kept")
        };
        assert_eq!(kept["status"]["phase"], "Terminating");
    }
}
