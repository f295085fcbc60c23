//! Get and list. Served from the committed state in memory, which satisfies every resource version that has been reached.

mod body;

use afloat_machinery::kinds::Resource;
use afloat_store::{Entry, Page};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Response;
use serde_json::json;

use crate::read::Reader;
use crate::read::filter::Filter;
use crate::view;
use crate::wire::body::Body;
use crate::wire::call::Call;
use crate::wire::status::Status;

/// Objects that are looked at before others get their turn,
const LOOKS: usize = 200;
/// and bytes of them: one object may be a thousand times as long as another.
const LOOK_BYTES: usize = 256 << 10;

/// Where the next page of a list begins.
struct Continue {
    /// Revision of the first page; all pages carry it, so that a watch from there misses nothing.
    revision: u64,
    /// Last key of the page before.
    after: String,
}

impl Continue {
    fn encode(revision: u64, after: &str) -> String {
        URL_SAFE_NO_PAD.encode(format!("{revision}:{after}"))
    }

    fn decode(token: &str, prefix: &str) -> Result<Self, Status> {
        let bad = || Status::bad_request("continue key is not valid: start the list again without it");
        let text = URL_SAFE_NO_PAD
            .decode(token)
            .ok()
            .and_then(|b| String::from_utf8(b).ok())
            .ok_or_else(bad)?;
        let (revision, after) = text.split_once(':').ok_or_else(bad)?;
        let revision = revision.parse().map_err(|_| bad())?;
        if after.starts_with(prefix) {
            Ok(Self {
                revision,
                after: after.to_owned(),
            })
        } else {
            Err(bad())
        }
    }
}

/// One page of a collection after filtering.
struct Selected {
    revision: u64,
    entries: Vec<Entry>,
    next: Option<String>,
    /// Behind this page; None if filters make it unknowable.
    remaining: Option<usize>,
}

impl Reader {
    /// GET of an object.
    pub(crate) async fn get(&self, call: &Call) -> Result<Response<Body>, Status> {
        self.check_revision(call, false)?;
        let entry = self.entry(&call.resource, call.namespace(), call.name())?;
        self.answer(call, 200, &entry.value, &[]).await
    }

