//! Pods that no Job counts any more: their Job is gone or at its end, and the finalizer would keep them for ever.

use std::sync::Arc;

use afloat_watching::queue::Urgency;
use afloat_watching::{Cache, Queue};

use crate::Error;
use crate::context::Context;
use crate::loops::answer::is_status;
use crate::objects::{Index, Job, Key, Pod, controller_of, uid_of};

use super::pod::freeing;

const WIDTH: usize = 8;

/// Whether the pod is to lose the finalizer, as nobody counts it. `job` is the one by the name of its controller.
fn is_orphan(pod: &Pod, job: Option<&Job>) -> bool {
    if !pod.is_tracked() {
        return false;
    }
    let Some(owner) = controller_of(&pod.metadata) else {
        return true;
    };
    if owner.kind != "Job" || owner.api_version != "batch/v1" {
        return false;
    }
    match job.filter(|job| uid_of(&job.metadata) == owner.uid) {
        Some(job) => !job.is_managed_elsewhere() && job.status.finished().is_some(),
        None => true,
    }
}

/// Runs the loop until shutdown.
pub(super) async fn run_orphans(context: Context) -> Result<(), Error> {
    let caches = &context.caches;
    caches.jobs.ready().await;
    caches.pods.ready().await;
    let queue: Arc<Queue> = Arc::default();
    queue.follow(&caches.pods, |pod| pod.is_tracked().then(|| Key::of(&pod.metadata)));
    let (pods, weak) = (caches.pods.clone(), Arc::downgrade(&queue));
    caches.jobs.subscribe(move |change| {
        let Some(queue) = weak.upgrade() else {
            return false;
        };
        let before = change.old.as_ref().filter(|_| change.new.is_none());
        let ended = change.new.as_ref().filter(|job| job.status.finished().is_some());
        before
            .or(ended)
            .into_iter()
            .for_each(|job| add_pods(&queue, &pods, job));
        true
    });
    context.work_off(&queue, WIDTH, |key| free(&context, key)).await;
    Ok(())
}

fn add_pods(queue: &Queue, pods: &Cache<Pod>, job: &Job) {
    let pods = pods.peek_group(&Index::Owner(uid_of(&job.metadata).into()));
    for pod in pods.iter().filter(|pod| pod.is_tracked()) {
        queue.add(Key::of(&pod.metadata), Urgency::Now);
    }
}

async fn free(context: &Context, key: Key) -> Result<Option<std::time::Duration>, Error> {
    let caches = &context.caches;
    // Its own name among the authors, which Jobs of the pod's name do not have.
    let author = Key::new(&*key.namespace, format!("pods/{}", key.name));
    let looking = context.shell.settle(&author).await?;
    let pod = looking.at(&caches.pods).get(&key).map(|pod| pod.to_tell());
    let Some(pod) = pod else {
        return Ok(None);
    };
    let job = controller_of(&pod.metadata).and_then(|owner| {
        let job = looking
            .at(&caches.jobs)
            .get(&Key::new(&*key.namespace, owner.name.as_str()));
        job.map(|job| job.to_tell())
    });
    if !is_orphan(&pod, job.as_deref()) {
        return Ok(None);
    }
    let writing = looking.write();
    let freed = context
        .shell
        .patch_strategic(&writing, &caches.pods, &pod.metadata, None, freeing());
    match freed.await {
        Err(Error::Api(error)) if is_status(&error, 404) => Ok(None),
        other => other.map(|_| None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_what_nobody_counts_is_freed() {
        let pod = |kind: &str, uid: &str| -> Pod {
            let owner = json!({"apiVersion": "batch/v1", "kind": kind, "name": "j", "uid": uid, "controller": true});
            serde_json::from_value(json!({"metadata": {"name": "p", "ownerReferences": [owner],
                "finalizers": ["batch.kubernetes.io/job-tracking"]}}))
            .unwrap()
        };
        let job = |spec: Value, ended: &str| -> Job {
            let status = json!({"conditions": [{"type": "Complete", "status": ended}]});
            serde_json::from_value(json!({"metadata": {"name": "j", "uid": "u"}, "spec": spec, "status": status}))
                .unwrap()
        };
        let (running, ended) = (job(json!({}), "False"), job(json!({}), "True"));
        let elsewhere = job(json!({"managedBy": "example.com/x"}), "True");
        assert!(!is_orphan(&pod("Job", "u"), Some(&running)));
        assert!(is_orphan(&pod("Job", "u"), Some(&ended)));
        assert!(!is_orphan(&pod("Job", "u"), Some(&elsewhere)));
        assert!(is_orphan(&pod("Job", "before"), Some(&running)));
        assert!(is_orphan(&pod("Job", "u"), None));
        assert!(!is_orphan(&pod("Batch", "u"), None));
    }
}
