//! Whether `rbac.yaml` and `agent.yaml` allow just what the operator and the agent ask for, by the API server's own record of who asked for what.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::Value;

/// What is written down, and of whom.
pub(crate) const AUDIT_POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy",
    "omitStages": ["RequestReceived"], "rules": [
    {"level": "Metadata", "users": ["system:serviceaccount:kruise-system:afloat-operator",
        "system:serviceaccount:afloat-agent:afloat-agent"]}, {"level": "None"}]}"#;

/// Compares the record with the rights. `complete`: everything that its owner can do was tried, but for `untried`, each `VERB
/// RESOURCE.GROUP`.
pub(crate) fn check(rights: &str, audit: &str, complete: bool, untried: &[&str]) {
    let events = audit
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let mut used = BTreeSet::new();
    for event in events {
        let reference = &event["objectRef"];
        let text = |key: &str| reference[key].as_str().unwrap_or_default();
        let resource = match text("subresource") {
            "" => text("resource").to_owned(),
            subresource => format!("{}/{subresource}", text("resource")),
        };
        let verb = event["verb"].as_str().unwrap_or_default();
        assert_ne!(event["responseStatus"]["code"], 403, "{event}");
        used.insert(format!("{verb} {resource}.{}", text("apiGroup")));
    }
    let mut idle: BTreeSet<_> = rules(rights).iter().flat_map(spelled_out).collect();
    // Of whatever has it: all of a kind of subresource is one right.
    let whole = |right: &str| {
        let part = right.strip_prefix("get */").and_then(|right| right.strip_suffix(".*"));
        part.is_some_and(|part| used.iter().any(|used| used.contains(&format!("/{part}."))))
    };
    idle.retain(|right| !used.contains(right) && !whole(right));
    // Asked for by an admission plugin in the operator's name, not by requests of its own.
    idle.retain(|right| !right.contains("/finalizers."));
    idle.retain(|right| !untried.contains(&right.as_str()));
    if complete {
        assert!(idle.is_empty(), "rights that nobody uses: {idle:?}");
    }
}

fn rules(rights: &str) -> Vec<PolicyRule> {
    let documents = rights
        .split("---\n")
        .map(|text| serde_saphyr::from_str::<Value>(text).expect("YAML"));
    let rules = documents.filter_map(|document| document.get("rules").cloned());
    rules
        .flat_map(|rules| serde_json::from_value::<Vec<PolicyRule>>(rules).expect("rules"))
        .collect()
}

fn spelled_out(rule: &PolicyRule) -> Vec<String> {
    let mut all = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            all.extend(rule.verbs.iter().map(|verb| format!("{verb} {resource}.{group}")));
        }
    }
    all
}
