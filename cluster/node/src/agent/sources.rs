//! How workers hear that what their pods' volumes show has changed.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::core::{ApiResource, DynamicObject, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};

use crate::context::Context;
use crate::pod::spec;
use crate::volume::{self, References};

/// Tells workers that a ConfigMap or Secret of their pods' volumes has changed.
pub(super) async fn watch_sources(context: &Context) {
    tokio::join!(
        watch_kind(context, ApiResource::erase::<ConfigMap>(&()), |references| &references
            .config_maps),
        watch_kind(context, ApiResource::erase::<Secret>(&()), |references| &references
            .secrets),
    );
}

async fn watch_kind(context: &Context, kind: ApiResource, names: fn(&References) -> &BTreeSet<String>) {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(context.client.clone(), &kind);
    // Names are enough: contents are fetched by those who show them.
    let mut events = watcher::watcher(api, watcher::Config::default())
        .default_backoff()
        .boxed();
    loop {
        match events.try_next().await {
            Ok(Some(Event::InitApply(object) | Event::Apply(object) | Event::Delete(object))) => {
                let meta = &object.metadata;
                let namespace = meta.namespace.as_deref().unwrap_or_default();
                let name = meta.name.as_deref().unwrap_or_default();
                source_changed(context, namespace, name, names);
            }
            Ok(Some(Event::Init | Event::InitDone)) => {}
            Ok(None) => return,
            Err(error) => tracing::debug!(%error, "sources of volumes not watched; trying again"),
        }
    }
}

fn source_changed(context: &Context, namespace: &str, name: &str, names: fn(&References) -> &BTreeSet<String>) {
    for pod in context.pods() {
        if spec::namespace(&pod) == namespace
            && names(&volume::volume_references(&pod)).contains(name)
            && let Some(mailbox) = context.mailbox(spec::uid(&pod))
        {
            mailbox.put(|news| news.sources_changed = true);
        }
    }
}
