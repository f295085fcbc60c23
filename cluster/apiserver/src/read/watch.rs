//! Watch: the changes of a collection as a stream of events.
//!
//! Each stream pulls from the store's history at the speed of its client, so a slow client holds up nobody and queues
//! nothing; one that falls behind the history is told to list again (410).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use afloat_machinery::kinds::Resource;
use afloat_store::{Change, Entry, Error as StoreError, Watch};
use bytes::Bytes;
use futures::FutureExt;
use http::Response;
use rand::Rng;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::metrics::OpenWatch;
use crate::read::conversion::BATCH;
use crate::read::filter::Filter;
use crate::read::snapshot::{Gone, Snapshot};
use crate::read::{Reader, table};
use crate::view;
use crate::wire::body::{self, Body};
use crate::wire::call::Call;
use crate::wire::request::{Form, Query};
use crate::wire::status::Status;

/// Events are sent together up to about this size.
const CHUNK_BYTES: usize = 16 * 1024;
/// Annotation of the bookmark that ends the initial events.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Where a watch begins.
enum Start {
    /// With all objects that are there now.
    Initial,
    /// With what changes from now on.
    Now,
    /// With the changes after this revision.
    After(u64),
}

struct EventStream {
    reader: Reader,
    resource: Arc<Resource>,
    filter: Filter,
    form: Form,
    query: Query,
    source: Watch,
    /// What was there at the beginning; None once all of it was told.
    initial: Option<Snapshot>,
    /// The next of these in the version that is served, where that is another one.
    served: VecDeque<Entry>,
    /// Revision of the initial events, until their end has been announced.
    initial_end: Option<u64>,
    /// When the next bookmark is due, if the client wants any.
    bookmark: Option<Instant>,
    deadline: Instant,
    /// Whether a table's columns have been described.
    described: bool,
    ended: bool,
    _open: OpenWatch,
}

impl Reader {
    /// GET with `watch=1`.
    pub(crate) fn watch(&self, call: &Call) -> Result<Response<Body>, Status> {
        if call.path.subresource.is_some() || !call.resource.is_stored() {
            return Err(Status::method_not_allowed());
        }
        let filter = Filter::parse(&call.resource, &call.query, &call.path)?;
        let prefix = view::prefix(&call.resource, call.namespace());
        let send_initial = call
            .query
            .get("sendInitialEvents")
            .map(|_| call.query.flag("sendInitialEvents"));
        let bookmarks = call.query.flag("allowWatchBookmarks");
        let (initial, after) = match self.start(call, send_initial)? {
            Start::Initial => {
                let page = self.store.list(&prefix, None, 0);
                (Some(self.snapshots.hold(page.entries)), page.revision)
            }
            Start::Now => (None, self.store.revision()),
            Start::After(revision) => (None, revision),
        };
        let source = match self.store.watch(&prefix, after) {
            Ok(source) => source,
            // The original answers 200 and says so in the stream.
            Err(error) => {
                let event = error_event(&store_status(error, &call.resource));
                return Ok(body::typed(200, "application/json", body::full(event)));
            }
        };
        let seconds = call.query.number("timeoutSeconds")?.filter(|s| *s > 0);
        let limit = Duration::from_secs(
            seconds
                .unwrap_or_else(|| rand::rng().random_range(1800..3600))
                .min(86_400),
        );
        let stream = EventStream {
            reader: self.clone(),
            resource: Arc::clone(&call.resource),
            filter,
            form: call.accept.form,
            query: call.query.clone(),
            source,
            initial,
            served: VecDeque::new(),
            initial_end: (send_initial == Some(true) && bookmarks).then_some(after),
            bookmark: bookmarks.then(|| Instant::now() + self.bookmark_interval),
            deadline: Instant::now() + limit,
            described: false,
            ended: false,
            _open: OpenWatch::new(Arc::clone(&self.metrics)),
        };
        let body = futures::stream::unfold(stream, |mut stream| async move {
            let bytes = stream.next().await?;
            Some((bytes, stream))
        });
        Ok(body::typed(200, "application/json", body::streamed(body)))
    }

