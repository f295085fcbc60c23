//! Carries out the actions of a plan, each with the preconditions that it was decided on.

use std::time::Duration;

use afloat_api::RolloutReport;
use afloat_rollout::action::patch::new_report;
use afloat_rollout::action::{Action, At, Why};
use afloat_rollout::go::bytes;
use afloat_rollout::pod::launch::config_map;
use afloat_rollout::pod::{Pod, Wire as PodWire};
use afloat_rollout::workload::claim::Claim;
use afloat_watching::Written;
use afloat_words::key::Key;
use afloat_words::revision::revision;
use http::header::{ACCEPT, HeaderValue};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Request;
use kube::{Client, Resource};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::kind::Kind;

/// Time limit of one request to the API server.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// What is written and watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Workload,
    Pod,
    Revision,
    Claim,
    Report,
}

/// What became of a write.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Done; these will be seen.
    Done(Vec<(What, Written)>),
    /// The object has changed or gone meanwhile: look again.
    Conflict,
    /// An object of that name exists.
    AlreadyExists,
    /// Not tried, as others like it were refused.
    Skipped,
    /// Refused; nothing happened.
    Refused(String),
    /// No answer: it may have taken effect.
    Unknown(String),
}

/// Carries out one action.
pub(crate) async fn perform<K: Kind>(client: &Client, namespace: &str, action: &Action) -> Outcome {
    let server = Server { client, namespace };
    match action {
        // Its data is stored as it is sent, and OpenKruise compares the bytes.
        Action::CreateRevision { body } => server.create::<ControllerRevision>(bytes(body), What::Revision).await,
        Action::NumberRevision { at, number } => {
            let patch = Patch::Merge(number.json(at));
            server
                .patch::<ControllerRevision>(at, None, patch, What::Revision)
                .await
        }
        Action::DeleteRevision { at } => server.delete::<ControllerRevision>(at, What::Revision).await,
        Action::CreatePod { pod } => server.create::<PodWire>(text(&pod.body()), What::Pod).await,
        Action::PatchPod { at, patch, .. } => {
            let patch = Patch::Strategic(patch.json(at));
            server.patch::<PodWire>(at, None, patch, What::Pod).await
        }
        Action::PatchPodStatus { at, patch, .. } => {
            let patch = Patch::Strategic(patch.json(at));
            server.patch::<PodWire>(at, Some("status"), patch, What::Pod).await
        }
        Action::ResizePod { at, patch } => {
            let patch = Patch::Strategic(patch.json(at));
            server.patch::<PodWire>(at, Some("resize"), patch, What::Pod).await
        }
        Action::DeletePod { at, claims, .. } => server.delete_pod(at, claims).await,
        Action::CreateClaim { body } => server.create::<Claim>(text(body), What::Claim).await,
        Action::PatchClaim { at, patch } => {
            let patch = Patch::Strategic(patch.json(at));
            server.patch::<Claim>(at, None, patch, What::Claim).await
        }
        Action::DeleteClaim { at } => server.delete::<Claim>(at, What::Claim).await,
        Action::PatchSet { at, patch } => {
            let patch = Patch::Merge(patch.json(at));
            server.patch::<K>(at, None, patch, What::Workload).await
        }
        Action::OpenBarrier {
            pod,
            namespace,
            uid,
            priority,
        } => server.open_barrier(&config_map(pod, namespace, uid, *priority)).await,
        Action::CreateReport { report } => {
            server
                .create::<RolloutReport>(text(&new_report(report)), What::Report)
                .await
        }
        Action::PatchReport { at, patch } => {
            let patch = Patch::Merge(patch.json(at));
            server.patch::<RolloutReport>(at, None, patch, What::Report).await
        }
        Action::DeleteReport { at } => server.delete::<RolloutReport>(at, What::Report).await,
    }
}

/// A pod as the API server has it now; None if that cannot be had.
pub(crate) async fn present(client: &Client, namespace: &str, name: &str) -> Option<Pod> {
    let api: Api<PodWire> = Api::namespaced(client.clone(), namespace);
    limited(api.get(name)).await.ok().map(Pod::from)
}

