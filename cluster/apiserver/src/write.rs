//! Writing. One loop, [`Writer::modify`], stands behind every change of an object that exists: it decides on what is stored
//! now, writes only if that is still so, and writes nothing if nothing changes.

mod checks;
mod create;
pub(crate) mod delete;
mod patch;
mod subresource;
mod update;

use std::sync::Arc;

use afloat_machinery::admission::Operation;
use afloat_machinery::kinds::Resource;
use afloat_store::{Entry, Error as StoreError, Expect, Store};
use bytes::Bytes;
use futures::FutureExt;
use http::Response;
use serde_json::Value;

use crate::admit::Admission;
use crate::admit::webhook::Asked;
use crate::follow::Reservation;
use crate::metrics::Metrics;
use crate::read::Reader;
use crate::read::conversion::is_complete;
use crate::view;
use crate::wire::body::Body;
use crate::wire::call::Call;
use crate::wire::status::Status;

/// How often a write that carries no precondition is decided anew when somebody else was faster.
const RETRIES: usize = 64;

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

/// A write that has been decided.
enum Decided {
    Create(Value),
    Update(u64, Value),
    Remove(u64, Value),
}

/// Writes objects. A cheap handle.
#[derive(Clone)]
pub(crate) struct Writer {
    store: Store,
    reader: Reader,
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
}

impl Writer {
    /// Writes to `store`, which `reader` reads, what `admission` admits.
    pub(crate) fn new(store: Store, reader: Reader, admission: Admission, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            reader,
            admission: Arc::new(admission),
            metrics,
        }
    }

    /// What it reads.
    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// What admits.
    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Changes an object of the server's own accord.
    pub(crate) async fn modify(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        dry_run: bool,
        plan: impl FnMut(&Value) -> Result<Change, Status> + Send,
    ) -> Result<Written, Status> {
        let written = self
            .modify_asked(resource, namespace, name, dry_run, None, plan)
            .await?;
        Ok(written.0)
    }

    /// The one loop behind all changes of existing objects. `plan` is asked again if somebody else was faster, and so are the webhooks
    /// that have a say in what a client wants; their warnings come with it.
    pub(crate) async fn modify_asked(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        dry_run: bool,
        asked: Option<Asked<'_>>,
        mut plan: impl FnMut(&Value) -> Result<Change, Status> + Send,
    ) -> Result<(Written, Vec<String>), Status> {
        let key = view::key(resource, namespace, name);
        for attempt in 0..RETRIES {
            let entry = self.store.get(&key).ok_or_else(|| Status::not_found(resource, name))?;
            let current = view::parse(resource, &self.reader.converted_one(resource, &entry.value).await?)?;
            let (mut object, remove) = match plan(&current)? {
                Change::Put(object) => (object, false),
                Change::Remove(object) => (object, true),
            };
            view::metadata(&mut object)
                .insert("resourceVersion".into(), current["metadata"]["resourceVersion"].clone());
            let reserved = if remove {
                None
            } else {
                self.admission.update(resource, &current, &mut object)?
            };
            let warnings = match asked {
                Some(asked) => {
                    let new = (asked.operation == Operation::Update).then_some(&object);
                    self.admission.ask_webhooks(asked, Some(&current), new).await?
                }
                None => Vec::new(),
            };
            // Only now: admission may have given back what a client left out. What is stored in another form is written anew.
            let as_stored = || view::is_current(resource, &entry.value) && is_complete(resource, &entry.value);
            if !remove && object == current && as_stored() {
                let bytes = entry.value;
                return Ok((Written { bytes, changed: false }, warnings));
            }
            let mut object = self.reader.to_stored(resource, object).await?;
            view::to_stored(resource, &mut object);
            if dry_run {
                let bytes = object.to_string().into();
                return Ok((Written { bytes, changed: false }, warnings));
            }
            let decided = if remove {
                Decided::Remove(entry.revision, object)
            } else {
                Decided::Update(entry.revision, object)
            };
            match self.commit(key.clone(), decided, reserved).await {
                Ok(written) => {
                    let bytes = written.value;
                    return Ok((Written { bytes, changed: true }, warnings));
                }
                Err(StoreError::Conflict { .. }) if attempt + 1 < RETRIES => {}
                Err(error) => return Err(Status::from_store(error, resource, name)),
            }
        }
        Err(Status::modified(resource, name))
    }

    /// Whether expressions are evaluated for a call.
    pub(crate) fn evaluates(&self, call: &Call) -> bool {
        let rules = call.resource.rules.as_ref().is_some_and(|rules| rules.evaluates());
        // What brings expressions has them compiled.
        let brings = call.resource.builtin.is_some_and(|row| row.brings_expressions);
        !matches!(call.verb, "get" | "list") && (rules || brings || self.admission.evaluates(&call.resource))
    }

    /// Counts a write and answers with the object.
    pub(crate) async fn answer_write(
        &self,
        call: &Call,
        written: &Written,
        warnings: &[String],
    ) -> Result<Response<Body>, Status> {
        if written.changed {
            self.metrics.wrote(
                &call.user,
                call.verb,
                &call.resource,
                call.subresource(),
                call.namespace(),
            );
        }
        self.reader.answer(call, 200, &written.bytes, warnings).await
    }

    /// Commits a decided write. Where something was reserved for it this goes on even if the client goes away, for that
    /// must be kept from others until it is certain whether the write succeeds.
    async fn commit(&self, key: String, decided: Decided, reserved: Option<Reservation>) -> Result<Entry, StoreError> {
        let store = self.store.clone();
        let write = async move {
            match decided {
                Decided::Create(object) => store.put(&key, Expect::Absent, view::stamp(object)).await,
                Decided::Update(revision, object) => {
                    store.put(&key, Expect::Revision(revision), view::stamp(object)).await
                }
                Decided::Remove(revision, object) => store.delete(&key, Some(revision), view::stamp(object)).await,
            }
        };
        let Some(reserved) = reserved else { return write.await };
        let kept = tokio::spawn(FutureExt::boxed(async move {
            let result = write.await;
            drop(reserved);
            result
        }));
        kept.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Takes an object away that was last written at `revision`, whatever it is and without asking anybody.
    ///
    /// # Errors
    /// If it was written since.
    pub(crate) async fn discard(&self, key: &str, revision: u64, last: Value) -> Result<(), StoreError> {
        let removed = self.store.delete(key, Some(revision), view::stamp(last)).await;
        removed.map(drop)
    }
}
