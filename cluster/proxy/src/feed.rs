//! What the proxy sees: Services and EndpointSlices, in order, each change stamped with the time when it is due.
//!
//! The queue between watching and applying is where a slow proxy is played: a change waits in it for the lag. It is
//! bounded; when it is full, the watches wait.

use std::pin::pin;

use afloat_watching::feed::{Pauses, Seen as Watched, follow};
use afloat_words::key::Key;
use futures::StreamExt;
use futures::stream::select;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::Config;
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::convert;
use crate::lag::Lag;
use crate::table::Change;

/// Changes that wait for their time.
pub(crate) const QUEUE_LENGTH: usize = 8192;

/// A change and when it is to be applied.
pub(crate) type Seen = (Instant, Change);

/// Watches both kinds until nobody listens any more; a broken watch begins anew after a pause. A proxy that does not see is a
/// proxy that loses connections, so the pauses are short. A listing is one change, applied as a whole.
pub(crate) async fn watch_services(client: &Client, queue: &mpsc::Sender<Seen>, lag: &Lag) {
    let read = |object: Service| {
        let service = convert::is_ours(&object).then(|| convert::service(&object));
        (Key::of(&object.metadata), service)
    };
    let services = follow(Api::all(client.clone()), Config::default(), Pauses::Quick, read).map(|seen| match seen {
        Watched::Listed(all) => Change::Services(all.into_iter().filter_map(|(key, s)| Some((key, s?))).collect()),
        Watched::Changed((key, service)) => Change::Service(key, service),
        Watched::Gone((key, _)) => Change::Service(key, None),
    });
    let read = |object: EndpointSlice| {
        let id = Key::of(&object.metadata);
        (id, convert::slice(&object))
    };
    let slices = follow(Api::all(client.clone()), Config::default(), Pauses::Quick, read).map(|seen| match seen {
        Watched::Listed(all) => Change::Slices(all.into_iter().filter_map(|(id, slice)| Some((id, slice?))).collect()),
        Watched::Changed((id, slice)) => Change::Slice(id, slice),
        Watched::Gone((id, _)) => Change::Slice(id, None),
    });
    let mut changes = pin!(select(services, slices));
    while let Some(change) = changes.next().await {
        if queue.send((Instant::now() + lag.next(), change)).await.is_err() {
            return;
        }
    }
}
