//! What an earlier version stored, although nobody can read it.
//!
//! Every write is read by its kind's types before it is stored, but that was not always so: a store may hold a Node whose taints are
//! a text. Clients with types of their own cannot read such an object, and some cannot read the list that it is in. When a store
//! is first served by a version that reads more closely, each field that its kind cannot hold is taken out, once.

use afloat_machinery::fields;
use afloat_machinery::kinds::{Registry, Resource};
use afloat_store::{Entry, Error as StoreError, Expect, Store};
use bytes::Bytes;
use serde_json::Value;

use crate::error::Error;
use crate::view;

/// Where the store says how closely its objects were read.
const KEY: &str = "/afloat/read-as";
/// Counts up whenever objects are read more closely than before.
const READ_AS: &[u8] = b"1";
/// Objects looked at between two pauses.
const PAGE: usize = 256;

/// Mends all objects of built-in kinds, unless they were all read as closely as now when they were stored.
///
/// # Errors
/// The store's.
pub(crate) async fn mend(store: &Store, registry: &Registry) -> Result<(), Error> {
    let known = store.get(KEY);
    if known.as_ref().is_some_and(|entry| *entry.value == *READ_AS) {
        return Ok(());
    }
    for resource in registry
        .all()
        .filter(|r| r.is_stored() && !view::differs(r) && !r.is_custom())
    {
        mend_kind(store, resource).await?;
    }
    let expect = known.map_or(Expect::Absent, |entry| Expect::Revision(entry.revision));
    store
        .put(KEY, expect, Box::new(|_| Bytes::from_static(READ_AS)))
        .await?;
    Ok(())
}

async fn mend_kind(store: &Store, resource: &Resource) -> Result<(), Error> {
    let (prefix, mut after) = (view::prefix(resource, None), None);
    loop {
        let page = store.list(&prefix, after.as_deref(), PAGE);
        for entry in &page.entries {
            mend_one(store, resource, entry).await?;
        }
        let Some(last) = page.entries.last().filter(|_| page.entries.len() == PAGE) else {
            return Ok(());
        };
        after = Some(last.key.to_string());
        tokio::task::yield_now().await;
    }
}

async fn mend_one(store: &Store, resource: &Resource, entry: &Entry) -> Result<(), Error> {
    // What is not even JSON its readers tell of.
    let Ok(mut object) = serde_json::from_slice::<Value>(&entry.value) else {
        return Ok(());
    };
    let mended = fields::mend(resource, &mut object);
    if mended.is_empty() {
        return Ok(());
    }
    tracing::warn!(key = %entry.key, ?mended, "a stored object held what its kind cannot: the fields are taken out");
    match store
        .put(&entry.key, Expect::Revision(entry.revision), view::stamp(object))
        .await
    {
        // Nobody else writes yet; if somebody did, it was read as closely as now.
        Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
