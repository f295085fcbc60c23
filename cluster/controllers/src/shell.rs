//! How loops write: each write names the uid or resourceVersion it was decided on, and is remembered until the cache shows it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams, Preconditions,
    PropagationPolicy,
};
use kube::core::DynamicResourceScope;
use kube::{Api, Client, Resource};
use serde_json::{Value, json};

use crate::Error;
use crate::cache::{Cache, Written, revision_of};
use crate::events::{Recorder, Tone};
use crate::objects::{Key, Kind};

/// How long to wait for the cache before backing off; the decision waits either way.
const SIGHT_LIMIT: Duration = Duration::from_secs(15);

type Sight = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// One loop's way to the API server.
#[derive(Clone)]
pub(crate) struct Shell {
    pub(crate) client: Client,
    pub(crate) name: &'static str,
    /// Per key: what has been written on its behalf and not been seen yet.
    unseen: Arc<Mutex<HashMap<Key, Vec<Sight>>>>,
    recorder: Recorder,
}

impl Shell {
    pub(crate) fn new(client: Client, name: &'static str, recorder: Recorder) -> Self {
        Self {
            client,
            name,
            unseen: Arc::default(),
            recorder,
        }
    }

    /// An `Api` for kind `K` in the namespace (all or cluster scope if empty), speaking JSON.
    pub(crate) fn api<K: Resource<DynamicType = ()>>(&self, namespace: &str) -> Api<DynamicObject> {
        self.dynamic(&ApiResource::erase::<K>(&()), namespace)
    }

    /// The same for a kind known at run time.
    pub(crate) fn dynamic(&self, resource: &ApiResource, namespace: &str) -> Api<DynamicObject> {
        dynamic(&self.client, resource, namespace)
    }

    /// Remembers a write for `owner`, until `cache` shows it.
    pub(crate) fn expect<K: Kind>(&self, owner: &Key, cache: &Arc<Cache<K>>, written: Written) {
        let (cache, lists) = (cache.clone(), cache.lists_begun());
        let sight: Sight = Arc::new(move || {
            let (cache, written) = (cache.clone(), written.clone());
            Box::pin(async move { cache.saw(&written, lists).await })
        });
        let mut unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
        unseen.entry(owner.clone()).or_default().push(sight);
    }

    /// Waits until the caches show everything written for `owner`.
    ///
    /// # Errors
    /// [`Error::Stale`] if that takes too long; call it again before deciding.
    pub(crate) async fn settle(&self, owner: &Key) -> Result<(), Error> {
        let pending = self
            .unseen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(owner)
            .unwrap_or_default();
        let deadline = tokio::time::Instant::now() + SIGHT_LIMIT;
        for (at, sight) in pending.iter().enumerate() {
            if tokio::time::timeout_at(deadline, sight()).await.is_err() {
                let mut unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
                unseen
                    .entry(owner.clone())
                    .or_default()
                    .extend(pending.iter().skip(at).cloned());
                return Err(Error::Stale(self.name));
            }
        }
        Ok(())
    }

    /// Creates an object on behalf of `owner`.
    ///
    /// # Errors
    /// What the API server answers.
    pub(crate) async fn create<K: Kind>(
        &self,
        owner: &Key,
        cache: &Arc<Cache<K>>,
        object: Value,
    ) -> Result<ObjectMeta, Error> {
        let object = typed::<K>(object)?;
        let namespace = object.metadata.namespace.clone().unwrap_or_default();
        let created = self
            .api::<K>(&namespace)
            .create(&PostParams::default(), &object)
            .await?;
        self.expect(owner, cache, Written::Revision(revision_of(&created.metadata)));
        Ok(created.metadata)
    }

    /// Merge-patches the object that `meta` was read from; a conflict if it has changed since.
    ///
    /// # Errors
    /// What the API server answers.
    pub(crate) async fn patch<K: Kind>(
        &self,
        owner: &Key,
        cache: &Arc<Cache<K>>,
        meta: &ObjectMeta,
        subresource: Option<&str>,
        patch: Value,
    ) -> Result<ObjectMeta, Error> {
        let key = Key::of(meta);
        let api = self.api::<K>(&key.namespace);
        let patch = Patch::Merge(decided_on(meta, patch));
        let params = PatchParams::default();
        let patched = match subresource {
            Some(name) => api.patch_subresource(name, &key.name, &params, &patch).await?,
            None => api.patch(&key.name, &params, &patch).await?,
        };
        self.expect(owner, cache, Written::Revision(revision_of(&patched.metadata)));
        Ok(patched.metadata)
    }

