//! The body of a list, made as it is read: a slow reader holds the stored bytes, which are shared, and a part of what was made of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use afloat_machinery::kinds::Resource;
use afloat_store::Entry;
use bytes::Bytes;
use futures::FutureExt;
use http::Response;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::read::snapshot::{Gone, Snapshot, Snapshots};
use crate::read::table::{self, Include};
use crate::wire::body::{Body, full, tried, typed};
use crate::wire::call::Call;
use crate::wire::request::Form;
use crate::wire::status::Status;

/// A list of less than so many bytes is made at once; parts of a longer one are about as long.
const PART_BYTES: usize = 16 << 10;

/// What of a list is still to be made.
struct Rest {
    head: Option<Vec<u8>>,
    entries: Snapshot,
    /// Whether an item was written already.
    begun: bool,
    ended: bool,
    resource: Arc<Resource>,
    form: Form,
    include: Include,
    yaml: bool,
}

/// How lists are read.
pub(super) struct Reading<'a> {
    pub(super) snapshots: &'a Arc<Snapshots>,
    /// Who may make what is not as it is stored: it takes a while, and there may be hundreds.
    pub(super) making: &'a Arc<Semaphore>,
    /// How long it may take to read a list; then what it holds is given back.
    pub(super) limit: Duration,
}

/// Answers with a list.
pub(super) fn listed(
    call: &Call,
    meta: Value,
    entries: Vec<Entry>,
    reading: &Reading<'_>,
) -> Result<Response<Body>, Status> {
    let bytes: usize = entries.iter().map(|entry| entry.value.len()).sum();
    let limit = reading.limit;
    let mut rest = Rest::new(call, meta, entries, reading.snapshots)?;
    let content_type = if rest.yaml {
        "application/yaml"
    } else {
        "application/json"
    };
    if bytes < PART_BYTES {
        let mut whole = Vec::with_capacity(bytes + 1024);
        while let Some(part) = rest.part()? {
            whole.extend_from_slice(&part);
        }
        return Ok(typed(200, content_type, full(whole)));
    }
    let rest = Arc::new(Mutex::new(Some(rest)));
    let late = Arc::downgrade(&rest);
    tokio::spawn(FutureExt::boxed(async move {
        sleep(limit).await;
        if let Some(rest) = late.upgrade() {
            rest.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }));
    let as_stored = call.accept.form == Form::Object && !call.accept.yaml;
    let making = (!as_stored).then(|| Arc::clone(reading.making));
    let parts = futures::stream::unfold((Some(rest), making), |(state, making)| async move {
        let rest = state?;
        let turn = match &making {
            // Never closed.
            Some(making) => making.acquire().await.ok(),
            None => None,
        };
        let part = match rest.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(rest) => rest.part(),
            None => Err(unread()),
        };
        match part {
            Ok(part) => {
                drop(turn);
                Some((Ok(part?), (Some(rest), making)))
            }
            // The answer has begun: its reader sees that it ends too early.
            Err(status) => Some((Err(status.message.into()), (None, None))),
        }
    });
    Ok(typed(200, content_type, tried(parts)))
}

fn unread() -> Status {
    Status::internal("the list was not read in time")
}

impl Rest {
    fn new(call: &Call, meta: Value, entries: Vec<Entry>, snapshots: &Arc<Snapshots>) -> Result<Self, Status> {
        let (form, yaml) = (call.accept.form, call.accept.yaml);
        let include = match form {
            Form::Table => Include::parse(&call.query)?,
            _ => Include::Nothing,
        };
        let (mut head, items) = table::collection(&call.resource, form);
        head["metadata"] = meta;
        let head = if yaml {
            let mut text = serde_saphyr::to_string(&head).map_err(Status::internal)?;
            text.push_str(items);
            text.push_str(if entries.is_empty() { ": []\n" } else { ":\n" });
            text.into_bytes()
        } else {
            let mut text = head.to_string();
            text.pop();
            text.push_str(&format!(",\"{items}\":["));
            text.into_bytes()
        };
        Ok(Self {
            head: Some(head),
            entries: snapshots.hold(entries),
            begun: false,
            ended: false,
            resource: Arc::clone(&call.resource),
            form,
            include,
            yaml,
        })
    }

    /// The next part; None after the last.
    fn part(&mut self) -> Result<Option<Bytes>, Status> {
        if self.ended {
            return Ok(None);
        }
        let mut out = self.head.take().unwrap_or_default();
        while out.len() < PART_BYTES {
            let Some(entry) = self.entries.next().map_err(|Gone| unread())? else {
                if !self.yaml {
                    out.extend_from_slice(b"]}");
                }
                self.ended = true;
                break;
            };
            let item = table::item(&self.resource, self.form, self.include, &entry.value)?;
            if self.yaml {
                let value: Value = serde_json::from_slice(&item).map_err(Status::internal)?;
                let text = serde_saphyr::to_string(&value).map_err(Status::internal)?;
                for (number, line) in text.lines().enumerate() {
                    out.extend_from_slice(if number == 0 { b"- " } else { b"  " });
                    out.extend_from_slice(line.as_bytes());
                    out.push(b'\n');
                }
            } else {
                if self.begun {
                    out.push(b',');
                }
                out.extend_from_slice(&item);
            }
            self.begun = true;
        }
        // It may lie there until somebody reads it, a thousand times: without what it did not need.
        out.shrink_to_fit();
        Ok(Some(out.into()))
    }
}
