//! Carries out what is decided about images, each with the version that it was decided on.

use afloat_api::{ImageListPullJob, ImagePullJob, NodeImage};
use afloat_images::{Action, At};
use afloat_watching::Written;
use afloat_words::key::Key;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Request;
use kube::{Client, Resource};
use serde_json::{Value, json};

use crate::round::act::{Outcome, version};

/// The kinds that are written and watched.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    NodeImage,
    Job,
    List,
    Secret,
}

/// Carries out one action; the error is what became of it instead.
pub(super) async fn perform(client: &Client, action: &Action) -> (Kind, Result<Written, Outcome>) {
    let server = Server { client };
    match action {
        Action::CreateNodeImage { body } => (Kind::NodeImage, server.create::<NodeImage>(body).await),
        Action::PatchNodeImage { at, patch } => (Kind::NodeImage, server.patch::<NodeImage>(at, None, patch).await),
        Action::PatchNodeImageStatus { at, patch } => {
            let done = server.patch::<NodeImage>(at, Some("status"), patch);
            (Kind::NodeImage, done.await)
        }
        Action::DeleteNodeImage { at } => (Kind::NodeImage, server.delete::<NodeImage>(at).await),
        Action::CreateJob { body } => (Kind::Job, server.create::<ImagePullJob>(body).await),
        Action::PatchJob { at, patch } => (Kind::Job, server.patch::<ImagePullJob>(at, None, patch).await),
        Action::PatchJobStatus { at, patch } => {
            let done = server.patch::<ImagePullJob>(at, Some("status"), patch);
            (Kind::Job, done.await)
        }
        Action::DeleteJob { at } => (Kind::Job, server.delete::<ImagePullJob>(at).await),
        Action::PatchListStatus { at, patch } => {
            let done = server.patch::<ImageListPullJob>(at, Some("status"), patch);
            (Kind::List, done.await)
        }
        Action::DeleteList { at } => (Kind::List, server.delete::<ImageListPullJob>(at).await),
        Action::CreateSecret { body } => (Kind::Secret, server.create::<Secret>(body).await),
        Action::PatchSecret { at, patch } => (Kind::Secret, server.patch::<Secret>(at, None, patch).await),
        Action::DeleteSecret { at } => (Kind::Secret, server.delete::<Secret>(at).await),
    }
}

struct Server<'a> {
    client: &'a Client,
}

fn path<K: Resource<DynamicType = ()>>(namespace: &str) -> String {
    K::url_path(&(), Some(namespace).filter(|namespace| !namespace.is_empty()))
}

impl Server<'_> {
    async fn create<K: Resource<DynamicType = ()>>(&self, body: &Value) -> Result<Written, Outcome> {
        let namespace = body.pointer("/metadata/namespace").and_then(Value::as_str);
        let request = Request::new(path::<K>(namespace.unwrap_or_default()));
        let request = request.create(&PostParams::default(), body.to_string().into_bytes());
        version(self.client, "create", request).await.map(Written::Version)
    }

    async fn patch<K: Resource<DynamicType = ()>>(
        &self,
        at: &At,
        part: Option<&str>,
        patch: &Value,
    ) -> Result<Written, Outcome> {
        let mut patch = patch.clone();
        patch["metadata"]["uid"] = json!(at.uid);
        patch["metadata"]["resourceVersion"] = json!(at.resource_version);
        let (request, params) = (Request::new(path::<K>(&at.namespace)), PatchParams::default());
        let patch = Patch::Merge(patch);
        let request = match part {
            None => request.patch(&at.name, &params, &patch),
            Some(part) => request.patch_subresource(part, &at.name, &params, &patch),
        };
        version(self.client, "patch", request).await.map(Written::Version)
    }

    async fn delete<K: Resource<DynamicType = ()>>(&self, at: &At) -> Result<Written, Outcome> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(at.uid.clone()),
                resource_version: Some(at.resource_version.clone()),
            }),
            ..DeleteParams::default()
        };
        let request = Request::new(path::<K>(&at.namespace)).delete(&at.name, &params);
        let gone = Written::Gone {
            key: Key::new(at.namespace.as_str(), at.name.as_str()),
            uid: at.uid.clone(),
        };
        version(self.client, "delete", request).await.map(|_| gone)
    }
}
