//! Each case: kind, object, patch, result. What Kubernetes 1.32 answers.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::kinds::Registry;

fn resource(api_version: &str, kind: &str) -> std::sync::Arc<Resource> {
    Registry::builtin().by_kind(api_version, kind).unwrap()
}

fn strategic(current: &Value, patch: &Value) -> Result<Value, PatchError> {
    apply(PatchType::Strategic, &resource("v1", "Pod"), current, patch)
}

/// A pod spec with the parts given.
fn pod(spec: &Value) -> Value {
    json!({"spec": spec})
}

#[test]
fn strategic_merge_patches_pods_as_kubernetes_does() {
    let two = json!({"containers": [{"name": "a", "image": "a:1", "ports": [{"containerPort": 80}]}, {"name": "b", "image": "b:1"}]});
    #[rustfmt::skip]
    let cases = [
        ("an image, by container name", two.clone(),
            json!({"containers": [{"name": "b", "image": "b:2"}]}),
            json!({"containers": [{"name": "a", "image": "a:1", "ports": [{"containerPort": 80}]}, {"name": "b", "image": "b:2"}]})),
        ("a new container comes first without an order", two.clone(),
            json!({"containers": [{"name": "c", "image": "c:1"}]}),
            json!({"containers": [{"name": "c", "image": "c:1"}, {"name": "a", "image": "a:1", "ports": [{"containerPort": 80}]}, {"name": "b", "image": "b:1"}]})),
        ("a new container where the order wants it", two.clone(),
            json!({"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}], "containers": [{"name": "c", "image": "c:1"}]}),
            json!({"containers": [{"name": "a", "image": "a:1", "ports": [{"containerPort": 80}]}, {"name": "b", "image": "b:1"}, {"name": "c", "image": "c:1"}]})),
        ("an order alone", two.clone(),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
            json!({"containers": [{"name": "b", "image": "b:1"}, {"name": "a", "image": "a:1", "ports": [{"containerPort": 80}]}]})),
        ("elements the order does not know keep their place", two.clone(),
            json!({"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "b", "image": "b:2"}]}),
            json!({"containers": [{"name": "a", "image": "a:1", "ports": [{"containerPort": 80}]}, {"name": "b", "image": "b:2"}]})),
        ("a container goes", two.clone(),
            json!({"containers": [{"name": "a", "$patch": "delete"}]}),
            json!({"containers": [{"name": "b", "image": "b:1"}]})),
        ("a container that is not there goes", two.clone(),
            json!({"containers": [{"name": "z", "$patch": "delete"}]}), two.clone()),
        ("a list is replaced", two.clone(),
            json!({"containers": [{"$patch": "replace"}, {"name": "z", "image": "z:1"}]}),
            json!({"containers": [{"name": "z", "image": "z:1"}]})),
        ("ports merge by number", two.clone(),
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "web"}]}]}),
            json!({"containers": [{"name": "a", "image": "a:1", "ports": [{"containerPort": 80, "name": "web"}]}, {"name": "b", "image": "b:1"}]})),
        ("null deletes a field", two.clone(),
            json!({"containers": [{"name": "a", "ports": null}]}),
            json!({"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]})),
        ("null for a whole list", two, json!({"containers": null}), json!({})),
        ("tolerations are atomic", json!({"tolerations": [{"key": "a"}, {"key": "b"}]}),
            json!({"tolerations": [{"key": "c"}]}), json!({"tolerations": [{"key": "c"}]})),
        ("command is atomic", json!({"containers": [{"name": "a", "command": ["x", "y"]}]}),
            json!({"containers": [{"name": "a", "command": ["z"]}]}), json!({"containers": [{"name": "a", "command": ["z"]}]})),
        ("env merges by name", json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}]}),
            json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "3"}]}]}),
            json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "3"}, {"name": "Y", "value": "2"}]}]})),
        ("a map merges", json!({"nodeSelector": {"a": "1"}}), json!({"nodeSelector": {"b": "2"}}), json!({"nodeSelector": {"a": "1", "b": "2"}})),
        ("a map is replaced", json!({"nodeSelector": {"a": "1"}}),
            json!({"nodeSelector": {"$patch": "replace", "b": "2"}}), json!({"nodeSelector": {"b": "2"}})),
        ("a map is emptied", json!({"nodeSelector": {"a": "1"}}), json!({"nodeSelector": {"$patch": "delete"}}), json!({"nodeSelector": {}})),
        ("a volume changes its source by retainKeys", json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}, "$retainKeys": ["name", "hostPath"]}]}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]})),
        ("directives in something new leave no trace", json!({}),
            json!({"volumes": [{"name": "v", "emptyDir": {}, "$retainKeys": ["name", "emptyDir"]}], "$setElementOrder/volumes": [{"name": "v"}]}),
            json!({"volumes": [{"name": "v", "emptyDir": {}}]})),
        ("nulls in something new are dropped", json!({}), json!({"securityContext": {"a": null, "b": 1}}), json!({"securityContext": {"b": 1}})),
        ("another type wins", json!({"x": {"y": 1}}), json!({"x": 5}), json!({"x": 5})),
    ];
    for (what, current, patch, wanted) in cases {
        assert_eq!(strategic(&pod(&current), &pod(&patch)).unwrap(), pod(&wanted), "{what}");
    }
}

