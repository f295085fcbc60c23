//! Claims of generic ephemeral volumes: made with their pod, and gone with it (KEP-1698).

use std::sync::Arc;
use std::time::Duration;

use afloat_watching::Queue;
use serde_json::{Value, json};

use crate::Error;
use crate::context::Context;
use crate::loops::answer::is_status;
use crate::objects::{Key, Pod};

/// Runs the loop until shutdown.
pub(crate) async fn run_ephemeral_volumes(context: Context) -> Result<(), Error> {
    let caches = &context.caches;
    caches.pods.ready().await;
    caches.claims.ready().await;
    let queue = Arc::new(Queue::default());
    queue.follow(&caches.pods, |pod| {
        let ephemeral = pod.spec.claims.iter().any(|claim| claim.ephemeral);
        ephemeral.then(|| Key::of(&pod.metadata))
    });
    context.work_off(&queue, 4, |key| sync_pod(&context, key)).await;
    Ok(())
}

async fn sync_pod(context: &Context, key: Key) -> Result<Option<Duration>, Error> {
    let caches = &context.caches;
    let looking = context.shell.settle(&key).await?;
    let Some(pod) = looking.at(&caches.pods).get(&key).filter(|pod| pod.is_active()) else {
        return Ok(None);
    };
    let claims = looking.at(&caches.claims);
    let exists = |name: &str| claims.get(&Key::new(key.namespace.clone(), name)).is_some();
    if pod
        .spec
        .claims
        .iter()
        .all(|claim| !claim.ephemeral || exists(&claim.name))
    {
        return Ok(None);
    }
    let writing = looking.write();
    // The cache does not keep the templates.
    let Some(full) = context.shell.api::<Pod>(&key.namespace).get_opt(&key.name).await? else {
        return Ok(None);
    };
    let volumes = full
        .data
        .pointer("/spec/volumes")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    for volume in volumes {
        let Some(template) = volume.pointer("/ephemeral/volumeClaimTemplate") else {
            continue;
        };
        let name = format!("{}-{}", key.name, volume["name"].as_str().unwrap_or_default());
        let mut object = template.clone();
        object["metadata"]["name"] = json!(name);
        object["metadata"]["namespace"] = json!(&*key.namespace);
        object["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Pod", "name": &*key.name,
            "uid": full.metadata.uid, "controller": true, "blockOwnerDeletion": true}]);
        match context.shell.create(&writing, &caches.claims, object).await {
            Err(Error::Api(error)) if is_status(&error, 409) => {}
            created => drop(created?),
        }
    }
    Ok(None)
}
