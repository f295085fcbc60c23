//! What a few kinds need at the moment of their write.

pub(crate) mod definition;
mod policy;
mod service;
mod service_account;

use afloat_machinery::kinds::{Given, Resource};
use afloat_store::{Entry, Error as StoreError, Expect};
use serde_json::Value;

use crate::admit::definition as crd;
use crate::admit::service as service_ip;
use crate::admit::service_account;
use crate::follow::Reservation;
use crate::wire::status::Status;
use crate::write::{context, stamp};
use crate::{ApiServer, view};

/// Admission plugin StorageObjectInUseProtection.
fn protect(object: &mut Value, finalizer: &str) {
    let mut all: Vec<String> = view::finalizers(object).iter().map(ToString::to_string).collect();
    if !all.iter().any(|known| known == finalizer) {
        all.push(finalizer.to_owned());
        view::metadata(object).insert("finalizers".into(), all.into());
    }
}

/// A write that has been decided.
pub(crate) enum Decided {
    Create(Value),
    Update(u64, Value),
    Remove(u64, Value),
}

impl ApiServer {
    /// The last word on a new object.
    pub(crate) fn admit_create(&self, resource: &Resource, object: &mut Value) -> Result<Option<Reservation>, Status> {
        if let Some(finalizer) = resource.builtin.and_then(|row| row.protection) {
            protect(object, finalizer);
        }
        match resource.given() {
            Given::AccountToken if self.inner.options.mount_tokens => self.admit_pod(resource, object)?,
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
        let accounts = self.registry().resolve("", "v1", "serviceaccounts");
        let entry =
            accounts.and_then(|accounts| self.inner.store.get(&view::key(&accounts, Some(&namespace), &account)));
        if entry.is_none() && account != "default" {
            let why = format!(
                "error looking up service account {namespace}/{account}: serviceaccount \"{account}\" not found"
            );
            return Err(Status::forbidden(resource, view::meta(pod, "name"), &why));
        }
        let object: Option<Value> = entry.and_then(|entry| serde_json::from_slice(&entry.value).ok());
        service_account::mount(pod, object.as_ref(), &context().suffix);
        Ok(())
    }

    /// Admission plugin DefaultStorageClass: of several the newest counts.
    fn default_class(&self, claim: &mut Value) {
        let named = claim["spec"]
            .get("storageClassName")
            .is_some_and(|class| !class.is_null());
        let Some(classes) = self
            .registry()
            .resolve("storage.k8s.io", "v1", "storageclasses")
            .filter(|_| !named)
        else {
            return;
        };
        let entries = self.inner.store.list(&view::prefix(&classes, None), None, 0).entries;
        let all = entries
            .iter()
            .filter_map(|entry| serde_json::from_slice::<Value>(&entry.value).ok());
        let defaults = all
            .filter(|class| class["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true");
        let newest = defaults.max_by_key(|class| view::meta(class, "creationTimestamp").to_owned());
        if let Some(class) = newest {
            view::child(claim, "spec").insert("storageClassName".into(), view::meta(&class, "name").into());
        }
    }

    /// Puts back into a changed object what the server once added and the client left out, before anybody compares the two.
    pub(crate) fn complete_update(&self, resource: &Resource, old: &Value, new: &mut Value) -> Result<(), Status> {
        match resource.given() {
            Given::AcceptedNames => crd::complete(new),
            Given::Addresses => {
                let refuse = |error| Status::invalid(resource, view::meta(old, "name"), &[error]);
                service_ip::inherit(old, new).map_err(refuse)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The last word on a changed object.
    pub(crate) fn admit_update(
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
                crd::admit(&self.registry(), old, object);
                Ok(None)
            }
            Given::Addresses => {
                let name = view::meta(object, "name").to_owned();
                service_ip::reserve(&self.inner.addresses, old, object)
                    .map(Some)
                    .map_err(|error| Status::invalid(resource, &name, &[error]))
            }
            _ => Ok(None),
        }
    }

    /// Commits a decided write. Where something was reserved for it this goes on even if the client goes away, for that
    /// must be kept from others until it is certain whether the write succeeds.
    pub(crate) async fn commit(
        &self,
        key: String,
        decided: Decided,
        reserved: Option<Reservation>,
    ) -> Result<Entry, StoreError> {
        let store = self.inner.store.clone();
        let write = async move {
            match decided {
                Decided::Create(object) => store.put(&key, Expect::Absent, stamp(object)).await,
                Decided::Update(revision, object) => store.put(&key, Expect::Revision(revision), stamp(object)).await,
                Decided::Remove(revision, object) => store.delete(&key, Some(revision), stamp(object)).await,
            }
        };
        let Some(reserved) = reserved else { return write.await };
        let kept = tokio::spawn(async move {
            let result = write.await;
            drop(reserved);
            result
        });
        kept.await.unwrap_or(Err(StoreError::Closed))
    }
}
