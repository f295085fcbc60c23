//! How loops write: each write names the uid or resourceVersion it was decided on, and is remembered until the cache shows it.

use std::sync::Arc;
use std::time::Duration;

use afloat_watching::{Cache, Ledger, Looking, Witness, Writing, Written};
use afloat_words::revision::revision_of;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams, Preconditions,
    PropagationPolicy,
};
use kube::core::DynamicResourceScope;
use kube::{Api, Client, Resource};
use serde_json::{Value, json};

use crate::error::{Error, Unfinished};
use crate::loops::answer::is_status;
use crate::loops::events::{Recorder, Tone};
use crate::objects::{Key, Kind};

/// How long to wait for the cache before backing off; the decision waits either way.
const SIGHT_LIMIT: Duration = Duration::from_secs(15);

/// How a whole object is written.
enum Write<'a> {
    Create,
    Replace,
    /// Of a subresource.
    ReplacePart(&'a str),
}

/// One loop's way to the API server. What is written says its kind at run time: each way to write is compiled once.
#[derive(Clone)]
pub(crate) struct Shell {
    pub(crate) client: Client,
    pub(crate) name: &'static str,
    /// What has been written and not been seen yet.
    ledger: Arc<Ledger>,
    recorder: Recorder,
}

impl Shell {
    pub(crate) fn new(client: Client, name: &'static str, recorder: Recorder) -> Self {
        Self {
            client,
            name,
            ledger: Arc::default(),
            recorder,
        }
    }

