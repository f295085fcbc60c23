//! CronJobs: Jobs by a schedule.
//!
//! A Job's name says for which minute it is, so that none is made twice. What runs is found out from the Jobs that are there; the
//! status only says so, and which time was served last.

mod missed;
mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use afloat_watching::{Cache, Queue};
use jiff::Timestamp;
use serde_json::Value;

use crate::Error;
use crate::context::Caches;
use crate::loops::events::Tone;
use crate::objects::{CronJob, CronJobStatus, Key};

use super::{Decision, Look, PlanOf, Turn, Workload};
use plan::{Observed, Steps, owner_of, plan};

impl Workload for CronJob {
    type Steps = Steps;
    type Status = CronJobStatus;

    fn cache(caches: &Caches) -> &Arc<Cache<Self>> {
        &caches.cron_jobs
    }

    async fn watch(caches: &Caches, queue: &Arc<Queue>) {
        caches.jobs.ready().await;
        queue.follow(&caches.jobs, |job| {
            let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
            owner_of(job).map(|name| Key::new(namespace, name))
        });
        let (rescheduled, weak) = (caches.rescheduled.clone(), Arc::downgrade(queue));
        caches.cron_jobs.subscribe(move |change| {
            rescheduled.note(change, Timestamp::now());
            weak.upgrade().is_some()
        });
    }

    async fn decide(look: &Look<'_, Self>) -> Decision<Self> {
        let caches = &look.context.caches;
        let namespace = &*look.key.namespace;
        let seen = Observed {
            cron_job: &look.object,
            jobs: &look.owned(&caches.jobs),
            taken: &|name| look.at(&caches.jobs).get(&Key::new(namespace, name)).is_some(),
            rescheduled: caches.rescheduled.of(&look.object),
        };
        Ok(Some(plan(&seen, look.now)))
    }

    async fn act(turn: &mut Turn<'_, Self>, steps: &Steps) -> Result<(), Error> {
        let (shell, jobs) = (&turn.context.shell, &turn.context.caches.jobs);
        for job in &steps.delete {
            let name = job.metadata.name.as_deref().unwrap_or_default();
            if let Err(error) = shell.delete(&turn.writing, jobs, &job.metadata, None).await {
                turn.event(Tone::Warning, "FailedDelete", format!("Deleted job: {}", error.told()));
                return Err(error);
            }
            turn.event(Tone::Normal, "SuccessfulDelete", format!("Deleted job {name}"));
        }
        let Some(job) = &steps.create else {
            return Ok(());
        };
        match shell.create(&turn.writing, jobs, job.clone()).await {
            Ok(created) => {
                let message = format!("Created job {}", created.name.unwrap_or_default());
                turn.event(Tone::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(error) => {
                if !error.is_conflict() {
                    turn.event(
                        Tone::Warning,
                        "FailedCreate",
                        format!("Error creating job: {}", error.told()),
                    );
                }
                Err(error)
            }
        }
    }

    fn status_patch(&self, status: &CronJobStatus) -> Value {
        status.patch()
    }

    async fn finish(turn: &Turn<'_, Self>, plan: &PlanOf<Self>, told: bool) -> Result<(), Error> {
        if plan.status.is_none() || told {
            for (tone, reason, message) in &plan.steps.told {
                turn.event(*tone, reason, message.clone());
            }
        }
        Ok(())
    }
}
