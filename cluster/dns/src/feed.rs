//! Follows Services, EndpointSlices and Namespaces, and keeps the zone up to date.

use afloat_watching::feed::{Pauses, Seen, follow};
use afloat_words::key::Key;
use futures::StreamExt;
use futures::stream::select;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::Config;
use kube::{Api, Client, ResourceExt};

use crate::view;
use crate::zone::Change;

/// Follows all three kinds, until never; a broken watch begins anew after a short pause. A listing is one change, applied as a
/// whole.
pub(crate) async fn watch_names(client: &Client, see: &(impl Fn(Change) + Sync)) {
    let read = |object: Service| (Key::of(&object.metadata), view::service(&object));
    let services = follow(Api::all(client.clone()), Config::default(), Pauses::Quick, read).map(|seen| match seen {
        Seen::Listed(all) => Change::Services(all.into_iter().filter_map(|(key, s)| Some((key, s?))).collect()),
        Seen::Changed((key, service)) => Change::Service(key, service),
        Seen::Gone((key, _)) => Change::Service(key, None),
    });
    let read = |object: EndpointSlice| (Key::of(&object.metadata), view::slice(&object));
    let slices = follow(Api::all(client.clone()), Config::default(), Pauses::Quick, read).map(|seen| match seen {
        Seen::Listed(all) => Change::Slices(all.into_iter().filter_map(|(key, slice)| Some((key, slice?))).collect()),
        Seen::Changed((key, slice)) => Change::Slice(key, slice),
        Seen::Gone((key, _)) => Change::Slice(key, None),
    });
    let read = |object: Namespace| object.name_any();
    let namespaces = follow(Api::all(client.clone()), Config::default(), Pauses::Quick, read).map(|seen| match seen {
        Seen::Listed(names) => Change::Namespaces(names.into_iter().collect()),
        Seen::Changed(name) => Change::Namespace(name, true),
        Seen::Gone(name) => Change::Namespace(name, false),
    });
    let changes = select(select(services, slices), namespaces);
    changes
        .for_each(|change| {
            see(change);
            std::future::ready(())
        })
        .await;
}