#[test]
fn strategic_merge_of_metadata_status_and_services() {
    let cases = [
        (
            "v1",
            "Pod",
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["c"]}}),
            json!({"metadata": {"finalizers": ["c", "a", "b"]}}),
        ),
        (
            "v1",
            "Pod",
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}),
            json!({"metadata": {"finalizers": ["b"]}}),
        ),
        (
            "v1",
            "Pod",
            json!({"metadata": {"ownerReferences": [{"uid": "1", "name": "a"}]}}),
            json!({"metadata": {"ownerReferences": [{"uid": "1", "$patch": "delete"}]}}),
            json!({"metadata": {"ownerReferences": []}}),
        ),
        (
            "v1",
            "Pod",
            json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "X", "status": "True"}]}}),
            json!({"status": {"conditions": [{"type": "X", "status": "False"}]}}),
            json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "X", "status": "False"}]}}),
        ),
        (
            "v1",
            "Service",
            json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81}]}}),
            json!({"spec": {"ports": [{"port": 80, "name": "b"}]}}),
            json!({"spec": {"ports": [{"port": 80, "name": "b"}, {"port": 81}]}}),
        ),
        (
            "apps/v1",
            "Deployment",
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
            json!({"spec": {"strategy": {"type": "Recreate"}}}),
        ),
        (
            "apps/v1",
            "Deployment",
            json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "a:1"}]}}}}),
            json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "a:2"}]}}}}),
            json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "a:2"}]}}}}),
        ),
        (
            "discovery.k8s.io/v1",
            "EndpointSlice",
            json!({"endpoints": [{"addresses": ["1.1.1.1"]}]}),
            json!({"endpoints": [{"addresses": ["2.2.2.2"]}]}),
            json!({"endpoints": [{"addresses": ["2.2.2.2"]}]}),
        ),
        (
            "v1",
            "ConfigMap",
            json!({"data": {"a": "1", "b": "2"}}),
            json!({"data": {"a": null, "c": "3"}}),
            json!({"data": {"b": "2", "c": "3"}}),
        ),
    ];
    for (api_version, kind, current, patch, wanted) in cases {
        let result = apply(PatchType::Strategic, &resource(api_version, kind), &current, &patch);
        assert_eq!(result.unwrap(), wanted, "{kind} {patch}");
    }
}

