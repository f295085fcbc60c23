use serde_json::json;

use super::*;
use crate::kinds::Registry;

const NOW: &str = "2026-11-22T08:00:00Z";

fn context() -> WriteContext {
    WriteContext {
        now: NOW.to_owned(),
        uid: "uid-1".to_owned(),
        suffix: "abcde".to_owned(),
    }
}

fn registry() -> Registry {
    let mut registry = Registry::builtin();
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["image"], "properties": {"image": {"type": "string"}, "replicas": {"type": "integer", "default": 1, "minimum": 0}}},
        "status": {"type": "object", "properties": {"ready": {"type": "integer"}}}}});
    let version = |status: bool| {
        let subresources = if status { json!({"status": {}}) } else { json!({}) };
        json!([{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}, "subresources": subresources}])
    };
    for (kind, plural, status) in [("X", "xs", true), ("Y", "ys", false)] {
        registry
            .add_crd(&json!({"spec": {"group": "g.io", "scope": "Namespaced", "names": {"kind": kind, "plural": plural}, "versions": version(status)}}))
            .unwrap();
    }
    registry
}

fn create(api_version: &str, kind: &str, mut object: Value) -> Result<Value, Vec<String>> {
    let resource = registry().by_kind(api_version, kind).unwrap();
    match prepare_create(&resource, &mut object, &context()) {
        Ok(_) => Ok(object),
        Err(errors) => Err(errors
            .into_iter()
            .map(|e| format!("{}: {}", e.field, e.message))
            .collect()),
    }
}

fn update(api_version: &str, kind: &str, part: Part, old: &Value, mut new: Value) -> Result<Value, Vec<String>> {
    let resource = registry().by_kind(api_version, kind).unwrap();
    match prepare_update(&resource, part, old, &mut new, &context()) {
        Ok(_) => Ok(new),
        Err(errors) => Err(errors
            .into_iter()
            .map(|e| format!("{}: {}", e.field, e.message))
            .collect()),
    }
}

fn custom(kind: &str, spec: &Value) -> Value {
    json!({"apiVersion": "g.io/v1", "kind": kind, "metadata": {"name": "x", "namespace": "n"}, "spec": spec})
}

#[test]
fn a_new_object_gets_what_only_the_server_may_give() {
    let mut object = custom("X", &json!({"image": "a:1", "typo": true}));
    object["metadata"] = json!({"generateName": "web-", "namespace": "n", "uid": "mine", "creationTimestamp": null, "generation": 7,
        "deletionTimestamp": NOW, "resourceVersion": "5", "managedFields": [], "labels": {}});
    object["status"] = json!({"ready": 5});
    let created = create("g.io/v1", "X", object).unwrap();
    assert_eq!(
        created,
        json!({"apiVersion": "g.io/v1", "kind": "X", "spec": {"image": "a:1", "replicas": 1}, "metadata":
            {"name": "web-abcde", "generateName": "web-", "namespace": "n", "uid": "uid-1", "creationTimestamp": NOW, "generation": 1}})
    );
    let kept = create(
        "g.io/v1",
        "Y",
        json!({"metadata": {"name": "x", "namespace": "n"}, "spec": {"image": "a"}, "status": {"ready": 5}}),
    );
    assert_eq!(
        kept.unwrap()["status"]["ready"],
        5,
        "without the subresource status is a field like any other"
    );
    let map = create("v1", "ConfigMap", json!({"metadata": {"name": "x", "namespace": "n"}})).unwrap();
    assert!(map["metadata"].get("generation").is_none());
}

