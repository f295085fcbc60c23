//! `afloat check --policy` on Kubernetes' own API server and on the embedded one: it takes every policy, and then says of
//! each object what `afloat check` says of that object alone.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::embedded::Embedded;
use crate::ground::create;
use crate::kube_apiserver::{KubeApiserver, client};
use crate::operator::AFLOAT;
use crate::process::PATIENCE;

/// What `no-grace` and `post-start-blocks` look for.
const BAD: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: app, image: 'web:1', lifecycle: {postStart: {exec: {command: [sleep, '1']}}}}
      - {name: log, image: 'log:1', lifecycle: {postStart: {exec: {command: [sleep, '1']}}}}
";

pub(crate) async fn on_kube_apiserver() {
    if let Some(server) = KubeApiserver::start().await {
        say_what_check_says(&server.kubeconfig()).await;
    }
}

pub(crate) async fn on_the_embedded_cluster() {
    if let Some(cluster) = Embedded::start().await {
        say_what_check_says(&cluster.kubeconfig()).await;
    }
}

async fn say_what_check_says(kubeconfig: &str) {
    let client = client(kubeconfig).await.expect("a client");
    for crd in afloat_api::crds(&afloat_api::Serving::default()) {
        create(&client, serde_json::to_value(crd).expect("JSON")).await;
    }
    for name in ["shop", "bank"] {
        let labels = json!({"team": name});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        create(&client, namespace).await;
    }
    let all = apply(&client, &[]).await;
    assert!(all.len() > 10, "{all:?}");
    every_case(&client, &all).await;
    changes(&client).await;
    refused(&client).await;
}

