//! How the agent knows the cluster's Services, of which containers are told when they are made.

use std::pin::pin;

use afloat_watching::feed::{Pauses, Seen, follow};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::runtime::watcher;

use crate::context::Context;
use crate::pod::container::links::Linked;

/// Follows all Services, for as long as the agent runs.
pub(super) async fn watch_services(context: &Context) {
    let api: Api<Service> = Api::all(context.client.clone());
    let mut seen = pin!(follow(api, watcher::Config::default(), Pauses::Patient, Linked::of));
    while let Some(seen) = seen.next().await {
        context.services.send_modify(|known| match seen {
            Seen::Listed(all) => *known = Some(all.into_iter().map(|one| (one.key.clone(), one)).collect()),
            Seen::Changed(one) => drop(known.get_or_insert_default().insert(one.key.clone(), one)),
            Seen::Gone(one) => drop(known.get_or_insert_default().remove(&one.key)),
        });
    }
}
