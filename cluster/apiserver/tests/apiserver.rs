//! The API server as its clients see it: a real `kube::Client` in this process, and kubectl over TLS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "apiserver/attacks.rs"]
mod attacks;
#[path = "apiserver/behind.rs"]
mod behind;
#[path = "apiserver/crd.rs"]
mod crd;
#[path = "apiserver/delete.rs"]
mod delete;
#[path = "apiserver/editing.rs"]
mod editing;
#[path = "apiserver/gone.rs"]
mod gone;
#[path = "apiserver/growth.rs"]
mod growth;
#[path = "apiserver/hostile.rs"]
mod hostile;
#[path = "apiserver/kubectl.rs"]
mod kubectl;
#[path = "apiserver/limits.rs"]
mod limits;
#[path = "apiserver/malformed.rs"]
mod malformed;
#[path = "apiserver/objects.rs"]
mod objects;
#[path = "apiserver/proxy.rs"]
mod proxy;
#[path = "apiserver/recorded.rs"]
mod recorded;
#[path = "apiserver/resize.rs"]
mod resize;
#[path = "apiserver/rights.rs"]
mod rights;
#[path = "apiserver/services.rs"]
mod services;
#[path = "apiserver/sockets.rs"]
mod sockets;
#[path = "apiserver/types.rs"]
mod types;
#[path = "apiserver/watch.rs"]
mod watch;

use afloat_apiserver::{ApiServer, Options};
use afloat_store::Store;
use kube::Client;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A server on an empty store, and a client of it.
async fn server() -> (ApiServer, Client) {
    let server = ApiServer::new(Store::memory(), Options::default()).await.unwrap();
    let client = server.client("tester");
    (server, client)
}

/// From JSON to a typed object.
fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn config_map(name: &str) -> k8s_openapi::api::core::v1::ConfigMap {
    object(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}}))
}

fn pod(name: &str) -> k8s_openapi::api::core::v1::Pod {
    object(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "web:1"}]},
    }))
}

/// Code and reason of a refusal.
fn refusal<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> (u16, String, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.reason.clone(), status.message.clone()),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// Sends a request of any kind; gives the code and the body.
async fn raw(client: &Client, method: &str, uri: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    use http_body_util::BodyExt as _;
    let mut request = http::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = kube::client::Body::from(body.as_bytes().to_vec());
    let response = client.send(request.body(body).unwrap()).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8_lossy(&bytes).into_owned())
}
