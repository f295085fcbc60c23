//! What `afloat install` prints on Kubernetes' own API server, and what `afloat status` says of it there.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::kube_apiserver::KubeApiserver;
use crate::operator::AFLOAT;

/// Runs kubectl with an input; None where there is none.
fn kubectl(kubeconfig: &Path, arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let program = std::env::var_os("AFLOAT_KUBECTL").unwrap_or_else(|| OsString::from("kubectl"));
    let file = kubeconfig.with_file_name("input.yaml");
    std::fs::write(&file, input).expect("a file");
    let output = Command::new(program)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(arguments)
        .arg("-f")
        .arg(&file)
        .env("KUBECACHEDIR", kubeconfig.with_file_name("cache"))
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: no kubectl (set AFLOAT_KUBECTL)");
        return None;
    };
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

fn afloat(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(AFLOAT).args(arguments).output().expect("afloat starts");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.is_empty(), "{errors}");
    (output.status.code(), String::from_utf8(output.stdout).expect("text"))
}

/// `STATE ABOUT: MESSAGE` of each line, and the exit code.
fn status(kubeconfig: &Path) -> (Option<i32>, Vec<String>) {
    let (code, text) = afloat(&["status", "-o", "json", "--kubeconfig", &kubeconfig.to_string_lossy()]);
    let status: Value = serde_json::from_str(&text).expect("JSON");
    let checks = status["checks"].as_array().expect("checks");
    let word = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let lines = checks.iter().map(|line| {
        format!(
            "{} {}: {}",
            word(line, "state"),
            word(line, "about"),
            word(line, "message")
        )
    });
    (code, lines.collect())
}

#[track_caller]
fn has(lines: &[String], beginning: &str) {
    assert!(
        lines.iter().any(|line| line.starts_with(beginning)),
        "no {beginning:?} in {lines:#?}"
    );
}

pub(crate) async fn is_taken_and_looked_at() {
    let Some(server) = KubeApiserver::start().await else {
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let kubeconfig = dir.path().join("kubeconfig");
    std::fs::write(&kubeconfig, server.kubeconfig()).expect("a file");

    let (code, lines) = status(&kubeconfig);
    assert_eq!(code, Some(1), "{lines:#?}");
    for beginning in [
        "FAILURE crds: clonesets.apps.kruise.io is missing",
        "FAILURE rights: not allowed: afloat-operator to ",
        "FAILURE lease: there is no Lease kruise-system/kruise-manager",
        "warning operator: there is no Deployment",
        "ok webhooks: ",
        "ok clock: ",
    ] {
        has(&lines, beginning);
    }

    // Twice, in both of kubectl's ways: an upgrade finds nothing that it may not change.
    let (_, manifest) = afloat(&["install", "--image", "example.com/afloat:1"]);
    for flags in [
        &["apply", "--validate=strict"][..],
        &["apply", "--validate=strict", "--server-side", "--force-conflicts"],
    ] {
        let Some((done, text)) = kubectl(&kubeconfig, flags, &manifest) else {
            return;
        };
        assert!(done, "{text}");
    }
    let (code, lines) = status(&kubeconfig);
    // Nothing runs here that would act.
    assert_eq!(code, Some(1), "{lines:#?}");
    for beginning in [
        "ok crds: nodetraffics.afloat.dev serves v1alpha1, stored as v1alpha1",
        "ok crds: clonesets.apps.kruise.io serves v1alpha1, v1beta1, stored as v1beta1",
        "FAILURE crds: clonesets.apps.kruise.io has no caBundle",
        "FAILURE operator: 0 of 2 replicas ready in afloat-system, image example.com/afloat:1",
        "ok rights: the accounts may do all ",
    ] {
        has(&lines, beginning);
    }

    // Removal leaves the CRDs and the namespaces.
    let (_, removal) = afloat(&["uninstall"]);
    let Some((done, text)) = kubectl(&kubeconfig, &["delete", "--ignore-not-found"], &removal) else {
        return;
    };
    assert!(done, "{text}");
    let (_, lines) = status(&kubeconfig);
    has(&lines, "ok crds: clonesets.apps.kruise.io serves");
    has(&lines, "FAILURE rights: not allowed: ");
    has(&lines, "warning operator: there is no Deployment");
}
