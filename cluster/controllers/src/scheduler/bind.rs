//! Binds pods: their volumes first, then the pod itself.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod as FullPod;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::context::Context;
use crate::error::{Error, Unfinished};
use crate::loops::shell::decided_on;
use crate::objects::{Claim, Key, Volume};

use super::changes::Dirty;
use super::volumes::VolumeStep;

/// How long a pod's volumes may take before the decision is made anew.
const VOLUMES_LIMIT: Duration = Duration::from_secs(60);

/// A pod and the node that it goes to.
pub(super) struct Binding {
    pub(super) key: Key,
    pub(super) uid: String,
    pub(super) node: String,
    /// What has to be done for its volumes before, and the claims that have to be bound.
    pub(super) steps: Vec<VolumeStep>,
    pub(super) claims: Vec<Key>,
}

/// Binds the pod, once its volumes are ready there.
pub(super) async fn bind_pod(context: &Context, dirty: &Dirty, one: &Binding) -> Result<(), Error> {
    if !one.claims.is_empty() {
        bind_volumes(context, dirty, one).await?;
    }
    let api: Api<FullPod> = Api::namespaced(context.shell.client.clone(), &one.key.namespace);
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": &*one.key.name, "namespace": &*one.key.namespace, "uid": one.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": one.node},
    });
    let _: serde_json::Value = api
        .create_subresource("binding", &one.key.name, &PostParams::default(), &binding)
        .await?;
    Ok(())
}

/// Has the pod's volumes made ready on the node. The pod counts as placed meanwhile.
async fn bind_volumes(context: &Context, dirty: &Dirty, one: &Binding) -> Result<(), Error> {
    let mut changes = dirty.claims.subscribe();
    for step in &one.steps {
        prepare(context, step).await?;
    }
    let bound = |key: &Key| context.caches.claims.peek(key).is_some_and(|claim| claim.is_bound());
    let all_bound = async {
        while !one.claims.iter().all(bound) {
            changes.borrow_and_update();
            if one.claims.iter().all(bound) || changes.changed().await.is_err() {
                return;
            }
        }
    };
    let late = |_| Error::from(Unfinished::VolumesNotBound);
    tokio::time::timeout(VOLUMES_LIMIT, all_bound).await.map_err(late)
}

/// Writes that the scheduler needs done before a pod is bound. A claim's node, or a volume's claim.
async fn prepare(context: &Context, step: &VolumeStep) -> Result<(), Error> {
    let params = PatchParams::default();
    let patched = match step {
        VolumeStep::SelectNode { claim, patch, meta } => {
            let api = context.shell.api::<Claim>(&claim.namespace);
            api.patch(&claim.name, &params, &Patch::Merge(decided_on(meta, patch.clone())))
                .await
        }
        VolumeStep::Reserve {
            volume, patch, meta, ..
        } => {
            let api = context.shell.api::<Volume>("");
            api.patch(volume, &params, &Patch::Merge(decided_on(meta, patch.clone())))
                .await
        }
    };
    patched.map(drop).map_err(Error::from)
}
