//! How workers hear that what their pods' volumes show has changed.

use std::collections::BTreeSet;
use std::pin::pin;

use afloat_watching::cache::Wire;
use afloat_watching::feed::{Pauses, Seen, follow};
use afloat_words::key::Key;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Resource as _};

use crate::context::Context;
use crate::pod::spec;
use crate::volume::{self, References};

/// Tells workers that a ConfigMap or Secret of their pods' volumes has changed.
pub(super) async fn watch_sources(context: &Context) {
    tokio::join!(
        tell_all(context, names::<ConfigMap>(context), |references| &references
            .config_maps),
        tell_all(context, names::<Secret>(context), |references| &references.secrets),
    );
}

/// Names are enough: contents are fetched by those who show them.
fn names<K>(context: &Context) -> impl Stream<Item = Seen<Key>>
where
    PartialObjectMeta<K>: Wire,
{
    let api: Api<PartialObjectMeta<K>> = Api::all(context.client.clone());
    follow(api, watcher::Config::default(), Pauses::Patient, |object| {
        Key::of(object.meta())
    })
}

async fn tell_all(context: &Context, names: impl Stream<Item = Seen<Key>>, of: fn(&References) -> &BTreeSet<String>) {
    let mut names = pin!(names);
    while let Some(seen) = names.next().await {
        match seen {
            Seen::Listed(all) => all.iter().for_each(|key| tell(context, key, of)),
            Seen::Changed(key) | Seen::Gone(key) => tell(context, &key, of),
        }
    }
}

fn tell(context: &Context, key: &Key, of: fn(&References) -> &BTreeSet<String>) {
    for pod in context.pods() {
        if spec::namespace(&pod) == &*key.namespace
            && of(&volume::volume_references(&pod)).contains(&*key.name)
            && let Some(mailbox) = context.mailbox(spec::uid(&pod))
        {
            mailbox.put(|news| news.sources_changed = true);
        }
    }
}