    /// A revision that has not been reached cannot be served; the present one serves all others.
    fn check_revision(&self, call: &Call, list: bool) -> Result<(), Status> {
        let current = self.store.revision();
        let requested = call.query.number("resourceVersion")?;
        let matching = call.query.get("resourceVersionMatch");
        if list && matching.is_some() && requested.is_none() && !call.query.flag("sendInitialEvents") {
            return Err(Status::bad_request(
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        match requested {
            Some(requested) if requested > current => Err(Status::future_revision(requested, current)),
            // Old states are not kept, only old changes.
            Some(requested) if list && matching == Some("Exact") && requested != current => {
                Err(Status::expired(requested, current))
            }
            _ => Ok(()),
        }
    }

    /// GET of a collection.
    pub(crate) async fn list(&self, call: &Call) -> Result<Response<Body>, Status> {
        let filter = Filter::parse(&call.resource, &call.query, &call.path)?;
        let selected = self.select(call, &filter).await?;
        let mut meta = json!({"resourceVersion": selected.revision.to_string()});
        if let Some(next) = selected.next {
            meta["continue"] = next.into();
            if let Some(remaining) = selected.remaining {
                meta["remainingItemCount"] = remaining.into();
            }
        }
        let reading = body::Reading {
            snapshots: &self.snapshots,
            making: &self.making,
            limit: self.list_limit,
        };
        body::listed(call, meta, selected.entries, &reading)
    }

    /// The entries that a list is about.
    async fn select(&self, call: &Call, filter: &Filter) -> Result<Selected, Status> {
        let prefix = view::prefix(&call.resource, call.namespace());
        let limit = usize::try_from(call.query.number("limit")?.unwrap_or(0)).unwrap_or(0);
        let from = call
            .query
            .get("continue")
            .map(|token| Continue::decode(token, &prefix))
            .transpose()?;
        if from.is_none() {
            self.check_revision(call, true)?;
        }
        let after = from.as_ref().map(|c| c.after.clone());
        if !(filter.looks_inside() || filter.name.is_some()) {
            let Page {
                revision,
                entries,
                remaining,
            } = self.store.list(&prefix, after.as_deref(), limit);
            let revision = from.map_or(revision, |c| c.revision);
            let last = entries.last().filter(|_| remaining > 0);
            let next = last.map(|last| Continue::encode(revision, &last.key));
            let entries = self.served(&call.resource, filter, entries).await?;
            return Ok(Selected {
                revision,
                entries,
                next,
                remaining: Some(remaining),
            });
        }
        self.filtered(call, filter, &prefix, limit, from).await
    }

    /// The same where objects must be looked at, a few at a time so that nobody waits for it.
    async fn filtered(
        &self,
        call: &Call,
        filter: &Filter,
        prefix: &str,
        limit: usize,
        from: Option<Continue>,
    ) -> Result<Selected, Status> {
        let (revision, after) = match from {
            Some(from) => (from.revision, Some(from.after)),
            None => (self.store.revision(), None),
        };
        let mut selected = Selected {
            revision,
            entries: Vec::new(),
            next: None,
            remaining: None,
        };
        // Without a limit it is all of one moment: what is there is shared, so that holding it costs little.
        let mut whole = (limit == 0).then(|| {
            let page = self.store.list(prefix, after.as_deref(), 0);
            selected.revision = page.revision;
            page.entries.into_iter()
        });
        let mut after = after;
        let mut looked_bytes = 0;
        loop {
            let (some, more) = match &mut whole {
                Some(all) => (all.by_ref().take(LOOKS).collect::<Vec<_>>(), all.len() > 0),
                None => self.store.next(prefix, after.as_deref(), LOOKS),
            };
            let looked = some.len();
            let mut place = 0;
            for entry in self.served(&call.resource, filter, some).await? {
                place += 1;
                after = Some(entry.key.to_string());
                let bytes = entry.value.len();
                if Self::selects(call, filter, &entry)? {
                    selected.entries.push(entry);
                }
                if limit > 0 && selected.entries.len() == limit {
                    break;
                }
                looked_bytes += bytes;
                if looked_bytes >= LOOK_BYTES {
                    looked_bytes = 0;
                    tokio::task::yield_now().await;
                }
            }
            let rest = more || place < looked;
            if limit > 0 && selected.entries.len() == limit {
                selected.next = after
                    .filter(|_| rest)
                    .map(|after| Continue::encode(selected.revision, &after));
                return Ok(selected);
            }
            if !more {
                return Ok(selected);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Entries whose keys a filter admits, in the version that is served.
    async fn served(&self, resource: &Resource, filter: &Filter, mut found: Vec<Entry>) -> Result<Vec<Entry>, Status> {
        if resource.conversion.is_none() {
            return Ok(found);
        }
        if filter.name.is_some() && !found.iter().any(|entry| filter.admits_key(&entry.key)) {
            return Ok(found);
        }
        let bytes = found.iter().map(|entry| entry.value.clone()).collect();
        let bytes = self.converted(resource, bytes).await?;
        found
            .iter_mut()
            .zip(bytes)
            .for_each(|(entry, bytes)| entry.value = bytes);
        Ok(found)
    }

    fn selects(call: &Call, filter: &Filter, entry: &Entry) -> Result<bool, Status> {
        if !filter.admits_key(&entry.key) {
            return Ok(false);
        }
        Ok(!filter.looks_inside() || filter.matches(&view::parse(&call.resource, &entry.value)?))
    }

    /// All entries of a collection that a filter admits, for deletecollection.
    pub(crate) async fn selected(&self, call: &Call) -> Result<Vec<Entry>, Status> {
        let filter = Filter::parse(&call.resource, &call.query, &call.path)?;
        Ok(self.select(call, &filter).await?.entries)
    }
}
