//! With a runtime without processes, and an API server of one kind: merges patches, counts versions, tells whoever watches.

use std::sync::{Mutex, PoisonError};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::fake::{FakeRuntime, container};
use crate::workers;

struct Server {
    objects: Mutex<BTreeMap<String, Value>>,
    version: watch::Sender<u64>,
}

impl Server {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            objects: Mutex::default(),
            version: watch::Sender::new(1),
        })
    }

    /// Changes an object, which has to be at the version that the change names.
    fn write(&self, name: &str, change: impl FnOnce(&mut Value)) -> (u16, Value) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let mut object = objects.get(name).cloned().unwrap_or_default();
        let before = object["metadata"]["resourceVersion"].clone();
        change(&mut object);
        if !before.is_null() && object["metadata"]["resourceVersion"] != before {
            return (
                409,
                json!({"kind": "Status", "status": "Failure", "reason": "Conflict", "message": "late", "code": 409}),
            );
        }
        let version = *self.version.borrow() + 1;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        objects.insert(name.to_owned(), object.clone());
        self.version.send_replace(version);
        (200, object)
    }

    fn get(&self, name: &str) -> Value {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.get(name).cloned().unwrap_or_default()
    }

    /// What has changed since a version; waits for it.
    async fn changes(&self, since: u64) -> String {
        let mut version = self.version.subscribe();
        let _ = version.wait_for(|now| *now > since).await;
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = |object: &&Value| {
            object["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .parse::<u64>()
                .unwrap()
                > since
        };
        let told = objects.values().filter(newer);
        told.map(|object| format!("{}\n", json!({"type": "MODIFIED", "object": object})))
            .collect()
    }

    async fn answer(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let last = path.rsplit('/').next().unwrap_or_default();
        let number = |key: &str| {
            let value = query.split('&').find_map(|pair| pair.strip_prefix(key))?;
            value.parse::<u64>().ok()
        };
        let (code, text) = if request.method() == http::Method::PATCH {
            let name = path.rsplit('/').nth(1).unwrap_or_default().to_owned();
            let bytes = request.into_body().collect().await.unwrap().to_bytes();
            let patch: Value = serde_json::from_slice(&bytes).unwrap();
            let (code, object) = self.write(&name, |object| {
                for (key, value) in patch["status"].as_object().unwrap() {
                    object["status"][key] = value.clone();
                }
                object["metadata"]["resourceVersion"] = patch["metadata"]["resourceVersion"].clone();
            });
            (code, object.to_string())
        } else if query.contains("watch=true") {
            (200, self.changes(number("resourceVersion=").unwrap_or_default()).await)
        } else if last == "containerrecreaterequests" {
            let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
            let items: Vec<_> = objects.values().collect();
            let version = self.version.borrow().to_string();
            (
                200,
                json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items})
                    .to_string(),
            )
        } else {
            (200, self.get(last).to_string())
        };
        Response::builder()
            .status(code)
            .body(Body::from(text.into_bytes()))
            .unwrap()
    }
}

fn request(policy: &str) -> Value {
    let asked = |name: &str| {
        json!({"name": name, "statusContext": {"containerID": format!("fake://{name}"), "restartCount": 0},
        "preStop": {"exec": {"command": ["/bye"]}}})
    };
    json!({
        "apiVersion": "apps.kruise.io/v1beta1", "kind": "ContainerRecreateRequest",
        "metadata": {"name": "r", "namespace": "n", "uid": "1", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {
            "crr.apps.kruise.io/pod-uid": "p", "crr.apps.kruise.io/node-name": "node", "crr.apps.kruise.io/active": "true"}},
        "spec": {"podName": "web", "containers": [asked("app"), asked("log")],
            "strategy": {"failurePolicy": policy, "terminationGracePeriodSeconds": 5}},
    })
}

/// A node with two containers and its agent; and what the runtime was asked for when the request looks as wished.
async fn run(policy: &str, failure: Option<RuntimeError>, wish: impl Fn(&Value) -> bool) -> (Value, Vec<String>) {
    let server = Server::new();
    server.write("r", |object| *object = request(policy));
    let answering = server.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let server = answering.clone();
        async move { Ok::<_, std::convert::Infallible>(server.answer(request).await) }
    });
    let runtime = Arc::new(FakeRuntime::default());
    for name in ["app", "log"] {
        runtime.put_container(container(name, "p", name, Timestamp::UNIX_EPOCH));
    }
    runtime.fail("stop", failure);
    let shutdown = CancellationToken::new();
    let node = Node::new(
        Client::new(service, "default"),
        "node",
        runtime.clone(),
        shutdown.clone(),
    );
    let work = tokio::spawn(workers::run(node));
    let mut version = server.version.subscribe();
    let seen = version.wait_for(|_| wish(&server.get("r")));
    tokio::time::timeout(Duration::from_secs(30), seen)
        .await
        .expect("in time")
        .expect("a server");
    shutdown.cancel();
    work.await.expect("it ends");
    (server.get("r")["status"].clone(), runtime.journal())
}

fn over(request: &Value) -> bool {
    request["status"]["phase"] == "Completed"
}

#[tokio::test]
async fn hooks_run_and_all_are_stopped_in_their_order() {
    let both = |request: &Value| request["status"]["containerRecreateStates"][1]["isKilled"] == true;
    let (status, asked) = run("Fail", None, both).await;
    let stops: Vec<_> = asked
        .iter()
        .map(|asked| asked.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        stops,
        [
            "exec fake://app",
            "stop fake://app",
            "exec fake://log",
            "stop fake://log"
        ]
    );
    assert_eq!(status["phase"], "Recreating");
}

#[tokio::test]
async fn a_failure_ends_the_request_or_is_passed_over() {
    let refusal = RuntimeError::Failed("no".to_owned());
    let (status, asked) = run("Fail", Some(refusal.clone()), over).await;
    let failed = |name: &str| json!({"name": name, "phase": "Failed", "message": "kill container error: no"});
    assert_eq!(
        status["containerRecreateStates"],
        json!([failed("app"), {"name": "log", "phase": "Pending"}])
    );
    assert_eq!(asked.iter().filter(|asked| asked.starts_with("stop")).count(), 1);
    let (status, asked) = run("Ignore", Some(refusal), over).await;
    assert_eq!(status["containerRecreateStates"], json!([failed("app"), failed("log")]));
    assert_eq!(asked.iter().filter(|asked| asked.starts_with("stop")).count(), 2);
}