#[test]
fn strategic_merge_goes_by_the_types_of_each_kind() {
    let cases = [
        (
            "v1",
            "ServiceAccount",
            json!({"imagePullSecrets": [{"name": "a"}], "secrets": [{"name": "a"}]}),
            json!({"imagePullSecrets": [{"name": "b"}], "secrets": [{"name": "b"}]}),
            json!({"imagePullSecrets": [{"name": "b"}], "secrets": [{"name": "b"}, {"name": "a"}]}),
        ),
        (
            "policy/v1",
            "PodDisruptionBudget",
            json!({"spec": {"selector": {"matchLabels": {"a": "1"}}, "minAvailable": 1}}),
            json!({"spec": {"selector": {"matchLabels": {"b": "2"}}}}),
            json!({"spec": {"selector": {"matchLabels": {"b": "2"}}, "minAvailable": 1}}),
        ),
        (
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
            json!({"webhooks": [{"name": "a", "rules": [{"operations": ["*"]}], "matchConditions": [{"name": "x", "expression": "1"}]}]}),
            json!({"webhooks": [{"name": "a", "rules": [], "matchConditions": [{"name": "x", "expression": "2"}]}]}),
            json!({"webhooks": [{"name": "a", "rules": [], "matchConditions": [{"name": "x", "expression": "2"}]}]}),
        ),
    ];
    for (api_version, kind, current, patch, wanted) in cases {
        let result = apply(PatchType::Strategic, &resource(api_version, kind), &current, &patch);
        assert_eq!(result.unwrap(), wanted, "{kind} {patch}");
    }
}

#[test]
fn bad_strategic_patches_are_refused() {
    let current = pod(&json!({"containers": [{"name": "a"}]}));
    for patch in [
        json!([]),
        json!({"spec": {"containers": [{"image": "no-name"}]}}),
        json!({"spec": {"$patch": "explode"}}),
        json!({"spec": {"$setElementOrder/containers": "a"}}),
        json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "a"}, {"name": "b"}]}}),
        json!({"spec": {"$retainKeys": ["a"], "b": 1}}),
    ] {
        assert!(
            matches!(strategic(&current, &patch), Err(PatchError::Malformed(_))),
            "{patch}"
        );
    }
    let mut registry = Registry::default();
    registry
        .add_crd(&json!({"spec": {"group": "g.io", "scope": "Namespaced", "names": {"kind": "X", "plural": "xs"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}}))
        .unwrap();
    let custom = registry.resolve("g.io", "v1", "xs").unwrap();
    assert!(matches!(
        apply(PatchType::Strategic, &custom, &current, &json!({})),
        Err(PatchError::Unsupported(_))
    ));
}

#[test]
fn json_and_merge_patches() {
    let pod = resource("v1", "Pod");
    let current = json!({"metadata": {"labels": {"a": "1"}}, "list": [1, 2]});
    let good = [
        (
            PatchType::Json,
            json!([{"op": "add", "path": "/metadata/labels/b~1c", "value": "2"}]),
            json!({"metadata": {"labels": {"a": "1", "b/c": "2"}}, "list": [1, 2]}),
        ),
        (
            PatchType::Json,
            json!([{"op": "test", "path": "/list/0", "value": 1}, {"op": "remove", "path": "/list/0"}]),
            json!({"metadata": {"labels": {"a": "1"}}, "list": [2]}),
        ),
        (
            PatchType::Json,
            json!([{"op": "add", "path": "/list/-", "value": 3}]),
            json!({"metadata": {"labels": {"a": "1"}}, "list": [1, 2, 3]}),
        ),
        (
            PatchType::Merge,
            json!({"metadata": {"labels": {"a": null, "b": "2"}}}),
            json!({"metadata": {"labels": {"b": "2"}}, "list": [1, 2]}),
        ),
        (
            PatchType::Merge,
            json!({"list": [3], "new": {"x": null, "y": 1}}),
            json!({"metadata": {"labels": {"a": "1"}}, "list": [3], "new": {"y": 1}}),
        ),
    ];
    for (kind, patch, wanted) in good {
        assert_eq!(apply(kind, &pod, &current, &patch).unwrap(), wanted, "{patch}");
    }
    for patch in [
        json!([{"op": "test", "path": "/list/0", "value": 2}]),
        json!([{"op": "remove", "path": "/nothing"}]),
        json!([{"op": "replace", "path": "/nothing", "value": 1}]),
        json!([{"op": "add", "path": "/no/parent", "value": 1}]),
    ] {
        assert!(
            matches!(
                apply(PatchType::Json, &pod, &current, &patch),
                Err(PatchError::Unprocessable(_))
            ),
            "{patch}"
        );
    }
    for (kind, patch) in [
        (PatchType::Json, json!({})),
        (PatchType::Json, json!([{"op": "dance", "path": "/"}])),
        (PatchType::Merge, json!([])),
        (PatchType::Merge, json!("x")),
    ] {
        assert!(
            matches!(apply(kind, &pod, &current, &patch), Err(PatchError::Malformed(_))),
            "{patch}"
        );
    }
}