/// Creates what `afloat check --policy` prints; gives the rules.
async fn apply(client: &Client, arguments: &[&str]) -> BTreeSet<String> {
    let mut rules = BTreeSet::new();
    for object in documents(&afloat(&[&["check", "--policy"], arguments].concat(), "")) {
        rules.insert(
            object["metadata"]["labels"]["check.afloat.dev/rule"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
        create(client, object).await;
    }
    rules
}

/// Each object of the rules' own cases: what the API server warns of is what `afloat check` finds in it.
async fn every_case(client: &Client, all: &BTreeSet<String>) {
    let (mut spoke, mut silent) = (BTreeSet::new(), BTreeSet::new());
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../operator/check/tests/cases");
    let mut folders: Vec<_> = std::fs::read_dir(cases)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    for object in folders
        .iter()
        .flat_map(|folder| ["bad.yaml", "good.yaml"].map(|name| folder.join(name)))
    {
        for object in documents(&std::fs::read_to_string(object).unwrap()) {
            let report = afloat(
                &["check", "-f", "-", "--format", "json", "--fail-on", "never"],
                &object.to_string(),
            );
            let report: Value = serde_json::from_str(&report).expect("JSON");
            let found = report["findings"].as_array().unwrap().iter();
            let found = found.map(|finding| finding["rule"].as_str().unwrap().to_owned());
            let found: BTreeSet<String> = found.filter(|rule| all.contains(rule)).collect();
            eventually(client, "default", &object, |status, warnings| {
                assert_eq!(status, 201, "{object:#}: {warnings:?}");
                let warned = warnings
                    .iter()
                    .filter_map(|text| text.split_once("afloat-")?.1.split('\'').next());
                warned.map(str::to_owned).collect::<BTreeSet<_>>() == found
            })
            .await;
            silent.extend(all.difference(&found).cloned());
            spoke.extend(found);
        }
    }
    spoke.insert("pdb-allows-nothing".to_owned()); // its bad case is bad beside its workload only
    assert_eq!((&spoke, &silent), (all, all));
}

/// What was there before the policies is let through, unless what they look at is touched.
async fn changes(client: &Client) {
    let mut object = documents(BAD).remove(0);
    let (status, warnings) = send(client, http::Method::POST, "shop", "", &object).await;
    assert_eq!(status, 201, "{warnings:?}");
    let named = |warnings: &[String], words: &str| warnings.iter().any(|text| text.contains(words));
    assert!(named(&warnings, "post-start-blocks: "), "{warnings:?}");
    assert!(named(&warnings, "(app, log)"), "what is at fault: {warnings:?}");

    object["metadata"]["labels"] = json!({"a": "b"});
    let (status, warnings) = send(client, http::Method::PUT, "shop", "web", &object).await;
    assert_eq!((status, warnings.as_slice()), (200, &[][..]));
    object["spec"]["replicas"] = json!(3);
    let (status, warnings) = send(client, http::Method::PUT, "shop", "web", &object).await;
    assert!(status == 200 && named(&warnings, "no-grace: "), "{status} {warnings:?}");
    object["metadata"]["annotations"] = json!({"check.afloat.dev/ignore": "no-grace"});
    object["spec"]["replicas"] = json!(4);
    let (_, warnings) = send(client, http::Method::PUT, "shop", "web", &object).await;
    assert!(
        !named(&warnings, "no-grace: ") && named(&warnings, "post-start-blocks: "),
        "{warnings:?}"
    );
}

/// Deny, in the namespaces that are chosen.
async fn refused(client: &Client) {
    let rule = [
        "--rule",
        "no-grace",
        "--action",
        "deny",
        "--action",
        "Audit",
        "--namespace-selector",
        "team in (shop)",
    ];
    let printed = afloat(&[&["check", "--policy"][..], &rule].concat(), "");
    let mut bound = documents(&printed).remove(1);
    bound["metadata"]["name"] = "afloat-no-grace-shop".into(); // beside the one that warns
    create(client, bound).await;
    let object = documents(BAD).remove(0);
    let mut object = object;
    object["metadata"]["name"] = "other".into();
    eventually(client, "shop", &object, |status, messages| {
        status == 422
            && messages
                .iter()
                .any(|text| text.contains("no-grace: terminationGracePeriodSeconds is 0"))
    })
    .await;
    let (status, _) = send(client, http::Method::POST, "bank", "", &object).await;
    assert_eq!(status, 201);
}

/// Sends the object, as a dry run, until the answer is as wanted: the API server takes a moment to see its policies.
async fn eventually(client: &Client, namespace: &str, object: &Value, wanted: impl Fn(u16, &[String]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, warnings) = send(client, http::Method::POST, namespace, "?dryRun=All", object).await;
        if wanted(status, &warnings) {
            return;
        }
        assert!(Instant::now() < deadline, "{status} {warnings:?} of {object:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The answer's status, and its warnings or, if it is refused, its message.
async fn send(
    client: &Client,
    method: http::Method,
    namespace: &str,
    rest: &str,
    object: &Value,
) -> (u16, Vec<String>) {
    let version = object["apiVersion"].as_str().expect("an apiVersion");
    let root = if version.contains('/') { "apis" } else { "api" };
    let kind = object["kind"].as_str().expect("a kind").to_lowercase();
    let rest = if rest.is_empty() || rest.starts_with('?') {
        rest.to_owned()
    } else {
        format!("/{rest}")
    };
    let request = http::Request::builder()
        .method(method)
        .uri(format!("/{root}/{version}/namespaces/{namespace}/{kind}s{rest}"))
        .header("content-type", "application/json")
        .body(kube::client::Body::from(object.to_string().into_bytes()));
    let answer = client.send(request.expect("a request")).await.expect("an answer");
    let status = answer.status().as_u16();
    if status >= 400 {
        let body = answer.into_body().collect_bytes().await.expect("a body");
        let body: Value = serde_json::from_slice(&body).expect("a Status");
        return (status, vec![body["message"].as_str().expect("a message").to_owned()]);
    }
    let warnings = answer.headers().get_all("warning").iter();
    (
        status,
        warnings.map(|text| text.to_str().expect("text").to_owned()).collect(),
    )
}

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).expect("YAML")
}

/// Standard output of a run that must succeed.
fn afloat(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(AFLOAT)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("afloat starts");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(input.as_bytes())
        .expect("it reads");
    let output = child.wait_with_output().expect("an end");
    assert!(output.status.success(), "{arguments:?}: {}", output.status);
    String::from_utf8(output.stdout).expect("text")
}
