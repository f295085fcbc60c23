//! Folders as people have them: manifests beside values, charts and kustomizations.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::cluster::{AFLOAT, kubectl_program};

fn deployment(name: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  \
         template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      terminationGracePeriodSeconds: 0\n      \
         containers: [{{name: a, image: 'a:v1'}}]\n"
    )
}

fn folder(files: &[(&str, String)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("below the folder")).expect("folders");
        std::fs::write(path, text).expect("a file");
    }
    folder
}

/// The objects that were found, each with where it was, and what was said beside.
fn found(folder: &Path, tools: &Path) -> (Vec<String>, String) {
    let output = Command::new(AFLOAT)
        .args(["check", "--format", "json", "--rule", "no-grace", "-f"])
        .arg(folder)
        .env("PATH", tools)
        .output()
        .expect("afloat starts");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let findings = report["findings"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let root = folder.display().to_string();
    let line = |finding: &Value| {
        let file = text(&finding["file"]).replace(&root, "");
        format!("{} in {file}", text(&finding["object"]["name"]))
    };
    let mut lines: Vec<String> = findings.iter().map(line).collect();
    lines.sort();
    (lines, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn everything() -> tempfile::TempDir {
    let chart = "apiVersion: v2\nname: shop\nversion: 0.1.0\n".to_owned();
    let templated = deployment("NAME").replace("NAME", "{{ .Release.Name }}-{{ .Values.part }}");
    folder(&[
        ("plain.yaml", deployment("plain")),
        ("settings.yaml", "colour: blue\n---\nsize: 3\n".to_owned()),
        (
            "kind.yaml",
            "apiVersion: kind.x-k8s.io/v1alpha4\nkind: Cluster\n".to_owned(),
        ),
        ("shop/Chart.yaml", chart),
        ("shop/values.yaml", "part: till\n".to_owned()),
        ("shop/templates/till.yaml", templated),
        ("base/kustomization.yaml", "resources: [web.yaml]\n".to_owned()),
        ("base/web.yaml", deployment("web")),
        (
            "prod/kustomization.yaml",
            "namePrefix: prod-\nresources: [../base]\n".to_owned(),
        ),
    ])
}

#[test]
fn what_is_no_object_is_counted_and_what_needs_a_tool_is_told() {
    let folder = everything();
    let nowhere = tempfile::tempdir().expect("a temporary folder");
    let (objects, said) = found(folder.path(), nowhere.path());
    assert_eq!(objects, ["plain in /plain.yaml", "web in /base/web.yaml"], "{said}");
    for words in [
        "2 documents are no Kubernetes object, not looked at:",
        "a chart, and there is no helm to render it; where there is: helm template",
        "a kustomization, and there is neither kustomize nor kubectl to build it",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }
    // What the rules read is never let by, nor is a file that was named.
    std::fs::write(
        folder.path().join("broken.yaml"),
        deployment("x").replace("{name: x}", "{}"),
    )
    .expect("a file");
    let (_, said) = found(folder.path(), nowhere.path());
    assert!(
        said.contains("broken.yaml: document 1: metadata.name is missing"),
        "{said}"
    );
    let (_, said) = found(&folder.path().join("settings.yaml"), nowhere.path());
    assert!(said.contains("settings.yaml: document 1"), "{said}");
}

#[test]
fn kustomizations_are_built_once_where_the_tool_is() {
    let Some(kubectl) = kubectl_program() else { return };
    let folder = everything();
    let tools = tools(&[("kubectl", kubectl)]);
    let (objects, said) = found(folder.path(), tools.path());
    assert_eq!(
        objects,
        ["plain in /plain.yaml", "prod-web in /prod (kubectl kustomize)"],
        "{said}"
    );
}

#[test]
fn charts_are_rendered_where_helm_is() {
    let Some(helm) = std::env::var_os("AFLOAT_HELM") else {
        eprintln!("skipped: no Helm (set AFLOAT_HELM)");
        return;
    };
    let folder = everything();
    let tools = tools(&[("helm", PathBuf::from(helm))]);
    let (objects, said) = found(folder.path(), tools.path());
    assert_eq!(
        objects,
        [
            "plain in /plain.yaml",
            "release-till in /shop (helm template)",
            "web in /base/web.yaml"
        ],
        "{said}"
    );
    // One that cannot be rendered is told, and the others are looked at all the same.
    std::fs::write(folder.path().join("shop/templates/till.yaml"), "{{ .Values.").expect("a file");
    let (objects, said) = found(folder.path(), tools.path());
    assert_eq!(objects, ["plain in /plain.yaml", "web in /base/web.yaml"]);
    assert!(said.contains("a chart that helm does not render:"), "{said}");
}

/// A folder with nothing but these programs.
fn tools(programs: &[(&str, PathBuf)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, program) in programs {
        let program = find(program);
        std::os::unix::fs::symlink(program, folder.path().join(name)).expect("a link");
    }
    folder
}

fn find(program: &Path) -> PathBuf {
    if program.components().count() > 1 {
        return program.to_path_buf();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).map(|folder| folder.join(program));
    places
        .into_iter()
        .find(|place| place.is_file())
        .unwrap_or_else(|| program.to_path_buf())
}
