//! The operator as a program of its own, against a cluster that knows nothing of it.

mod config;
mod daemons;
mod etcd;
mod install;
mod restart;
mod statefulset;

use std::process::{Command, Stdio};

use crate::cluster::{AFLOAT, Cluster, cloneset, settled, signal_process};
use crate::ports::free_port;

#[test]
fn crds_and_operator_on_a_cluster_without_them() {
    let Some(cluster) = Cluster::boot_with(1, &["--no-operator"]) else {
        return;
    };
    cluster.build_images();
    let crds = Command::new(AFLOAT).arg("crds").output().expect("afloat starts");
    cluster.apply(&String::from_utf8(crds.stdout).expect("YAML is text"));
    cluster.apply(&cloneset("web", 2));
    let start = || {
        Command::new(AFLOAT)
            .arg("operator")
            .arg("--kubeconfig")
            .arg(cluster.dir().join("kubeconfig"))
            .stderr(Stdio::null())
            .spawn()
            .expect("afloat operator starts")
    };
    let mut first = start();
    cluster.wait("2 pods Ready", &["clonesets", "web"], |c| settled(c, 2));
    let holder = || {
        cluster.kubectl(&[
            "-n",
            "kruise-system",
            "get",
            "lease",
            "kruise-manager",
            "-o",
            "jsonpath={.spec.holderIdentity}",
        ])
    };
    assert!(holder().ends_with(&format!("_{}", first.id())), "{}", holder());

    // A second one waits; when the first leaves, it takes over and goes on.
    let mut second = start();
    signal_process(first.id(), "TERM");
    assert_eq!(first.wait().expect("our own child").code(), Some(0));
    cluster.kubectl(&["scale", "clonesets/web", "--replicas=3"]);
    cluster.wait("3 pods Ready", &["clonesets", "web"], |c| settled(c, 3));
    assert!(holder().ends_with(&format!("_{}", second.id())), "{}", holder());
    signal_process(second.id(), "INT");
    assert_eq!(second.wait().expect("our own child").code(), Some(0));
}

/// The API server reaches a webhook on the host as it is reached from there.
#[test]
fn an_operator_on_the_host_converts() {
    let Some(cluster) = Cluster::boot_with(1, &["--no-operator"]) else {
        return;
    };
    let port = free_port().to_string();
    let url = format!("https://127.0.0.1:{port}/convert");
    let crds = Command::new(AFLOAT)
        .args(["crds", "--webhook-url", &url])
        .output()
        .expect("afloat starts");
    cluster.apply(&String::from_utf8(crds.stdout).expect("YAML is text"));
    let mut operator = Command::new(AFLOAT)
        .args([
            "operator",
            "--webhook-url",
            &url,
            "--webhook-port",
            &port,
            "--kubeconfig",
        ])
        .arg(cluster.dir().join("kubeconfig"))
        .stderr(Stdio::null())
        .spawn()
        .expect("afloat operator starts");
    cluster.apply(&cloneset("web", 0));
    cluster.wait("it in v1alpha1", &["clonesets.v1alpha1.apps.kruise.io", "web"], |set| {
        set["spec"]["updateStrategy"]["type"] == "InPlaceOnly"
    });
    signal_process(operator.id(), "TERM");
    assert_eq!(operator.wait().expect("our own child").code(), Some(0));
}
