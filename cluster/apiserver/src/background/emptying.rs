//! A definition that is being deleted goes after its objects have gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use afloat_store::{Change as Committed, Error as StoreError, Watch};
use futures::FutureExt;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::ticks::ticks;
use crate::admit::definition::{CLEANUP, definition};
use crate::view;
use crate::wire::status::{Reason, Status};
use crate::write::delete::{DeleteOptions, finished};
use crate::write::{Change, Writer};

/// How long one attempt to empty a definition lasts; the next is made by the clock.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(20);

/// The attempts under way.
#[derive(Default)]
struct Attempts {
    tasks: JoinSet<String>,
    /// By name of the definition, and whether it was written meanwhile.
    running: BTreeMap<String, bool>,
}

impl Attempts {
    /// Begins an attempt, unless there is one: then there will be another after it.
    fn begin(&mut self, writer: &Arc<Writer>, definition: &Value) {
        if !definition["metadata"]["deletionTimestamp"].is_string() {
            return;
        }
        let name = view::meta(definition, "name").to_owned();
        if let Some(again) = self.running.get_mut(&name) {
            *again = true;
            return;
        }
        self.running.insert(name.clone(), false);
        self.spawn(writer, name);
    }

    fn spawn(&mut self, writer: &Arc<Writer>, name: String) {
        let writer = Arc::clone(writer);
        self.tasks.spawn(FutureExt::boxed(async move {
            finish(&writer, &name).await;
            name
        }));
    }

    /// An attempt is over.
    fn over(&mut self, writer: &Arc<Writer>, name: String) {
        match self.running.get_mut(&name) {
            Some(again) if *again => {
                *again = false;
                self.spawn(writer, name);
            }
            _ => drop(self.running.remove(&name)),
        }
    }
}

/// Watches the definitions in the store's log and looks at all of them now and then, for an attempt may have been in vain.
/// Ends when the last handle of the server is gone, or with the store.
pub(super) async fn run(writer: Weak<Writer>) {
    let registry = writer.upgrade().map(|writer| writer.reader().registry());
    let Some(definitions) = registry.and_then(|registry| definition(&registry)) else {
        return;
    };
    let (mut attempts, mut ticks) = (Attempts::default(), ticks());
    let mut watch: Option<Watch> = None;
    loop {
        let change = tokio::select! {
            change = next(&mut watch) => change,
            Some(over) = attempts.tasks.join_next() => {
                let Some(writer) = writer.upgrade() else { return };
                match over {
                    Ok(name) => attempts.over(&writer, name),
                    Err(error) => {
                        tracing::error!(%error, "emptying a definition broke off");
                        // Nobody knows which: better to try one twice at once than not at all.
                        attempts.running.clear();
                    }
                }
                continue;
            }
            _ = ticks.tick() => {
                let Some(writer) = writer.upgrade() else { return };
                let page = writer.reader().all(&definitions, None);
                let stored = page.entries.iter().filter_map(|entry| serde_json::from_slice(&entry.value).ok());
                stored.for_each(|object| attempts.begin(&writer, &object));
                if watch.is_none() {
                    watch = writer.reader().changes(&definitions, page.revision);
                }
                continue;
            }
        };
        let Some(writer) = writer.upgrade() else { return };
        match change {
            Some(Ok(change)) if !change.deleted => {
                let object = serde_json::from_slice(&change.value).unwrap_or_default();
                attempts.begin(&writer, &object);
            }
            Some(Ok(_)) => {}
            // What was missed the clock will find.
            Some(Err(StoreError::Lagged)) => watch = None,
            Some(Err(_)) | None => return,
        }
    }
}

async fn next(watch: &mut Option<Watch>) -> Option<Result<Committed, StoreError>> {
    match watch {
        Some(watch) => watch.next_change().await,
        None => std::future::pending().await,
    }
}

async fn finish(writer: &Writer, name: &str) {
    let deadline = Instant::now() + ATTEMPT_LIMIT;
    let mut pause = Duration::from_millis(5);
    while Instant::now() < deadline {
        match empty(writer, name).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(status) if status.reason == Reason::NotFound => return,
            Err(status) => tracing::warn!(crd = name, why = %status, "cannot empty definition"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

/// Deletes the objects of a definition; when none is left, the definition. True when all is done.
async fn empty(writer: &Writer, name: &str) -> Result<bool, Status> {
    let registry = writer.reader().registry();
    let definition = definition(&registry).ok_or_else(Status::no_such_resource)?;
    let crd = writer.reader().object(&definition, None, name)?;
    if !crd["metadata"]["deletionTimestamp"].is_string() {
        return Ok(true);
    }
    let (group, plural) = (
        crd["spec"]["group"].as_str().unwrap_or_default(),
        crd["spec"]["names"]["plural"].as_str().unwrap_or_default(),
    );
    // In the version in which they are stored nobody has to convert them.
    let versions = || registry.all().filter(|r| r.group == group && r.plural == plural);
    let stored = versions().find(|r| r.version == r.storage_version);
    if let Some(resource) = stored.or_else(|| versions().next()) {
        for entry in writer.reader().all(resource, None).entries {
            let object = view::parse(resource, &entry.value)?;
            let namespace = resource.namespaced.then(|| view::meta(&object, "namespace"));
            match writer
                .remove(
                    resource,
                    namespace,
                    view::meta(&object, "name"),
                    &DeleteOptions::default(),
                    None,
                )
                .await
            {
                Err(status) if status.reason != Reason::NotFound => return Err(status),
                _ => {}
            }
        }
        if !writer.reader().all(resource, None).entries.is_empty() {
            return Ok(false);
        }
    }
    writer
        .modify(&definition, None, name, false, |current| {
            let mut new = current.clone();
            let left: Vec<String> = view::finalizers(current)
                .iter()
                .filter(|f| *f != CLEANUP)
                .map(ToString::to_string)
                .collect();
            view::metadata(&mut new).insert("finalizers".into(), left.into());
            Ok(if finished(&definition, &new) {
                Change::Remove(new)
            } else {
                Change::Put(new)
            })
        })
        .await?;
    Ok(true)
}
