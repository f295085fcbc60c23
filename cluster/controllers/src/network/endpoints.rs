//! Services with a selector get Endpoints, as older programs read them: the addresses of their pods, ready or not. The object of a
//! Service that was deleted goes with it.

mod plan;
mod trigger;

use std::sync::Arc;
use std::time::Duration;

use afloat_watching::{Queue, Urgency};

use crate::Error;
use crate::context::Context;
use crate::loops::events::Tone;
use crate::network::view::{Pod as PodView, ServiceView};
use crate::objects::service::LEADER;
use crate::objects::{Endpoints, Index, Key, annotation};

use plan::{Seen, Step};
use trigger::Triggers;

/// Services that are looked at at a time.
const WIDTH: usize = 8;
/// Changes to the pods of a Service are collected for so long for each address that it has, as all are written for each change
/// (Kubernetes' `--endpoint-updates-batch-period` is one time for all). Proxies read slices, which wait for nothing.
const COLLECT: Duration = Duration::from_micros(200);
/// Services with fewer addresses than this are written at once.
const FEW: usize = 50;

/// Keeps the Endpoints of all Services until shutdown.
pub(crate) async fn run_endpoints(context: Context) -> Result<(), Error> {
    let caches = &context.caches;
    let queue: Arc<Queue> = Arc::default();
    caches.pods.ready().await;
    caches.services.ready().await;
    caches.endpoints.ready().await;
    queue.follow(&caches.services, |service| Some(Key::of(&service.metadata)));
    let services = caches.services.clone();
    queue.follow(&caches.pods, move |pod| {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let here = services.peek_group(&Index::Namespace(namespace.into()));
        let selecting = here.into_iter().filter(|service| service.selects(&pod.metadata));
        selecting
            .map(|service| Key::of(&service.metadata))
            .collect::<Vec<Key>>()
    });
    let services = caches.services.clone();
    queue.follow(&caches.endpoints, move |endpoints| {
        let key = Key::of(&endpoints.metadata);
        services
            .peek(&key)
            .filter(|service| service.has_selector())
            .map(|_| key)
    });
    // Those whose Service went while nobody looked.
    for endpoints in caches.endpoints.peek_all() {
        if annotation(&endpoints.metadata, LEADER).is_none() {
            queue.add(Key::of(&endpoints.metadata), Urgency::Calm);
        }
    }
    let triggers = Triggers::default();
    context
        .work_off(&queue, WIDTH, |key| take_turn(&context, &triggers, key))
        .await;
    Ok(())
}

async fn take_turn(context: &Context, triggers: &Triggers, key: Key) -> Result<Option<Duration>, Error> {
    let (caches, shell) = (&context.caches, &context.shell);
    let addresses = caches.endpoints.peek(&key).map_or(0, |endpoints| endpoints.count());
    if addresses >= FEW {
        tokio::time::sleep(COLLECT * u32::try_from(addresses).unwrap_or(u32::MAX)).await;
    }
    let looking = shell.settle(&key).await?;
    let service = looking.at(&caches.services).get(&key);
    let current = looking.at(&caches.endpoints).get(&key);
    let Some(service) = service else {
        triggers.forget(&key);
        if let Some(current) = current {
            let meta = current.metadata.clone();
            shell.delete(&looking.write(), &caches.endpoints, &meta, None).await?;
        }
        return Ok(None);
    };
    let Some(view) = ServiceView::new(&service.metadata, &service.spec) else {
        return Ok(None);
    };
    let here = looking.at(&caches.pods).group(&Index::Namespace(key.namespace.clone()));
    let selected = || here.iter().filter(|pod| service.selects(&pod.metadata));
    let pods: Vec<PodView> = selected().map(|pod| PodView::from(&**pod)).collect();
    let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let changed_at = triggers.update(
        &key,
        created,
        selected().map(|pod| (pod.name(), pod.ready_changed_at())),
    );
    let seen = Seen {
        service: &view,
        pods: &pods,
        current: current.as_deref(),
        changed_at,
    };
    let step = plan::plan(&seen);
    let (meta, writing) = (service.metadata.clone(), looking.write());
    let (reason, written) = match step {
        Step::Nothing => return Ok(None),
        Step::Create(object) => (
            "FailedToCreateEndpoint",
            shell.create::<Endpoints>(&writing, &caches.endpoints, object).await,
        ),
        Step::Replace(object) => (
            "FailedToUpdateEndpoint",
            shell.update::<Endpoints>(&writing, &caches.endpoints, object).await,
        ),
    };
    match written {
        Ok(_) => Ok(None),
        Err(error) if error.is_end_of_namespace() => Ok(None),
        Err(error) => {
            if !error.is_conflict() {
                let message = format!("Failed to write endpoints of service {key}: {}", error.told());
                shell.event::<Endpoints>(&meta, Tone::Warning, reason, message);
            }
            Err(error)
        }
    }
}
