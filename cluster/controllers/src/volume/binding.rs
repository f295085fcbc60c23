//! The loop of claims and volumes.

use std::sync::Arc;
use std::time::Duration;

use afloat_watching::{Looking, Queue, Urgency, Writing};
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::{Error, Unfinished};
use crate::loops::answer::is_status;
use crate::loops::events::Tone;
use crate::objects::storage::{DEFAULT_CLASS, PROVISIONER};
use crate::objects::{Claim, Index, Key, Pod, Volume};

use super::{claim, persistent_volume};

/// The class that a new cluster has.
const STANDARD: &str = "standard";
/// A claim that waits is looked at again this often, so that its events do not vanish.
const AGAIN: Duration = Duration::from_secs(60);

/// Runs the loop until shutdown.
pub(crate) async fn run_volumes(context: Context) -> Result<(), Error> {
    let caches = &context.caches;
    tokio::join!(
        caches.claims.ready(),
        caches.volumes.ready(),
        caches.classes.ready(),
        caches.pods.ready(),
        caches.nodes.ready()
    );
    if context.options.local_volumes.is_some() {
        ensure_class(&context).await?;
    }
    let queue = Arc::new(Queue::default());
    queue.follow(&caches.claims, |claim| {
        let own = Key::of(&claim.metadata);
        let bound = Some(claim.spec.volume_name.as_str()).filter(|name| !name.is_empty());
        std::iter::once(own).chain(bound.map(|name| Key::new("", name)))
    });
    let claims = Arc::downgrade(&caches.claims);
    queue.follow(&caches.volumes, move |volume| {
        // A volume that is free may be what somebody waits for.
        let waiting = claims
            .upgrade()
            .map(|claims| waiting(&claims.peek_all()))
            .unwrap_or_default();
        let own = Key::of(&volume.metadata);
        std::iter::once(own).chain(volume.claim_key()).chain(waiting)
    });
    let claims = Arc::downgrade(&caches.claims);
    queue.follow(&caches.classes, move |_| {
        claims
            .upgrade()
            .map(|claims| waiting(&claims.peek_all()))
            .unwrap_or_default()
    });
    queue.follow(&caches.pods, |pod| {
        let namespace = Key::of(&pod.metadata).namespace;
        let claims: Vec<Key> = pod
            .spec
            .claims
            .iter()
            .map(|claim| Key::new(namespace.clone(), claim.name.as_str()))
            .collect();
        claims
    });
    let work = |key: Key| {
        let (context, queue) = (&context, &queue);
        async move {
            if key.namespace.is_empty() {
                sync_volume(context, key, queue).await
            } else {
                sync_claim(context, key).await
            }
        }
    };
    context.work_off(&queue, 4, work).await;
    Ok(())
}

/// Claims that have no volume yet.
fn waiting(claims: &[Arc<Claim>]) -> Vec<Key> {
    let unbound = claims.iter().filter(|claim| !claim.is_bound());
    unbound.map(|claim| Key::of(&claim.metadata)).collect()
}

