//! What a few kinds need at the moment of their write.

mod certificate;
mod classes;
pub(crate) mod definition;
mod nodes;
mod pod_security;
mod policy;
mod rights;
mod service;
mod service_account;
pub(crate) mod webhook;

use std::sync::Arc;

use afloat_machinery::kinds::{Given, Resource};
use serde_json::Value;

use crate::auth::authorization::Authorization;
use crate::follow::{Addresses, Bound, Followed, Reservation};
use crate::read::Reader;
use crate::wire::call::Call;
use crate::wire::status::Status;
use crate::{clock, view};

/// Admission plugin StorageObjectInUseProtection.
fn protect(object: &mut Value, finalizer: &str) {
    let mut all: Vec<String> = view::finalizers(object).iter().map(ToString::to_string).collect();
    if !all.iter().any(|known| known == finalizer) {
        all.push(finalizer.to_owned());
        view::metadata(object).insert("finalizers".into(), all.into());
    }
}

/// Admits writes: has the last word on an object before it is stored.
pub(crate) struct Admission {
    reader: Reader,
    policies: Arc<Followed<Bound>>,
    addresses: Arc<Followed<Addresses>>,
    authorization: Arc<Authorization>,
    /// Pods get their account's token mounted.
    mount_tokens: bool,
}

impl Admission {
    /// Admission by what is stored, what is bound, what is taken and what somebody may give away.
    pub(crate) fn new(
        reader: Reader,
        policies: Arc<Followed<Bound>>,
        addresses: Arc<Followed<Addresses>>,
        authorization: Arc<Authorization>,
        mount_tokens: bool,
    ) -> Self {
        Self {
            reader,
            policies,
            addresses,
            authorization,
            mount_tokens,
        }
    }

    /// Nothing can be created in a namespace that is missing or about to go.
    pub(crate) fn check_namespace(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<(), Status> {
        let Some(namespace) = namespace else { return Ok(()) };
        let Some(entry) = self.reader.namespace(namespace) else {
            let registry = self.reader.registry();
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

    /// Puts into a new object who sent it, where that is a part of it.
    pub(crate) fn complete_new(&self, call: &Call, object: &mut Value) {
        if call.resource.given() == Given::Requester {
            certificate::requested_by(&call.user, object);
        }
    }

    /// The last word on a new object.
    pub(crate) fn create(&self, resource: &Resource, object: &mut Value) -> Result<Option<Reservation>, Status> {
        if let Some(finalizer) = resource.builtin.and_then(|row| row.protection) {
            protect(object, finalizer);
        }
        match resource.given() {
            Given::TokenAndClasses => {
                if self.mount_tokens {
                    self.admit_pod(resource, object)?;
                }
                self.classes_of(resource, object)?;
            }
            Given::StorageClass => self.default_class(object),
            _ => {}
        }
        self.admit(resource, None, object)
    }

    /// Admission plugin ServiceAccount. An account `default` that is still to be made is waited for by the node.
    fn admit_pod(&self, resource: &Resource, pod: &mut Value) -> Result<(), Status> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (namespace, account) = (
            view::meta(pod, "namespace").to_owned(),
            text(&pod["spec"]["serviceAccountName"]),
        );
        let accounts = self.reader.registry().resolve("", "v1", "serviceaccounts");
        let entry = accounts.and_then(|accounts| self.reader.find(&accounts, Some(&namespace), &account));
        if entry.is_none() && account != "default" {
            let why = format!(
                "error looking up service account {namespace}/{account}: serviceaccount \"{account}\" not found"
            );
            return Err(Status::forbidden(resource, view::meta(pod, "name"), &why));
        }
        let object: Option<Value> = entry.and_then(|entry| serde_json::from_slice(&entry.value).ok());
        service_account::mount(pod, object.as_ref(), &clock::context().suffix);
        Ok(())
    }

    /// Admission plugin DefaultStorageClass: of several the newest counts.
    fn default_class(&self, claim: &mut Value) {
        let named = claim["spec"]
            .get("storageClassName")
            .is_some_and(|class| !class.is_null());
        if named {
            return;
        }
        let defaults = self
            .everything("storage.k8s.io", "storageclasses")
            .into_iter()
            .filter(|class| class["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true");
        let newest = defaults.max_by_key(|class| view::meta(class, "creationTimestamp").to_owned());
        if let Some(class) = newest {
            view::child(claim, "spec").insert("storageClassName".into(), view::meta(&class, "name").into());
        }
    }

    /// Puts back into a changed object what the server once added and the client left out, before anybody compares the two.
    pub(crate) fn complete_update(&self, resource: &Resource, old: &Value, new: &mut Value) -> Result<(), Status> {
        match resource.given() {
            Given::AcceptedNames => definition::complete(new),
            Given::Addresses => {
                let refuse = |error| Status::invalid(resource, view::meta(old, "name"), &[error]);
                service::inherit(old, new).map_err(refuse)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The last word on a changed object.
    pub(crate) fn update(
        &self,
        resource: &Resource,
        old: &Value,
        new: &mut Value,
    ) -> Result<Option<Reservation>, Status> {
        self.admit(resource, Some(old), new)
    }

    fn admit(
        &self,
        resource: &Resource,
        old: Option<&Value>,
        object: &mut Value,
    ) -> Result<Option<Reservation>, Status> {
        match resource.given() {
            Given::AcceptedNames => {
                definition::admit(&self.reader.registry(), old, object);
                Ok(None)
            }
            Given::Addresses => {
                let name = view::meta(object, "name").to_owned();
                service::reserve(&self.addresses, old, object)
                    .map(Some)
                    .map_err(|error| Status::invalid(resource, &name, &[error]))
            }
            Given::OneDefault => self.one_default(resource, object).map(|()| None),
            _ => Ok(None),
        }
    }

    /// All objects of a built-in kind that has no namespace.
    fn everything(&self, group: &str, plural: &str) -> Vec<Value> {
        let Some(resource) = self.reader.registry().resolve(group, "v1", plural) else {
            return Vec::new();
        };
        let entries = self.reader.all(&resource, None).entries;
        let objects = entries.iter().map(|entry| serde_json::from_slice(&entry.value));
        objects.filter_map(Result::ok).collect()
    }
}
