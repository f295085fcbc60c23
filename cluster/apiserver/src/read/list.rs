//! Get and list. Served from the committed state in memory, which satisfies every resource version that has been reached.

use afloat_machinery::kinds::Resource;
use afloat_store::{Entry, Page};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use crate::read::filter::Filter;
use crate::read::{Reader, table};
use crate::view;
use crate::wire::body::Body;
use crate::wire::call::Call;
use crate::wire::reply;
use crate::wire::request::Form;
use crate::wire::status::Status;

/// Where the next page of a list begins.
struct Continue {
    /// Revision of the first page; all pages carry it, so that a watch from there misses nothing.
    revision: u64,
    /// Last key of the page before.
    after: String,
}

impl Continue {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}:{}", self.revision, self.after))
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
        let bytes = match call.accept.form {
            Form::Object => objects(call, &meta, &selected.entries)?,
            form => {
                let parse = |e: &Entry| view::parse(&call.resource, &e.value);
                let objects = selected
                    .entries
                    .iter()
                    .map(parse)
                    .collect::<Result<Vec<Value>, Status>>()?;
                table::many(&call.resource, form, &call.query, &objects, meta)?
            }
        };
        reply::rendered(200, call.accept, bytes)
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
        let mut after = from.as_ref().map(|c| c.after.clone());
        let mut entries = Vec::new();
        let filtered = filter.looks_inside() || filter.name.is_some();
        // With a filter a page may have to look at several pages of the store.
        let (revision, remaining) = loop {
            let Page {
                revision,
                entries: found,
                remaining,
            } = self.store.list(&prefix, after.as_deref(), limit);
            after = found.last().map(|e| e.key.to_string()).or(after);
            for entry in self.served(&call.resource, filter, found).await? {
                if Self::selects(call, filter, &entry)? {
                    entries.push(entry);
                }
            }
            if remaining == 0 || limit == 0 || entries.len() >= limit {
                break (revision, remaining);
            }
        };
        let revision = from.map_or(revision, |c| c.revision);
        let next = (remaining > 0).then(|| {
            Continue {
                revision,
                after: after.unwrap_or_default(),
            }
            .encode()
        });
        Ok(Selected {
            revision,
            entries,
            next,
            remaining: (!filtered).then_some(remaining),
        })
    }

    /// Entries whose keys a filter admits, in the version that is served.
    async fn served(&self, resource: &Resource, filter: &Filter, mut found: Vec<Entry>) -> Result<Vec<Entry>, Status> {
        if resource.conversion.is_none() {
            return Ok(found);
        }
        found.retain(|entry| filter.admits_key(&entry.key));
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

/// A list put together from the bytes of its objects; they are read only where they are served in another form.
fn objects(call: &Call, meta: &Value, entries: &[Entry]) -> Result<Bytes, Status> {
    let resource = &call.resource;
    let size: usize = entries.iter().map(|e| e.value.len() + 1).sum();
    let mut out = Vec::with_capacity(size + 256);
    let (kind, version) = (&resource.list_kind, resource.api_version());
    out.extend_from_slice(
        format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{meta},\"items\":[").as_bytes(),
    );
    for (n, entry) in entries.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&view::served(resource, &entry.value)?);
    }
    out.extend_from_slice(b"]}");
    Ok(out.into())
}
