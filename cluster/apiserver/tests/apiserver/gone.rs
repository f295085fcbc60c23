//! Clients that go away in the midst of a write: what follows from it comes all the same.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use afloat_apiserver::{ApiServer, InProcess, Options, User};
use afloat_store::Store;
use serde_json::{Value, json};
use tower::Service as _;

use super::raw;

/// How often all of it is tried until a client has left in the midst of a write.
const TRIES: usize = 50;

const DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const POLICY: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDING: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
const SERVICE: &str = "/api/v1/namespaces/default/services";
const CONFIG_MAP: &str = "/api/v1/namespaces/default/configmaps";
/// For what the server does in the background.
const LIMIT: Duration = Duration::from_secs(60);
/// More polls than any write needs.
const POLLS: usize = 12;

/// A server whose writes are done by a thread, so that its clients have to wait for them.
struct World {
    server: ApiServer,
    client: kube::Client,
    barriers: usize,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let server = ApiServer::new(store, Options::default()).await.unwrap();
        let client = server.client("tester");
        Self {
            server,
            client,
            barriers: 0,
            _folder: folder,
        }
    }

    async fn ask(&self, method: &str, uri: &str, body: &Value) -> (u16, String) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        raw(
            &self.client,
            method,
            uri,
            &[("content-type", "application/json")],
            &body,
        )
        .await
    }

    async fn done(&self, method: &str, uri: &str, body: &Value) {
        let (code, text) = self.ask(method, uri, body).await;
        assert!((200..300).contains(&code), "{method} {uri}: {code} {text}");
    }

    /// Returns when everything that was handed to the store before is decided: its writer takes one write after another.
    async fn barrier(&mut self) {
        self.barriers += 1;
        let name = format!("barrier-{}", self.barriers);
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        let (code, text) = self.ask("POST", CONFIG_MAP, &object).await;
        // A policy of the case may be in force.
        assert!(code == 201 || text.contains("no config maps"), "{text}");
        if code != 201 {
            self.done("POST", SERVICE, &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 1}]}})).await;
        }
    }

    /// A request whose client polls it so often and then loses interest, before or after the store has decided. Whether it
    /// was answered.
    async fn forsaken(&mut self, polls: usize, late: bool, method: &str, uri: &str, body: &Value) -> bool {
        let mut service = InProcess::new(self.server.clone(), User::master("tester"));
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = http::Request::builder()
            .method(method)
            .uri(uri)
            .header("content-type", "application/json")
            .body(http_body_util::Full::new(bytes::Bytes::from(body)))
            .unwrap();
        let answer = Box::pin(service.call(request));
        let mut answer = pin!(answer);
        let mut left = polls;
        let answered = poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(false);
            }
            left -= 1;
            match answer.as_mut().poll(context) {
                Poll::Ready(_) => Poll::Ready(true),
                Poll::Pending if left == 0 => Poll::Ready(false),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        if late {
            self.barrier().await;
        }
        answered
    }

    async fn exists(&self, uri: &str) -> bool {
        self.ask("GET", uri, &Value::Null).await.0 == 200
    }
}

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    })
}

fn policy() -> Value {
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]});
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "p"},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "false", "message": "no config maps"}],
        },
    })
}

fn binding() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]},
    })
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"clusterIP": "10.96.0.77", "ports": [{"port": 80}]},
    })
}

/// Runs a case with every number of polls, and a client that leaves early or late. At least once the client must have left
/// after its write was handed over and before it was answered, or nothing was tried.
async fn everywhere(case: impl AsyncFn(&mut World, usize, bool) -> (bool, bool)) {
    for late in [false, true] {
        let mut left_behind = 0;
        // The store may be through with a write before the client is asked again, on a busy machine: then once more.
        for _ in 0..TRIES {
            for polls in 0..POLLS {
                let mut world = World::new().await;
                let (answered, written) = case(&mut world, polls, late).await;
                left_behind += usize::from(written && !answered);
                if answered {
                    break;
                }
                assert!(polls + 1 < POLLS, "a write takes more polls than that");
            }
            if left_behind > 0 {
                break;
            }
        }
        assert!(left_behind > 0, "no client left in the midst of its write");
    }
}

#[tokio::test]
async fn a_definition_is_served_and_goes_again() {
    everywhere(async |world, polls, late| {
        let answered = world.forsaken(polls, late, "POST", DEFINITION, &definition()).await;
        world.barrier().await;
        let written = world.exists(&format!("{DEFINITION}/widgets.example.com")).await;
        assert_eq!(world.exists("/apis/example.com/v1").await, written, "{polls} polls");
        (answered, written)
    })
    .await;
    everywhere(async |world, polls, late| {
        world.done("POST", DEFINITION, &definition()).await;
        let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
        world
            .done("POST", "/apis/example.com/v1/namespaces/default/widgets", &widget)
            .await;
        let uri = format!("{DEFINITION}/widgets.example.com");
        let answered = world.forsaken(polls, late, "DELETE", &uri, &Value::Null).await;
        world.barrier().await;
        let (code, text) = world.ask("GET", &uri, &Value::Null).await;
        let written = code == 404 || text.contains("deletionTimestamp");
        let gone = async {
            while written && world.exists(&uri).await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, gone).await.expect("it goes");
        assert_eq!(world.exists("/apis/example.com/v1").await, !written, "{polls} polls");
        (answered, written)
    })
    .await;
}

#[tokio::test]
async fn a_policy_is_heeded_and_forgotten() {
    let denied = async |world: &World| {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "c-"}});
        world
            .ask("POST", CONFIG_MAP, &object)
            .await
            .1
            .contains("no config maps")
    };
    everywhere(async |world, polls, late| {
        world.done("POST", POLICY, &policy()).await;
        let answered = world.forsaken(polls, late, "POST", BINDING, &binding()).await;
        world.barrier().await;
        let written = world.exists(&format!("{BINDING}/b")).await;
        assert_eq!(denied(world).await, written, "{polls} polls");
        (answered, written)
    })
    .await;
    everywhere(async |world, polls, late| {
        world.done("POST", BINDING, &binding()).await;
        world.done("POST", POLICY, &policy()).await;
        let uri = format!("{POLICY}/p");
        let answered = world.forsaken(polls, late, "DELETE", &uri, &Value::Null).await;
        world.barrier().await;
        let written = !world.exists(&uri).await;
        assert_eq!(denied(world).await, !written, "{polls} polls");
        (answered, written)
    })
    .await;
}

#[tokio::test]
async fn an_address_is_taken_and_free_again() {
    everywhere(async |world, polls, late| {
        let answered = world.forsaken(polls, late, "POST", SERVICE, &service("a")).await;
        world.barrier().await;
        let written = world.exists(&format!("{SERVICE}/a")).await;
        let (code, text) = world.ask("POST", SERVICE, &service("b")).await;
        assert_eq!(code, if written { 422 } else { 201 }, "{polls} polls: {text}");
        (answered, written)
    })
    .await;
    everywhere(async |world, polls, late| {
        world.done("POST", SERVICE, &service("a")).await;
        let uri = format!("{SERVICE}/a");
        let answered = world.forsaken(polls, late, "DELETE", &uri, &Value::Null).await;
        world.barrier().await;
        let written = !world.exists(&uri).await;
        let (code, text) = world.ask("POST", SERVICE, &service("b")).await;
        assert_eq!(code, if written { 201 } else { 422 }, "{polls} polls: {text}");
        (answered, written)
    })
    .await;
}
