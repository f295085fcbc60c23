//! Nodes that say nothing any more: marked, tainted, and left by their pods after the time these tolerate.

mod memory;
mod plan;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use afloat_watching::{Looking, Queue, Writing, Written};
use afloat_words::revision::revision_of;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::Error;
use crate::context::Context;
use crate::loops::answer::is_status;
use crate::loops::events::Tone;
use crate::objects::condition::conditions_json;
use crate::objects::time::{seconds, until};
use crate::objects::{Index, Key, Node, Pod, Taint};

use memory::Memory;
use plan::{Observed, Plan, plan};

const LEASES: &str = "kube-node-lease";

/// Runs the loop until shutdown.
pub(crate) async fn run_node_lifecycle(context: Context) -> Result<(), Error> {
    let queue = Arc::new(Queue::default());
    let caches = &context.caches;
    caches.nodes.ready().await;
    caches.leases.ready().await;
    caches.pods.ready().await;
    queue.follow(&caches.nodes, |node| Some(Key::of(&node.metadata)));
    let nodes = caches.nodes.clone();
    queue.follow(&caches.pods, move |pod| {
        // Pods matter only where they may have to leave.
        let key = Key::new("", pod.node()?);
        nodes
            .peek(&key)
            .filter(|node| node.spec.taints.iter().any(|taint| taint.effect == "NoExecute"))
            .map(|_| key)
    });
    let memory = Mutex::new(Memory::default());
    let work = |key| sync_node(&context, &memory, key);
    context.work_off(&queue, 8, work).await;
    Ok(())
}

async fn sync_node(context: &Context, memory: &Mutex<Memory>, key: Key) -> Result<Option<Duration>, Error> {
    let caches = &context.caches;
    let looking = context.shell.settle(&key).await?;
    let Some(node) = looking.at(&caches.nodes).get(&key) else {
        memory.lock().unwrap_or_else(PoisonError::into_inner).forget(&key.name);
        return Ok(None);
    };
    let now = Timestamp::now();
    let decided = decide(context, &looking, memory, &key, &node, now);
    let node = node.to_tell();
    act(context, &looking.write(), &node, &decided, now).await?;
    let period = context.options.node_monitor_period;
    Ok(Some(decided.wake_at.map_or(period, |at| until(at, now).min(period))))
}

fn decide(
    context: &Context,
    looking: &Looking<'_>,
    memory: &Mutex<Memory>,
    key: &Key,
    node: &Node,
    now: Timestamp,
) -> Plan {
    let caches = &context.caches;
    let lease = looking.at(&caches.leases).get(&Key::new(LEASES, key.name.clone()));
    let lease = lease.and_then(|lease| lease.spec.renew_time.clone());
    let ready = node
        .status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Ready");
    let heartbeat = ready
        .and_then(|ready| ready.last_heartbeat_time.as_ref())
        .map(|time| time.0);
    let pods = looking.at(&caches.pods).group(&Index::Node(key.name.clone()));
    let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
    let silent = memory.silence(&key.name, lease, heartbeat) > context.options.node_monitor_grace;
    memory.see_taints(&key.name, node, now);
    let seen = Observed {
        node,
        silent,
        pods: &pods,
        tainted_since: &|taint| memory.tainted_since(&key.name, taint).unwrap_or(now),
    };
    plan(&seen, now)
}

async fn act(context: &Context, writing: &Writing<'_>, node: &Node, plan: &Plan, now: Timestamp) -> Result<(), Error> {
    let (shell, caches) = (&context.shell, &context.caches);
    let mut meta = node.metadata.clone();
    if !plan.unknown.is_empty() {
        let conditions = conditions_json(&plan.unknown);
        let patch = json!({"status": {"conditions": conditions}});
        meta = shell
            .patch_strategic(writing, &caches.nodes, &meta, Some("status"), patch)
            .await?;
        let message = format!(
            "Node {} status is now: NodeNotReady",
            meta.name.as_deref().unwrap_or_default()
        );
        shell.event::<Node>(&meta, Tone::Normal, "NodeNotReady", message);
    }
    if let Some(taints) = &plan.taints {
        shell
            .patch(
                writing,
                &caches.nodes,
                &meta,
                None,
                json!({"spec": {"taints": taints_json(taints)}}),
            )
            .await?;
    }
    for pod in &plan.not_ready {
        let at = seconds(now);
        let condition = json!({"type": "Ready", "status": "False", "reason": "NodeNotReady", "lastTransitionTime": at});
        set_condition(context, writing, pod, condition).await?;
    }
    for pod in &plan.evict {
        let message = format!(
            "Marking for deletion Pod {}/{}",
            pod.metadata.namespace.as_deref().unwrap_or_default(),
            pod.name()
        );
        shell.event::<Pod>(&pod.metadata, Tone::Normal, "TaintManagerEviction", message);
        // By this a Job may tell that the failure is none of the pod's own.
        let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": seconds(now)});
        set_condition(context, writing, pod, condition).await?;
        match shell.delete(writing, &caches.pods, &pod.metadata, None).await {
            Err(error) if !error.is_conflict() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Sets a condition of a pod; one that is gone is fine.
async fn set_condition(context: &Context, writing: &Writing<'_>, pod: &Pod, condition: Value) -> Result<(), Error> {
    let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}});
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let api = context.shell.api::<Pod>(namespace);
    let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
    match api.patch_status(pod.name(), &params, &patch).await {
        Ok(patched) => writing.wrote(&context.caches.pods, Written::Version(revision_of(&patched.metadata))),
        Err(error) if is_status(&error, 404) || is_status(&error, 409) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn taints_json(taints: &[Taint]) -> Value {
    let one = |taint: &Taint| {
        let mut entry = json!({"key": taint.key, "effect": taint.effect});
        if !taint.value.is_empty() {
            entry["value"] = json!(taint.value);
        }
        if let Some(added) = &taint.time_added {
            entry["timeAdded"] = json!(seconds(added.0));
        }
        entry
    };
    if taints.is_empty() {
        Value::Null
    } else {
        taints.iter().map(one).collect()
    }
}
