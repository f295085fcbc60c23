//! Who is who in a cluster, and what each may do, as kubectl sees it.

use serde_json::{Value, json};

use crate::cluster::{Cluster, wait_until};

/// What kubectl says to somebody who may not; empty if they may.
fn refused(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.try_kubectl(arguments, None);
    if output.status.success() {
        return String::new();
    }
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A kubeconfig of the cluster that says nothing of who one is.
fn strangers_file(cluster: &Cluster) -> String {
    let own = std::fs::read_to_string(cluster.dir().join("kubeconfig")).expect("the kubeconfig");
    let kept = own.lines().filter(|line| !line.trim_start().starts_with("client-"));
    let kept: Vec<&str> = kept
        .map(|line| if line.trim() == "user:" { "  user: {}" } else { line })
        .collect();
    let path = cluster.dir().join("stranger.kubeconfig");
    std::fs::write(&path, kept.join("\n")).expect("a file");
    path.display().to_string()
}

fn who(cluster: &Cluster, more: &[&str]) -> Value {
    let text = cluster.kubectl(&[&["auth", "whoami", "-o", "json"], more].concat());
    serde_json::from_str::<Value>(&text).expect("JSON")["status"]["userInfo"].clone()
}

#[test]
fn each_is_who_they_are_and_may_do_what_is_theirs() {
    let Some(cluster) = Cluster::boot(1) else { return };
    let admin = who(&cluster, &[]);
    assert_eq!(
        (&admin["username"], &admin["groups"]),
        (
            &json!("kubernetes-admin"),
            &json!(["system:masters", "system:authenticated"])
        )
    );
    acting_as(&cluster);
    tokens(&cluster);
    parts(&cluster);
    levels(&cluster);
}

/// `--as`, `--as-group`, `--as-uid`.
fn acting_as(cluster: &Cluster) {
    let jane = who(cluster, &["--as", "jane", "--as-group", "dev", "--as-uid", "7"]);
    assert_eq!(
        jane,
        json!({"username": "jane", "uid": "7", "groups": ["dev", "system:authenticated"]})
    );
    assert!(refused(cluster, &["get", "pods", "--as", "jane"]).contains("User \"jane\" cannot list resource \"pods\""));
    // Nobody becomes by it what they may not be.
    let token = cluster.kubectl(&["create", "token", "default"]);
    let bearer = format!("--token={}", token.trim());
    for other in [&["--as", "jane"][..], &["--as", "jane", "--as-group", "system:masters"]] {
        let file = strangers_file(cluster);
        let asked = [&["get", "pods", &bearer, "--kubeconfig", &file], other].concat();
        let told = refused(cluster, &asked);
        assert!(told.contains("cannot impersonate resource \"users\""), "{told}");
    }
}

/// A service account is who it is, and one that is gone is nobody.
fn tokens(cluster: &Cluster) {
    cluster.kubectl(&["create", "serviceaccount", "robot"]);
    let token = cluster.kubectl(&["create", "token", "robot"]);
    let file = strangers_file(cluster);
    let bearer = format!("--token={}", token.trim());
    let as_robot = ["--kubeconfig", file.as_str(), bearer.as_str()];
    let robot = who(cluster, &as_robot);
    assert_eq!(robot["username"], "system:serviceaccount:default:robot");
    assert_eq!(
        robot["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated"
        ])
    );
    cluster.kubectl(&["delete", "serviceaccount", "robot"]);
    let told = refused(cluster, &[&["get", "pods"], &as_robot[..]].concat());
    assert!(told.contains("Unauthorized"), "{told}");
}

/// The parts of the cluster itself are nobody special either: what they write they may write.
fn parts(cluster: &Cluster) {
    for (may, user, group, what) in [
        (
            true,
            "system:node:node-1",
            "system:nodes",
            &["patch", "nodes", "--subresource=status"][..],
        ),
        (false, "system:node:node-1", "system:nodes", &["list", "secrets", "-A"]),
        (false, "system:node:node-1", "system:nodes", &["get", "nodes/node-2"]),
        (
            true,
            "system:kube-scheduler",
            "",
            &["create", "pods", "--subresource=binding"],
        ),
        (false, "system:kube-scheduler", "", &["get", "secrets"]),
        (
            true,
            "system:serviceaccount:kruise-system:afloat-operator",
            "",
            &["delete", "pods"],
        ),
        (
            false,
            "system:serviceaccount:kruise-system:afloat-operator",
            "",
            &["list", "secrets"],
        ),
        (
            false,
            "system:serviceaccount:kube-system:replicaset-controller",
            "",
            &["list", "secrets"],
        ),
    ] {
        let mut arguments = [&["auth", "can-i"], what, &["--as", user]].concat();
        if !group.is_empty() {
            arguments.extend(["--as-group", group]);
        }
        let output = cluster.try_kubectl(&arguments, None);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.trim().starts_with("yes"), may, "{user} {what:?}: {output:?}");
    }
}

/// Pod Security: what is refused, what is warned of, and what goes on.
fn levels(cluster: &Cluster) {
    cluster.kubectl(&["create", "namespace", "strict"]);
    let label = [
        "label",
        "namespace",
        "strict",
        "pod-security.kubernetes.io/enforce=restricted",
    ];
    cluster.kubectl(&label);
    let run = ["-n", "strict", "run", "plain", "--image=none:v1"];
    let told = refused(cluster, &run);
    assert!(
        told.contains(
            "pods \"plain\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false"
        ),
        "{told}"
    );
    let create = ["-n", "strict", "create", "deployment", "web", "--image=none:v1"];
    let output = cluster.try_kubectl(&create, None);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && told.contains("Warning: would violate PodSecurity"),
        "{told}"
    );
    // The controller says in an event why there is no pod.
    wait_until("an event about the refused pod", || {
        let events = cluster.kubectl(&["-n", "strict", "get", "events", "-o", "json"]);
        events.contains("violates PodSecurity")
    });
    let wrong = refused(
        cluster,
        &[
            "label",
            "--overwrite",
            "ns",
            "strict",
            "pod-security.kubernetes.io/enforce=none",
        ],
    );
    assert!(
        wrong.contains("must be one of privileged, baseline, restricted"),
        "{wrong}"
    );
}
