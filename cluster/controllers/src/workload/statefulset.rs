//! StatefulSets: pods with names and volumes that stay, one after the other.

mod identity;
mod plan;

use std::fmt;
use std::sync::Arc;

use afloat_watching::{Cache, Queue};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::PostParams;
use serde_json::Value;

use crate::Error;
use crate::context::Caches;
use crate::loops::answer::is_status;
use crate::loops::events::Tone;
use crate::objects::{StatefulSet, StatefulSetStatus};

use super::history::{History, record_of};
use super::ownership::follow_pods_of;
use super::{Decision, Look, PlanOf, Turn, Workload};

use identity::{claims, pod, pod_name};
use plan::{Action, Observed, Steps, plan};

impl Workload for StatefulSet {
    type Steps = Steps;
    type Status = StatefulSetStatus;

    fn cache(caches: &Caches) -> &Arc<Cache<Self>> {
        &caches.stateful_sets
    }

    async fn watch(caches: &Caches, queue: &Arc<Queue>) {
        caches.revisions.ready().await;
        caches.pods.ready().await;
        follow_pods_of::<Self>(queue, &caches.pods);
    }

    async fn decide(look: &Look<'_, Self>) -> Decision<Self> {
        let set = &look.object;
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let revisions = look.owned(&look.context.caches.revisions);
        let (update, record) = record_of::<Self>(&set.metadata, &revisions, &set.spec.template);
        let complete = revisions.iter().find(|one| one.name() == set.status.current_revision);
        let seen = Observed {
            set,
            pods: &look.owned(&look.context.caches.pods),
            update: &update,
            current: complete.map(|one| one.template()),
        };
        let mut plan = plan(&seen, look.now);
        let (used, kept) = (&plan.steps.used_revisions, set.spec.revision_history_limit);
        plan.steps.history = History::new(record, &revisions, used, kept);
        Ok(Some(plan))
    }

    async fn act(turn: &mut Turn<'_, Self>, steps: &Steps) -> Result<(), Error> {
        turn.record_revision(&steps.history).await?;
        for action in &steps.actions {
            take_step(turn, action).await?;
        }
        Ok(())
    }

    fn status_patch(&self, status: &StatefulSetStatus) -> Value {
        status.patch()
    }

    async fn finish(turn: &Turn<'_, Self>, plan: &PlanOf<Self>, _: bool) -> Result<(), Error> {
        turn.trim_revisions(&plan.steps.history).await
    }
}

async fn take_step(turn: &Turn<'_, StatefulSet>, action: &Action) -> Result<(), Error> {
    let (set, shell, pods) = (&turn.object, &turn.context.shell, &turn.context.caches.pods);
    match action {
        Action::Create {
            ordinal,
            revision,
            template,
        } => {
            create_claims(turn, *ordinal).await?;
            let object = pod(set, template, *ordinal, revision);
            let created = shell.create(&turn.writing, pods, object).await;
            tell(turn, Verb::Create, Thing::Pod(&pod_name(set, *ordinal)), created)
        }
        Action::Delete(pod) => {
            let deleted = shell.delete(&turn.writing, pods, &pod.metadata, None).await;
            tell(turn, Verb::Delete, Thing::Pod(pod.name()), deleted)
        }
    }
}

/// Makes the pod's volume claims. Those that exist stay as they are: that is what they are for.
async fn create_claims(turn: &Turn<'_, StatefulSet>, ordinal: i32) -> Result<(), Error> {
    let api = turn.context.shell.api::<PersistentVolumeClaim>(&turn.key.namespace);
    let pod = pod_name(&turn.object, ordinal);
    for (name, claim) in claims(&turn.object, ordinal) {
        let claim = serde_json::from_value(claim)?;
        let created = match api.create(&PostParams::default(), &claim).await {
            Err(error) if is_status(&error, 409) => continue,
            created => created.map_err(Error::from),
        };
        tell(turn, Verb::Create, Thing::Claim(&name, &pod), created)?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Verb {
    Create,
    Delete,
}

/// What was made or deleted, by name.
#[derive(Clone, Copy)]
enum Thing<'a> {
    Pod(&'a str),
    /// And the pod that it is for.
    Claim(&'a str, &'a str),
}

impl fmt::Display for Thing<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(name) => write!(out, "Pod {name}"),
            Self::Claim(name, pod) => write!(out, "Claim {name} Pod {pod}"),
        }
    }
}

/// Tells of what was made or deleted, or why not; returns what came of it.
fn tell<T>(turn: &Turn<'_, StatefulSet>, verb: Verb, what: Thing<'_>, outcome: Result<T, Error>) -> Result<(), Error> {
    let (verb, success, failure) = match verb {
        Verb::Create => ("create", "SuccessfulCreate", "FailedCreate"),
        Verb::Delete => ("delete", "SuccessfulDelete", "FailedDelete"),
    };
    let name = &turn.key.name;
    match outcome {
        Ok(_) => {
            let word = match what {
                Thing::Pod(_) => "successful",
                Thing::Claim(..) => "success",
            };
            let message = format!("{verb} {what} in StatefulSet {name} {word}");
            turn.event(Tone::Normal, success, message);
            Ok(())
        }
        Err(error) => {
            if !error.is_end_of_namespace() {
                let message = format!("{verb} {what} in StatefulSet {name} failed error: {}", error.told());
                turn.event(Tone::Warning, failure, message);
            }
            Err(error)
        }
    }
}
