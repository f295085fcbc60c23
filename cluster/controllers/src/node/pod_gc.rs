//! Pods that nobody else removes: those of nodes that are gone, those that never got a node, and finished ones beyond a number.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use afloat_watching::Writing;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node as FullNode;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::Instant;

use crate::Error;
use crate::context::Context;
use crate::loops::answer::is_status;
use crate::objects::{Key, Pod};

/// How often pods are looked at (no request is sent for that).
const PERIOD: Duration = Duration::from_secs(20);
/// A node must have been absent this long, as in Kubernetes: it may just be registering again.
const QUARANTINE: Duration = Duration::from_secs(40);

/// Which pods go, and why.
#[derive(Default)]
pub(crate) struct Plan {
    /// Of nodes that do not exist: the node's name is to be asked for once more.
    pub(crate) orphaned: Vec<Arc<Pod>>,
    /// Deleted before they got a node.
    pub(crate) unscheduled: Vec<Arc<Pod>>,
    /// Finished, oldest first, beyond the number kept.
    pub(crate) finished: Vec<Arc<Pod>>,
}

/// Decides; `absent` tells whether a node has been absent for long enough.
pub(crate) fn plan(pods: &[Arc<Pod>], absent: &dyn Fn(&str) -> bool, kept: usize) -> Plan {
    let mut plan = Plan::default();
    for pod in pods {
        match pod.node() {
            Some(node) if absent(node) => plan.orphaned.push(pod.clone()),
            None if pod.is_terminating() => plan.unscheduled.push(pod.clone()),
            _ if pod.is_finished() && !pod.is_terminating() => plan.finished.push(pod.clone()),
            _ => {}
        }
    }
    plan.finished.sort_by_key(|pod| {
        (
            pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            pod.uid().to_owned(),
        )
    });
    plan.finished.truncate(plan.finished.len().saturating_sub(kept));
    plan
}

/// Runs the loop until shutdown.
pub(crate) async fn run_pod_gc(context: Context) -> Result<(), Error> {
    let caches = &context.caches;
    caches.pods.ready().await;
    caches.nodes.ready().await;
    let mut missing: HashMap<String, Instant> = HashMap::new();
    // What a round writes is what the next one has to see.
    let round = Key::new("", context.shell.name);
    let mut tick = tokio::time::interval(PERIOD);
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => return Ok(()),
            _ = tick.tick() => {}
        }
        let looking = context.shell.settle(&round).await?;
        let (pods, nodes) = (looking.at(&caches.pods).all(), looking.at(&caches.nodes));
        let gone = |node: &str| nodes.get(&Key::new("", node)).is_none();
        let now = Instant::now();
        missing.retain(|node, _| gone(node));
        for node in pods.iter().filter_map(|pod| pod.node()).filter(|node| gone(node)) {
            missing.entry(node.to_owned()).or_insert(now);
        }
        let absent = |node: &str| {
            missing
                .get(node)
                .is_some_and(|since| now.duration_since(*since) >= QUARANTINE)
        };
        let plan = plan(&pods, &absent, context.options.terminated_pods_kept);
        act(&context, &looking.write(), plan).await?;
    }
}

async fn act(context: &Context, writing: &Writing<'_>, plan: Plan) -> Result<(), Error> {
    let shell = &context.shell;
    let mut exists: HashMap<String, bool> = HashMap::new();
    for pod in &plan.orphaned {
        let node = pod.node().unwrap_or_default();
        if !exists.contains_key(node) {
            let found = shell.api::<FullNode>("").get_metadata_opt(node).await?.is_some();
            exists.insert(node.to_owned(), found);
        }
        if exists.get(node) == Some(&false) {
            fail(context, pod).await?;
            remove(context, writing, pod).await?;
        }
    }
    for pod in plan.unscheduled.iter().chain(&plan.finished) {
        remove(context, writing, pod).await?;
    }
    Ok(())
}

/// Nobody will report the end of a pod whose node is gone.
async fn fail(context: &Context, pod: &Pod) -> Result<(), Error> {
    if pod.is_finished() {
        return Ok(());
    }
    let key = Key::of(&pod.metadata);
    let patch = json!({
        "metadata": {"uid": pod.uid()},
        "status": {"phase": "Failed", "conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists", "lastTransitionTime": crate::objects::time::seconds(Timestamp::now()),
        }]},
    });
    let api = context.shell.api::<Pod>(&key.namespace);
    match api
        .patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch))
        .await
    {
        Err(error) if !is_status(&error, 404) && !is_status(&error, 409) => Err(error.into()),
        _ => Ok(()),
    }
}

async fn remove(context: &Context, writing: &Writing<'_>, pod: &Pod) -> Result<(), Error> {
    match context
        .shell
        .delete(writing, &context.caches.pods, &pod.metadata, Some(0))
        .await
    {
        Err(error) if error.is_conflict() => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, node: Option<&str>, phase: &str, deleting: bool) -> Arc<Pod> {
        let deleted = deleting.then_some("2026-01-01T00:00:00Z");
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "uid": name, "deletionTimestamp": deleted},
                "spec": {"nodeName": node}, "status": {"phase": phase},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn removes_only_what_nobody_else_does() {
        let pods = [
            pod("lost", Some("gone"), "Running", false),
            pod("fine", Some("here"), "Running", false),
            pod("ending", Some("here"), "Running", true),
            pod("never", None, "Pending", true),
            pod("waits", None, "Pending", false),
            pod("done-a", Some("here"), "Succeeded", false),
            pod("done-b", Some("here"), "Failed", false),
        ];
        let plan = plan(&pods, &|node| node == "gone", 1);
        let names = |pods: &[Arc<Pod>]| pods.iter().map(|pod| pod.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&plan.orphaned), ["lost"]);
        assert_eq!(names(&plan.unscheduled), ["never"]);
        assert_eq!(names(&plan.finished), ["done-a"]);
    }
}