/// Writes a workload's status, decided on that version of it.
pub(crate) async fn write_status<K: Kind>(client: &Client, key: &Key, meta: &ObjectMeta, status: &Value) -> Outcome {
    let patch = json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version}, "status": status});
    let server = Server {
        client,
        namespace: &key.namespace,
    };
    let patch = Patch::Merge(patch);
    let at = At {
        name: key.name.to_string(),
        ..At::of(meta)
    };
    server.patch::<K>(&at, Some("status"), patch, What::Workload).await
}

fn text(body: &Value) -> Vec<u8> {
    body.to_string().into_bytes()
}

/// A kind that is written.
trait Of: Resource<DynamicType = (), Scope = NamespaceResourceScope> {}

impl<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>> Of for K {}

/// What is read of an answer: thousands come, and whole objects would be ten kilobytes each.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    metadata: Versioned,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Versioned {
    resource_version: String,
}

/// [Partial object metadata](https://kubernetes.io/docs/reference/using-api/api-concepts/), if the server has that.
const METADATA: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json");

/// Where a workload's objects are written.
struct Server<'a> {
    client: &'a Client,
    namespace: &'a str,
}

impl Server<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    async fn create<K: Of>(&self, bytes: Vec<u8>, what: What) -> Outcome {
        let request = Request::new(self.path::<K>()).create(&PostParams::default(), bytes);
        self.ask(what, "create", request).await
    }

    async fn patch<K: Of>(&self, at: &At, part: Option<&str>, patch: Patch<Value>, what: What) -> Outcome {
        let (request, parameters) = (Request::new(self.path::<K>()), PatchParams::default());
        let request = match part {
            None => request.patch(&at.name, &parameters, &patch),
            Some(part) => request.patch_subresource(part, &at.name, &parameters, &patch),
        };
        self.ask(what, "patch", request).await
    }

    async fn delete<K: Of>(&self, at: &At, what: What) -> Outcome {
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(at.uid.clone()),
                resource_version: Some(at.resource_version.clone()),
            }),
            ..DeleteParams::default()
        };
        let gone = Written::Gone {
            key: Key::new(self.namespace, at.name.as_str()),
            uid: at.uid.clone(),
        };
        let request = Request::new(self.path::<K>()).delete(&at.name, &parameters);
        match self.ask(what, "delete", request).await {
            Outcome::Done(_) => Outcome::Done(vec![(what, gone)]),
            other => other,
        }
    }

    fn path<K: Of>(&self) -> String {
        K::url_path(&(), Some(self.namespace))
    }

    /// Asks for metadata alone, as of the answer only the version is read; a server that answers with more may.
    async fn ask(
        &self,
        what: What,
        name: &'static str,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Outcome {
        match version(self.client, name, request).await {
            Ok(version) => Outcome::Done(vec![(what, Written::Version(version))]),
            Err(outcome) => outcome,
        }
    }

    async fn delete_pod(&self, at: &At, claims: &[At]) -> Outcome {
        let mut outcome = self.delete::<PodWire>(at, What::Pod).await;
        if let Outcome::Done(expected) = &mut outcome {
            for claim in claims {
                // What does not go now is found without a pod later.
                if let Outcome::Done(gone) = self.delete::<Claim>(claim, What::Claim).await {
                    expected.extend(gone);
                }
            }
        }
        outcome
    }

    /// Adds to a ConfigMap, or creates it. Nobody decides on it, so no cache has to see it.
    async fn open_barrier(&self, body: &Value) -> Outcome {
        let api = self.api::<ConfigMap>();
        let name = body
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let data = json!({"data": body["data"]});
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(&data));
        let outcome = match limited(api.patch_metadata(name, &parameters, &patch)).await {
            Err(Failure::Kube(kube::Error::Api(status))) if status.code == 404 => {
                let object: ConfigMap = match serde_json::from_value(body.clone()) {
                    Ok(object) => object,
                    Err(error) => return Outcome::Refused(error.to_string()),
                };
                limited(api.create(&PostParams::default(), &object)).await.map(|_| ())
            }
            other => other.map(|_| ()),
        };
        match outcome {
            Ok(()) => Outcome::Done(Vec::new()),
            Err(error) => failure(&error),
        }
    }
}

