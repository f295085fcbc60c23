//! Bad input gets a clear error that names what is wrong, and nothing is lost.

use std::process::{Command, Output};

use crate::cluster::{AFLOAT, Cluster, cloneset};

fn afloat(arguments: &[&str]) -> Output {
    Command::new(AFLOAT).args(arguments).output().expect("afloat starts")
}

#[track_caller]
fn fails(arguments: &[&str], code: i32, words: &[&str]) {
    let output = afloat(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{arguments:?}: {word} in {stderr}");
    }
    assert!(
        !stderr.contains("panicked") && !stderr.contains("stack backtrace"),
        "{stderr}"
    );
}

#[test]
fn the_command_line() {
    fails(&["demo", "--replica", "3"], 2, &["--replica", "--replicas"]);
    fails(&["demo", "--proxy-lag", "soon"], 2, &["--proxy-lag", "500ms"]);
    fails(&["demo", "--max-unavailable", "0"], 2, &["--max-unavailable"]);
    fails(&["up", "--nodes", "many"], 2, &["--nodes"]);
    fails(&["sail"], 2, &["sail"]);
    fails(&["operator", "--kubeconfig", "/no/such/file"], 1, &["/no/such/file"]);
    fails(&["bench", "operator", "--pods", "0"], 2, &["--pods"]);
    fails(
        &["bench", "operator", "--pods", "2", "--sets", "3"],
        1,
        &["--sets 3", "--pods 2"],
    );
    fails(
        &["bench", "operator", "--kubeconfig", "/no/such/file"],
        1,
        &["/no/such/file"],
    );
    fails(&["bench", "release", "--layer", "200"], 2, &["--layer", "unit", "MB"]);
    fails(
        &["bench", "release", "--bandwidth", "50MB"],
        2,
        &["--bandwidth", "50MB/s"],
    );
    fails(&["bench", "release", "--attach", "2m"], 2, &["--attach", "60 s"]);
    fails(
        &["image", "load", "/no/such/file", "--data-dir", "/tmp/afloat-e2e-none"],
        1,
        &["/no/such/file"],
    );
    let _ = std::fs::remove_dir_all("/tmp/afloat-e2e-none");
    fails(
        &["up", "--registry-mirror", "docker.io=localhost:5000"],
        2,
        &["--registry-mirror", "http://"],
    );
    fails(&["up", "--registry-ca", "/no/such/file"], 1, &["/no/such/file"]);
    fails(
        &["up", "--registry-ca", "/run/ca.pem"],
        1,
        &["/run/ca.pem", "elsewhere"],
    );
    fails(
        &["up", "--image-gc-high-threshold", "10"],
        1,
        &["--image-gc-low-threshold 80", "--image-gc-high-threshold 10"],
    );
}

#[test]
fn a_port_in_use() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let dir = tempfile::tempdir().unwrap();
    fails(
        &["up", "--port", &port, "--data-dir", dir.path().to_str().unwrap()],
        1,
        &[&port, "in use"],
    );
}

#[test]
fn two_clusters_in_one_folder() {
    let Some(cluster) = Cluster::boot(0) else { return };
    fails(
        &[
            "up",
            "--nodes",
            "0",
            "--port",
            "0",
            "--data-dir",
            cluster.dir().to_str().unwrap(),
        ],
        1,
        &["in use"],
    );
}

#[test]
fn crds_are_printed() {
    let output = afloat(&["crds"]);
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("name: clonesets.apps.kruise.io"), "{text}");
}

#[test]
fn objects_that_the_api_refuses() {
    let Some(cluster) = Cluster::boot(0) else { return };
    let refused = |manifest: &str, words: &[&str]| {
        let output = cluster.try_kubectl(&["apply", "-f", "-"], Some(manifest));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{manifest}");
        for word in words {
            assert!(stderr.contains(word), "{word} in {stderr}");
        }
    };
    refused("apiVersion: v1\nkind: [Pod", &["yaml"]);
    refused("{apiVersion: v1, kind: Pood, metadata: {name: a}}", &["Pood"]);
    refused(
        "{apiVersion: v1, kind: Pod, metadata: {name: A_b}, spec: {containers: [{name: a, image: b}]}}",
        &["metadata.name"],
    );
    refused(
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: []}}",
        &["spec.containers"],
    );
    refused(
        &cloneset("web", 1).replace(r#""matchLabels":{"app":"web"}"#, r#""matchLabels":{"app":"other"}"#),
        &["spec.selector"],
    );
    refused(
        &cloneset("web", 1).replace(
            r#""matchLabels":{"app":"web"}"#,
            r#""matchExpressions":[{"key":"app","operator":"Near"}]"#,
        ),
        &["spec.selector", "operator"],
    );
    assert_eq!(cluster.kubectl(&["get", "pods,clonesets"]), "");
}

#[test]
fn a_live_pod_may_change_its_image_and_little_else() {
    let Some(cluster) = Cluster::boot(0) else { return };
    cluster.apply("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: b}]}}");
    cluster.kubectl(&[
        "patch",
        "pod",
        "a",
        "-p",
        r#"{"spec":{"containers":[{"name":"a","image":"c"}]}}"#,
    ]);
    let output = cluster.try_kubectl(
        &[
            "patch",
            "pod",
            "a",
            "-p",
            r#"{"spec":{"containers":[{"name":"a","command":["x"]}]}}"#,
        ],
        None,
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && stderr.contains("pod updates may not change fields other than"),
        "{stderr}"
    );
    assert!(stderr.contains("command"), "{stderr}");
}
