//! Deployments: moves pods from the ReplicaSets of old templates to that of the present one, within maxSurge and
//! maxUnavailable.

mod plan;
mod rolling;
mod sets;
mod status;
#[cfg(test)]
mod world;

use std::sync::Arc;

use afloat_watching::{Cache, Change, Queue, Urgency};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::context::Caches;
use crate::error::{Error, Unfinished};
use crate::loops::answer::is_status;
use crate::loops::events::Tone;
use crate::objects::{Deployment, DeploymentStatus, Index, Key, Pod, ReplicaSet, controller_of, uid_of};

use super::ownership::concerned;
use super::template::without_hash;
use super::{Decision, Look, Turn, Workload};

use plan::{Action, Observed, plan};

impl Workload for Deployment {
    type Steps = Vec<Action>;
    type Status = DeploymentStatus;

    fn cache(caches: &Caches) -> &Arc<Cache<Self>> {
        &caches.deployments
    }

    async fn watch(caches: &Caches, queue: &Arc<Queue>) {
        caches.replica_sets.ready().await;
        caches.pods.ready().await;
        let deployments = caches.deployments.clone();
        queue.follow(&caches.replica_sets, move |set| {
            concerned(set, &deployments, |deployment| &deployment.spec.selector)
        });
        // Recreate waits for the last old pod to be gone, of which no ReplicaSet tells.
        let (sets, deployments) = (caches.replica_sets.clone(), caches.deployments.clone());
        let weak = Arc::downgrade(queue);
        caches.pods.subscribe(move |change| {
            let Some(queue) = weak.upgrade() else { return false };
            if let Some(key) = waiting_for(change, &sets, &deployments) {
                queue.add(key, Urgency::Now);
            }
            true
        });
    }

    async fn decide(look: &Look<'_, Self>) -> Decision<Self> {
        let (caches, deployment) = (&look.context.caches, &look.object);
        let old_pods = if deployment.is_recreate() { old_pods(look) } else { 0 };
        let sets = look.owned_and_orphans(&caches.replica_sets);
        let seen = Observed {
            deployment,
            sets: &sets,
            old_pods,
        };
        plan(&seen, look.now).map(Some)
    }

    async fn act(turn: &mut Turn<'_, Self>, steps: &Vec<Action>) -> Result<(), Error> {
        let mut outcome = Ok(());
        for action in steps {
            let result = take_step(turn, action).await;
            outcome = outcome.and(result);
        }
        outcome
    }

    fn status_after_failure(
        &self,
        planned: Option<DeploymentStatus>,
        _: &Error,
        _: Timestamp,
    ) -> Option<DeploymentStatus> {
        planned
    }

    fn status_patch(&self, status: &DeploymentStatus) -> Value {
        status.patch()
    }
}

/// The Deployment that may go on because a pod is gone.
fn waiting_for(change: &Change<Pod>, sets: &Cache<ReplicaSet>, deployments: &Cache<Deployment>) -> Option<Key> {
    let (Some(pod), None) = (&change.old, &change.new) else {
        return None;
    };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet")?;
    let set = sets.peek(&Key::new(namespace, owner.name.as_str()))?;
    let owner = controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment")?;
    let key = Key::new(namespace, owner.name.as_str());
    let recreates = deployments.peek(&key)?.is_recreate();
    recreates.then_some(key)
}

/// Pods of old ReplicaSets that have not ended.
fn old_pods(look: &Look<'_, Deployment>) -> usize {
    let caches = &look.context.caches;
    let template = without_hash(&look.object.spec.template);
    let sets = look.owned(&caches.replica_sets);
    let old = sets.iter().filter(|set| without_hash(&set.spec.template) != template);
    let owners: Vec<Index> = old.map(|set| Index::Owner(uid_of(&set.metadata).into())).collect();
    let pods = look.at(&caches.pods).groups(&owners);
    pods.iter().filter(|pod| !pod.is_finished()).count()
}

async fn take_step(turn: &mut Turn<'_, Deployment>, action: &Action) -> Result<(), Error> {
    let (shell, caches) = (&turn.context.shell, &turn.context.caches);
    let sets = &caches.replica_sets;
    match action {
        Action::Adopt(set) => {
            shell.may_adopt::<Deployment>(&turn.meta).await?;
            turn.adopt(sets, &set.metadata).await
        }
        Action::Release(set) => turn.release(sets, &set.metadata).await,
        Action::Create { name, object } => create(turn, name, object).await,
        Action::Update { set, patch, scaled } => {
            shell
                .patch(&turn.writing, sets, &set.metadata, None, patch.clone())
                .await?;
            if let Some(message) = scaled {
                turn.event(Tone::Normal, "ScalingReplicaSet", message.clone());
            }
            Ok(())
        }
        Action::Delete(set) => shell.delete(&turn.writing, sets, &set.metadata, None).await,
        Action::Annotate(patch) => {
            let patched = shell.patch(&turn.writing, &caches.deployments, &turn.meta, None, patch.clone());
            turn.meta = patched.await?;
            Ok(())
        }
    }
}

async fn create(turn: &Turn<'_, Deployment>, name: &str, object: &Value) -> Result<(), Error> {
    let (shell, sets) = (&turn.context.shell, &turn.context.caches.replica_sets);
    match shell.create(&turn.writing, sets, object.clone()).await {
        Ok(_) => {
            let replicas = object["spec"]["replicas"].as_i64().unwrap_or(0);
            if replicas > 0 {
                let message = format!("Scaled up replica set {name} from 0 to {replicas}");
                turn.event(Tone::Normal, "ScalingReplicaSet", message);
            }
            Ok(())
        }
        Err(Error::Api(error)) if is_status(&error, 409) => collision(turn, name).await,
        Err(error) => {
            if !error.is_end_of_namespace() {
                let message = format!("Failed to create new replica set {name:?}: {}", error.told());
                turn.event(Tone::Warning, "ReplicaSetCreateError", message);
            }
            Err(error)
        }
    }
}

/// The name is taken: by a ReplicaSet of ours that we have not seen yet, or by another template with the same hash.
async fn collision(turn: &Turn<'_, Deployment>, name: &str) -> Result<(), Error> {
    let (shell, deployment) = (&turn.context.shell, &turn.object);
    let Some(taken) = shell.api::<ReplicaSet>(&turn.key.namespace).get_opt(name).await? else {
        return Err(Unfinished::JustDeleted(name.to_owned()).into());
    };
    let ours = controller_of(&taken.metadata).is_some_and(|owner| Some(&owner.uid) == turn.meta.uid.as_ref());
    let template = taken.data.pointer("/spec/template").cloned().unwrap_or(Value::Null);
    if ours && without_hash(&template) == without_hash(&deployment.spec.template) {
        return Err(Unfinished::NotSeen(name.to_owned()).into());
    }
    let count = deployment.status.collision_count.unwrap_or(0).saturating_add(1);
    let patch = json!({"status": {"collisionCount": count}});
    let cache = &turn.context.caches.deployments;
    shell
        .patch(&turn.writing, cache, &deployment.metadata, Some("status"), patch)
        .await?;
    Err(Unfinished::NameTaken(name.to_owned()).into())
}
