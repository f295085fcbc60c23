//! Requests that Kubernetes' own API server (1.32.10) has answered, answered again. Each file is a story: its steps are
//! played in order on an empty cluster, and each has to be answered with the same code, sentence and warnings.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use afloat_apiserver::{ApiServer, Body, InProcess, Options, User};
use afloat_store::Store;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use kube::Client;
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
    /// Where the answer sends its reader.
    #[serde(default)]
    location: String,
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
        Some("robot") => (User::service_account("default", "robot"), ""),
        Some("nobody") => (User::anonymous(), ""),
        Some(other) => panic!("nobody is called {other}"),
    };
    User {
        uid: uid.to_owned(),
        ..user
    }
}

/// For one answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two times of asking the same.
const AGAIN: Duration = Duration::from_millis(50);

/// Who answers.
enum Server {
    Ours(ApiServer),
    /// Kubernetes' own, as an administrator who acts as others.
    Theirs(Client),
}

impl Server {
    async fn ask(&self, who: Option<&str>, mut request: Request<Full<bytes::Bytes>>) -> Response<Body> {
        let user = user(who);
        let client = match self {
            Self::Ours(server) => {
                return InProcess::new(server.clone(), user).call(request).await.unwrap();
            }
            Self::Theirs(client) => client,
        };
        let headers = request.headers_mut();
        if who.is_some() {
            headers.insert("impersonate-user", user.name.parse().unwrap());
            for group in user.groups {
                headers.append("impersonate-group", group.parse().unwrap());
            }
        }
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        let response = client.send(Request::from_parts(head, body.into())).await.unwrap();
        response.map(|body| body.map_err(Into::into).boxed_unsync())
    }
}

async fn play(text: &str) {
    play_on(
        &Server::Ours(ApiServer::new(Store::memory(), Options::default()).await.unwrap()),
        text,
    )
    .await;
}

/// What of an answer is not as it was recorded: its code, and the difference.
async fn difference(server: &Server, story: &Story, step: &Step) -> Option<(u16, String)> {
    let asked = server.ask(step.who.as_deref(), story.request(step));
    let answered = tokio::time::timeout(PATIENCE, asked).await;
    let response = answered.unwrap_or_else(|_| panic!("{} is not answered", step.request));
    let (head, body) = response.into_parts();
    let location = head.headers.get("location").map_or("", |to| to.to_str().unwrap());
    let body = body.collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    let code = head.status.as_u16();
    // A HEAD has no body over a connection; in one process there is what would have been said.
    let message = if code < 400 || step.request.starts_with("HEAD ") {
        ""
    } else {
        answer["message"].as_str().unwrap_or_default()
    };
    let said = (code, message, warnings(&head.headers), location);
    let expected = (
        step.code,
        step.message.as_str(),
        step.warnings.clone(),
        step.location.as_str(),
    );
    let gives = step
        .gives
        .keys()
        .map(|path| (path.clone(), answer.pointer(path).cloned().unwrap_or_default()));
    let gives: BTreeMap<String, Value> = gives.collect();
    let told = || {
        let body = step.body.clone().unwrap_or_default();
        let asked = format!("{:?} {} {body}", step.who, step.request);
        format!("{asked}\n  is {said:?} {gives:?}\n  not {expected:?} {:?}", step.gives)
    };
    (said != expected || gives != step.gives).then(|| (code, told()))
}

async fn play_on(server: &Server, text: &str) {
    let story: Story = serde_json::from_str(text).unwrap();
    let mut wrong = Vec::new();
    for step in &story.steps {
        let began = Instant::now();
        loop {
            let found = difference(server, &story, step).await;
            // Kubernetes' own server learns of new rights from a watch: what it does not allow it is asked again.
            let early = matches!((server, &found), (Server::Theirs(_), Some((403, _))));
            if early && began.elapsed() < PATIENCE {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            wrong.extend(found.map(|(_, told)| told));
            break;
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

/// What can be said below `proxy` without anybody being asked; the issuer's documents; what of all this is advertised.
const PROXIES: &str = include_str!("recorded/proxies.json");

#[tokio::test]
async fn what_is_below_proxy() {
    play(PROXIES).await;
}

/// Requests for certificates: what they may say, who may approve them and who may sign.
const CERTIFICATES: &str = include_str!("recorded/certificates.json");

#[tokio::test]
async fn what_may_be_asked_for_and_by_whom_it_is_signed() {
    play(CERTIFICATES).await;
}

/// The stories that Kubernetes' own server is told again, if there is one.
#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_own_server_answers_alike() {
    let Some((_server, client)) = super::types::original().await else {
        return;
    };
    let theirs = Server::Theirs(client);
    for story in [PROXIES, CERTIFICATES] {
        play_on(&theirs, story).await;
    }
}

/// What is told of subresources, by their names.
async fn subresources(client: &Client, uri: &str) -> BTreeMap<String, Value> {
    let (code, text) = super::raw(client, "GET", uri, &[], "").await;
    assert_eq!(code, 200, "{text}");
    let list: Value = serde_json::from_str(&text).unwrap();
    let all = list["resources"].as_array().unwrap().iter();
    let named = all.map(|resource| (resource["name"].as_str().unwrap().to_owned(), resource.clone()));
    named.filter(|(name, _)| name.contains('/')).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn subresources_are_advertised_as_kubernetes_own() {
    let Some((_server, theirs)) = super::types::original().await else {
        return;
    };
    let (_ours, client) = super::server().await;
    for uri in ["/api/v1", "/apis/certificates.k8s.io/v1"] {
        let (ours, theirs) = (subresources(&client, uri).await, subresources(&theirs, uri).await);
        assert_eq!(ours, theirs, "{uri}");
    }
}
