//! The garbage collector: what is owned goes when its owners are gone.
//!
//! It watches the metadata of every kind that can be deleted, keeps the [`graph`] of ownership, and writes only when an owner
//! is deleted. An owner that it has not seen is asked for by name before anything is deleted for want of it.

mod graph;
mod monitor;
mod shared;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use afloat_watching::Queue;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::context::Context;
use crate::error::{Error, Unfinished};
use crate::loops::answer::is_status;
use crate::loops::shell::dynamic;

use graph::{Node, Step};
use shared::Shared;

/// Requests in flight.
const PARALLEL: usize = 32;
/// An owner that exists but is not watched yet is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Runs the collector until shutdown.
pub(crate) async fn run_garbage_collector(context: Context) -> Result<(), Error> {
    let shared = Arc::new(Shared {
        graph: Mutex::default(),
        queue: Queue::default(),
        kinds: Mutex::default(),
        kinds_changed: Notify::new(),
    });
    let stop = context.shutdown.child_token();
    // Ends the monitors also when this loop is ended by an error.
    let _guard = stop.clone().drop_guard();
    let mut monitors = monitor::Monitors::new(context.shell.client.clone(), shared.clone(), stop);
    monitors.refresh().await?;
    monitors.settle().await;
    let work = |uid: String| collect(&context, &shared, uid);
    let collecting = context.work_off(&shared.queue, PARALLEL, work);
    tokio::select! {
        () = collecting => Ok(()),
        () = monitors.follow() => Ok(()),
    }
}

async fn collect(context: &Context, shared: &Shared, uid: String) -> Result<Option<Duration>, Error> {
    let (client, uid) = (&context.shell.client, uid.as_str());
    let (mut node, mut step) = {
        let graph = shared.graph();
        let Some(node) = graph.get(uid).cloned() else {
            return Ok(None);
        };
        (node, graph.plan(uid, &HashMap::new()))
    };
    let mut again = None;
    if let Step::Verify(owners) = &step {
        let mut answers = HashMap::new();
        for owner in owners {
            let exists = exists(client, shared, &node, owner).await?;
            if exists {
                again = Some(ASK_AGAIN);
            }
            answers.insert(owner.uid.clone(), exists);
        }
        let graph = shared.graph();
        let Some(now) = graph.get(uid).cloned() else {
            return Ok(None);
        };
        step = graph.plan(uid, &answers);
        node = now;
    }
    act(client, shared, uid, &node, step).await?;
    Ok(again)
}

async fn act(client: &Client, shared: &Shared, uid: &str, node: &Node, step: Step) -> Result<(), Error> {
    match step {
        // A verified plan asks again only if the object changed meanwhile: its event brings us back.
        Step::Nothing | Step::Verify(_) => Ok(()),
        Step::Delete(policy) => {
            let params = DeleteParams {
                propagation_policy: Some(policy),
                // The resourceVersion too: its owners may have changed.
                preconditions: Some(Preconditions {
                    uid: Some(uid.to_owned()),
                    resource_version: node.revision.clone(),
                }),
                ..DeleteParams::default()
            };
            let api = dynamic(client, &node.kind.resource, &node.key.namespace);
            gone_is_fine(api.delete(&node.key.name, &params).await.map(|_| ()))
        }
        Step::KeepOwners(owners) => patch(client, uid, node, json!({"ownerReferences": owners})).await,
        Step::KeepFinalizers(finalizers) => patch(client, uid, node, json!({"finalizers": finalizers})).await,
        Step::Release { dependents, finalizers } => {
            for dependent in dependents {
                let found = shared.graph().get(&dependent).cloned();
                let Some(found) = found else { continue };
                let kept: Vec<&OwnerReference> = found.owners.iter().filter(|owner| owner.uid != uid).collect();
                patch(client, &dependent, &found, json!({"ownerReferences": kept})).await?;
            }
            patch(client, uid, node, json!({"finalizers": finalizers})).await
        }
    }
}

/// Merge-patches metadata of exactly the object and version the graph shows.
async fn patch(client: &Client, uid: &str, node: &Node, mut metadata: Value) -> Result<(), Error> {
    metadata["uid"] = json!(uid);
    metadata["resourceVersion"] = json!(node.revision);
    let api = dynamic(client, &node.kind.resource, &node.key.namespace);
    let patch = Patch::Merge(json!({"metadata": metadata}));
    gone_is_fine(
        api.patch(&node.key.name, &PatchParams::default(), &patch)
            .await
            .map(|_| ()),
    )
}

fn gone_is_fine(result: Result<(), kube::Error>) -> Result<(), Error> {
    match result {
        Err(error) if is_status(&error, 404) => Ok(()),
        other => other.map_err(Error::from),
    }
}

/// Whether the owner exists, from the API server itself.
async fn exists(client: &Client, shared: &Shared, node: &Node, owner: &OwnerReference) -> Result<bool, Error> {
    let Some(kind) = shared.kind(owner) else {
        return Err(Unfinished::KindNotServed {
            kind: owner.kind.clone(),
            name: owner.name.clone(),
        }
        .into());
    };
    let namespace = if kind.namespaced { &*node.key.namespace } else { "" };
    if kind.namespaced && namespace.is_empty() {
        // A cluster-wide object cannot be owned by a namespaced one; Kubernetes leaves such alone, too.
        return Ok(true);
    }
    let found = dynamic(client, &kind.resource, namespace)
        .get_metadata_opt(&owner.name)
        .await?;
    Ok(found.is_some_and(|found| found.metadata.uid.as_ref() == Some(&owner.uid)))
}
