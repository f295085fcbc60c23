//! Endpoints that somebody made by hand for a Service without a selector get EndpointSlices, because proxies and DNS read only those.
//! Source: <https://kubernetes.io/docs/concepts/services-networking/service/#endpointslices> and the EndpointSliceMirroring controller.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use afloat_watching::Queue;

use crate::Error;
use crate::context::Context;
use crate::loops::events::Tone;
use crate::objects::service::SERVICE_NAME;
use crate::objects::{EndpointSlice, Endpoints, Index, Key};

use plan::{Action, Seen};

/// Objects that are looked at at a time.
const WIDTH: usize = 4;

/// Mirrors until shutdown.
pub(crate) async fn run_mirroring(context: Context) -> Result<(), Error> {
    let caches = &context.caches;
    let queue: Arc<Queue> = Arc::default();
    caches.services.ready().await;
    caches.endpoints.ready().await;
    caches.mirrored_slices.ready().await;
    queue.follow(&caches.services, |service| Some(Key::of(&service.metadata)));
    queue.follow(&caches.endpoints, |endpoints| Some(Key::of(&endpoints.metadata)));
    queue.follow(&caches.mirrored_slices, |slice| {
        let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
        service_of(slice).map(|name| Key::new(namespace, name))
    });
    context.work_off(&queue, WIDTH, |key| take_turn(&context, key)).await;
    Ok(())
}

fn service_of(slice: &EndpointSlice) -> Option<&str> {
    slice.metadata.labels.as_ref()?.get(SERVICE_NAME).map(String::as_str)
}

async fn take_turn(context: &Context, key: Key) -> Result<Option<Duration>, Error> {
    let (caches, shell) = (&context.caches, &context.shell);
    let looking = shell.settle(&key).await?;
    let here = looking
        .at(&caches.mirrored_slices)
        .group(&Index::Namespace(key.namespace.clone()));
    let slices: Vec<Arc<EndpointSlice>> = here
        .iter()
        .filter(|slice| service_of(slice) == Some(&*key.name))
        .cloned()
        .collect();
    let endpoints = looking.at(&caches.endpoints).get(&key);
    let service = looking.at(&caches.services).get(&key);
    let plan = plan::plan(&Seen {
        endpoints: endpoints.as_deref(),
        service: service.as_deref(),
        slices: &slices,
    });
    let meta = endpoints.as_ref().map(|it| it.metadata.clone());
    let (writing, cache) = (looking.write(), &caches.mirrored_slices);
    for action in plan.actions {
        let written = match action {
            Action::Create(slice) => shell.create::<EndpointSlice>(&writing, cache, slice).await.map(drop),
            Action::Replace(slice) => shell.update::<EndpointSlice>(&writing, cache, slice).await.map(drop),
            Action::Delete(meta) => shell.delete(&writing, cache, &meta, None).await,
        };
        match written {
            Err(error) if error.is_end_of_namespace() => return Ok(None),
            written => written?,
        }
    }
    if let Some(meta) = meta {
        for (reason, message) in plan.left_out {
            shell.event::<Endpoints>(&meta, Tone::Warning, reason, message);
        }
    }
    Ok(None)
}