/// The class is there after each start; what users make of it is theirs.
async fn ensure_class(context: &Context) -> Result<(), Error> {
    let looking = context.shell.settle(&Key::new("", STANDARD)).await?;
    let classes = &context.caches.classes;
    if looking.at(classes).get(&Key::new("", STANDARD)).is_some() {
        return Ok(());
    }
    let object = json!({
        "metadata": {"name": STANDARD, "annotations": {DEFAULT_CLASS: "true"}},
        "provisioner": PROVISIONER, "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer",
    });
    match context.shell.create(&looking.write(), classes, object).await {
        Err(error) if !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}

/// Whether pods that are on nodes have the claim among their volumes.
fn used(context: &Context, looking: &Looking<'_>, key: &Key) -> bool {
    let pods = looking.at(&context.caches.pods);
    let pods = pods.group(&Index::Namespace(key.namespace.clone()));
    let uses = |pod: &Arc<Pod>| pod.node().is_some() && pod.spec.claims.iter().any(|claim| *claim.name == *key.name);
    pods.iter().any(uses)
}

fn decide(context: &Context, looking: &Looking<'_>, key: &Key, found: &Claim) -> Vec<claim::Action> {
    let caches = &context.caches;
    let local = context.options.local_volumes.clone();
    let path = local.map(|local| move |node: &str, volume: &str| local.path(node, volume).display().to_string());
    let seen = claim::Seen {
        claim: found,
        volumes: &looking.at(&caches.volumes).all(),
        classes: &looking.at(&caches.classes).all(),
        nodes: &looking.at(&caches.nodes).all(),
        used: used(context, looking, key),
        path: path.as_ref().map(|path| path as &dyn Fn(&str, &str) -> String),
    };
    claim::plan(&seen)
}

async fn sync_claim(context: &Context, key: Key) -> Result<Option<Duration>, Error> {
    let (shell, caches) = (&context.shell, &context.caches);
    let looking = shell.settle(&key).await?;
    let Some(found) = looking.at(&caches.claims).get(&key) else {
        return Ok(None);
    };
    let actions = decide(context, &looking, &key, &found);
    let found = found.to_tell();
    let writing = looking.write();
    let again = (!found.is_bound() && !found.is_leaving()).then_some(AGAIN);
    for action in actions {
        match action {
            claim::Action::Patch(patch) => {
                shell
                    .patch(&writing, &caches.claims, &found.metadata, None, patch)
                    .await?;
            }
            claim::Action::PatchStatus(patch) => {
                shell
                    .patch(&writing, &caches.claims, &found.metadata, Some("status"), patch)
                    .await?;
            }
            claim::Action::PatchVolume(volume, patch) => {
                shell
                    .patch(&writing, &caches.volumes, &volume.metadata, None, patch)
                    .await?;
            }
            claim::Action::CreateVolume(name, body) => create_volume(context, &writing, &found, &name, body).await?,
            claim::Action::Tell(tone, reason, message) => {
                shell.event::<Claim>(&found.metadata, tone, reason, message);
            }
        }
    }
    Ok(again)
}

async fn create_volume(
    context: &Context,
    writing: &Writing<'_>,
    claim: &Claim,
    name: &str,
    body: Value,
) -> Result<(), Error> {
    let (shell, caches) = (&context.shell, &context.caches);
    let tell = |tone, reason, message: String| shell.event::<Claim>(&claim.metadata, tone, reason, message);
    let key = Key::of(&claim.metadata);
    let message = format!("External provisioner is provisioning volume for claim \"{key}\"");
    tell(Tone::Normal, "Provisioning", message);
    match shell.create(writing, &caches.volumes, body).await {
        Ok(_) => tell(
            Tone::Normal,
            "ProvisioningSucceeded",
            format!("Successfully provisioned volume {name}"),
        ),
        // Made before, by a process that did not live to see it.
        Err(Error::Api(error)) if is_status(&error, 409) => {}
        Err(error) => {
            let message = format!(
                "failed to provision volume with StorageClass \"{}\": {}",
                claim.class(),
                error.told()
            );
            tell(Tone::Warning, "ProvisioningFailed", message);
            return Err(error);
        }
    }
    Ok(())
}

async fn sync_volume(context: &Context, key: Key, queue: &Arc<Queue>) -> Result<Option<Duration>, Error> {
    let (shell, caches) = (&context.shell, &context.caches);
    let looking = shell.settle(&key).await?;
    let Some(found) = looking.at(&caches.volumes).get(&key) else {
        return Ok(None);
    };
    let uid = found.spec.claim_ref.as_ref().map(|reference| reference.uid.clone());
    let claim = found.claim_key().and_then(|key| looking.at(&caches.claims).get(&key));
    let claim = claim.filter(|claim| uid.as_deref() == Some(claim.uid()));
    let actions = persistent_volume::plan(&found, claim.as_deref());
    let found = found.to_tell();
    let writing = looking.write();
    for action in actions {
        match action {
            persistent_volume::Action::Patch(patch) => {
                shell
                    .patch(&writing, &caches.volumes, &found.metadata, None, patch)
                    .await?;
            }
            persistent_volume::Action::PatchStatus(patch) => {
                shell
                    .patch(&writing, &caches.volumes, &found.metadata, Some("status"), patch)
                    .await?;
            }
            persistent_volume::Action::Release => {
                still_gone(context, &found).await?;
                let patch = json!({"status": {"phase": "Released"}});
                shell
                    .patch(&writing, &caches.volumes, &found.metadata, Some("status"), patch)
                    .await?;
            }
            persistent_volume::Action::Reclaim => {
                still_gone(context, &found).await?;
                reclaim(context, &writing, &found).await?;
            }
            persistent_volume::Action::Tell(tone, reason, message) => {
                shell.event::<Volume>(&found.metadata, tone, reason, message);
            }
        }
    }
    // What was free a moment ago may be wanted.
    if found.spec.claim_ref.is_none() {
        for key in waiting(&caches.claims.peek_all()) {
            queue.add(key, Urgency::Now);
        }
    }
    Ok(None)
}

/// The watch of claims may be behind that of volumes: before anything is lost the API server itself is asked.
async fn still_gone(context: &Context, volume: &Volume) -> Result<(), Error> {
    let Some(reference) = &volume.spec.claim_ref else {
        return Ok(());
    };
    let api = context.shell.api::<Claim>(&reference.namespace);
    let found = api.get_opt(&reference.name).await?;
    let claim = found.filter(|claim| claim.metadata.uid.as_deref() == Some(reference.uid.as_str()));
    let bound_here = |claim: &kube::api::DynamicObject| {
        let name = claim
            .data
            .pointer("/spec/volumeName")
            .and_then(Value::as_str)
            .unwrap_or_default();
        name.is_empty() || name == volume.name()
    };
    match claim {
        Some(claim) if bound_here(&claim) => Err(Unfinished::ClaimIsThere {
            claim: reference.name.clone(),
            volume: volume.name().to_owned(),
        }
        .into()),
        _ => Ok(()),
    }
}

/// Contents first, then the object: the other way round nobody would know of them any more.
async fn reclaim(context: &Context, writing: &Writing<'_>, volume: &Volume) -> Result<(), Error> {
    let (shell, caches) = (&context.shell, &context.caches);
    let (Some(local), Some(node)) = (context.options.local_volumes.clone(), volume.node().map(str::to_owned)) else {
        return Ok(());
    };
    let name = volume.name().to_owned();
    let removed = tokio::task::spawn_blocking(move || local.remove(&node, &name)).await;
    let removed = removed.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    if let Err(error) = removed {
        let error = Error::Contents(error);
        shell.event::<Volume>(&volume.metadata, Tone::Warning, "VolumeFailedDelete", error.told());
        return Err(error);
    }
    let mut meta = volume.metadata.clone();
    if let Some(patch) = super::persistent_volume::unprotected(volume) {
        meta = shell.patch(writing, &caches.volumes, &meta, None, patch).await?;
    }
    shell.delete(writing, &caches.volumes, &meta, None).await
}
