//! What keeps pods running: ReplicaSets and ReplicationControllers, Deployments, StatefulSets, DaemonSets, Jobs, CronJobs, and the budgets that protect them.
//!
//! Their loops have one shape, [`Workload`]: observe from the caches, plan, act through the shell, write the status. A loop's
//! file says what it watches, which objects a change concerns, and its plan, which is pure.

pub(crate) mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
mod history;
pub(crate) mod job;
mod ownership;
mod pod_control;
mod replicaset;
mod statefulset;
mod template;

use std::sync::Arc;
use std::time::Duration;

use afloat_watching::cache::Group;
use afloat_watching::{Cache, Looking, Queue, View, Writing};
use jiff::Timestamp;
use kube::api::ObjectMeta;
use serde_json::Value;

use crate::Error;
use crate::context::{Caches, Context};
use crate::loops::events::Tone;
use crate::objects::time::until;
use crate::objects::{Index, Key, Kind, uid_of};

/// What to do next about one object.
#[derive(Default)]
pub(crate) struct Plan<Steps, Status> {
    pub(crate) steps: Steps,
    /// Set if it differs from what the object says.
    pub(crate) status: Option<Status>,
    /// When to look again although nothing happens.
    pub(crate) wake_at: Option<Timestamp>,
}

/// The plan of a kind's loop.
pub(crate) type PlanOf<K> = Plan<<K as Workload>::Steps, <K as Workload>::Status>;

/// What came of a look at one object; none if it is left alone.
pub(crate) type Decision<K> = Result<Option<PlanOf<K>>, Error>;

/// A kind whose objects are made true by plan after plan.
pub(crate) trait Workload: Kind {
    /// What a plan does before it writes the status.
    type Steps: Send + Sync;
    type Status: Send + Sync;
    /// Objects that are looked at at a time.
    const WIDTH: usize = 8;

    /// The cache of its objects.
    fn cache(caches: &Caches) -> &Arc<Cache<Self>>;

    /// Waits for the other caches that it reads, and has the queue follow them: which objects does a change concern?
    fn watch(caches: &Caches, queue: &Arc<Queue>) -> impl Future<Output = ()> + Send;

    /// Observes and plans. None: the object is left alone.
    fn decide(look: &Look<'_, Self>) -> impl Future<Output = Decision<Self>> + Send;

    /// Carries the steps out.
    fn act(turn: &mut Turn<'_, Self>, steps: &Self::Steps) -> impl Future<Output = Result<(), Error>> + Send;

    /// The status to write although not all steps could be done; by default none before they are.
    fn status_after_failure(
        &self,
        planned: Option<Self::Status>,
        error: &Error,
        now: Timestamp,
    ) -> Option<Self::Status> {
        let _ = (planned, error, now);
        None
    }

    /// Merge patch that makes the status this one.
    fn status_patch(&self, status: &Self::Status) -> Value;

    /// What remains to be done at the end. `told`: the status was written.
    fn finish(
        turn: &Turn<'_, Self>,
        plan: &PlanOf<Self>,
        told: bool,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        let _ = (turn, plan, told);
        std::future::ready(Ok(()))
    }
}

/// The first half of a turn: nothing is written before all is seen and decided.
pub(crate) struct Look<'a, K> {
    pub(crate) context: &'a Context,
    pub(crate) key: &'a Key,
    pub(crate) object: Arc<K>,
    pub(crate) now: Timestamp,
    pub(crate) looking: Looking<'a>,
}

/// The second half: what was decided is done.
pub(crate) struct Turn<'a, K> {
    pub(crate) context: &'a Context,
    pub(crate) key: &'a Key,
    pub(crate) object: Arc<K>,
    /// The object's metadata, as of what this turn has written to it.
    pub(crate) meta: ObjectMeta,
    pub(crate) writing: Writing<'a>,
}

/// Runs the loop of one kind until shutdown.
pub(crate) async fn run_workload<K: Workload>(context: Context) -> Result<(), Error> {
    let queue = Arc::new(Queue::default());
    let objects = K::cache(&context.caches);
    objects.ready().await;
    K::watch(&context.caches, &queue).await;
    queue.follow(objects, |object| Some(Key::of(object.meta())));
    let work = |key| take_turn::<K>(&context, key);
    context.work_off(&queue, K::WIDTH, work).await;
    Ok(())
}

async fn take_turn<K: Workload>(context: &Context, key: Key) -> Result<Option<Duration>, Error> {
    let looking = context.shell.settle(&key).await?;
    let Some(object) = looking.at(K::cache(&context.caches)).get(&key) else {
        return Ok(None);
    };
    let object = object.to_tell();
    let now = Timestamp::now();
    let look = Look {
        context,
        key: &key,
        object,
        now,
        looking,
    };
    let Some(mut plan) = K::decide(&look).await? else {
        return Ok(None);
    };
    let mut turn = Turn {
        context,
        key: &key,
        meta: look.object.meta().clone(),
        object: look.object,
        writing: look.looking.write(),
    };
    let acted = K::act(&mut turn, &plan.steps).await;
    if let Err(error) = &acted {
        plan.status = turn.object.status_after_failure(plan.status.take(), error, now);
    }
    let told = turn.write_status(plan.status.as_ref()).await?;
    acted?;
    K::finish(&turn, &plan, told).await?;
    Ok(plan.wake_at.map(|at| until(at, now)))
}

impl<K: Kind> Look<'_, K> {
    /// What a cache shows.
    pub(crate) fn at<'l, D: Kind>(&'l self, cache: &'l Cache<D>) -> View<'l, D> {
        self.looking.at(cache)
    }

    /// What the object controls.
    pub(crate) fn owned<'l, D: Kind>(&'l self, cache: &'l Cache<D>) -> Group<'l, D> {
        self.at(cache).group(&self.owner())
    }

    /// What the object controls, and what nobody controls in its namespace.
    pub(crate) fn owned_and_orphans<'l, D: Kind>(&'l self, cache: &'l Cache<D>) -> Group<'l, D> {
        let orphans = Index::Orphan(self.key.namespace.clone());
        self.at(cache).groups(&[self.owner(), orphans])
    }

    fn owner(&self) -> Index {
        Index::Owner(uid_of(self.object.meta()).into())
    }
}

impl<K: Workload> Turn<'_, K> {
    /// Tells users about the object.
    pub(crate) fn event(&self, tone: Tone, reason: &'static str, message: String) {
        self.context.shell.event::<K>(&self.meta, tone, reason, message);
    }

    /// Whether it was written.
    async fn write_status(&self, status: Option<&K::Status>) -> Result<bool, Error> {
        let Some(status) = status else {
            return Ok(false);
        };
        let (shell, cache) = (&self.context.shell, K::cache(&self.context.caches));
        let patch = self.object.status_patch(status);
        match shell
            .patch(&self.writing, cache, &self.meta, Some("status"), patch)
            .await
        {
            // Changed or gone meanwhile: the change itself brings us back.
            Err(error) if error.is_conflict() => Ok(false),
            other => other.map(|_| true),
        }
    }
}
