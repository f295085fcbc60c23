//! Deployments: moves pods from the ReplicaSets of old templates to that of the present one, within maxSurge and
//! maxUnavailable.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::{Error, Unfinished};
use crate::loops::answer::is_status;
use crate::loops::cache::{Written, revision_of};
use crate::loops::events::Tone;
use crate::loops::shell::decided_on;
use crate::objects::condition::conditions_json;
use crate::objects::counts::unless_zero;
use crate::objects::selector::Labels;
use crate::objects::time::until;
use crate::objects::{Deployment, DeploymentStatus, Index, Key, Pod, ReplicaSet, controlled_by, controller_of};
use crate::workload::template::without_hash;

mod plan;
mod rolling;
mod sets;
mod status;
#[cfg(test)]
mod world;

use plan::{Action, Observed, plan};
use sets::name_of;

/// Runs the loop until shutdown.
pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let queue = crate::loops::queue::Queue::new();
    let caches = &context.caches;
    caches.deployments.ready().await;
    caches.replica_sets.ready().await;
    caches.pods.ready().await;
    queue.follow(&caches.deployments, |deployment| Some(Key::of(&deployment.metadata)));
    let deployments = caches.deployments.clone();
    queue.follow(&caches.replica_sets, move |set| {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        match controller_of(&set.metadata) {
            Some(owner) if owner.kind == "Deployment" => vec![Key::new(namespace, &owner.name)],
            Some(_) => Vec::new(),
            None => selecting(&deployments.by_index(&Index::Namespace(namespace.to_owned())), set),
        }
    });
    // Recreate waits for the last old pod to be gone, of which no ReplicaSet tells.
    let (sets, deployments) = (caches.replica_sets.clone(), caches.deployments.clone());
    let weak = Arc::downgrade(&queue);
    caches.pods.subscribe(move |change| {
        let Some(queue) = weak.upgrade() else { return false };
        if let (Some(pod), None) = (change.old, change.new)
            && let Some(owner) = controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet")
        {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let set = sets.get(&Key::new(namespace, &owner.name));
            let owner = set
                .as_ref()
                .and_then(|set| controller_of(&set.metadata))
                .filter(|owner| owner.kind == "Deployment");
            if let Some(key) = owner.map(|owner| Key::new(namespace, &owner.name))
                && deployments
                    .get(&key)
                    .is_some_and(|deployment| deployment.spec.strategy.type_ == "Recreate")
            {
                queue.add(key);
            }
        }
        true
    });
    queue
        .run(context.shell.name, 8, &context.shutdown, |key| sync(&context, key))
        .await;
    Ok(())
}

/// The Deployments that might adopt this ReplicaSet.
fn selecting(deployments: &[Arc<Deployment>], set: &ReplicaSet) -> Vec<Key> {
    let selects = |deployment: &&Arc<Deployment>| {
        Labels::parse(&deployment.spec.selector).is_ok_and(|labels| labels.matches(set.metadata.labels.as_ref()))
    };
    deployments
        .iter()
        .filter(selects)
        .map(|deployment| Key::of(&deployment.metadata))
        .collect()
}

async fn sync(context: &Context, key: Key) -> Result<Option<Duration>, Error> {
    let (shell, caches) = (&context.shell, &context.caches);
    shell.settle(&key).await?;
    let Some(deployment) = caches.deployments.get(&key) else {
        return Ok(None);
    };
    let uid = deployment.metadata.uid.clone().unwrap_or_default();
    let mut sets = caches.replica_sets.by_index(&Index::Owner(uid));
    let old_pods = if deployment.spec.strategy.type_ == "Recreate" {
        old_pods(context, &deployment, &sets)
    } else {
        0
    };
    sets.extend(caches.replica_sets.by_index(&Index::Orphan(key.namespace.clone())));
    let now = Timestamp::now();
    let decided = plan(
        &Observed {
            deployment: &deployment,
            sets: &sets,
            old_pods,
        },
        now,
    )?;
    let mut meta = deployment.metadata.clone();
    let mut outcome = Ok(());
    for action in &decided.actions {
        let result = act(context, &key, &deployment, &mut meta, action).await;
        outcome = outcome.and(result);
    }
    if let Some(status) = &decided.status {
        match shell
            .patch(&key, &caches.deployments, &meta, Some("status"), status_patch(status))
            .await
        {
            // Changed or gone meanwhile: the change itself brings us back.
            Err(error) if error.is_conflict() => {}
            other => drop(other?),
        }
    }
    outcome?;
    Ok(decided.wake_at.map(|at| until(at, now)))
}

