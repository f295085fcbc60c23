//! The chart, by Helm itself: what it renders, and what becomes of a release.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::Stdio;

use super::*;

const RELEASE: &str = "afloat";
const CHART: &str = "charts/afloat";

/// Helm; None where there is none, which CI has.
fn program() -> Option<OsString> {
    let found = std::env::var_os("AFLOAT_HELM");
    if found.is_none() {
        eprintln!("skipped: no Helm (set AFLOAT_HELM to what `go build helm.sh/helm/v3/cmd/helm` makes in tests/helm)");
    }
    found
}

/// A release of the chart.
struct Helm(OsString);

impl Helm {
    fn run(&self, cluster: &Cluster, arguments: &[&str]) {
        let output = Command::new(&self.0)
            .args(arguments)
            .args(IN)
            .arg("--kubeconfig")
            .arg(cluster.dir().join("kubeconfig"))
            .current_dir(root())
            .env("HOME", cluster.dir())
            .output()
            .expect("AFLOAT_HELM starts");
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

impl Installer for Helm {
    fn put(&self, cluster: &Cluster, tag: &str) {
        let tag = format!("image.tag={tag}");
        let values = [
            "--set",
            "image.repository=example.com/afloat",
            "--set-string",
            &tag,
            "--set",
            "agent.enabled=false",
        ];
        let command = [
            "upgrade",
            "--install",
            RELEASE,
            CHART,
            "--create-namespace",
            "--wait",
            "--timeout",
            "120s",
        ];
        self.run(cluster, &[&command[..], &values].concat());
    }

    fn remove(&self, cluster: &Cluster) {
        self.run(cluster, &["uninstall", RELEASE, "--wait", "--timeout", "120s"]);
        // With them every CloneSet would have gone, and others may wait for the Lease.
        assert!(cluster.get(&["crd", "clonesets.apps.kruise.io"]).is_some());
        assert!(cluster.get(&["namespace", "kruise-system"]).is_some());
    }
}

#[test]
fn a_release_is_installed_upgraded_and_uninstalled_without_touching_a_pod() {
    let Some(program) = program() else { return };
    comes_and_goes(&Helm(program));
}

/// The chart with values; None where there is no Helm (tests/helm), which CI has. The error is one text.
fn chart(namespace: &str, values: &str) -> Option<Result<Objects, String>> {
    // The chart asks for a version of Kubernetes, and Helm takes an old one for granted.
    let mut child = Command::new(program()?)
        .args([
            "template",
            RELEASE,
            CHART,
            "--namespace",
            namespace,
            "--kube-version",
            "1.32.0",
            "--values",
            "-",
        ])
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("AFLOAT_HELM starts");
    let mut input = child.stdin.take().expect("stdin is a pipe");
    input.write_all(values.as_bytes()).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Some(if output.status.success() {
        Ok(objects(&text(output.stdout)))
    } else {
        Err(text(output.stderr))
    })
}

#[test]
fn the_chart_is_what_the_command_prints() {
    let cases: [(&[&str], &str); 8] = [
        (&[], "{}"),
        (
            &["--ha", "--service-monitor"],
            "{ha: true, serviceMonitor: {enabled: true}}",
        ),
        (
            &["--replicas", "1", "--no-agent", "--no-crds"],
            "{replicas: 1, agent: {enabled: false}, crds: {install: false}}",
        ),
        (
            &[
                "--no-network-policy",
                "--feature-gates",
                "CloneSetShortHash=true,PreparingUpdateAsUpdate=false",
            ],
            "{networkPolicy: {enabled: false}, featureGates: 'CloneSetShortHash=true,PreparingUpdateAsUpdate=false'}",
        ),
        (
            &[
                "--image",
                "example.com/a:2",
                "--agent-image",
                "example.com/b:3",
                "--pull-secret",
                "s",
            ],
            "{image: {repository: example.com/a, tag: '2', pullSecrets: [{name: s}]}, agent: {image: {repository: example.com/b, tag: '3'}}}",
        ),
        (
            &["--namespace", "here", "--lease-namespace", "there", "--lease-name", "l"],
            "{lease: {namespace: there, name: l}}",
        ),
        (&["--namespace", "kruise-system"], "{}"),
        (&["--serve", "v1beta1"], "{serve: v1beta1}"),
    ];
    for (flags, values) in cases {
        let namespace = flags
            .windows(2)
            .find(|pair| pair[0] == "--namespace")
            .map_or("afloat-system", |pair| pair[1]);
        let Some(rendered) = chart(namespace, values) else {
            return;
        };
        let mut rendered = rendered.expect("the chart is rendered");
        let mut ours = install(flags);
        // Helm makes the release's namespace itself, and is told what not to delete.
        ours.remove(&format!("Namespace /{namespace}")).expect("it is printed");
        for (name, object) in &mut rendered {
            let metadata = object["metadata"].as_object_mut().expect("metadata");
            let kept = name.starts_with("Custom") || name.starts_with("Namespace");
            let annotations = metadata.remove("annotations");
            assert_eq!(
                annotations,
                kept.then(|| json!({"helm.sh/resource-policy": "keep"})),
                "{name}"
            );
        }
        same(&rendered, &ours, &format!("{flags:?}"));
    }
}

#[test]
fn the_charts_schema_refuses_what_cannot_be() {
    for (values, word) in [
        ("{replicas: 0}", "replicas"),
        ("{replica: 3}", "replica"),
        ("{image: {repository: ''}}", "image.repository"),
        ("{lease: {namespace: A}}", "lease.namespace"),
        ("{resources: {limit: {}}}", "resources"),
        ("{serve: v1alpha1}", "serve"),
    ] {
        let Some(rendered) = chart("a", values) else { return };
        let refused = rendered.expect_err(values);
        assert!(refused.contains(word), "{values}: {refused}");
    }
}
