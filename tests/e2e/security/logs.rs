//! What a run says in its log, at its most talkative: never what a Secret or a token is.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::cluster::{AFLOAT, Cluster, ONLINE, container};
use crate::network::{build_images, waiting};
use crate::registry::{Login, Registry};

/// Values of Secrets: none of them has any other business.
const VALUE: &str = "hunter2-the-value";
const PASSWORD: &str = "hunter2-the-password";
const BROKEN: &str = "hunter2-is-no-base64";

fn secret(name: &str, kind: &str, data: &Value) -> String {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "stringData": data})
        .to_string()
}

/// A pod that takes what it needs out of a Secret.
fn needs(name: &str, from: &Value) -> String {
    let mut pod = waiting(name, &json!({}));
    pod["spec"]["containers"][0]["env"] = json!([{"name": "A", "valueFrom": {"secretKeyRef": from}}]);
    pod.to_string()
}

#[test]
fn no_log_says_what_a_secret_is() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut command = Command::new("bash");
    command.args(["-c", "exec \"$0\" \"$@\" 2> >(tee \"$LOG\" >&2)", AFLOAT]);
    command
        .env("LOG", &log)
        .env("AFLOAT_LOG", "debug")
        .env("RUST_LOG", "debug");
    let Some(cluster) = Cluster::boot_as(command, &folder.path().join("data"), 1, &[ONLINE]) else {
        return;
    };
    if !build_images(&cluster) {
        return;
    }
    cluster.apply(&secret("good", "Opaque", &json!({"key": VALUE})));
    let token = cluster.kubectl(&["create", "token", "default"]).trim().to_owned();
    refused(&cluster, &token);
    failing(&cluster);
    cluster.stop("TERM");

    let log = std::fs::read_to_string(&log).expect("a log");
    assert!(log.contains("DEBUG"), "it was talkative");
    let encoded = |text: &str| STANDARD.encode(text);
    let signature = token.rsplit('.').next().expect("three parts").to_owned();
    for word in [VALUE, PASSWORD, BROKEN]
        .into_iter()
        .flat_map(|word| [word.to_owned(), encoded(word)])
        .chain([signature])
    {
        let line = log.lines().find(|line| line.contains(&word));
        assert_eq!(line, None, "{word}");
    }
}

/// Writes that are refused, and a token that is none.
fn refused(cluster: &Cluster, token: &str) {
    for object in [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bad"}, "data": {"key": BROKEN}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bad"}, "data": BROKEN}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bad", "labels": VALUE}, "stringData": {"key": [VALUE]}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bad"}, "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": PASSWORD}}),
    ] {
        let told = cluster.try_kubectl(&["create", "--validate=false", "-f", "-"], Some(&object.to_string()));
        assert!(!told.status.success(), "{object}");
    }
    let patch = json!({"data": {"key": BROKEN}}).to_string();
    assert!(
        !cluster
            .try_kubectl(&["patch", "secret", "good", "-p", &patch], None)
            .status
            .success()
    );
    let spoiled = format!("--token={token}x");
    cluster.try_kubectl(
        &[
            "get",
            "pods",
            "--kubeconfig=/dev/null",
            "--server=https://127.0.0.1:1",
            &spoiled,
        ],
        None,
    );
}

/// Pods that cannot start for what is wrong with a Secret, and one that can.
fn failing(cluster: &Cluster) {
    let registry = Registry::start();
    registry.login(Login::Basic("somebody", "else"));
    let login = json!({"auths": {registry.address.to_string(): {"username": "somebody", "password": PASSWORD}}});
    cluster.apply(&secret(
        "login",
        "kubernetes.io/dockerconfigjson",
        &json!({".dockerconfigjson": login.to_string()}),
    ));
    let broken = json!({"auths": {registry.address.to_string(): PASSWORD}});
    cluster.apply(&secret(
        "broken",
        "kubernetes.io/dockerconfigjson",
        &json!({".dockerconfigjson": broken.to_string()}),
    ));
    for (name, pull) in [("denied", "login"), ("unreadable", "broken")] {
        let mut pod = waiting(name, &json!({"imagePullSecrets": [{"name": pull}]}));
        pod["spec"]["containers"][0]["image"] = json!(registry.name("team/app:v1"));
        cluster.apply(&pod.to_string());
    }
    cluster.apply(&needs("missing", &json!({"name": "good", "key": "none"})));
    let mut told = waiting(
        "told",
        &json!({"volumes": [{"name": "s", "secret": {"secretName": "good", "items": [{"key": "none", "path": "a"}]}}]}),
    );
    told["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "s", "mountPath": "/s"}]);
    cluster.apply(&told.to_string());
    let mut ends: Value = serde_json::from_str(&needs("ends", &json!({"name": "good", "key": "key"}))).expect("JSON");
    ends["spec"]["containers"][0]["command"] = json!(["/none"]);
    cluster.apply(&ends.to_string());
    for (name, reason) in [
        ("missing", "CreateContainerConfigError"),
        ("denied", "ImagePullBackOff"),
        ("unreadable", "ImagePullBackOff"),
    ] {
        cluster.wait(&format!("{name} in {reason}"), &["pod", name], |pod| {
            container(pod, "main")["state"]["waiting"]["reason"] == reason
        });
    }
    cluster.wait("what has ended", &["pod", "ends"], |pod| {
        container(pod, "main")["state"]["waiting"]["reason"].is_string()
    });
}
