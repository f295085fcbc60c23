//! Whose an object is: a workload adopts what its selector takes and nobody controls, and releases what it takes no more.

use std::sync::Arc;

use afloat_watching::{Cache, Queue};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use crate::Error;
use crate::objects::selector::Labels;
use crate::objects::{Index, Key, Kind, Pod, controlled_by, controller_of};

use super::{Turn, Workload};

/// Objects by what they are to a workload.
pub(super) struct Claimed<D> {
    /// Controlled by it, and rightly so.
    pub(super) own: Vec<Arc<D>>,
    /// Controlled by nobody, and its own by their labels.
    pub(super) adopt: Vec<Arc<D>>,
    /// Controlled by it, but not its own by their labels.
    pub(super) release: Vec<Arc<D>>,
}

/// Says what each candidate is to `owner`. One that is being deleted adopts and releases nothing.
pub(super) fn claim<D: Kind>(
    owner: &ObjectMeta,
    selector: &Labels,
    candidates: &[Arc<D>],
    adoptable: impl Fn(&D) -> bool,
) -> Claimed<D> {
    let lives = owner.deletion_timestamp.is_none();
    let (mut own, mut adopt, mut release) = (Vec::new(), Vec::new(), Vec::new());
    for candidate in candidates {
        let matches = selector.matches(candidate.meta().labels.as_ref());
        match controller_of(candidate.meta()) {
            Some(found) if Some(&found.uid) == owner.uid.as_ref() => {
                if matches {
                    own.push(candidate.clone());
                } else if lives {
                    release.push(candidate.clone());
                }
            }
            None if matches && lives && adoptable(candidate) => adopt.push(candidate.clone()),
            _ => {}
        }
    }
    Claimed { own, adopt, release }
}

/// Has the queue follow pods: to it goes the `K` that controls one that changes.
pub(super) fn follow_pods_of<K: Kind>(queue: &Arc<Queue>, pods: &Cache<Pod>) {
    queue.follow(pods, |pod| {
        let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == K::kind(&()))?;
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        Some(Key::new(namespace, owner.name.as_str()))
    });
}

/// The workload that controls the object, or, if nobody does, those whose selector takes it.
pub(super) fn concerned<D: Kind, K: Kind>(
    object: &D,
    workloads: &Cache<K>,
    selector: impl Fn(&K) -> &LabelSelector,
) -> Vec<Key> {
    let meta = object.meta();
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    match controller_of(meta) {
        Some(owner) if owner.kind == K::kind(&()) => vec![Key::new(namespace, owner.name.as_str())],
        Some(_) => Vec::new(),
        None => workloads
            .peek_group(&Index::Namespace(namespace.into()))
            .iter()
            .filter(|workload| Labels::parse(selector(workload)).is_ok_and(|it| it.matches(meta.labels.as_ref())))
            .map(|workload| Key::of(workload.meta()))
            .collect(),
    }
}

impl<K: Workload> Turn<'_, K> {
    /// Makes the workload the controller of an object of the same namespace. To be asked before: [`Shell::may_adopt`].
    ///
    /// [`Shell::may_adopt`]: crate::loops::shell::Shell::may_adopt
    ///
    /// # Errors
    /// What the API server answers: a conflict if the object has changed.
    pub(super) async fn adopt<D: Kind>(&self, cache: &Arc<Cache<D>>, object: &ObjectMeta) -> Result<(), Error> {
        self.own(cache, object, json!([controlled_by::<K>(&self.meta)])).await
    }

    /// Takes the workload out of the owners of an object.
    ///
    /// # Errors
    /// What the API server answers: a conflict if the object has changed.
    pub(super) async fn release<D: Kind>(&self, cache: &Arc<Cache<D>>, object: &ObjectMeta) -> Result<(), Error> {
        let owners = json!([{"$patch": "delete", "uid": self.meta.uid}]);
        self.own(cache, object, owners).await
    }

    async fn own<D: Kind>(&self, cache: &Arc<Cache<D>>, object: &ObjectMeta, owners: Value) -> Result<(), Error> {
        let patch = json!({"metadata": {"ownerReferences": owners}});
        let shell = &self.context.shell;
        shell.patch_strategic(&self.writing, cache, object, None, patch).await?;
        Ok(())
    }
}