/// Pods of old ReplicaSets that have not ended.
fn old_pods(context: &Context, deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> usize {
    let template = without_hash(&deployment.spec.template);
    let old = sets.iter().filter(|set| without_hash(&set.spec.template) != template);
    let pods = old.flat_map(|set| {
        context
            .caches
            .pods
            .by_index(&Index::Owner(set.metadata.uid.clone().unwrap_or_default()))
    });
    pods.filter(|pod: &Arc<Pod>| !pod.is_finished()).count()
}

async fn act(
    context: &Context,
    key: &Key,
    deployment: &Deployment,
    meta: &mut kube::api::ObjectMeta,
    action: &Action,
) -> Result<(), Error> {
    let (shell, cache) = (&context.shell, &context.caches.replica_sets);
    match action {
        Action::Adopt(set) => {
            shell.may_adopt::<Deployment>(&deployment.metadata).await?;
            let owner = controlled_by::<Deployment>(&deployment.metadata);
            own(context, key, set, json!([owner])).await
        }
        Action::Release(set) => {
            own(
                context,
                key,
                set,
                json!([{"$patch": "delete", "uid": deployment.metadata.uid}]),
            )
            .await
        }
        Action::Create { name, object } => match shell.create(key, cache, object.clone()).await {
            Ok(_) => {
                let replicas = object["spec"]["replicas"].as_i64().unwrap_or(0);
                if replicas > 0 {
                    let message = format!("Scaled up replica set {name} from 0 to {replicas}");
                    shell.event::<Deployment>(&deployment.metadata, Tone::Normal, "ScalingReplicaSet", message);
                }
                Ok(())
            }
            Err(Error::Api(error)) if is_status(&error, 409) => collision(context, key, deployment, name).await,
            Err(error) => {
                if !error.is_end_of_namespace() {
                    let message = format!("Failed to create new replica set {name:?}: {}", error.told());
                    shell.event::<Deployment>(&deployment.metadata, Tone::Warning, "ReplicaSetCreateError", message);
                }
                Err(error)
            }
        },
        Action::Update { set, patch, scaled } => {
            shell.patch(key, cache, &set.metadata, None, patch.clone()).await?;
            if let Some(message) = scaled {
                shell.event::<Deployment>(&deployment.metadata, Tone::Normal, "ScalingReplicaSet", message.clone());
            }
            Ok(())
        }
        Action::Delete(set) => shell.delete(key, cache, &set.metadata, None).await,
        Action::Annotate(patch) => {
            *meta = shell
                .patch(key, &context.caches.deployments, meta, None, patch.clone())
                .await?;
            Ok(())
        }
    }
}

async fn own(context: &Context, key: &Key, set: &ReplicaSet, references: Value) -> Result<(), Error> {
    let patch = decided_on(&set.metadata, json!({"metadata": {"ownerReferences": references}}));
    let api = context.shell.api::<ReplicaSet>(&key.namespace);
    let name = name_of(set);
    let patched = api
        .patch(&name, &PatchParams::default(), &Patch::Strategic(patch))
        .await?;
    context.shell.expect(
        key,
        &context.caches.replica_sets,
        Written::Revision(revision_of(&patched.metadata)),
    );
    Ok(())
}

/// The name is taken: by a ReplicaSet of ours that we have not seen yet, or by another template with the same hash.
async fn collision(context: &Context, key: &Key, deployment: &Deployment, name: &str) -> Result<(), Error> {
    let Some(taken) = context.shell.api::<ReplicaSet>(&key.namespace).get_opt(name).await? else {
        return Err(Unfinished::JustDeleted(name.to_owned()).into());
    };
    let ours = controller_of(&taken.metadata).is_some_and(|owner| Some(&owner.uid) == deployment.metadata.uid.as_ref());
    let template = taken.data.pointer("/spec/template").cloned().unwrap_or(Value::Null);
    if ours && without_hash(&template) == without_hash(&deployment.spec.template) {
        return Err(Unfinished::NotSeen(name.to_owned()).into());
    }
    let count = deployment.status.collision_count.unwrap_or(0).saturating_add(1);
    let patch = json!({"status": {"collisionCount": count}});
    context
        .shell
        .patch(
            key,
            &context.caches.deployments,
            &deployment.metadata,
            Some("status"),
            patch,
        )
        .await?;
    Err(Unfinished::NameTaken(name.to_owned()).into())
}

fn status_patch(status: &DeploymentStatus) -> Value {
    json!({"status": {
        "replicas": unless_zero(status.replicas),
        "updatedReplicas": unless_zero(status.updated_replicas),
        "readyReplicas": unless_zero(status.ready_replicas),
        "availableReplicas": unless_zero(status.available_replicas),
        "unavailableReplicas": unless_zero(status.unavailable_replicas),
        "observedGeneration": status.observed_generation,
        "conditions": conditions_json(&status.conditions),
    }})
}