    /// Deletes exactly the object that `meta` was read from. One that is gone already is fine.
    ///
    /// # Errors
    /// What the API server answers.
    pub(crate) async fn delete<K: Kind>(
        &self,
        owner: &Key,
        cache: &Arc<Cache<K>>,
        meta: &ObjectMeta,
        grace: Option<u32>,
    ) -> Result<(), Error> {
        let key = Key::of(meta);
        let params = delete_params(meta, grace, Some(PropagationPolicy::Background));
        match self.api::<K>(&key.namespace).delete(&key.name, &params).await {
            Ok(_) => {}
            Err(error) if is_status(&error, 404) => {}
            Err(error) => return Err(error.into()),
        }
        self.expect(
            owner,
            cache,
            Written::Deletion {
                key,
                uid: meta.uid.clone().unwrap_or_default(),
            },
        );
        Ok(())
    }

    /// Asks the API server itself whether `owner` lives, before it adopts anything: the watch of one kind may be ahead of that
    /// of another, and a dependent released because its owner is being deleted must not be taken back.
    ///
    /// # Errors
    /// [`Error::Unfinished`] if it does not.
    pub(crate) async fn may_adopt<K: Kind>(&self, owner: &ObjectMeta) -> Result<(), Error> {
        let key = Key::of(owner);
        let found = self.api::<K>(&key.namespace).get_metadata_opt(&key.name).await?;
        let lives = |found: &ObjectMeta| found.uid == owner.uid && found.deletion_timestamp.is_none();
        if found.is_some_and(|found| lives(&found.metadata)) {
            Ok(())
        } else {
            Err(Error::Unfinished(format!(
                "{} {} is being deleted",
                K::kind(&()),
                key.name
            )))
        }
    }

    /// Tells users about an object. Never waits and never fails: events are news, not state.
    pub(crate) fn event<K: Kind>(&self, about: &ObjectMeta, tone: Tone, reason: &'static str, message: String) {
        self.recorder
            .note::<K>(component(self.name), about, tone, reason, message);
    }
}

/// The name under which Kubernetes' own component tells the same.
fn component(name: &'static str) -> &'static str {
    match name {
        "scheduler" => "default-scheduler",
        "node-lifecycle-controller" => "node-controller",
        other => other,
    }
}

/// An `Api` for a kind known at run time.
pub(crate) fn dynamic(client: &Client, resource: &ApiResource, namespace: &str) -> Api<DynamicObject>
where
    DynamicObject: Resource<Scope = DynamicResourceScope>,
{
    if namespace.is_empty() {
        Api::all_with(client.clone(), resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, resource)
    }
}

/// Options for deleting exactly the object that `meta` was read from, whatever has been written to it since.
pub(crate) fn delete_params(
    meta: &ObjectMeta,
    grace: Option<u32>,
    propagation: Option<PropagationPolicy>,
) -> DeleteParams {
    DeleteParams {
        grace_period_seconds: grace,
        propagation_policy: propagation,
        preconditions: Some(Preconditions {
            uid: meta.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    }
}

/// Adds the uid and resourceVersion of `meta` to a patch: the API server refuses it with a conflict when they no longer hold.
pub(crate) fn decided_on(meta: &ObjectMeta, mut patch: Value) -> Value {
    if let Some(object) = patch.as_object_mut() {
        let metadata = object.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("uid".into(), json!(meta.uid));
            metadata.insert("resourceVersion".into(), json!(meta.resource_version));
        }
    }
    patch
}

/// Fills in apiVersion and kind.
fn typed<K: Kind>(mut object: Value) -> Result<DynamicObject, Error> {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".into(), json!(K::api_version(&())));
        fields.insert("kind".into(), json!(K::kind(&())));
    }
    serde_json::from_value(object).map_err(Error::Object)
}

pub(crate) use afloat_words::time::whole_seconds as seconds;

/// Whether the API server answered with this code.
pub(crate) fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}
