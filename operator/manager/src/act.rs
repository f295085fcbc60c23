//! Carries out the actions of a plan, each with the preconditions that it was decided on.

use afloat_api::RolloutReport;
use afloat_rollout::action::{Action, At, Why};
use afloat_rollout::claim::Claim;
use afloat_rollout::pod::Wire as PodWire;
use afloat_rollout::revision;
use afloat_watching::Written;
use afloat_watching::cache::revision_of;
use afloat_words::key::Key;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Request;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::REQUEST_TIMEOUT;

/// The kinds that are written and watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    CloneSet,
    Pod,
    Revision,
    Claim,
    Report,
}

/// What became of a write.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Done; these will be seen.
    Done(Vec<(Kind, Written)>),
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
pub(crate) async fn perform(client: &Client, namespace: &str, action: &Action) -> Outcome {
    match action {
        // Its data is stored as it is sent, and OpenKruise compares the bytes.
        Action::CreateRevision { body } => {
            create::<ControllerRevision>(client, namespace, revision::bytes(body), Kind::Revision).await
        }
        Action::CreatePod { body } => create::<PodWire>(client, namespace, text(body), Kind::Pod).await,
        Action::NumberRevision { at, number } => {
            let api = Api::<ControllerRevision>::namespaced(client.clone(), namespace);
            let patch = json!({
                "metadata": {"uid": at.uid, "resourceVersion": at.resource_version}, "revision": number,
            });
            let parameters = PatchParams::default();
            let merge = Patch::Merge(&patch);
            let call = api.patch(&at.name, &parameters, &merge);
            answer(Kind::Revision, limited(call).await, |revision: &ControllerRevision| {
                &revision.metadata
            })
        }
        Action::DeleteRevision { at } => {
            delete(
                Api::<ControllerRevision>::namespaced(client.clone(), namespace),
                namespace,
                at,
                Kind::Revision,
            )
            .await
        }
        Action::DeletePod { at, claims, .. } => {
            let api = Api::<PodWire>::namespaced(client.clone(), namespace);
            let mut outcome = delete(api, namespace, at, Kind::Pod).await;
            if let Outcome::Done(expected) = &mut outcome {
                for claim in claims {
                    // What does not go now is found without a pod later.
                    if let Outcome::Done(gone) = delete_claim(client, namespace, claim).await {
                        expected.extend(gone);
                    }
                }
            }
            outcome
        }
        Action::CreateClaim { body } => create::<Claim>(client, namespace, text(body), Kind::Claim).await,
        Action::DeleteClaim { at } => delete_claim(client, namespace, at).await,
        Action::PatchClaim { at, patch } => {
            let api = Api::<Claim>::namespaced(client.clone(), namespace);
            let (parameters, patch) = (PatchParams::default(), Patch::Strategic(patch));
            let call = api.patch(&at.name, &parameters, &patch);
            answer(Kind::Claim, limited(call).await, |claim: &Claim| &claim.metadata)
        }
        Action::PatchSet { at, patch } => {
            let api = Api::<afloat_api::CloneSet>::namespaced(client.clone(), namespace);
            let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
            let call = api.patch(&at.name, &parameters, &patch);
            answer(Kind::CloneSet, limited(call).await, |set: &afloat_api::CloneSet| {
                &set.metadata
            })
        }
        Action::PatchPod { at, patch, .. } => {
            let api = Api::<PodWire>::namespaced(client.clone(), namespace);
            let (parameters, patch) = (PatchParams::default(), Patch::Strategic(patch));
            answer(
                Kind::Pod,
                limited(api.patch(&at.name, &parameters, &patch)).await,
                |pod: &PodWire| &pod.metadata,
            )
        }
        Action::ResizePod { at, patch } => {
            let api = Api::<PodWire>::namespaced(client.clone(), namespace);
            let (parameters, patch) = (PatchParams::default(), Patch::Strategic(patch));
            let call = api.patch_subresource("resize", &at.name, &parameters, &patch);
            answer(Kind::Pod, limited(call).await, |pod: &PodWire| &pod.metadata)
        }
        Action::OpenBarrier { body, .. } => open_barrier(client, namespace, body).await,
        Action::WriteReport { at: None, body } => {
            create::<RolloutReport>(client, namespace, text(body), Kind::Report).await
        }
        Action::WriteReport { at: Some(at), body } => {
            let api = Api::<RolloutReport>::namespaced(client.clone(), namespace);
            let (parameters, patch) = (PatchParams::default(), Patch::Merge(body));
            let call = api.patch(&at.name, &parameters, &patch);
            answer(Kind::Report, limited(call).await, |report: &RolloutReport| {
                &report.metadata
            })
        }
        Action::DeleteReport { at } => {
            let api = Api::<RolloutReport>::namespaced(client.clone(), namespace);
            delete(api, namespace, at, Kind::Report).await
        }
        Action::PatchPodStatus { at, patch, .. } => {
            let api = Api::<PodWire>::namespaced(client.clone(), namespace);
            let (parameters, patch) = (PatchParams::default(), Patch::Strategic(patch));
            answer(
                Kind::Pod,
                limited(api.patch_status(&at.name, &parameters, &patch)).await,
                |pod: &PodWire| &pod.metadata,
            )
        }
    }
}

