use serde_json::json;

use super::*;
use crate::kinds::Registry;

#[test]
fn label_selectors_match_as_kubectl_writes_them() {
    let object = json!({"metadata": {"labels": {"app": "web", "app.io/tier": "front", "empty": ""}}});
    let cases = [
        ("", true),
        ("app=web", true),
        ("app==web", true),
        ("app = web , app.io/tier=front", true),
        ("app!=web", false),
        ("other!=web", true),
        ("app in (web,db)", true),
        ("app in (db)", false),
        ("app notin (db, cache),app", true),
        ("other notin (x)", true),
        ("app", true),
        ("other", false),
        ("!other", true),
        ("!app", false),
        ("empty=", true),
        ("app=web,other", false),
    ];
    for (text, wanted) in cases {
        assert_eq!(LabelSelector::parse(text).unwrap().matches(&object), wanted, "{text}");
    }
    for text in [
        "app=a b",
        "-x=1",
        "app in web",
        "app in (web",
        "x of (a)",
        "app>1",
        "=x",
    ] {
        assert!(LabelSelector::parse(text).is_err(), "{text}");
    }
}

#[test]
fn structured_selectors_become_text_and_match() {
    let selector = json!({"matchLabels": {"app": "web"}, "matchExpressions": [
        {"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "gone", "operator": "DoesNotExist"}, {"key": "app", "operator": "Exists"}]});
    assert_eq!(label_selector_text(&selector), "app=web,tier in (a,b),!gone,app");
    assert_eq!(label_selector_text(&json!({"app": "web"})), "app=web");
    assert_eq!(label_selector_text(&json!({})), "");
    let parsed = LabelSelector::from_value(&selector).unwrap();
    assert!(parsed.matches_labels(Some(&json!({"app": "web", "tier": "b"}))));
    assert!(!parsed.matches_labels(Some(&json!({"app": "web", "tier": "b", "gone": "1"}))));
    assert!(
        LabelSelector::from_value(&json!({"matchExpressions": [{"key": "a", "operator": "Near", "values": ["b"]}]}))
            .is_err()
    );
}

#[test]
fn field_selectors_know_the_fields_of_their_kind() {
    let registry = Registry::builtin();
    let (pods, events) = (
        registry.resolve("", "v1", "pods").unwrap(),
        registry.resolve("", "v1", "events").unwrap(),
    );
    let nodes = registry.resolve("", "v1", "nodes").unwrap();
    let pod = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"nodeName": "node-1"}, "status": {"phase": "Running"}});
    let cases = [
        ("", true),
        ("metadata.name=a", true),
        ("metadata.name==a,metadata.namespace=n", true),
        ("spec.nodeName=node-1", true),
        ("spec.nodeName=", false),
        ("status.phase!=Running", false),
        ("status.phase!=Failed,spec.nodeName!=node-2", true),
        ("status.podIP=", true),
    ];
    for (text, wanted) in cases {
        assert_eq!(
            FieldSelector::parse(&pods, text).unwrap().matches(&pod),
            wanted,
            "{text}"
        );
    }
    assert_eq!(
        FieldSelector::parse(&pods, "metadata.name=a").unwrap().name(),
        Some("a")
    );
    assert_eq!(
        FieldSelector::parse(&pods, "spec.image=a").unwrap_err(),
        "field label not supported: spec.image"
    );
    assert!(FieldSelector::parse(&pods, "nonsense").is_err());
    let event = json!({"involvedObject": {"name": "a", "kind": "Pod"}, "source": {"component": "kubelet"}, "reason": "Killing"});
    let selector = FieldSelector::parse(
        &events,
        "involvedObject.name=a,involvedObject.kind=Pod,source=kubelet,reason=Killing",
    )
    .unwrap();
    assert!(selector.matches(&event));
    assert!(
        FieldSelector::parse(&nodes, "spec.unschedulable=false")
            .unwrap()
            .matches(&json!({"spec": {}}))
    );
    assert!(FieldSelector::parse(&nodes, "metadata.namespace=x").is_err());
}
