//! Jobs whose time after their end is over (`ttlSecondsAfterFinished`) are deleted, whoever ran them.

use std::sync::Arc;
use std::time::Duration;

use afloat_watching::Queue;
use jiff::Timestamp;
use kube::api::{Preconditions, PropagationPolicy};

use crate::Error;
use crate::context::Context;
use crate::loops::answer::is_status;
use crate::loops::shell::delete_params;
use crate::objects::time::until;
use crate::objects::{Job, Key};

use super::backoff::after;

const WIDTH: usize = 4;

/// When a Job is to be deleted; none if it has not ended, has no such time, or is being deleted.
fn due(job: &Job) -> Option<Timestamp> {
    let seconds = job.spec.ttl_seconds_after_finished?;
    let ended = job.status.finished()?.last_transition_time.as_ref()?.0;
    job.metadata.deletion_timestamp.is_none().then(|| after(ended, seconds))
}

/// Runs the loop until shutdown.
pub(crate) async fn run_ttl_after_finished(context: Context) -> Result<(), Error> {
    let jobs = &context.caches.jobs;
    jobs.ready().await;
    let queue: Arc<Queue> = Arc::default();
    queue.follow(jobs, |job| due(job).map(|_| Key::of(&job.metadata)));
    context.work_off(&queue, WIDTH, |key| expire(&context, key)).await;
    Ok(())
}

async fn expire(context: &Context, key: Key) -> Result<Option<Duration>, Error> {
    let looking = context.shell.settle(&key).await?;
    let job = looking.at(&context.caches.jobs).get(&key).map(|job| job.to_tell());
    let Some((job, due)) = job.and_then(|job| due(&job).map(|due| (job, due))) else {
        return Ok(None);
    };
    let now = Timestamp::now();
    if due > now {
        return Ok(Some(until(due, now)));
    }
    // The time may have been prolonged meanwhile: only what was looked at goes.
    let mut params = delete_params(&job.metadata, None, Some(PropagationPolicy::Foreground));
    params.preconditions = Some(Preconditions {
        uid: job.metadata.uid.clone(),
        resource_version: job.metadata.resource_version.clone(),
    });
    match context
        .shell
        .api::<Job>(&key.namespace)
        .delete(&key.name, &params)
        .await
    {
        Err(error) if is_status(&error, 404) => Ok(None),
        other => other.map(|_| None).map_err(Error::from),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_ended_jobs_with_a_time_go() {
        let job = |seconds: Value, type_: &str| -> Job {
            let condition = json!({"type": type_, "status": "True", "lastTransitionTime": "1970-01-01T00:01:00Z"});
            serde_json::from_value(
                json!({"spec": {"ttlSecondsAfterFinished": seconds}, "status": {"conditions": [condition]}}),
            )
            .unwrap()
        };
        assert_eq!(due(&job(json!(30), "Failed")), Timestamp::from_second(90).ok());
        assert_eq!(due(&job(json!(0), "Complete")), Timestamp::from_second(60).ok());
        assert_eq!(due(&job(json!(30), "FailureTarget")), None);
        assert_eq!(due(&job(Value::Null, "Complete")), None);
        let mut leaving = job(json!(0), "Complete");
        leaving.metadata.deletion_timestamp = leaving.status.conditions[0].last_transition_time.clone();
        assert_eq!(due(&leaving), None);
    }
}
