//! Who may do what: Kubernetes' own API server and the embedded one are asked the same by the same people, and say the same.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use afloat_apiserver::{ApiServer, InProcess, Options, User};
use http_body_util::BodyExt as _;
use kube::Client;
use serde_json::{Value, json};

use crate::kube_apiserver::{KubeApiserver, client};

mod questions;
mod world;

use questions::{REQUESTS, REVIEWS};
use world::{PEOPLE, objects};

/// For one answer; the longest watch lasts a second.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks both, if there is Kubernetes' own.
pub(crate) async fn is_that_of_kubernetes() {
    let Some(server) = KubeApiserver::start().await else {
        return;
    };
    let theirs = client(&server.kubeconfig()).await.expect("a client");
    compare(&theirs).await;
}

/// What came back.
#[derive(Debug, PartialEq)]
struct Answer {
    code: u16,
    body: Value,
}

/// Compares Kubernetes' own API server with a new one of ours.
pub(crate) async fn compare(theirs: &Client) {
    let ours = ApiServer::new(afloat_store::Store::memory(), Options::default()).await;
    let ours = ours.expect("a server");
    let admin = ours.client("admin");
    the_same_roles(theirs, &admin).await;
    for server in [theirs, &admin] {
        for object in objects() {
            create(server, &object).await;
        }
    }
    let mut differences = String::new();
    for (name, groups) in PEOPLE {
        let own = person(&ours, name, groups);
        for (method, uri, body) in REQUESTS {
            let (expected, said) = (
                ask(theirs, name, groups, method, uri, body).await,
                ask(&own, "", &[], method, uri, body).await,
            );
            note(
                &mut differences,
                &format!("{name}: {method} {uri} {body}"),
                &expected,
                &said,
            );
        }
        for (namespace, what) in REVIEWS {
            differences += &review(theirs, &admin, name, groups, namespace, what).await;
        }
        differences += &rules(theirs, &own, name, groups).await;
    }
    assert!(differences.is_empty(), "\n{differences}");
}

/// A client in somebody's name, as the API server lets in who has shown a certificate.
fn person(server: &ApiServer, name: &str, groups: &[&str]) -> Client {
    let mut user = User::named(name, groups);
    let all = if name == "system:anonymous" {
        "system:unauthenticated"
    } else {
        "system:authenticated"
    };
    user.groups.push(all.to_owned());
    Client::new(InProcess::new(server.clone(), user), "default")
}

async fn ask(server: &Client, name: &str, groups: &[&str], method: &str, uri: &str, body: &str) -> Answer {
    let kind = if method == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let mut request = http::Request::builder()
        .method(method)
        .uri(uri)
        .header("content-type", kind);
    if !name.is_empty() {
        request = request.header("impersonate-user", name);
    }
    for group in groups {
        request = request.header("impersonate-group", *group);
    }
    let request = request
        .body(kube::client::Body::from(body.as_bytes().to_vec()))
        .expect("a request");
    let asking = async {
        let response = server.send(request).await.expect("an answer");
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        // Over a connection there is none; in one process there is what would have been said.
        (code, if method == "HEAD" { Default::default() } else { body })
    };
    let asked = tokio::time::timeout(PATIENCE, asking).await;
    let (code, bytes) = asked.unwrap_or_else(|_| panic!("{name}: {method} {uri} is not answered"));
    Answer {
        code,
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
    }
}

/// Refusals must be the same word by word; of the rest the codes.
fn note(differences: &mut String, what: &str, expected: &Answer, said: &Answer) {
    let mut same = expected.code == said.code;
    if expected.code == 403 {
        for field in ["reason", "message", "details"] {
            same &= expected.body[field] == said.body[field];
        }
    }
    if !same {
        let text = |answer: &Answer| {
            let body = &answer.body;
            format!("{} {} {}", answer.code, body["message"], body["details"])
        };
        let _ = writeln!(
            differences,
            "{what}\n  theirs: {}\n  ours:   {}",
            text(expected),
            text(said)
        );
    }
}

async fn create(server: &Client, object: &Value) {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let (version, namespace) = (text("/apiVersion"), text("/metadata/namespace"));
    let root = if version == "v1" { "/api" } else { "/apis" };
    let place = if namespace.is_empty() {
        String::new()
    } else {
        format!("/namespaces/{namespace}")
    };
    let plural = format!("{}s", text("/kind").to_lowercase());
    let uri = format!("{root}/{version}{place}/{plural}");
    let answer = ask(server, "", &[], "POST", &uri, &object.to_string()).await;
    assert_eq!(answer.code, 201, "{object} {answer:?}");
}