#[test]
fn bad_metadata_is_refused_by_field() {
    let cases = [
        (
            json!({"namespace": "n"}),
            "metadata.name: Required value: name or generateName is required",
        ),
        (
            json!({"name": "Up", "namespace": "n"}),
            "metadata.name: Invalid value: \"Up\": a lowercase RFC 1123 subdomain",
        ),
        (json!({"name": "x"}), "metadata.namespace: Required value"),
        (
            json!({"name": "x", "namespace": "n", "labels": {"a b": "c"}}),
            "metadata.labels: Invalid value: \"a b\": name part must consist",
        ),
        (
            json!({"name": "x", "namespace": "n", "labels": {"a": "b c"}}),
            "metadata.labels: Invalid value: \"b c\": a valid label must be",
        ),
        (
            json!({"name": "x", "namespace": "n", "annotations": {"a": 5}}),
            "metadata.annotations[a]: Invalid value: 5: must be a string",
        ),
        (
            json!({"name": "x", "namespace": "n", "annotations": {"a": "x".repeat(300_000)}}),
            "metadata.annotations: Too long: may not be more than 262144 bytes",
        ),
        (
            json!({"name": "x", "namespace": "n", "ownerReferences": [{"kind": "A", "name": "a", "uid": "u"}]}),
            "metadata.ownerReferences[0].apiVersion: Invalid value",
        ),
        (
            json!({"name": "x", "namespace": "n", "finalizers": ["a b"]}),
            "metadata.finalizers: Invalid value: \"a b\"",
        ),
    ];
    for (metadata, wanted) in cases {
        let errors = create("v1", "ConfigMap", json!({"metadata": metadata})).unwrap_err();
        assert!(
            errors.len() == 1 && errors[0].starts_with(wanted),
            "{errors:?} is not {wanted}"
        );
    }
    let errors = create("v1", "Namespace", json!({"metadata": {"name": "x", "namespace": "n"}})).unwrap_err();
    assert_eq!(errors, ["metadata.namespace: Forbidden: not allowed on this type"]);
    assert!(create("v1", "ConfigMap", json!({"metadata": []})).is_err());
    assert!(
        create(
            "rbac.authorization.k8s.io/v1",
            "ClusterRole",
            json!({"metadata": {"name": "system:node"}})
        )
        .is_ok()
    );
}

#[test]
fn generation_counts_changes_of_what_is_wanted() {
    let old = create("g.io/v1", "X", custom("X", &json!({"image": "a:1"}))).unwrap();
    let generation = |object: &Value| object["metadata"]["generation"].as_i64();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        change(&mut new);
        new
    };
    let spec = changed(&|o| o["spec"]["image"] = "a:2".into());
    assert_eq!(
        generation(&update("g.io/v1", "X", Part::Main, &old, spec).unwrap()),
        Some(2)
    );
    let labels = changed(&|o| o["metadata"]["labels"] = json!({"a": "b"}));
    assert_eq!(
        generation(&update("g.io/v1", "X", Part::Main, &old, labels).unwrap()),
        Some(1)
    );
    let lie = changed(&|o| o["metadata"]["generation"] = 9.into());
    assert_eq!(
        update("g.io/v1", "X", Part::Main, &old, lie).unwrap(),
        old,
        "a write that changes nothing leaves nothing changed"
    );
    let status = changed(&|o| o["status"] = json!({"ready": 1}));
    assert_eq!(
        generation(&update("g.io/v1", "X", Part::Status, &old, status.clone()).unwrap()),
        Some(1)
    );
    assert_eq!(
        generation(&update("g.io/v1", "Y", Part::Main, &old, status).unwrap()),
        Some(2)
    );
    let leaving = changed(&|o| o["metadata"]["deletionTimestamp"] = NOW.into());
    assert_eq!(
        generation(&update("g.io/v1", "X", Part::Internal, &old, leaving).unwrap()),
        Some(2)
    );
    let scaled = changed(&|o| o["spec"]["replicas"] = 5.into());
    assert_eq!(
        generation(&update("g.io/v1", "X", Part::Internal, &old, scaled).unwrap()),
        Some(2)
    );
}

#[test]
fn each_part_changes_only_what_is_its_own() {
    let mut old = create("g.io/v1", "X", custom("X", &json!({"image": "a:1"}))).unwrap();
    old["status"] = json!({"ready": 1});
    let mut new = old.clone();
    new["spec"]["image"] = "a:2".into();
    new["status"] = json!({"ready": 2, "typo": 1});
    new["metadata"]["labels"] = json!({"a": "b"});
    let main = update("g.io/v1", "X", Part::Main, &old, new.clone()).unwrap();
    assert_eq!(
        (&main["spec"]["image"], &main["status"]["ready"]),
        (&json!("a:2"), &json!(1))
    );
    let status = update("g.io/v1", "X", Part::Status, &old, new.clone()).unwrap();
    assert_eq!(
        (&status["spec"]["image"], &status["status"]),
        (&json!("a:1"), &json!({"ready": 2}))
    );
    assert!(status["metadata"].get("labels").is_none());
    new["metadata"]["resourceVersion"] = "7".into();
    let status = update("g.io/v1", "X", Part::Status, &old, new).unwrap();
    assert_eq!(
        status["metadata"]["resourceVersion"], "7",
        "what the write was decided on is for the server to see"
    );
}

