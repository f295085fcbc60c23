//! Requests for certificates with a real kubectl: asked for, approved, signed, and shown to the API server.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests may fail as tests do

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use afloat_cluster::{ControlPlane, ControlPlaneOptions, User};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::Api;
use kube::api::PostParams;
use kube::config::{AuthInfo, Kubeconfig};
use kube::runtime::wait::await_condition;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::json;

/// Far beyond what any step needs.
const PATIENCE: Duration = Duration::from_secs(60);

fn kubectl() -> Option<PathBuf> {
    let program = std::env::var_os("AFLOAT_KUBECTL").map_or_else(|| PathBuf::from("kubectl"), PathBuf::from);
    let found = Command::new(&program).args(["version", "--client"]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("skipped: no kubectl (set AFLOAT_KUBECTL)");
    }
    found.then_some(program)
}

/// What kubectl says, and whether it succeeded.
async fn run(program: &Path, kubeconfig: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(program);
    command.arg("--kubeconfig").arg(kubeconfig).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// A request in somebody's name, and its key.
fn request(name: &str, group: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, group);
    (
        params.serialize_request(&key).unwrap().pem().unwrap(),
        key.serialize_pem(),
    )
}

fn object(name: &str, request: &str, signer: &str, usages: &[&str]) -> CertificateSigningRequest {
    let request = k8s_openapi::ByteString(request.as_bytes().to_vec());
    let mut object: CertificateSigningRequest = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"request": "", "signerName": format!("kubernetes.io/{signer}"), "usages": usages, "expirationSeconds": 3600},
    }))
    .unwrap();
    object.spec.request = request;
    object
}

async fn wait(
    requests: &Api<CertificateSigningRequest>,
    name: &str,
    done: impl Fn(&CertificateSigningRequest) -> bool,
) -> CertificateSigningRequest {
    let found = |object: Option<&CertificateSigningRequest>| object.is_some_and(&done);
    let waited = tokio::time::timeout(PATIENCE, await_condition(requests.clone(), name, found)).await;
    waited.unwrap().unwrap().unwrap()
}

fn has(object: &CertificateSigningRequest, kind: &str) -> bool {
    let status = object.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|condition| condition.type_ == kind))
}

fn is_issued(object: &CertificateSigningRequest) -> bool {
    object
        .status
        .as_ref()
        .is_some_and(|status| status.certificate.is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_asks_and_is_let_in() {
    let Some(program) = kubectl() else { return };
    let dir = tempfile::tempdir().unwrap();
    let options = ControlPlaneOptions {
        data_dir: Some(dir.path().to_owned()),
        ..ControlPlaneOptions::default()
    };
    let mut cluster = ControlPlane::start(options).await.unwrap();
    let kubeconfig = cluster.serve(dir.path()).await.unwrap();
    let requests: Api<CertificateSigningRequest> = Api::all(cluster.client("test"));
    let (csr, key) = request("anna", "dev");
    for name in ["anna", "denied"] {
        let asked = object(name, &csr, "kube-apiserver-client", &["client auth"]);
        requests.create(&PostParams::default(), &asked).await.unwrap();
    }
    let (_, list) = run(&program, &kubeconfig, &["get", "csr", "anna", "--no-headers"]).await;
    let cells: Vec<&str> = list.split_whitespace().collect();
    assert_eq!(
        (cells[0], cells[2]),
        ("anna", "kubernetes.io/kube-apiserver-client"),
        "{list}"
    );
    assert_eq!(&cells[3..], ["test", "60m", "Pending"], "{list}");
    let (good, said) = run(&program, &kubeconfig, &["certificate", "deny", "denied"]).await;
    assert!(good, "{said}");
    let (good, said) = run(&program, &kubeconfig, &["certificate", "approve", "anna"]).await;
    assert!(good, "{said}");
    let issued = wait(&requests, "anna", is_issued).await;
    let pem = issued.status.unwrap().certificate.unwrap().0;
    assert!(
        !is_issued(&requests.get("denied").await.unwrap()),
        "nobody signs what was denied"
    );
    let file = |name: &str, text: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let mut annas = Kubeconfig::read_from(&kubeconfig).unwrap();
    annas.auth_infos[0].auth_info = Some(AuthInfo {
        client_certificate: Some(file("anna.crt", &pem)),
        client_key: Some(file("anna.key", key.as_bytes())),
        ..AuthInfo::default()
    });
    let annas = file("annas", &serde_json::to_vec(&annas).unwrap());
    let who = ["auth", "whoami", "-o", "jsonpath={.status.userInfo}"];
    let (_, said) = run(&program, Path::new(&annas), &who).await;
    assert!(
        said.contains(r#""username":"anna""#) && said.contains(r#""dev""#),
        "{said}"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_approved_by_themselves_and_nobody_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let options = ControlPlaneOptions {
        data_dir: Some(dir.path().to_owned()),
        ..ControlPlaneOptions::default()
    };
    let cluster = ControlPlane::start(options).await.unwrap();
    let requests: Api<CertificateSigningRequest> = Api::all(cluster.client("test"));
    let create = async |user: User, object: CertificateSigningRequest| {
        let requests: Api<CertificateSigningRequest> = Api::all(cluster.client_as(user));
        requests.create(&PostParams::default(), &object).await.map(drop)
    };
    let (csr, _) = request("system:node:n1", "system:nodes");
    let usages = ["digital signature", "client auth"];
    let of = |name: &str| object(name, &csr, "kube-apiserver-client-kubelet", &usages);
    create(User::node("n1"), of("by-itself")).await.unwrap();
    wait(&requests, "by-itself", is_issued).await;
    let other = create(User::node("n2"), of("for-another")).await.unwrap_err();
    assert!(
        other
            .to_string()
            .contains("can only create a node CSR with CN=system:node:n2"),
        "{other}"
    );
    // Whoever may write requests may not have them approved for that.
    let roles: Api<k8s_openapi::api::rbac::v1::ClusterRole> = Api::all(cluster.client("test"));
    let bindings: Api<k8s_openapi::api::rbac::v1::ClusterRoleBinding> = Api::all(cluster.client("test"));
    let role = json!({"metadata": {"name": "asks"}, "rules": [
        {"apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests"], "verbs": ["create"]}]});
    roles
        .create(&PostParams::default(), &serde_json::from_value(role).unwrap())
        .await
        .unwrap();
    let binding = json!({"metadata": {"name": "asks"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "asks"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "carl"}]});
    bindings
        .create(&PostParams::default(), &serde_json::from_value(binding).unwrap())
        .await
        .unwrap();
    create(User::named("carl", &["system:authenticated"]), of("by-carl"))
        .await
        .unwrap();
    // One that fails, made later, is decided on: by then that of carl was, too.
    create(
        User::master("admin"),
        object("bad", &csr, "kube-apiserver-client", &["server auth"]),
    )
    .await
    .unwrap();
    let approve =
        json!({"metadata": {"name": "bad"}, "status": {"conditions": [{"type": "Approved", "status": "True"}]}});
    requests
        .replace_subresource("approval", "bad", &PostParams::default(), &approve)
        .await
        .unwrap();
    let bad = wait(&requests, "bad", |object| has(object, "Failed")).await;
    assert!(!is_issued(&bad));
    let carls = requests.get("by-carl").await.unwrap();
    assert!(!has(&carls, "Approved") && !is_issued(&carls));
    cluster.stop().await;
}