/// Sends a write; gives the version that came of it.
///
/// # Errors
/// What became of it instead.
pub(crate) async fn version(
    client: &Client,
    name: &'static str,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<u64, Outcome> {
    let mut request = request.map_err(|error| Outcome::Refused(error.to_string()))?;
    request.extensions_mut().insert(name);
    request.headers_mut().insert(ACCEPT, METADATA);
    match limited(client.request::<Answer>(request)).await {
        Ok(answer) => Ok(revision(&answer.metadata.resource_version)),
        Err(error) => Err(failure(&error)),
    }
}

/// An error, or no answer in time.
enum Failure {
    Kube(kube::Error),
    Timeout,
}

async fn limited<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(REQUEST_TIMEOUT, call).await {
        Ok(result) => result.map_err(Failure::Kube),
        Err(_) => Err(Failure::Timeout),
    }
}

fn failure(error: &Failure) -> Outcome {
    match error {
        Failure::Kube(kube::Error::Api(status)) => match (status.code, status.reason.as_str()) {
            (409, "AlreadyExists") => Outcome::AlreadyExists,
            (404 | 409, _) => Outcome::Conflict,
            // A server that gave up may have done the work all the same.
            (500.., _) => Outcome::Unknown(status.message.clone()),
            _ => Outcome::Refused(status.message.clone()),
        },
        Failure::Kube(error) => Outcome::Unknown(error.to_string()),
        Failure::Timeout => Outcome::Unknown(format!("no answer within {REQUEST_TIMEOUT:?}")),
    }
}

/// What an action writes; nothing if nobody decides on it.
pub(crate) fn what(action: &Action) -> Option<What> {
    Some(match action {
        Action::CreateRevision { .. } | Action::NumberRevision { .. } | Action::DeleteRevision { .. } => What::Revision,
        Action::CreatePod { .. }
        | Action::DeletePod { .. }
        | Action::PatchPod { .. }
        | Action::PatchPodStatus { .. }
        | Action::ResizePod { .. } => What::Pod,
        Action::CreateClaim { .. } | Action::PatchClaim { .. } | Action::DeleteClaim { .. } => What::Claim,
        Action::PatchSet { .. } => What::Workload,
        Action::CreateReport { .. } | Action::PatchReport { .. } | Action::DeleteReport { .. } => What::Report,
        Action::OpenBarrier { .. } => return None,
    })
}

/// Why an action writes, as a metric label.
pub(crate) fn reason(action: &Action) -> &'static str {
    match action {
        Action::CreateRevision { .. } | Action::NumberRevision { .. } | Action::DeleteRevision { .. } => "revision",
        Action::CreatePod { .. } => Why::ScaleUp.as_str(),
        Action::PatchSet { .. } => "prune",
        Action::CreateReport { .. } | Action::PatchReport { .. } | Action::DeleteReport { .. } => "report",
        Action::ResizePod { .. } => "resize",
        Action::OpenBarrier { .. } => "barrier",
        Action::CreateClaim { .. } | Action::PatchClaim { .. } | Action::DeleteClaim { .. } => "claim",
        Action::DeletePod { why, .. } | Action::PatchPod { why, .. } | Action::PatchPodStatus { why, .. } => {
            why.as_str()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use http_body_util::BodyExt;
    use kube::client::Body;

    #[tokio::test]
    async fn a_revision_is_sent_in_the_bytes_that_were_hashed() {
        let template = json!({"metadata": {"annotations": {"b": "<&>", "a": "x"}}, "spec": {"containers": []}});
        let data = afloat_rollout::workload::revision::data(&template);
        let (sent, mut seen) = tokio::sync::mpsc::channel(1);
        let service = tower::service_fn(move |request: Request<Body>| {
            let sent = sent.clone();
            async move {
                let bytes = request.into_body().collect().await?.to_bytes();
                let _ = sent.send(bytes.to_vec()).await;
                Ok::<_, kube::Error>(Response::new(Body::from(b"{}".to_vec())))
            }
        });
        let action = Action::CreateRevision {
            body: json!({"metadata": {"name": "web-x"}, "data": data, "revision": 1}),
        };
        perform::<afloat_api::CloneSet>(&Client::new(service, "default"), "default", &action).await;
        let text = String::from_utf8(seen.recv().await.unwrap()).unwrap();
        let wanted = String::from_utf8(bytes(&data)).unwrap();
        assert!(text.contains(&wanted), "{text}");
    }
}
