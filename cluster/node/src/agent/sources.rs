//! How workers hear that what their pods' volumes show has changed.
//!
//! A node may read only what its pods refer to, one object at a time: so each has a watch of its own, as with the kubelet.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use afloat_watching::cache::Wire;
use afloat_watching::feed::{Pauses, follow};
use afloat_words::key::Key;
use futures::FutureExt as _;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::watcher;
use tokio_util::task::AbortOnDropHandle;

use crate::context::Context;
use crate::pod::spec;
use crate::volume::{self, References};

/// Pods come in numbers: after one has come or gone, the next are waited for so long.
const GATHER: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    ConfigMap,
    Secret,
}

impl Kind {
    fn of(self, references: &References) -> &BTreeSet<String> {
        match self {
            Self::ConfigMap => &references.config_maps,
            Self::Secret => &references.secrets,
        }
    }
}

/// Tells workers that a ConfigMap or Secret of their pods' volumes has changed.
pub(super) async fn watch_sources(context: &Arc<Context>) {
    let mut watches: BTreeMap<(Kind, Key), AbortOnDropHandle<()>> = BTreeMap::new();
    loop {
        let wanted = wanted(context);
        watches.retain(|source, _| wanted.contains(source));
        for source in wanted {
            watches.entry(source).or_insert_with_key(|(kind, key)| {
                let (context, key) = (context.clone(), key.clone());
                AbortOnDropHandle::new(match kind {
                    Kind::ConfigMap => tokio::spawn(watch::<ConfigMap>(context, Kind::ConfigMap, key).boxed()),
                    Kind::Secret => tokio::spawn(watch::<Secret>(context, Kind::Secret, key).boxed()),
                })
            });
        }
        context.other_pods().await;
        tokio::time::sleep(GATHER).await;
    }
}

/// What the volumes of all pods refer to.
fn wanted(context: &Context) -> BTreeSet<(Kind, Key)> {
    let mut all = BTreeSet::new();
    for pod in context.pods() {
        let references = volume::volume_references(&pod);
        for kind in [Kind::ConfigMap, Kind::Secret] {
            let names = kind.of(&references).iter();
            all.extend(names.map(|name| (kind, Key::new(spec::namespace(&pod), name.as_str()))));
        }
    }
    all
}

/// That it has changed is enough: contents are fetched by those who show them.
async fn watch<K>(context: Arc<Context>, kind: Kind, key: Key)
where
    PartialObjectMeta<K>: Wire + kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let api: Api<PartialObjectMeta<K>> = Api::namespaced(context.client.clone(), &key.namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={}", key.name));
    let mut seen = pin!(follow(api, config, Pauses::Patient, drop));
    while seen.next().await.is_some() {
        tell(&context, &key, kind);
    }
}

fn tell(context: &Context, key: &Key, kind: Kind) {
    for pod in context.pods() {
        if spec::namespace(&pod) == &*key.namespace
            && kind.of(&volume::volume_references(&pod)).contains(&*key.name)
            && let Some(mailbox) = context.mailbox(spec::uid(&pod))
        {
            mailbox.put(|news| news.sources_changed = true);
        }
    }
}
