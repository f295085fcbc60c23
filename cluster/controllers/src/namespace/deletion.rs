//! A namespace that is being deleted loses all its objects, and then its last finalizer.

use std::sync::Arc;
use std::time::Duration;

use afloat_watching::Queue;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Event;
use kube::api::{DeleteParams, DynamicObject, ListParams, PartialObjectMeta, PropagationPolicy};
use kube::{Api, api::ApiResource};
use serde_json::{Value, json};

use crate::Error;
use crate::context::Context;
use crate::loops::answer::is_status;
use crate::loops::discovery::{Discovered, discover};
use crate::loops::shell::dynamic;
use crate::objects::{Key, Namespace};

/// Kinds emptied at a time.
const PARALLEL: usize = 8;
/// When to look again.
const AT_ONCE: Duration = Duration::from_millis(20);
const LATER: Duration = Duration::from_millis(500);
/// The finalizer that stands for this loop.
const FINALIZER: &str = "kubernetes";

/// What to do with a namespace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// It lives, or others hold it.
    Leave,
    /// Delete its objects.
    Empty,
    /// Nothing is left in it: let it go.
    Finalize,
}

/// Decides; `left` is the number of objects still in it, if they have been counted.
pub(crate) fn plan(namespace: &Namespace, left: Option<usize>) -> Plan {
    let ours = namespace.spec.finalizers.iter().any(|finalizer| finalizer == FINALIZER);
    match (namespace.metadata.deletion_timestamp.is_some() && ours, left) {
        (false, _) => Plan::Leave,
        (true, Some(0)) => Plan::Finalize,
        (true, _) => Plan::Empty,
    }
}

/// Runs the loop until shutdown.
pub(crate) async fn run_namespace_deletion(context: Context) -> Result<(), Error> {
    let queue = Arc::new(Queue::default());
    context.caches.namespaces.ready().await;
    queue.follow(&context.caches.namespaces, |namespace| {
        namespace
            .metadata
            .deletion_timestamp
            .is_some()
            .then(|| Key::of(&namespace.metadata))
    });
    context.work_off(&queue, 4, |key| sync_namespace(&context, key)).await;
    Ok(())
}

async fn sync_namespace(context: &Context, key: Key) -> Result<Option<Duration>, Error> {
    let caches = &context.caches;
    let looking = context.shell.settle(&key).await?;
    let Some(namespace) = looking.at(&caches.namespaces).get(&key) else {
        return Ok(None);
    };
    if plan(&namespace, None) == Plan::Leave {
        return Ok(None);
    }
    let left = empty(context, &key.name).await?;
    match plan(&namespace, Some(left.objects)) {
        Plan::Finalize => {
            forget_events(context, &key.name).await?;
            finalize(context, &namespace).await.map(|()| None)
        }
        // Most objects are gone at once; pods end within their grace period, finalizers when their owners act.
        Plan::Empty => Ok(Some(if left.deleted { AT_ONCE } else { LATER })),
        Plan::Leave => Ok(None),
    }
}

/// What a pass found.
#[derive(Clone, Copy, Default)]
struct Left {
    objects: usize,
    /// Whether some of them were deleted just now.
    deleted: bool,
}

/// Deletes everything in the namespace; returns what was there.
async fn empty(context: &Context, namespace: &str) -> Result<Left, Error> {
    let kinds = discover(&context.shell.client).await?;
    let work = kinds
        .into_iter()
        .filter(|kind| kind.namespaced)
        .map(|kind| empty_kind(context, namespace, kind));
    let mut results = futures::stream::iter(work).buffer_unordered(PARALLEL);
    let (mut left, mut outcome) = (Left::default(), Ok(()));
    while let Some(result) = results.next().await {
        match result {
            Ok(more) => {
                left = Left {
                    objects: left.objects + more.objects,
                    deleted: left.deleted || more.deleted,
                }
            }
            Err(error) => outcome = Err(error),
        }
    }
    outcome.map(|()| left)
}

async fn empty_kind(context: &Context, namespace: &str, kind: Discovered) -> Result<Left, Error> {
    let api = metadata(context, &kind.resource, namespace);
    let (objects, deleted) = match api.list(&ListParams::default().limit(500)).await {
        Ok(found) => {
            let staying = |object: &PartialObjectMeta<_>| object.metadata.deletion_timestamp.is_none();
            (found.items.len(), found.items.iter().any(staying))
        }
        // The kind itself went away meanwhile.
        Err(error) if is_status(&error, 404) => return Ok(Left::default()),
        // There is at least one, whose metadata cannot be read. To be deleted it need not be.
        Err(kube::Error::SerdeError(_)) => (1, true),
        Err(error) => return Err(error.into()),
    };
    if deleted {
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        let api = dynamic(&context.shell.client, &kind.resource, namespace);
        match api.delete_collection(&params, &ListParams::default()).await {
            // They are deleted; what they were cannot be read.
            Ok(_) | Err(kube::Error::SerdeError(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Left { objects, deleted })
}

/// Events go last, in one request: there may be more of them than of all else, and nothing waits for them.
async fn forget_events(context: &Context, namespace: &str) -> Result<(), Error> {
    let events = context.shell.api::<Event>(namespace);
    events
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await?;
    Ok(())
}

fn metadata(context: &Context, resource: &ApiResource, namespace: &str) -> Api<PartialObjectMeta<DynamicObject>> {
    Api::namespaced_with(context.shell.client.clone(), namespace, resource)
}

async fn finalize(context: &Context, namespace: &Namespace) -> Result<(), Error> {
    let name = namespace.metadata.name.clone().unwrap_or_default();
    let rest: Vec<&String> = namespace
        .spec
        .finalizers
        .iter()
        .filter(|finalizer| *finalizer != FINALIZER)
        .collect();
    let object = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "uid": namespace.metadata.uid, "resourceVersion": namespace.metadata.resource_version},
        "spec": {"finalizers": rest},
    });
    let request = kube::core::Request::new(<Namespace as kube::Resource>::url_path(&(), None));
    let params = kube::api::PostParams::default();
    let request = request
        .replace_subresource("finalize", &name, &params, serde_json::to_vec(&object)?)
        .map_err(kube::Error::BuildRequest)?;
    match context.shell.client.request::<Value>(request).await {
        Ok(_) => Ok(()),
        Err(error) if is_status(&error, 404) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_dying_namespace_is_emptied_and_only_an_empty_one_let_go() {
        let mut namespace = Namespace::default();
        namespace.spec.finalizers = vec![FINALIZER.into()];
        assert_eq!(plan(&namespace, Some(0)), Plan::Leave);
        namespace.metadata.deletion_timestamp = Some(crate::objects::time::whole_seconds(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(plan(&namespace, None), Plan::Empty);
        assert_eq!(plan(&namespace, Some(3)), Plan::Empty);
        assert_eq!(plan(&namespace, Some(0)), Plan::Finalize);
        namespace.spec.finalizers = vec!["other".into()];
        assert_eq!(plan(&namespace, Some(0)), Plan::Leave);
    }
}