/// Small JSON objects without nulls.
fn object() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (0..9_i64).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from)
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("[a-d]", value, 0..4).prop_map(|m| Value::Object(m.into_iter().collect()))
}

/// The merge patch from one object to another.
fn merge_diff(from: &Value, to: &Value) -> Value {
    let (Some(a), Some(b)) = (from.as_object(), to.as_object()) else {
        return to.clone();
    };
    let mut patch = serde_json::Map::new();
    for key in a.keys().filter(|k| !b.contains_key(*k)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in b.iter().filter(|(k, v)| a.get(*k) != Some(v)) {
        patch.insert(
            key.clone(),
            a.get(key).map_or_else(|| value.clone(), |old| merge_diff(old, value)),
        );
    }
    Value::Object(patch)
}

proptest! {
    #[test]
    fn a_diff_leads_from_one_object_to_the_other(from in object(), to in object()) {
        let resource = resource("v1", "ConfigMap");
        let diff = json_patch::diff(&from, &to);
        let json = serde_json::to_value(&diff).unwrap();
        prop_assert_eq!(&apply(PatchType::Json, &resource, &from, &json).unwrap(), &to);
        // Nothing in these objects is a list that merges, so both kinds of merge patch agree.
        let merge = merge_diff(&from, &to);
        prop_assert_eq!(&apply(PatchType::Merge, &resource, &from, &merge).unwrap(), &to);
        prop_assert_eq!(&apply(PatchType::Strategic, &resource, &from, &merge).unwrap(), &to);
    }

    #[test]
    fn an_empty_patch_changes_nothing(from in object()) {
        let resource = resource("v1", "Pod");
        for kind in [PatchType::Merge, PatchType::Strategic] {
            prop_assert_eq!(&apply(kind, &resource, &from, &json!({})).unwrap(), &from);
        }
    }
}

#[test]
fn no_json_patch_makes_an_object_that_memory_or_a_reader_cannot_hold() {
    let current = json!({"a": {"b": "c"}});
    let run = |operations: Vec<Value>| {
        apply(
            PatchType::Json,
            &resource("v1", "Pod"),
            &current,
            &Value::Array(operations),
        )
    };
    // Each doubles the object.
    let doubling = |n: usize| json!({"op": "copy", "from": "", "path": format!("/x{n}")});
    assert!(
        matches!(run((0..40).map(doubling).collect()), Err(PatchError::Unprocessable(why)) if why.contains("copies"))
    );
    // Each goes deeper.
    let deeper = |n: usize| json!({"op": "add", "path": "/a".repeat(n), "value": {"a": {}}});
    assert!(
        matches!(run((1..2000).map(deeper).collect()), Err(PatchError::Unprocessable(why)) if why.contains("deeper"))
    );
    assert!(run((1..20).map(deeper).collect()).is_ok());
}

#[test]
fn a_json_patch_may_not_push_a_long_list_aside_for_ever() {
    let object = json!({"list": vec![0; 200_000]});
    let front: Vec<Value> = (0..1_000)
        .map(|_| json!({"op": "add", "path": "/list/0", "value": 0}))
        .collect();
    let patch = |operations: &[Value]| {
        let custom = resource("v1", "ConfigMap");
        apply(PatchType::Json, &custom, &object, &Value::Array(operations.to_vec()))
    };
    assert!(patch(&front[..100]).is_ok());
    let told = patch(&front).unwrap_err();
    assert!(
        matches!(&told, PatchError::Unprocessable(why) if why.contains("moves more than")),
        "{told:?}"
    );
    let back: Vec<Value> = (0..10_000)
        .map(|_| json!({"op": "add", "path": "/list/-", "value": 0}))
        .collect();
    assert!(patch(&back).is_ok());
}
