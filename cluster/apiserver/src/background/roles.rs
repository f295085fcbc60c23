//! The roles and bindings that every cluster has are added to at the start, and roles that are put together of others
//! (`aggregationRule`) follow those.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use afloat_machinery::authorization::aggregation::{outdated, rules_value};
use afloat_machinery::authorization::bootstrap::{self, Step, reconcile};
use afloat_machinery::kinds::{Registry, Resource};
use afloat_store::{Error as StoreError, Watch};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use tokio::time::sleep;

use super::ticks::ticks;
use crate::error::Error;
use crate::view;
use crate::wire::status::{Reason, Status};
use crate::write::delete::DeleteOptions;
use crate::write::{Change, Writer};

/// Writes at once at the start: they share commits.
const WRITES_AT_ONCE: usize = 64;
/// How often one object is tried when somebody else writes it meanwhile.
const ATTEMPTS: usize = 3;
/// Roles may gather roles that gather roles: so many are followed at the start, and the rest soon after.
const ROUNDS: usize = 8;
/// Least time between two looks at all roles.
const PAUSE: Duration = Duration::from_millis(100);

/// Adds what is missing of the roles and bindings that every cluster has, and of `more`.
pub(crate) async fn ensure(writer: &Writer, more: &[Value]) -> Result<(), Error> {
    let failed = |what: String, why: Status| Error::Bootstrap { what, why };
    let all = "roles and bindings".to_owned();
    let objects = bootstrap::objects().map_err(|error| failed(all.clone(), Status::internal(error)))?;
    let registry = writer.reader().registry();
    let registry = &*registry;
    let writes = objects
        .into_iter()
        .chain(more.iter().cloned())
        .map(|expected| async move {
            let what = format!("{} {}", expected["kind"], expected["metadata"]["name"]);
            ensure_one(writer, registry, &expected)
                .await
                .map_err(|why| failed(what, why))
        });
    let mut writes = stream::iter(writes).buffer_unordered(WRITES_AT_ONCE);
    while writes.try_next().await?.is_some() {}
    for _ in 0..ROUNDS {
        if !gather(writer).await.map_err(|why| failed(all.clone(), why))? {
            break;
        }
    }
    Ok(())
}

async fn ensure_one(writer: &Writer, registry: &Registry, expected: &Value) -> Result<(), Status> {
    let text = |field: &str| expected[field].as_str().unwrap_or_default();
    let resource = registry
        .by_kind(text("apiVersion"), text("kind"))
        .ok_or_else(Status::no_such_resource)?;
    let name = view::meta(expected, "name");
    let namespace = resource.namespaced.then(|| view::meta(expected, "namespace"));
    let mut last = Ok(());
    for _ in 0..ATTEMPTS {
        let stored = writer.reader().find(&resource, namespace, name);
        let stored = stored.map(|entry| view::parse(&resource, &entry.value)).transpose()?;
        last = match reconcile(stored.as_ref(), expected) {
            None => Ok(()),
            Some(Step::Create(object)) => create(writer, &resource, namespace, object).await,
            Some(Step::Recreate(object)) => {
                let options = DeleteOptions {
                    uid: stored.map(|stored| view::meta(&stored, "uid").to_owned()),
                    ..DeleteOptions::default()
                };
                match writer.remove(&resource, namespace, name, &options, None).await {
                    Err(status) if status.reason != Reason::NotFound => Err(status),
                    _ => create(writer, &resource, namespace, object).await,
                }
            }
            Some(Step::Update(_)) => {
                let plan = |current: &Value| match reconcile(Some(current), expected) {
                    Some(Step::Update(new)) => Ok(Change::Put(new)),
                    _ => Ok(Change::Put(current.clone())),
                };
                writer.modify(&resource, namespace, name, false, plan).await.map(drop)
            }
        };
        match &last {
            Err(status)
                if matches!(
                    status.reason,
                    Reason::AlreadyExists | Reason::NotFound | Reason::Conflict
                ) => {}
            _ => return last,
        }
    }
    last
}

async fn create(writer: &Writer, resource: &Resource, namespace: Option<&str>, object: Value) -> Result<(), Status> {
    writer.insert(resource, namespace, object, false, None).await.map(drop)
}

/// Brings the roles that gather others up to date with them, one step; whether there was anything to do.
async fn gather(writer: &Writer) -> Result<bool, Status> {
    let Some(resource) = cluster_roles(writer) else {
        return Ok(false);
    };
    let mut roles = BTreeMap::new();
    for entry in writer.reader().all(&resource, None).entries {
        let role = view::parse(&resource, &entry.value)?;
        roles.insert(view::meta(&role, "name").to_owned(), role);
    }
    let outdated = outdated(&roles);
    for (name, rules) in &outdated {
        let plan = |current: &Value| {
            let mut new = current.clone();
            new["rules"] = rules_value(rules);
            Ok(Change::Put(new))
        };
        match writer.modify(&resource, None, name, false, plan).await {
            Err(status) if status.reason != Reason::NotFound => return Err(status),
            _ => {}
        }
    }
    Ok(!outdated.is_empty())
}

fn cluster_roles(writer: &Writer) -> Option<std::sync::Arc<Resource>> {
    let registry = writer.reader().registry();
    registry.resolve(afloat_machinery::authorization::GROUP, "v1", "clusterroles")
}

/// Follows the roles in the store's log, and looks at all of them now and then. Ends when the last handle of the server is gone, or
/// with the store.
pub(super) async fn run(writer: Weak<Writer>) {
    let (mut ticks, mut watch): (_, Option<Watch>) = (ticks(), None);
    loop {
        tokio::select! {
            change = next(&mut watch) => match change {
                Some(Ok(_)) => {}
                // What was missed the next look finds.
                Some(Err(StoreError::Lagged)) => watch = None,
                Some(Err(_)) | None => return,
            },
            _ = ticks.tick() => {}
        }
        let Some(writer) = writer.upgrade() else { return };
        // One look is enough for all that has happened.
        while next(&mut watch)
            .now_or_never()
            .is_some_and(|change| matches!(change, Some(Ok(_))))
        {}
        if watch.is_none()
            && let Some(resource) = cluster_roles(&writer)
        {
            watch = writer.reader().changes(&resource, writer.reader().revision());
        }
        if let Err(why) = gather(&writer).await {
            tracing::warn!(%why, "cannot gather the rules of roles");
        }
        drop(writer);
        sleep(PAUSE).await;
    }
}

async fn next(watch: &mut Option<Watch>) -> Option<Result<afloat_store::Change, StoreError>> {
    match watch {
        Some(watch) => watch.next_change().await,
        None => std::future::pending().await,
    }
}
