//! As much of an API server as a proxy and the EndpointSlice controller talk to: list, watch, create, replace, delete.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Objects and their history.
pub(crate) struct FakeApi {
    inner: Mutex<Inner>,
    revision: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<(String, String), Value>,
    /// Kind (plural) and watch event, in order of revision: entry n has revision n + 1.
    log: Vec<(String, String)>,
    requests: Vec<String>,
}

/// A watch's line, in Kubernetes' own order: what it is about comes first, and tells how to read the object.
fn event(kind: &str, object: &Value) -> String {
    format!(r#"{{"type":"{kind}","object":{object}}}"#)
}

impl FakeApi {
    pub(crate) fn new() -> Arc<FakeApi> {
        Arc::new(FakeApi {
            inner: Mutex::default(),
            revision: watch::Sender::new(0),
        })
    }

    pub(crate) fn client(self: &Arc<Self>) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Stores an object as new or changed; answers its revision.
    pub(crate) fn put(&self, plural: &str, mut object: Value) -> Value {
        let mut inner = self.inner.lock().unwrap();
        let revision = inner.log.len() as u64 + 1;
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.entry("namespace").or_insert("default".into());
        metadata.insert("resourceVersion".into(), revision.to_string().into());
        if !metadata.contains_key("name") {
            let prefix = metadata["generateName"].as_str().unwrap().to_owned();
            metadata.insert("name".into(), format!("{prefix}{revision:05}").into());
        }
        metadata.entry("uid").or_insert(format!("uid-{revision}").into());
        let name = metadata["name"].as_str().unwrap().to_owned();
        let old = inner.objects.insert((plural.into(), name), object.clone());
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        inner.log.push((plural.into(), event(kind, &object)));
        drop(inner);
        self.revision.send_replace(revision);
        object
    }

    pub(crate) fn delete(&self, plural: &str, name: &str) -> Option<Value> {
        let mut inner = self.inner.lock().unwrap();
        let mut object = inner.objects.remove(&(plural.into(), name.into()))?;
        let revision = inner.log.len() as u64 + 1;
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        inner.log.push((plural.into(), event("DELETED", &object)));
        drop(inner);
        self.revision.send_replace(revision);
        Some(object)
    }

    pub(crate) fn list(&self, plural: &str) -> Vec<Value> {
        let inner = self.inner.lock().unwrap();
        inner
            .objects
            .iter()
            .filter(|((kind, _), _)| kind == plural)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// `METHOD plural/name` of every write so far.
    #[allow(dead_code)] // used by the controller's tests
    pub(crate) fn writes(&self) -> Vec<String> {
        self.inner.lock().unwrap().requests.clone()
    }

    async fn answer(self: Arc<Self>, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let path: Vec<&str> = parts.uri.path().split('/').filter(|part| !part.is_empty()).collect();
        let at = path
            .iter()
            .position(|part| ["pods", "services", "endpointslices"].contains(part))
            .unwrap();
        let (plural, name) = (
            path[at].to_owned(),
            path.get(at + 1).copied().unwrap_or_default().to_owned(),
        );
        let query = parts.uri.query().unwrap_or_default().to_owned();
        if parts.method == Method::GET {
            return if query.contains("watch=true") {
                self.watch(plural, &query)
            } else {
                self.list_answer(&plural)
            };
        }
        let body: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap_or_default();
        self.inner
            .lock()
            .unwrap()
            .requests
            .push(format!("{} {plural}/{name}", parts.method));
        let current = self
            .inner
            .lock()
            .unwrap()
            .objects
            .get(&(plural.clone(), name.clone()))
            .cloned();
        let precondition = match parts.method {
            Method::DELETE => body["preconditions"]["resourceVersion"].clone(),
            _ => body["metadata"]["resourceVersion"].clone(),
        };
        match (parts.method, current) {
            (Method::POST, _) => reply(201, &self.put(&plural, body)),
            (_, None) => status(404, "NotFound"),
            (_, Some(current)) if precondition != current["metadata"]["resourceVersion"] => status(409, "Conflict"),
            (Method::PUT, _) => reply(200, &self.put(&plural, body)),
            (Method::DELETE, _) => reply(200, &self.delete(&plural, &name).unwrap()),
            _ => status(405, "MethodNotAllowed"),
        }
    }

    fn list_answer(&self, plural: &str) -> Answer {
        let items = self.list(plural);
        let revision = self.inner.lock().unwrap().log.len().to_string();
        reply(
            200,
            &json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": revision}, "items": items}),
        )
    }

    fn watch(self: Arc<Self>, plural: String, query: &str) -> Answer {
        let from = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("resourceVersion="))
            .unwrap();
        let start = (self.revision.subscribe(), from.parse::<usize>().unwrap());
        let lines = futures::stream::unfold(start, move |(mut revision, mut position)| {
            let (api, plural) = (self.clone(), plural.clone());
            async move {
                loop {
                    let next = api.inner.lock().unwrap().log.get(position).cloned();
                    if let Some((kind, event)) = next {
                        position += 1;
                        if kind == plural {
                            let line = Bytes::from(format!("{event}\n"));
                            return Some((Ok::<_, Infallible>(Frame::data(line)), (revision, position)));
                        }
                    } else {
                        revision.wait_for(|now| *now as usize > position).await.ok()?;
                    }
                }
            }
        });
        Response::new(StreamBody::new(lines).boxed_unsync())
    }
}

fn reply(code: u16, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

fn status(code: u16, reason: &str) -> Answer {
    reply(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason}),
    )
}
