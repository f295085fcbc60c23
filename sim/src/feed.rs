//! One watch on the pods of all nodes, on requests of its own: the general client would parse whole metadata, of which
//! `managedFields` alone outweighs all that is read here.

use std::time::Duration;

use futures::TryStreamExt as _;
use http::Request;
use kube::core::WatchEvent;
use kube::{Client, Resource as _};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::pod::Pod;

/// What has been seen.
#[derive(Debug)]
pub(crate) enum Seen {
    /// Everything there is.
    Listed(Vec<Pod>),
    /// New or changed.
    Applied(Box<Pod>),
    /// Gone.
    Gone(Box<Pod>),
}

/// A complete listing.
#[derive(Debug)]
pub(crate) struct Listing {
    version: String,
    pods: Vec<Pod>,
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMeta,
    items: Vec<Pod>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: String,
}

/// Shortest and longest pause before a listing is tried again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Where pods are, of all namespaces or one.
pub(crate) fn path(namespace: Option<&str>) -> String {
    k8s_openapi::api::core::v1::Pod::url_path(&(), namespace)
}

/// Lists everything.
pub(crate) async fn list(client: &Client, path: &str) -> kube::Result<Listing> {
    let mut pods = Vec::new();
    let mut next = String::new();
    loop {
        let from = if next.is_empty() {
            String::new()
        } else {
            format!("&continue={next}")
        };
        let request = get(format!("{path}?limit=500{from}"))?;
        let page: Page = client.request(request).await?;
        pods.extend(page.items);
        next = page.metadata.next;
        if next.is_empty() {
            return Ok(Listing {
                version: page.metadata.resource_version,
                pods,
            });
        }
    }
}

fn get(uri: String) -> kube::Result<Request<Vec<u8>>> {
    Request::get(uri).body(Vec::new()).map_err(kube::Error::HttpError)
}

/// Tells what changes until the shutdown, or until nobody listens.
pub(crate) async fn run(
    client: Client,
    path: String,
    first: Listing,
    feed: mpsc::Sender<Seen>,
    shutdown: CancellationToken,
) {
    let follow = async {
        let mut listing = Some(first);
        let mut pause = PAUSE.0;
        loop {
            let Some(found) = listing.take() else {
                match list(&client, &path).await {
                    Ok(found) => listing = Some(found),
                    Err(error) => {
                        tracing::warn!(%error, "cannot list pods");
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(PAUSE.1);
                    }
                }
                continue;
            };
            pause = PAUSE.0;
            if feed.send(Seen::Listed(found.pods)).await.is_err() {
                return;
            }
            let mut version = found.version;
            while follow(&client, &path, &mut version, &feed).await {}
            if feed.is_closed() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        () = follow => {}
        () = shutdown.cancelled() => {}
    }
}

/// One watch; true if another may go on where it ended.
async fn follow(client: &Client, path: &str, version: &mut String, feed: &mpsc::Sender<Seen>) -> bool {
    let uri = format!("{path}?watch=true&allowWatchBookmarks=true&timeoutSeconds=290&resourceVersion={version}");
    let Ok(request) = get(uri) else { return false };
    let mut events = match client.request_events::<Pod>(request).await {
        Ok(events) => std::pin::pin!(events),
        Err(error) => {
            tracing::debug!(%error, "cannot watch pods");
            return false;
        }
    };
    loop {
        let seen = match events.try_next().await {
            Ok(Some(WatchEvent::Added(pod) | WatchEvent::Modified(pod))) => {
                version.clone_from(&pod.metadata.resource_version);
                Seen::Applied(Box::new(pod))
            }
            Ok(Some(WatchEvent::Deleted(pod))) => {
                version.clone_from(&pod.metadata.resource_version);
                Seen::Gone(Box::new(pod))
            }
            Ok(Some(WatchEvent::Bookmark(bookmark))) => {
                version.clone_from(&bookmark.metadata.resource_version);
                continue;
            }
            Ok(None) => return true,
            Ok(Some(WatchEvent::Error(status))) => {
                tracing::debug!(message = status.message, "watch of pods ended");
                return false;
            }
            Err(error) => {
                tracing::debug!(%error, "watch of pods ended");
                return false;
            }
        };
        if feed.send(seen).await.is_err() {
            return false;
        }
    }
}
