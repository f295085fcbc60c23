use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::kinds::Registry;

/// The list that users read.
const DOCUMENT: &str = include_str!("../../../../../docs/compatibility.md");

fn told(api_version: &str, kind: &str, object: &Value) -> Vec<String> {
    let resource = Registry::builtin().by_kind(api_version, kind).unwrap();
    warnings(resource.builtin.unwrap(), object)
}

/// As the document has it: what it is, and why nothing comes of it.
fn lines() -> BTreeSet<String> {
    let line = |of: &str, field: &Inert| {
        let value = match field.when {
            When::Set => String::new(),
            When::Is(value) => format!(": {value}"),
        };
        format!("* {of}`{}{value}`: {}", field.path, field.says)
    };
    let mut lines: BTreeSet<String> = OF_PODS.iter().map(|field| line("pods, `spec`: ", field)).collect();
    for row in Registry::builtin().all().filter_map(|resource| resource.builtin) {
        lines.extend(row.inert.map(|says| format!("* `{}`: {says}", row.kind)));
        lines.extend(
            row.inert_fields
                .iter()
                .map(|field| line(&format!("{}: ", row.kind), field)),
        );
    }
    lines
}

#[test]
fn the_document_lists_what_the_rows_say() {
    let (_, rest) = DOCUMENT.split_once("## Stored, and without effect").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    let listed: BTreeSet<String> = section
        .lines()
        .filter(|line| line.starts_with("* "))
        .map(str::to_owned)
        .collect();
    let missing: Vec<String> = lines().difference(&listed).cloned().collect();
    let untrue: Vec<String> = listed.difference(&lines()).cloned().collect();
    assert!(
        missing.is_empty(),
        "not in docs/compatibility.md:\n{}",
        missing.join("\n")
    );
    assert!(untrue.is_empty(), "no longer true:\n{}", untrue.join("\n"));
}

#[test]
fn kinds_and_fields_that_do_nothing_are_told_and_others_are_not() {
    let policy = json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}}});
    assert_eq!(
        told("networking.k8s.io/v1", "NetworkPolicy", &policy),
        ["NetworkPolicy: stored, but nothing enforces it: every pod reaches every other"]
    );
    let service = |spec: Value| told("v1", "Service", &json!({"spec": spec}));
    assert!(service(json!({"type": "NodePort", "externalIPs": []})).is_empty());
    assert_eq!(
        service(json!({"type": "LoadBalancer"})),
        ["spec.type: there is no load balancer: its address stays <pending>, its node port works"]
    );
    let spread = json!([{"maxSkew": 1, "topologyKey": "zone"}]);
    let template = json!({"spec": {"template": {"spec": {
        "affinity": {"nodeAffinity": {"a": 1}}, "topologySpreadConstraints": spread,
        "containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"mountPropagation": "None"}]}],
        "initContainers": [{"name": "i", "volumeMounts": [{}, {"mountPropagation": "Bidirectional"}]}],
    }}}});
    assert_eq!(
        told("apps/v1", "Deployment", &template),
        [
            "spec.template.spec.topologySpreadConstraints: the scheduler does not look at it",
            "spec.template.spec.initContainers[0].volumeMounts[1].mountPropagation: what is mounted later is not passed on",
        ]
    );
    let pod = json!({"spec": {"topologySpreadConstraints": spread}});
    assert_eq!(
        told("v1", "Pod", &pod),
        ["spec.topologySpreadConstraints: the scheduler does not look at it"]
    );
    assert!(told("apps/v1", "Deployment", &json!({"spec": {}})).is_empty());
}