    fn start(&self, call: &Call, send_initial: Option<bool>) -> Result<Start, Status> {
        let requested = call.query.number("resourceVersion")?;
        let current = self.store.revision();
        if let Some(requested) = requested.filter(|r| *r > current) {
            return Err(Status::future_revision(requested, current));
        }
        if send_initial.is_some() && call.query.get("resourceVersionMatch") != Some("NotOlderThan") {
            let why = "sendInitialEvents requires resourceVersionMatch=NotOlderThan";
            return Err(Status::bad_request(format!("invalid list options: {why}")));
        }
        Ok(match (send_initial, requested) {
            (Some(true), _) | (None, None | Some(0)) => Start::Initial,
            (Some(false), None | Some(0)) => Start::Now,
            (_, Some(revision)) => Start::After(revision),
        })
    }
}

fn store_status(error: StoreError, resource: &Resource) -> Status {
    match error {
        StoreError::Lagged => Status::lagged(),
        other => Status::from_store(other, resource, ""),
    }
}

fn error_event(status: &Status) -> Bytes {
    let mut line = Vec::new();
    push_line(&mut line, "ERROR", status.to_value().to_string().as_bytes());
    line.into()
}

/// In Kubernetes' order: clients are told what an object is before they read it.
fn push_line(out: &mut Vec<u8>, kind: &str, object: &[u8]) {
    out.extend_from_slice(format!("{{\"type\":\"{kind}\",\"object\":").as_bytes());
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}