/// Whether somebody may do something, as the administrator is told.
async fn review(theirs: &Client, ours: &Client, name: &str, groups: &[&str], namespace: &str, what: &str) -> String {
    let words: Vec<&str> = what.split(' ').collect();
    let word = |at: usize| words.get(at).copied().unwrap_or_default();
    let mut spec = json!({"user": name, "groups": groups});
    if word(1).starts_with('/') {
        spec["nonResourceAttributes"] = json!({"verb": word(0), "path": word(1)});
    } else {
        let mut parts = word(1).split('/');
        let mut part = || parts.next().unwrap_or_default();
        spec["resourceAttributes"] = json!({
            "verb": word(0), "group": part(), "resource": part(), "subresource": part(), "name": word(2), "namespace": namespace,
        });
    }
    let body =
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}).to_string();
    let uri = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let expected = ask(theirs, "", &[], "POST", uri, &body).await;
    let said = ask(ours, "", &[], "POST", uri, &body).await;
    let (expected, said) = (&expected.body["status"], &said.body["status"]);
    if expected == said {
        return String::new();
    }
    format!("{name} {groups:?} {namespace}: {what}\n  theirs: {expected}\n  ours:   {said}\n")
}

/// What somebody may do in a namespace, as they are told themselves.
async fn rules(theirs: &Client, ours: &Client, name: &str, groups: &[&str]) -> String {
    let mut differences = String::new();
    for namespace in ["team", "other"] {
        let spec = json!({"namespace": namespace});
        let body = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": spec})
            .to_string();
        let uri = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
        let expected = ask(theirs, name, groups, "POST", uri, &body).await;
        let said = ask(ours, "", &[], "POST", uri, &body).await;
        let set = |answer: &Answer, field: &str| -> BTreeSet<String> {
            let list = answer.body["status"][field].as_array().cloned().unwrap_or_default();
            list.iter().map(Value::to_string).collect()
        };
        for field in ["resourceRules", "nonResourceRules"] {
            let (expected, said) = (set(&expected, field), set(&said, field));
            if expected != said {
                let _ = writeln!(
                    differences,
                    "{name} {namespace} {field}\n  theirs: {expected:?}\n  ours:   {said:?}"
                );
            }
        }
        let errors = |answer: &Answer| answer.body["status"]["evaluationError"].clone();
        if expected.code != said.code || errors(&expected) != errors(&said) {
            let _ = writeln!(
                differences,
                "{name} {namespace}\n  theirs: {expected:?}\n  ours:   {said:?}"
            );
        }
    }
    differences
}

/// Both begin with the same roles and bindings. There is no controller that gathers rules beside Kubernetes' own server: ours lends them.
async fn the_same_roles(theirs: &Client, ours: &Client) {
    for plural in ["clusterroles", "clusterrolebindings", "roles", "rolebindings"] {
        let uri = format!("/apis/rbac.authorization.k8s.io/v1/{plural}");
        let (expected, said) = (items(theirs, &uri).await, items(ours, &uri).await);
        let names = |items: &[Value]| -> BTreeSet<String> {
            items
                .iter()
                .map(|item| format!("{}/{}", item["metadata"]["namespace"], item["metadata"]["name"]))
                .collect()
        };
        assert_eq!(names(&said), names(&expected), "{plural}");
        for (their, our) in expected.iter().zip(&said) {
            for field in [
                "/metadata/labels",
                "/metadata/annotations",
                "/roleRef",
                "/subjects",
                "/aggregationRule",
            ] {
                assert_eq!(
                    our.pointer(field),
                    their.pointer(field),
                    "{plural} {}",
                    their["metadata"]["name"]
                );
            }
            if our.get("aggregationRule").is_none() {
                assert_eq!(our.get("rules"), their.get("rules"), "{}", their["metadata"]["name"]);
                continue;
            }
            assert!(our["rules"].as_array().is_some_and(|rules| rules.len() > 5), "{our}");
            let uri = format!("{uri}/{}", our["metadata"]["name"].as_str().unwrap_or_default());
            let answer = ask(
                theirs,
                "",
                &[],
                "PATCH",
                &uri,
                &json!({"rules": our["rules"]}).to_string(),
            )
            .await;
            assert_eq!(answer.code, 200, "{answer:?}");
        }
    }
}

/// All of a kind, by name.
async fn items(server: &Client, uri: &str) -> Vec<Value> {
    let answer = ask(server, "", &[], "GET", uri, "").await;
    let mut items = answer.body["items"].as_array().cloned().unwrap_or_default();
    items.sort_by_key(|item| format!("{}/{}", item["metadata"]["namespace"], item["metadata"]["name"]));
    items
}
