//! The loop of a kind: a worker takes the name of a workload out of the queue and makes a round for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use afloat_images::Plan;
use afloat_watching::feed::Pauses;
use afloat_watching::{Looking, Queue, Urgency};
use afloat_words::key::Key;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::runtime::watcher;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::controller::Controller;
use crate::follow::scoped;
use crate::images::rollouts as images;
use crate::kind::Kind;
use crate::round::{Next, reconcile};

/// A controller, whatever its kind is.
pub(crate) trait Controls: Send + Sync {
    /// Group and version of its kind, and the kind.
    fn kind(&self) -> (&'static str, &'static str, &'static str);

    /// Follows its objects until `shutdown`.
    fn follow(&self, shutdown: CancellationToken) -> BoxFuture<'static, ()>;

    /// Waits until all its objects have been seen.
    fn ready(&self) -> BoxFuture<'_, ()>;

    /// From now on each change of them that may move what is pulled beforehand puts the key into a queue.
    fn ask_of_images(&self, queue: &Arc<Queue>, key: &Key);

    /// What their rollouts want pulled beforehand.
    fn warm(&self, looking: &Looking<'_>, now: Timestamp, plan: &mut Plan);

    /// Looks after them, `width` at a time, until `shutdown`, and then to the end of what is at work.
    fn work(self: Arc<Self>, width: usize, shutdown: CancellationToken) -> BoxFuture<'static, ()>;
}

impl<K: Kind> Controls for Controller<K> {
    fn kind(&self) -> (&'static str, &'static str, &'static str) {
        (K::GROUP, K::API_VERSION, K::KIND)
    }

    fn follow(&self, shutdown: CancellationToken) -> BoxFuture<'static, ()> {
        let api = scoped(&self.operator.client, self.operator.namespace.as_deref());
        let config = watcher::Config::default();
        self.sets.clone().feed(api, config, Pauses::Patient, shutdown).boxed()
    }

    fn ready(&self) -> BoxFuture<'_, ()> {
        let all = async {
            self.sets.ready().await;
            if K::FOLLOWS_NODES.is_some() {
                // Who places pods by the nodes must not take one that it has not seen for gone.
                self.operator.nodes.ready().await;
            }
        };
        all.boxed()
    }

    fn ask_of_images(&self, queue: &Arc<Queue>, key: &Key) {
        images::ask(&self.sets, queue, key);
    }

    fn warm(&self, looking: &Looking<'_>, now: Timestamp, plan: &mut Plan) {
        images::warm_all(&self.operator, &looking.at(&self.sets).all(), (looking, now), plan);
    }

    fn work(self: Arc<Self>, width: usize, shutdown: CancellationToken) -> BoxFuture<'static, ()> {
        let all = async move {
            for set in self.sets.peek_all() {
                self.queue.add(Key::of(set.metadata()), Urgency::Calm);
            }
            let mut workers = JoinSet::new();
            for _ in 0..width.max(1) {
                workers.spawn(work(self.clone(), shutdown.clone()).boxed());
            }
            // One that ends before its time tells the operator to stop; those that are asked to stop end their writes.
            workers.join_next().await;
            while shutdown.is_cancelled() && workers.join_next().await.is_some() {}
        };
        all.boxed()
    }
}

async fn work<K: Kind>(controller: Arc<Controller<K>>, shutdown: CancellationToken) {
    let (queue, metrics) = (&controller.queue, &controller.operator.metrics);
    loop {
        let key = tokio::select! {
            key = queue.take() => key,
            () = shutdown.cancelled() => return,
        };
        let started = Instant::now();
        let span = tracing::debug_span!("reconcile", kind = K::KIND, %key);
        let (outcome, planning) = reconcile(&*controller, &key).instrument(span).await;
        let rest = planning.saturating_mul(REST).min(REST_MAX);
        metrics.reconciled(started.elapsed(), matches!(outcome, Next::Retry));
        metrics.queued(K::KIND, queue.waiting());
        match outcome {
            Next::Wait => queue.done(&key, None, rest),
            Next::At(delay) => queue.done(&key, Some(delay), rest),
            Next::Retry => queue.retry(&key),
        }
    }
}

/// A workload rests that many times as long as its planning took: the cost of planning grows with its pods, and so do the
/// changes, but not their product. What comes first after a rest is looked at at once.
const REST: u32 = 16;
/// Longest rest: it is added to each of the steps of a pod, of which the shortest take that long themselves.
const REST_MAX: Duration = Duration::from_millis(200);