impl EventStream {
    /// The next bytes; None at the end.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        while !self.ended {
            if let Err(status) = self.fill(&mut out).await {
                // A closed store or a broken object ends the watch in good order; so does a lag.
                out.extend_from_slice(&error_event(&status));
                self.ended = true;
            }
            if !out.is_empty() {
                // As parts of lists are.
                out.shrink_to_fit();
                return Some(out.into());
            }
        }
        None
    }

    async fn fill(&mut self, out: &mut Vec<u8>) -> Result<(), Status> {
        if self.initial.is_some() || self.initial_end.is_some() {
            return self.fill_initial(out).await;
        }
        let due = self.bookmark.map_or(self.deadline, |at| at.min(self.deadline));
        tokio::select! {
            change = self.source.next_change() => {
                self.push_result(out, change).await?;
                self.drain(out).await
            }
            () = sleep_until(due) => self.tick(out).await,
        }
    }

    async fn fill_initial(&mut self, out: &mut Vec<u8>) -> Result<(), Status> {
        while out.len() < CHUNK_BYTES {
            let Some(entry) = self.next_initial().await? else {
                self.initial = None;
                if let Some(revision) = self.initial_end.take() {
                    self.push_bookmark(out, revision, true)?;
                }
                return Ok(());
            };
            if !self.filter.admits_key(&entry.key) {
                continue;
            }
            if !self.filter.looks_inside() || self.filter.matches(&view::parse(&self.resource, &entry.value)?) {
                self.push(out, "ADDED", &entry.value)?;
            }
        }
        Ok(())
    }

    /// The next object that was there at the beginning, in the version that is served.
    async fn next_initial(&mut self) -> Result<Option<Entry>, Status> {
        let Some(initial) = self.initial.as_mut() else {
            return Ok(None);
        };
        let mut next = || initial.next().map_err(|Gone| Status::lagged());
        if self.resource.conversion.is_none() {
            return next();
        }
        if self.served.is_empty() {
            let mut some = Vec::new();
            while let Some(entry) = (some.len() < BATCH).then(&mut next).transpose()?.flatten() {
                some.push(entry);
            }
            let values = some.iter().map(|entry| entry.value.clone()).collect();
            let values = self.reader.converted(&self.resource, values).await?;
            let served = some.into_iter().zip(values);
            self.served = served.map(|(entry, value)| Entry { value, ..entry }).collect();
        }
        Ok(self.served.pop_front())
    }

    /// Takes what else is there already, up to a chunk.
    async fn drain(&mut self, out: &mut Vec<u8>) -> Result<(), Status> {
        while out.len() < CHUNK_BYTES && !self.ended {
            match self.source.next_change().now_or_never() {
                Some(change) => self.push_result(out, change).await?,
                None => break,
            }
        }
        Ok(())
    }

    async fn push_result(
        &mut self,
        out: &mut Vec<u8>,
        change: Option<Result<Change, StoreError>>,
    ) -> Result<(), Status> {
        match change {
            None => {
                self.ended = true;
                Ok(())
            }
            Some(Err(error)) => Err(store_status(error, &self.resource)),
            Some(Ok(change)) => self.push_change(out, change).await,
        }
    }

    async fn push_change(&mut self, out: &mut Vec<u8>, mut change: Change) -> Result<(), Status> {
        if !self.filter.admits_key(&change.key) {
            return Ok(());
        }
        change.value = self.reader.converted_one(&self.resource, &change.value).await?;
        if let Some(previous) = change.previous.as_mut().filter(|_| self.filter.looks_inside()) {
            *previous = self.reader.converted_one(&self.resource, previous).await?;
        }
        let (before, now) = if self.filter.looks_inside() {
            let matches = |bytes: &Bytes| Ok::<_, Status>(self.filter.matches(&view::parse(&self.resource, bytes)?));
            let before = change.previous.as_ref().map(matches).transpose()?.unwrap_or(false);
            (before, !change.deleted && matches(&change.value)?)
        } else {
            (change.previous.is_some(), !change.deleted)
        };
        match (before, now) {
            (false, true) => self.push(out, "ADDED", &change.value),
            (true, true) => self.push(out, "MODIFIED", &change.value),
            (true, false) if change.deleted => self.push(out, "DELETED", &change.value),
            // It left the selection: as the original does, the last form that belonged, at the revision of the change.
            (true, false) => {
                let mut last: Value = change
                    .previous
                    .as_ref()
                    .map(|b| serde_json::from_slice(b))
                    .transpose()
                    .map_err(Status::internal)?
                    .unwrap_or_default();
                view::metadata(&mut last).insert("resourceVersion".into(), change.revision.to_string().into());
                self.push(out, "DELETED", &Bytes::from(last.to_string()))
            }
            (false, false) => Ok(()),
        }
    }

    fn push(&mut self, out: &mut Vec<u8>, kind: &str, stored: &Bytes) -> Result<(), Status> {
        if self.form == Form::Object {
            push_line(out, kind, &view::served(&self.resource, stored)?);
        } else {
            let object = view::parse(&self.resource, stored)?;
            let object = table::event(&self.resource, self.form, &self.query, object, !self.described)?;
            self.described = true;
            push_line(out, kind, object.to_string().as_bytes());
        }
        Ok(())
    }

    fn push_bookmark(&mut self, out: &mut Vec<u8>, revision: u64, initial_end: bool) -> Result<(), Status> {
        let mut meta = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            meta["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        let object = json!({"kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": meta});
        let object = table::event(&self.resource, self.form, &self.query, object, !self.described)?;
        self.described = true;
        push_line(out, "BOOKMARK", object.to_string().as_bytes());
        Ok(())
    }

    /// A time has come: that of a bookmark or that of the end.
    async fn tick(&mut self, out: &mut Vec<u8>) -> Result<(), Status> {
        let now = Instant::now();
        if now >= self.deadline {
            self.ended = true;
            return Ok(());
        }
        // Noted before the last look: the store shows a revision and marks its changes for the watches at once, so that
        // what a drained watch has sent is all up to it, and no bookmark is ever ahead of an event.
        let revision = self.reader.store.revision();
        self.drain(out).await?;
        // Events carry revisions themselves, and newer ones.
        if out.is_empty() && !self.ended {
            self.push_bookmark(out, revision, false)?;
        }
        self.bookmark = Some(now + self.reader.bookmark_interval);
        Ok(())
    }
}
