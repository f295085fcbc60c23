//! What a few kinds need at the moment of their write, and what follows from it once it is committed.

use std::sync::PoisonError;

use afloat_machinery::kinds::Resource;
use afloat_store::{Entry, Error as StoreError, Expect};
use bytes::Bytes;
use serde_json::Value;

use crate::service_ip::Reservation;
use crate::status::Status;
use crate::write::stamp;
use crate::{ApiServer, crd, service_ip, view};

fn is_service(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == "services"
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
        if resource.group.is_empty() && resource.plural == "namespaces" {
            let name = view::meta(object, "name").to_owned();
            view::child(&mut object["metadata"], "labels").insert("kubernetes.io/metadata.name".into(), name.into());
        }
        self.admit(resource, None, object)
    }

    /// Puts back into a changed object what the server once added and the client left out, before anybody compares the two.
    pub(crate) fn complete_update(&self, resource: &Resource, old: &Value, new: &mut Value) -> Result<(), Status> {
        if crd::is_crd(resource) {
            crd::complete(new);
        }
        if is_service(resource) {
            let refuse = |error| Status::invalid(resource, view::meta(old, "name"), &[error]);
            service_ip::inherit(old, new).map_err(refuse)?;
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
        if crd::is_crd(resource) {
            crd::admit(&self.registry(), old, object);
        }
        if !is_service(resource) {
            return Ok(None);
        }
        let name = view::meta(object, "name").to_owned();
        self.reserve(old, object)
            .map(Some)
            .map_err(|error| Status::invalid(resource, &name, &[error]))
    }

    /// Commits a decided write together with what was reserved for it. Where something was, this goes on even if the
    /// client goes away, for what is reserved must be kept exactly if the write succeeds.
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
            if result.is_ok() {
                reserved.keep();
            }
            result
        });
        kept.await.unwrap_or(Err(StoreError::Closed))
    }

    /// What follows from a committed write: a definition is served, an address is free again.
    pub(crate) fn written(&self, resource: &Resource, stored: &Bytes, removed: bool) {
        if crd::is_crd(resource) {
            match serde_json::from_slice::<Value>(stored) {
                Ok(crd) => self.register(view::meta(&crd, "name")),
                Err(error) => tracing::error!(%error, "a definition just written is unreadable"),
            }
        }
        if is_service(resource) && removed {
            let service: Value = serde_json::from_slice(stored).unwrap_or_default();
            let owner = service_ip::owner(&service);
            self.inner
                .services
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .release(&owner);
        }
    }
}