    /// Begins a turn about `key`, once the caches show everything that was written in the turns before.
    ///
    /// # Errors
    /// [`Error::Stale`] if that takes too long; call it again before deciding.
    pub(crate) async fn settle(&self, key: &Key) -> Result<Looking<'_>, Error> {
        let settled = self.ledger.settled(key, SIGHT_LIMIT).await;
        settled.map_err(|_| Error::Stale(self.name))
    }

    /// An `Api` for kind `K` in the namespace (all or cluster scope if empty), speaking JSON.
    pub(crate) fn api<K: Resource<DynamicType = ()>>(&self, namespace: &str) -> Api<DynamicObject> {
        self.dynamic(&ApiResource::erase::<K>(&()), namespace)
    }

    /// The same for a kind known at run time.
    pub(crate) fn dynamic(&self, resource: &ApiResource, namespace: &str) -> Api<DynamicObject> {
        dynamic(&self.client, resource, namespace)
    }

    /// Creates an object.
    ///
    /// # Errors
    /// What the API server answers.
    pub(crate) fn create<'a, K: Kind>(
        &'a self,
        writing: &'a Writing<'_>,
        cache: &Arc<Cache<K>>,
        object: Value,
    ) -> BoxFuture<'a, Result<ObjectMeta, Error>> {
        self.send(
            writing,
            cache.into(),
            ApiResource::erase::<K>(&()),
            Write::Create,
            object,
        )
        .boxed()
    }

    /// Replaces an object by one with the resourceVersion that this was decided on.
    ///
    /// # Errors
    /// What the API server answers: a conflict if it has changed since.
    pub(crate) fn update<'a, K: Kind>(
        &'a self,
        writing: &'a Writing<'_>,
        cache: &Arc<Cache<K>>,
        object: Value,
    ) -> BoxFuture<'a, Result<ObjectMeta, Error>> {
        self.send(
            writing,
            cache.into(),
            ApiResource::erase::<K>(&()),
            Write::Replace,
            object,
        )
        .boxed()
    }

    /// The same of a subresource.
    ///
    /// # Errors
    /// What the API server answers: a conflict if it has changed since.
    pub(crate) fn replace_part<'a, K: Kind>(
        &'a self,
        writing: &'a Writing<'_>,
        cache: &Arc<Cache<K>>,
        subresource: &'a str,
        object: Value,
    ) -> BoxFuture<'a, Result<ObjectMeta, Error>> {
        let write = Write::ReplacePart(subresource);
        self.send(writing, cache.into(), ApiResource::erase::<K>(&()), write, object)
            .boxed()
    }

    async fn send(
        &self,
        writing: &Writing<'_>,
        cache: Witness,
        resource: ApiResource,
        write: Write<'_>,
        object: Value,
    ) -> Result<ObjectMeta, Error> {
        let object = typed(&resource, object)?;
        let key = Key::of(&object.metadata);
        let (api, params) = (self.dynamic(&resource, &key.namespace), PostParams::default());
        let answer = match write {
            Write::Create => api.create(&params, &object).await,
            Write::Replace => api.replace(&key.name, &params, &object).await,
            Write::ReplacePart(part) => api.replace_subresource(part, &key.name, &params, &object).await,
        };
        note(writing, cache, answer)
    }

    /// Merge-patches the object that `meta` was read from; a conflict if it has changed since.
    ///
    /// # Errors
    /// What the API server answers.
    pub(crate) fn patch<'a, K: Kind>(
        &'a self,
        writing: &'a Writing<'_>,
        cache: &Arc<Cache<K>>,
        meta: &'a ObjectMeta,
        subresource: Option<&'a str>,
        patch: Value,
    ) -> BoxFuture<'a, Result<ObjectMeta, Error>> {
        let patch = Patch::Merge(decided_on(meta, patch));
        let resource = ApiResource::erase::<K>(&());
        self.send_patch(writing, cache.into(), resource, meta, subresource, patch)
            .boxed()
    }

    /// The same with a strategic merge patch: lists of named things are merged.
    ///
    /// # Errors
    /// What the API server answers.
    pub(crate) fn patch_strategic<'a, K: Kind>(
        &'a self,
        writing: &'a Writing<'_>,
        cache: &Arc<Cache<K>>,
        meta: &'a ObjectMeta,
        subresource: Option<&'a str>,
        patch: Value,
    ) -> BoxFuture<'a, Result<ObjectMeta, Error>> {
        let patch = Patch::Strategic(decided_on(meta, patch));
        let resource = ApiResource::erase::<K>(&());
        self.send_patch(writing, cache.into(), resource, meta, subresource, patch)
            .boxed()
    }

    async fn send_patch(
        &self,
        writing: &Writing<'_>,
        cache: Witness,
        resource: ApiResource,
        meta: &ObjectMeta,
        subresource: Option<&str>,
        patch: Patch<Value>,
    ) -> Result<ObjectMeta, Error> {
        let key = Key::of(meta);
        let api = self.dynamic(&resource, &key.namespace);
        let params = PatchParams::default();
        let patched = match subresource {
            Some(name) => api.patch_subresource(name, &key.name, &params, &patch).await,
            None => api.patch(&key.name, &params, &patch).await,
        };
        note(writing, cache, patched)
    }

    /// Asks a question that is answered and not stored.
    ///
    /// # Errors
    /// What the API server answers.
    pub(crate) async fn ask<K: Resource<DynamicType = ()>>(&self, question: Value) -> Result<Value, Error> {
        let question = serde_json::from_value(question).map_err(Error::Object)?;
        let answered = self.api::<K>("").create(&PostParams::default(), &question).await?;
        Ok(answered.data)
    }

    /// Deletes exactly the object that `meta` was read from. One that is gone already is fine.
    ///
    /// # Errors
    /// What the API server answers.
    pub(crate) fn delete<'a, K: Kind>(
        &'a self,
        writing: &'a Writing<'_>,
        cache: &Arc<Cache<K>>,
        meta: &'a ObjectMeta,
        grace: Option<u32>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.send_delete(writing, cache.into(), ApiResource::erase::<K>(&()), meta, grace)
            .boxed()
    }

    async fn send_delete(
        &self,
        writing: &Writing<'_>,
        cache: Witness,
        resource: ApiResource,
        meta: &ObjectMeta,
        grace: Option<u32>,
    ) -> Result<(), Error> {
        let key = Key::of(meta);
        let params = delete_params(meta, grace, Some(PropagationPolicy::Background));
        match self.dynamic(&resource, &key.namespace).delete(&key.name, &params).await {
            Ok(_) => {}
            Err(error) if is_status(&error, 404) => {}
            Err(error) => return note(writing, cache, Err(error)).map(drop),
        }
        let uid = meta.uid.clone().unwrap_or_default();
        writing.wrote(cache, Written::Gone { key, uid });
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
            Err(Unfinished::OwnerIsLeaving {
                kind: K::kind(&()).into_owned(),
                name: key.name.to_string(),
            }
            .into())
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

/// Notes what came of a write. One that was not answered may have been done.
fn note(writing: &Writing<'_>, cache: Witness, outcome: kube::Result<DynamicObject>) -> Result<ObjectMeta, Error> {
    match outcome {
        Ok(written) => {
            writing.wrote(cache, Written::Version(revision_of(&written.metadata)));
            Ok(written.metadata)
        }
        Err(error) => {
            if !matches!(error, kube::Error::Api(_)) {
                writing.wrote(cache, Written::Unknown);
            }
            Err(error.into())
        }
    }
}

/// Fills in apiVersion and kind.
fn typed(resource: &ApiResource, mut object: Value) -> Result<DynamicObject, Error> {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".into(), json!(resource.api_version));
        fields.insert("kind".into(), json!(resource.kind));
    }
    serde_json::from_value(object).map_err(Error::Object)
}
