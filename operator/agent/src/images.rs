//! The node's part in image pull jobs: what its NodeImage asks for is pulled, and told how far it is.
//!
//! What is pulled next is decided in `afloat-images`; here are the watch, the runtime and the writes. Nothing is kept: an agent that
//! begins anew reads what is asked for and what was told of it, and begins what has no end.

mod pull;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use afloat_api::{ImageKey, NodeImage, NodeImageStatus, PullPhase};
use afloat_images::puller::{Failure, Pulled, Puller, Start};
use afloat_watching::feed::{Pauses, Seen, follow};
use afloat_words::revision::revision_of;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt as _};
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::watcher::Config;
use serde_json::{Value, json};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::node::Node;
use crate::runtime::Progress;
use pull::REQUEST_LIMIT;

/// Pulls of one node at a time: one that is slow does not hold the others up, and a disk has enough to do with so many.
const PULLS: usize = 5;
/// How often it is told how far pulls are.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// What happens within so long is one write.
const GATHER: Duration = Duration::from_millis(20);
/// After a write that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// With nothing to do.
const IDLE: Duration = Duration::from_secs(3600);

/// Pulls what the node's NodeImage asks for, until the node's shutdown.
pub(crate) fn run(node: &Node) -> BoxFuture<'_, ()> {
    // Boxed where nothing is async: the code of a future is made where it is awaited, which would be each program that calls this.
    async move {
        let _: Option<()> = node.shutdown.run_until_cancelled(work(node)).await;
    }
    .boxed()
}

async fn work(node: &Node) {
    let api: Api<NodeImage> = Api::all(node.client.clone());
    let config = Config::default().fields(&format!("metadata.name={}", node.name));
    let mut seen = pin!(follow(api.clone(), config, Pauses::Patient, |object| object));
    let mut worker = Worker::new(node, api);
    loop {
        let pause = worker.pause();
        tokio::select! {
            event = seen.next() => match event {
                Some(event) => worker.saw(event),
                // A watch goes on for ever.
                None => return,
            },
            Some(ended) = worker.pulls.join_next(), if !worker.pulls.is_empty() => {
                // An error: it was stopped, and nobody waits for what it would have brought.
                if let Ok((image, result)) = ended {
                    worker.ended(&image, result);
                }
            }
            () = sleep(pause) => worker.look(),
        }
        worker.begin();
        worker.tell().await;
    }
}

/// A pull that is on the way.
struct Running {
    stop: AbortHandle,
    progress: Arc<Progress>,
}

struct Worker<'a> {
    node: &'a Node,
    api: Api<NodeImage>,
    /// As it is, or was written last.
    object: Option<NodeImage>,
    puller: Puller,
    pulls: JoinSet<(ImageKey, Result<Pulled, Failure>)>,
    running: BTreeMap<ImageKey, Running>,
    /// What was told last, and when that may be done again.
    not_before: Instant,
}

impl<'a> Worker<'a> {
    fn new(node: &'a Node, api: Api<NodeImage>) -> Self {
        Self {
            node,
            api,
            object: None,
            puller: Puller::new(PULLS),
            pulls: JoinSet::new(),
            running: BTreeMap::new(),
            not_before: Instant::now(),
        }
    }

    /// How long nothing has to be done, if nothing happens.
    fn pause(&self) -> Duration {
        let rest = self.puller.wake_at().map(|at| {
            let left = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
            left + Duration::from_millis(1)
        });
        let look = (!self.running.is_empty()).then_some(PROGRESS_INTERVAL);
        let write = self
            .news()
            .map(|_| self.not_before.saturating_duration_since(Instant::now()));
        let soonest = [rest, look, write].into_iter().flatten().min();
        soonest.unwrap_or(IDLE).max(Duration::from_millis(1))
    }

    fn saw(&mut self, event: Seen<NodeImage>) {
        let object = match event {
            Seen::Listed(list) => list.into_iter().next(),
            Seen::Changed(object) => Some(object),
            Seen::Gone(_) => None,
        };
        // A write was answered with a newer one.
        let known = self.object.as_ref().map_or(0, |object| revision_of(&object.metadata));
        match object {
            Some(object) if revision_of(&object.metadata) < known => {}
            other => self.take(other),
        }
    }

