//! One watch on the pods of all nodes.

use std::borrow::Cow;
use std::pin::pin;

use afloat_watching::feed::{Pauses, Seen, follow};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::runtime::watcher::Config;
use kube::{Api, Client, Resource};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::pod::Pod;

/// A pod as it is read: the general type would parse whole metadata, of which `managedFields` alone outweighs all that is
/// read here.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Pod")]
pub(crate) struct Read {
    /// What a watch needs of it.
    metadata: ObjectMeta,
    pod: Pod,
}

impl From<Pod> for Read {
    fn from(pod: Pod) -> Self {
        let metadata = ObjectMeta {
            name: Some(pod.metadata.name.clone()),
            namespace: Some(pod.metadata.namespace.clone()),
            resource_version: Some(pod.metadata.resource_version.clone()),
            ..ObjectMeta::default()
        };
        Self { metadata, pod }
    }
}

impl Resource for Read {
    type DynamicType = ();
    type Scope = <api::Pod as Resource>::Scope;

    fn kind(_: &()) -> Cow<'_, str> {
        api::Pod::kind(&())
    }

    fn group(_: &()) -> Cow<'_, str> {
        api::Pod::group(&())
    }

    fn version(_: &()) -> Cow<'_, str> {
        api::Pod::version(&())
    }

    fn plural(_: &()) -> Cow<'_, str> {
        api::Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The pods of one namespace, or of all.
pub(crate) fn pods(client: &Client, namespace: Option<&str>) -> Api<Read> {
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Whether they can be listed at all.
pub(crate) async fn try_list(pods: &Api<Read>) -> kube::Result<()> {
    pods.list(&ListParams::default().limit(1)).await.map(|_| ())
}

/// Tells what changes until the shutdown, or until nobody listens.
pub(crate) async fn watch_pods(pods: Api<Read>, feed: mpsc::Sender<Seen<Pod>>, shutdown: CancellationToken) {
    let mut all = pin!(follow(pods, Config::default(), Pauses::Quick, |read| read.pod));
    let tell = async {
        while let Some(seen) = all.next().await {
            if feed.send(seen).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = tell => {}
        () = shutdown.cancelled() => {}
    }
}
