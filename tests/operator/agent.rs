//! `afloat agent` as a process of its own, with the rights of `agent.yaml` and no others. What it sees of this machine's rules
//! does not matter here: it reports that, too.

use std::path::Path;
use std::time::Duration;

use afloat_api::NodeTraffic;
use kube::Client;
use kube::api::Api;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::ground::{create, kubeconfig_of};
use crate::kube_apiserver::{KubeApiserver, client};
use crate::operator::AFLOAT;
use crate::process::{PATIENCE, Process};

/// What people apply.
const MANIFEST: &str = include_str!("../../operator/agent/agent.yaml");
const NODE: &str = "node-1";

/// What it asks for only where it has the node's runtime, or sees the node go down: tests/e2e does that.
const BY_THE_RUNTIME: &[&str] = &[
    "list nodetraffics.afloat.dev",
    "list nodeimages.apps.kruise.io",
    "watch nodeimages.apps.kruise.io",
    "patch nodeimages/status.apps.kruise.io",
    "get pods.",
    "list pods.",
    "patch pods/status.",
    "get containerrecreaterequests.apps.kruise.io",
    "list containerrecreaterequests.apps.kruise.io",
    "watch containerrecreaterequests.apps.kruise.io",
    "patch containerrecreaterequests/status.apps.kruise.io",
    "get secrets.",
    "list secrets.",
    "watch secrets.",
];

pub(crate) async fn uses_its_rights() {
    let Some(server) = KubeApiserver::start().await else {
        return;
    };
    let admin = server.kubeconfig();
    let client = client(&admin).await.expect("a client");
    for crd in afloat_api::crds(&afloat_api::Serving::default()) {
        create(&client, serde_json::to_value(crd).expect("JSON")).await;
    }
    for document in MANIFEST.split("---\n") {
        create(&client, serde_saphyr::from_str(document).expect("YAML")).await;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let kubeconfig = dir.path().join("agent.kubeconfig");
    let own = kubeconfig_of(&client, &admin, "afloat-agent", "afloat-agent").await;
    std::fs::write(&kubeconfig, own).expect("a file");

    let arguments = [
        "agent",
        "--node",
        NODE,
        "--proxy-metrics",
        "http://127.0.0.1:1/metrics",
        "--kubeconfig",
    ];
    let arguments = arguments
        .map(std::ffi::OsString::from)
        .into_iter()
        .chain([kubeconfig.into()]);
    let mut agent = Process::start(Path::new(AFLOAT), arguments, dir.path().join("agent.log"));
    // It watches once it has listed: what is made then has to be seen by the watch.
    wait(&client, &mut agent, "the report", |_| true).await;
    wait_for_watch(&server, &mut agent).await;
    assert_eq!(agent.stop("TERM").code(), Some(0), "{}", agent.log());
    wait(&client, &mut agent, "the report to be taken back", |report| {
        report.status.message.as_deref() == Some("the agent was stopped")
    })
    .await;
    assert!(!agent.log().contains("forbidden"), "{}", agent.log());
    crate::rights::check(MANIFEST, &server.audit(), true, BY_THE_RUNTIME);
}

async fn wait(client: &Client, agent: &mut Process, what: &str, wish: impl Fn(&NodeTraffic) -> bool) {
    let api: Api<NodeTraffic> = Api::all(client.clone());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = match api.get_opt(NODE).await {
            // The kind is new, and not served by everybody yet.
            Err(kube::Error::Api(why)) if why.code == 404 => None,
            answer => answer.expect("an answer"),
        };
        if report.as_ref().is_some_and(&wish) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "waited in vain for {what}: {report:?}, {}",
            agent.log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Watches are in the record once they have begun.
async fn wait_for_watch(server: &KubeApiserver, agent: &mut Process) {
    let deadline = Instant::now() + PATIENCE;
    let watches = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|_| json!({}));
        event["verb"] == "watch" && event["objectRef"]["resource"] == "endpointslices"
    };
    while !server.audit().lines().any(watches) {
        assert!(Instant::now() < deadline, "it does not watch: {}", agent.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
