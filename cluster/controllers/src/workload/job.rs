//! Jobs: pods that run until enough of them have succeeded.
//!
//! What is decided is in [`mod@plan`] and what it stands on, all of it pure. Pods of Jobs that are gone or at their end lose their
//! finalizer in [`orphans`]; Jobs whose time after the end is over are deleted by [`finished`], which is a loop of its own.

mod backoff;
mod counting;
pub(crate) mod finished;
mod indexes;
mod observe;
mod orphans;
mod plan;
mod pod;
mod policy;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use afloat_watching::{Cache, Queue};
use futures::FutureExt;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::Error;
use crate::context::{Caches, Context};
use crate::loops::answer::is_status;
use crate::loops::events::Tone;
use crate::loops::shell::Shell;
use crate::objects::pod::JOB_TRACKING;
use crate::objects::{Job, Pod, controlled_by};

use super::ownership::concerned;
use super::pod_control::all_of;
use super::{Decision, Look, PlanOf, Turn, Workload, run_workload};
use plan::{Next, Steps, plan};
use pod::freeing;

/// Runs the loops of Jobs until shutdown.
pub(crate) async fn run_jobs(context: Context) -> Result<(), Error> {
    let orphans = orphans::run_orphans(context.clone());
    tokio::try_join!(run_workload::<Job>(context), orphans).map(|_| ())
}

impl Workload for Job {
    type Steps = Steps;
    type Status = Next;

    fn cache(caches: &Caches) -> &Arc<Cache<Self>> {
        &caches.jobs
    }

    async fn watch(caches: &Caches, queue: &Arc<Queue>) {
        caches.pods.ready().await;
        let jobs = caches.jobs.clone();
        queue.follow(&caches.pods, move |pod| concerned(pod, &jobs, |job| &job.spec.selector));
    }

    async fn decide(look: &Look<'_, Self>) -> Decision<Self> {
        let pods = look.owned_and_orphans(&look.context.caches.pods);
        plan(&look.object, &pods, look.now).map(Some)
    }

    async fn act(turn: &mut Turn<'_, Self>, steps: &Steps) -> Result<(), Error> {
        let turn = &*turn;
        if !steps.adopt.is_empty() {
            turn.context.shell.may_adopt::<Self>(&turn.meta).await?;
        }
        for pod in &steps.adopt {
            take(turn, pod).await?;
        }
        for pod in &steps.release {
            let mut patch = freeing();
            patch["metadata"]["ownerReferences"] = json!([{"$patch": "delete", "uid": turn.meta.uid}]);
            change(turn, pod, patch).await?;
        }
        all_of(
            steps
                .free
                .iter()
                .map(|pod| change(turn, pod, freeing()).boxed())
                .collect(),
        )
        .await?;
        all_of(steps.drop.iter().map(|pod| drop_pod(turn, pod).boxed()).collect()).await?;
        all_of(steps.stop.iter().map(|pod| turn.delete_pod(pod).boxed()).collect()).await?;
        let pods = steps.create.iter().map(|new| pod::pod(&turn.object, new));
        turn.create_pods(pods.collect()).await
    }

    fn status_after_failure(&self, planned: Option<Next>, _: &Error, _: Timestamp) -> Option<Next> {
        let not_done = planned?.not_done;
        (not_done != self.status).then(|| Next {
            done: not_done.clone(),
            not_done,
        })
    }

    fn status_patch(&self, next: &Next) -> Value {
        next.done.patch()
    }

    async fn finish(turn: &Turn<'_, Self>, plan: &PlanOf<Self>, told: bool) -> Result<(), Error> {
        if let Some(next) = plan.status.as_ref().filter(|_| told) {
            tell(turn, next);
        }
        Ok(())
    }
}

/// Makes a pod that nobody controls the Job's.
async fn take(turn: &Turn<'_, Job>, pod: &Pod) -> Result<(), Error> {
    let owners = json!([controlled_by::<Job>(&turn.meta)]);
    let patch = json!({"metadata": {"ownerReferences": owners, "finalizers": [JOB_TRACKING]}});
    change(turn, pod, patch).await
}

/// Deletes a pod that is not to be counted.
async fn drop_pod(turn: &Turn<'_, Job>, pod: &Pod) -> Result<(), Error> {
    if pod.is_tracked() {
        change(turn, pod, freeing()).await?;
    }
    turn.delete_pod(pod).await
}

/// Changes a pod; one that is gone is fine.
async fn change(turn: &Turn<'_, Job>, pod: &Pod, patch: Value) -> Result<(), Error> {
    let (shell, pods): (&Shell, _) = (&turn.context.shell, &turn.context.caches.pods);
    match shell
        .patch_strategic(&turn.writing, pods, &pod.metadata, None, patch)
        .await
    {
        Err(Error::Api(error)) if is_status(&error, 404) => Ok(()),
        other => other.map(drop),
    }
}

/// Tells what has become of the Job.
fn tell(turn: &Turn<'_, Job>, next: &Next) {
    let (before, status) = (&turn.object.status.conditions, &next.done);
    for condition in status.conditions.iter().filter(|condition| !before.contains(condition)) {
        match (condition.type_.as_str(), condition.status.as_str()) {
            ("Complete", _) => {
                if turn
                    .object
                    .spec
                    .completions
                    .is_some_and(|wanted| status.succeeded > wanted)
                {
                    let message = "Too many succeeded pods running after completion count reached";
                    turn.event(Tone::Warning, "TooManySucceededPods", message.to_owned());
                }
                turn.event(Tone::Normal, "Completed", "Job completed".to_owned());
            }
            ("Failed", _) => turn.event(Tone::Warning, reason(&condition.reason), condition.message.clone()),
            ("Suspended", "True") => turn.event(Tone::Normal, "Suspended", "Job suspended".to_owned()),
            ("Suspended", _) => turn.event(Tone::Normal, "Resumed", "Job resumed".to_owned()),
            _ => {}
        }
    }
}

/// The reason of a failure as events have it, one of those that a plan gives.
fn reason(reason: &str) -> &'static str {
    const KNOWN: [&str; 5] = [
        "DeadlineExceeded",
        "FailedIndexes",
        "MaxFailedIndexesExceeded",
        "PodFailurePolicy",
        "BackoffLimitExceeded",
    ];
    KNOWN.into_iter().find(|known| *known == reason).unwrap_or("Failed")
}