/// Writes a CloneSet's status, decided on that version of it.
pub(crate) async fn write_status(client: &Client, key: &Key, meta: &ObjectMeta, status: &Value) -> Outcome {
    let api = Api::<afloat_api::CloneSet>::namespaced(client.clone(), &key.namespace);
    let patch = json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version}, "status": status});
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(&patch));
    let call = api.patch_status(&key.name, &parameters, &patch);
    answer(Kind::CloneSet, limited(call).await, |set: &afloat_api::CloneSet| {
        &set.metadata
    })
}

fn text(body: &Value) -> Vec<u8> {
    body.to_string().into_bytes()
}

async fn create<K>(client: &Client, namespace: &str, bytes: Vec<u8>, kind: Kind) -> Outcome
where
    K: Resource<DynamicType = ()> + k8s_openapi::Metadata<Ty = ObjectMeta> + DeserializeOwned,
{
    let request = match Request::new(K::url_path(&(), Some(namespace))).create(&PostParams::default(), bytes) {
        Ok(mut request) => {
            request.extensions_mut().insert("create");
            request
        }
        Err(error) => return Outcome::Refused(error.to_string()),
    };
    answer(kind, limited(client.request::<K>(request)).await, |object: &K| {
        object.metadata()
    })
}

/// Adds to a ConfigMap, or creates it. Nobody decides on it, so no cache has to see it.
async fn open_barrier(client: &Client, namespace: &str, body: &Value) -> Outcome {
    let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
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

async fn delete_claim(client: &Client, namespace: &str, at: &At) -> Outcome {
    let api = Api::<Claim>::namespaced(client.clone(), namespace);
    delete(api, namespace, at, Kind::Claim).await
}

async fn delete<K>(api: Api<K>, namespace: &str, at: &At, kind: Kind) -> Outcome
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(at.uid.clone()),
            resource_version: Some(at.resource_version.clone()),
        }),
        ..DeleteParams::default()
    };
    let gone = Written::Gone {
        key: Key::new(namespace, at.name.as_str()),
        uid: at.uid.clone(),
    };
    match limited(api.delete(&at.name, &parameters)).await {
        Ok(_) => Outcome::Done(vec![(kind, gone)]),
        Err(error) => failure(&error),
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

fn answer<K>(kind: Kind, result: Result<K, Failure>, meta: fn(&K) -> &ObjectMeta) -> Outcome {
    match result {
        Ok(object) => Outcome::Done(vec![(kind, Written::Version(revision_of(meta(&object))))]),
        Err(error) => failure(&error),
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

/// The event that tells of an action, if any: type, reason, message.
pub(crate) fn event(action: &Action, refused: Option<&str>) -> Option<(&'static str, &'static str, String)> {
    let (done, failed, what) = match action {
        Action::CreatePod { body } => {
            let name = body
                .pointer("/metadata/name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            ("SuccessfulCreate", "FailedCreate", format!("create pod {name}"))
        }
        Action::DeletePod {
            at, why: Why::ReCreate, ..
        } => (
            "SuccessfulUpdatePodReCreate",
            "FailedUpdatePodReCreate",
            format!("delete pod {} for update", at.name),
        ),
        Action::ResizePod { at, .. } if refused.is_some() => {
            ("", "FailedUpdatePodInPlace", format!("resize pod {} in-place", at.name))
        }
        Action::DeletePod { at, .. } => ("SuccessfulDelete", "FailedDelete", format!("delete pod {}", at.name)),
        Action::PatchPod {
            at,
            patch,
            why: Why::Update,
        } => {
            let labels = patch.pointer("/metadata/labels");
            let revision = labels
                .and_then(|labels| labels.get(afloat_api::names::REVISION))
                .and_then(Value::as_str);
            let what = format!(
                "update pod {} in-place(revision {})",
                at.name,
                revision.unwrap_or_default()
            );
            ("SuccessfulUpdatePodInPlace", "FailedUpdatePodInPlace", what)
        }
        _ => return None,
    };
    Some(match refused {
        None => ("Normal", done, format!("succeed to {what}")),
        Some(why) => ("Warning", failed, format!("failed to {what}: {why}")),
    })
}

/// What kind an action writes; none if nobody decides on it.
pub(crate) fn kind(action: &Action) -> Option<Kind> {
    Some(match action {
        Action::CreateRevision { .. } | Action::NumberRevision { .. } | Action::DeleteRevision { .. } => Kind::Revision,
        Action::CreatePod { .. }
        | Action::DeletePod { .. }
        | Action::PatchPod { .. }
        | Action::PatchPodStatus { .. }
        | Action::ResizePod { .. } => Kind::Pod,
        Action::CreateClaim { .. } | Action::PatchClaim { .. } | Action::DeleteClaim { .. } => Kind::Claim,
        Action::PatchSet { .. } => Kind::CloneSet,
        Action::WriteReport { .. } | Action::DeleteReport { .. } => Kind::Report,
        Action::OpenBarrier { .. } => return None,
    })
}

/// Why an action writes, as a metric label.
pub(crate) fn reason(action: &Action) -> &'static str {
    match action {
        Action::CreateRevision { .. } | Action::NumberRevision { .. } | Action::DeleteRevision { .. } => "revision",
        Action::CreatePod { .. } => Why::ScaleUp.as_str(),
        Action::PatchSet { .. } => "prune",
        Action::WriteReport { .. } | Action::DeleteReport { .. } => "report",
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
        let data = revision::data(&template);
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
        perform(&Client::new(service, "default"), "default", &action).await;
        let text = String::from_utf8(seen.recv().await.unwrap()).unwrap();
        let wanted = String::from_utf8(revision::bytes(&data)).unwrap();
        assert!(text.contains(&wanted), "{text}");
    }
}