#[test]
fn metadata_that_may_not_change_does_not() {
    let mut old = create(
        "v1",
        "ConfigMap",
        json!({"metadata": {"name": "x", "namespace": "n", "finalizers": ["a.io/f"]}}),
    )
    .unwrap();
    let change = |key: &str, value: Value| {
        let mut new = old.clone();
        new["metadata"][key] = value;
        update("v1", "ConfigMap", Part::Main, &old, new)
    };
    assert_eq!(
        change("uid", json!("other")).unwrap_err(),
        [r#"metadata.uid: Invalid value: "other": field is immutable"#]
    );
    assert_eq!(change("uid", Value::Null).unwrap()["metadata"]["uid"], "uid-1");
    assert_eq!(
        change("creationTimestamp", Value::Null).unwrap()["metadata"]["creationTimestamp"],
        NOW
    );
    assert!(change("deletionTimestamp", json!(NOW)).unwrap_err()[0].contains("may only be changed via deletion"));
    old["metadata"]["deletionTimestamp"] = NOW.into();
    let mut new = old.clone();
    new["metadata"]["deletionTimestamp"] = Value::Null;
    new["metadata"]["finalizers"] = json!([]);
    let freed = update("v1", "ConfigMap", Part::Main, &old, new.clone()).unwrap();
    assert_eq!(freed["metadata"]["deletionTimestamp"], NOW);
    assert!(freed["metadata"].get("finalizers").is_none());
    new["metadata"]["finalizers"] = json!(["a.io/f", "b.io/new"]);
    assert!(
        update("v1", "ConfigMap", Part::Main, &old, new).unwrap_err()[0].contains("no new finalizers can be added")
    );
}

#[test]
fn a_custom_resource_is_judged_by_its_schema() {
    assert_eq!(
        create("g.io/v1", "X", custom("X", &json!({}))).unwrap_err(),
        ["spec.image: Required value"]
    );
    let errors = create("g.io/v1", "X", custom("X", &json!({"image": "a", "replicas": -1}))).unwrap_err();
    assert_eq!(
        errors,
        ["spec.replicas: Invalid value: -1: spec.replicas in body should be greater than or equal to 0"]
    );
    assert!(
        create(
            "apps/v1",
            "Deployment",
            json!({"metadata": {"name": "x", "namespace": "n"}, "spec": []})
        )
        .is_err()
    );
}

#[test]
fn virtual_kinds_pass_as_they_are() {
    let review = json!({"kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": {}}});
    let out = create("authorization.k8s.io/v1", "SelfSubjectAccessReview", review).unwrap();
    assert_eq!(out["spec"], json!({"resourceAttributes": {}}));
}

#[test]
fn scale_reads_and_writes_replicas() {
    let registry = registry();
    let deployment = registry.by_kind("apps/v1", "Deployment").unwrap();
    let mut object = json!({"metadata": {"name": "x", "namespace": "n", "uid": "u"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}}, "status": {"replicas": 2}});
    let scale = crate::scale::scale_of(&deployment, &object).unwrap();
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]),
        (&json!(3), &json!({"replicas": 2, "selector": "a=b"}))
    );
    crate::scale::set_replicas(&deployment, &mut object, 5).unwrap();
    assert_eq!(object["spec"]["replicas"], 5);
    let pods = registry.by_kind("v1", "Pod").unwrap();
    assert!(crate::scale::scale_of(&pods, &object).is_err());
}

/// A store that was written before pods had resize policies is still one whose pods can be changed.
#[test]
fn a_default_that_is_new_is_no_change() {
    let resources = json!({"requests": {"cpu": "1"}});
    let spec = json!({"containers": [{"name": "a", "image": "a:1", "resources": resources}]});
    let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec});
    let mut old = create("v1", "Pod", pod).unwrap();
    old["spec"]["containers"][0]
        .as_object_mut()
        .unwrap()
        .remove("resizePolicy");
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = "a:2".into();
    let new = update("v1", "Pod", Part::Main, &old, new).unwrap();
    assert_eq!(new["spec"]["containers"][0]["resizePolicy"][0]["resourceName"], "cpu");
}
