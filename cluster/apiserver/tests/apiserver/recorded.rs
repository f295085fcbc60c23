//! Requests that Kubernetes' own API server (1.32.10) has answered, answered again. Each file is a story: its steps are
//! played in order on an empty cluster, and each has to be answered with the same code, sentence and warnings.

use std::collections::BTreeMap;

use afloat_apiserver::{ApiServer, InProcess, Options, User};
use afloat_store::Store;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use serde::Deserialize;
use serde_json::Value;
use tower::Service as _;

#[derive(Deserialize)]
struct Story {
    /// Bodies that several steps share.
    bodies: BTreeMap<String, Value>,
    steps: Vec<Step>,
}

/// A request, and its answer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// Who asks: the administrator, if nobody is named.
    #[serde(default, rename = "as")]
    who: Option<String>,
    /// `GET /api/v1/pods`
    #[serde(rename = "do")]
    request: String,
    /// The body's media type.
    #[serde(default, rename = "type")]
    media_type: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// An object, or the name of a shared one.
    #[serde(default)]
    body: Option<Value>,
    code: u16,
    #[serde(default)]
    message: String,
    #[serde(default)]
    warnings: Vec<String>,
    /// By path (RFC 6901), what is in the answer.
    #[serde(default)]
    gives: BTreeMap<String, Value>,
}

impl Story {
    fn request(&self, step: &Step) -> Request<Full<bytes::Bytes>> {
        let (method, path) = step.request.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path);
        let media_type = step.media_type.as_deref().unwrap_or("application/json");
        request = request.header("content-type", media_type);
        for (name, value) in &step.headers {
            request = request.header(name, value);
        }
        let body = match &step.body {
            Some(Value::String(name)) => self.bodies[name].to_string(),
            Some(body) => body.to_string(),
            None => String::new(),
        };
        request.body(Full::from(body)).unwrap()
    }
}

/// The sentences of `Warning:` headers.
fn warnings(headers: &HeaderMap) -> Vec<String> {
    let all = headers.get_all("warning").iter().map(|value| value.to_str().unwrap());
    let sentence = |text: &str| {
        let quoted = text.split_once('"').unwrap().1.rsplit_once('"').unwrap().0;
        quoted.replace("\\\"", "\"").replace("\\\\", "\\")
    };
    all.map(sentence).collect()
}

/// The users of the recorded answers; their server has given them uids.
fn user(who: Option<&str>) -> User {
    let (user, uid) = match who {
        None => (User::master("admin"), "admin"),
        Some("node1") => (User::node("node-1"), "n1"),
        Some("node2") => (User::node("node-2"), "n2"),
        Some("plain") => (User::named("plain", &["team", "system:authenticated"]), "plain"),
        Some("nobody") => (User::anonymous(), ""),
        Some(other) => panic!("nobody is called {other}"),
    };
    User {
        uid: uid.to_owned(),
        ..user
    }
}

async fn play(text: &str) {
    let story: Story = serde_json::from_str(text).unwrap();
    let server = ApiServer::new(Store::memory(), Options::default()).await.unwrap();
    let mut wrong = Vec::new();
    for step in &story.steps {
        let mut service = InProcess::new(server.clone(), user(step.who.as_deref()));
        let response = service.call(story.request(step)).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = if head.status.as_u16() < 400 {
            ""
        } else {
            answer["message"].as_str().unwrap_or_default()
        };
        let said = (head.status.as_u16(), message, warnings(&head.headers));
        let expected = (step.code, step.message.as_str(), step.warnings.clone());
        let gives = step
            .gives
            .keys()
            .map(|path| (path.clone(), answer.pointer(path).cloned().unwrap_or_default()));
        let gives: BTreeMap<String, Value> = gives.collect();
        if said != expected || gives != step.gives {
            wrong.push(format!(
                "{:?} {} {}\n  is {said:?} {gives:?}\n  not {expected:?} {:?}",
                step.who,
                step.request,
                step.body.clone().unwrap_or_default(),
                step.gives
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        story.steps.len(),
        wrong.join("\n")
    );
}

/// Each check at each version in which it changes.
#[tokio::test]
async fn levels_of_pod_security() {
    play(include_str!("recorded/pod_levels.json")).await;
}

/// Labels, updates, templates, namespaces with pods in them.
#[tokio::test]
async fn pod_security_of_namespaces() {
    play(include_str!("recorded/pod_security.json")).await;
}

/// The Node authorizer and NodeRestriction.
#[tokio::test]
async fn what_nodes_may_do() {
    play(include_str!("recorded/nodes.json")).await;
}

/// Acting as somebody else, and who one is then.
#[tokio::test]
async fn impersonation() {
    play(include_str!("recorded/impersonation.json")).await;
}

/// What everybody may see who has shown nothing, and everybody who has.
#[tokio::test]
async fn discovery_and_health() {
    play(include_str!("recorded/everybody.json")).await;
}

/// Defaults and checks of Jobs, of their status, and of CronJobs.
#[tokio::test]
async fn jobs_and_cron_jobs() {
    play(include_str!("recorded/jobs.json")).await;
}