    fn take(&mut self, object: Option<NodeImage>) {
        self.object = object.filter(|object| object.metadata.deletion_timestamp.is_none());
        let nothing = NodeImage::default();
        let object = self.object.as_ref().unwrap_or(&nothing);
        for image in self.puller.take(&object.spec, &object.status) {
            if let Some(running) = self.running.remove(&image) {
                tracing::info!(%image, "the pull is not wanted any more");
                running.stop.abort();
            }
        }
    }

    fn ended(&mut self, image: &ImageKey, result: Result<Pulled, Failure>) {
        self.running.remove(image);
        match &result {
            Ok(pulled) => tracing::info!(%image, digest = pulled.digest, "pulled"),
            Err(failure) => tracing::warn!(%image, error = failure.message, "not pulled"),
        }
        self.puller.ended(image, result, Timestamp::now());
    }

    /// Takes down how far the pulls are.
    fn look(&mut self) {
        for (image, running) in &self.running {
            let total = running.progress.total.load(Ordering::Relaxed);
            let done = running.progress.done.load(Ordering::Relaxed);
            if let Some(percent) = done.saturating_mul(100).checked_div(total) {
                // The last percent is the runtime's unpacking.
                let percent = i32::try_from(percent).unwrap_or(100);
                self.puller.progressed(image, percent.min(99));
            }
        }
    }

    fn begin(&mut self) {
        for start in self.puller.next(Timestamp::now()) {
            let image = self
                .object
                .as_ref()
                .and_then(|object| object.spec.images.get(&start.image.name));
            let Some(spec) = image.cloned() else { continue };
            let Start { image, .. } = start.clone();
            let progress = Arc::new(Progress::default());
            let pull = pull::pull(self.node.clone(), start, spec, progress.clone());
            let key = image.clone();
            let stop = self.pulls.spawn(FutureExt::boxed(async move { (key, pull.await) }));
            self.running.insert(image, Running { stop, progress });
        }
    }

    /// What there is to tell that was not told; None: nothing.
    fn news(&self) -> Option<(&NodeImage, NodeImageStatus)> {
        let object = self.object.as_ref()?;
        let status = self.puller.status(&object.spec, &object.status, Timestamp::now());
        (status != object.status).then_some((object, status))
    }

    async fn tell(&mut self) {
        let Some((object, status)) = self.news() else { return };
        if phases(&object.status) == phases(&status) && Instant::now() < self.not_before {
            return;
        }
        sleep(GATHER).await;
        let at = (&object.metadata.resource_version, &object.metadata.uid);
        let mut change = change(&object.status, &status);
        change["metadata"] = json!({"resourceVersion": at.0, "uid": at.1});
        let (params, patch) = (PatchParams::default(), Patch::Merge(&change));
        let write = self.api.patch_status(&self.node.name, &params, &patch);
        self.not_before = Instant::now() + PROGRESS_INTERVAL;
        match timeout(REQUEST_LIMIT, write).await {
            Ok(Ok(written)) => self.take(Some(written)),
            // What is there now comes by the watch, and with it the next try.
            Ok(Err(kube::Error::Api(status))) if [404, 409].contains(&status.code) => sleep(GATHER).await,
            Ok(Err(error)) => self.failed(&error.to_string()).await,
            Err(_) => self.failed(&format!("no answer within {REQUEST_LIMIT:?}")).await,
        }
    }

    async fn failed(&self, error: &str) {
        tracing::warn!(
            node = self.node.name,
            error,
            "cannot tell how far images are, trying again"
        );
        sleep(PAUSE).await;
    }
}

/// What somebody may wait for.
fn phases(status: &NodeImageStatus) -> Vec<(&str, &str, i64, PullPhase)> {
    let tags = status.image_statuses.iter().flat_map(|(name, image)| {
        let tags = image.tags.iter();
        tags.map(move |tag| (name.as_str(), tag.tag.as_str(), tag.version, tag.phase))
    });
    tags.collect()
}

fn change(from: &NodeImageStatus, to: &NodeImageStatus) -> Value {
    let value = |status| serde_json::to_value(status).unwrap_or_default();
    let mut patch = afloat_images::difference(&value(from), &value(to)).unwrap_or_else(|| json!({}));
    // An object without a status lacks what the schema wants.
    patch["desired"] = json!(to.desired);
    json!({"status": patch})
}

#[cfg(test)]
mod tests;
