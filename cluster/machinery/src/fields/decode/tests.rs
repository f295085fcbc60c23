use serde_json::{Value, json};

use super::*;
use crate::kinds::Registry;

fn said(message: &'static str, mut object: Value) -> String {
    decode(message, &mut object).unwrap_err()
}

#[test]
fn mistakes_are_told_as_go_tells_them() {
    let pod = |spec: Value| {
        said(
            "core.v1.Pod",
            json!({"kind": "Pod", "metadata": {"name": "a"}, "spec": spec}),
        )
    };
    let container = |container: Value| pod(json!({"containers": [{"name": "a"}, container]}));
    let cases = [
        (
            pod(json!("x")),
            "string into Go struct field Pod.spec of type v1.PodSpec",
        ),
        (
            pod(json!({"containers": "x"})),
            "string into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            pod(json!({"containers": [5]})),
            "number into Go struct field PodSpec.spec.containers of type v1.Container",
        ),
        (
            pod(json!({"restartPolicy": 5})),
            "number into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy",
        ),
        (
            pod(json!({"priority": 99_999_999_999_i64})),
            "number 99999999999 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            pod(json!({"activeDeadlineSeconds": 1.5})),
            "number 1.5 into Go struct field PodSpec.spec.activeDeadlineSeconds of type int64",
        ),
        (
            container(json!({"name": []})),
            "array into Go struct field Container.spec.containers.name of type string",
        ),
        (
            container(json!({"resources": {"limits": "x"}})),
            "string into Go struct field ResourceRequirements.spec.containers.resources.limits of type v1.ResourceList",
        ),
        (
            container(json!({"readinessProbe": {"httpGet": {"port": true}}})),
            "bool into Go struct field HTTPGetAction.spec.containers.readinessProbe.httpGet.port of type int32",
        ),
    ];
    for (actual, expected) in cases {
        assert_eq!(actual, format!("json: cannot unmarshal {expected}"));
    }
    assert!(container(json!({"resources": {"limits": {"cpu": {}}}})).starts_with("quantities must match"));
}

#[test]
fn mistakes_outside_of_pods_are_told_alike() {
    let cases = [
        (
            said("discovery.v1.EndpointSlice", json!({"endpoints": "x"})),
            "string into Go struct field EndpointSlice.endpoints of type []v1.Endpoint",
        ),
        (
            said("core.v1.ConfigMap", json!({"metadata": {"labels": {"a": 5}}})),
            "number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            said("core.v1.Secret", json!({"data": {"a": 5}})),
            "number into Go struct field Secret.data of type []uint8",
        ),
        (
            said("core.v1.Secret", json!({"data": {"a": [300]}})),
            "number 300 into Go struct field Secret.data of type uint8",
        ),
        (
            said(
                "apps.v1.StatefulSet",
                json!({"spec": {"volumeClaimTemplates": [{"kind": 5}]}}),
            ),
            "number into Go struct field PersistentVolumeClaim.spec.volumeClaimTemplates.kind of type string",
        ),
    ];
    for (actual, expected) in cases {
        assert_eq!(actual, format!("json: cannot unmarshal {expected}"));
    }
    assert_eq!(
        said("core.v1.Secret", json!({"data": {"a": "!!!"}})),
        "illegal base64 data at input byte 0"
    );
}

#[test]
fn mending_takes_out_the_innermost_field_that_is_wrong() {
    let node = Registry::builtin().by_kind("v1", "Node").unwrap();
    let mut object = json!({
        "metadata": {"name": "a", "ownerReferences": "x", "labels": {"a": 5}, "annotations": {"b": "c"}},
        "spec": {"taints": "x", "podCIDR": "10.0.0.0/24"},
        "status": {"conditions": [{"type": "Ready", "status": 5}], "capacity": {"cpu": "much"}, "phase": "Running"},
    });
    let told = mend(&node, &mut object);
    assert_eq!(told.len(), 5, "{told:?}");
    let expected = json!({
        "metadata": {"name": "a", "annotations": {"b": "c"}},
        "spec": {"podCIDR": "10.0.0.0/24"},
        "status": {"conditions": [{"type": "Ready"}], "phase": "Running"},
    });
    assert_eq!(object, expected);
    assert!(mend(&node, &mut object).is_empty());
}

#[test]
fn schemas_are_read_to_the_bottom() {
    let schema = |schema: Value| {
        said(
            "apiextensions.v1.CustomResourceDefinition",
            json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": schema}}]}}),
        )
    };
    let place = "JSONSchemaProps.spec.versions.schema.openAPIV3Schema";
    assert_eq!(
        schema(json!({"properties": {"a": 5}})),
        format!("json: cannot unmarshal number into Go struct field {place}.properties of type v1.JSONSchemaProps")
    );
    assert_eq!(
        schema(json!({"properties": {"a": {"items": {"type": 5}}}})),
        format!("json: cannot unmarshal number into Go struct field {place}.properties.items of type string")
    );
    assert_eq!(
        schema(json!({"additionalProperties": 5})),
        "boolean or JSON schema expected"
    );
    let good = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {
        "default": null, "enum": [null, 1], "additionalProperties": true, "properties": {"a": {"items": {"type": "string"}}},
    }}}]}});
    let mut read = good.clone();
    assert_eq!(decode("apiextensions.v1.CustomResourceDefinition", &mut read), Ok(()));
    assert_eq!(read, good);
}

#[test]
fn what_go_reads_as_something_else_becomes_that() {
    let mut pod = json!({
        "metadata": {"name": "a", "creationTimestamp": null, "labels": {"a": null}, "finalizers": [null]},
        "spec": {"nodeName": null, "unknown": null, "containers": [null, {"resources": {"limits": {"cpu": 1.5, "memory": " 1Gi "}}}]},
    });
    assert_eq!(decode("core.v1.Pod", &mut pod), Ok(()));
    let expected = json!({
        "metadata": {"name": "a", "labels": {"a": ""}, "finalizers": [""]},
        "spec": {"unknown": null, "containers": [{}, {"resources": {"limits": {"cpu": "1.5", "memory": "1Gi"}}}]},
    });
    assert_eq!(pod, expected);
    let mut secret = json!({"data": {"a": [1, 2], "b": "AQ\nI=", "c": null}});
    assert_eq!(decode("core.v1.Secret", &mut secret), Ok(()));
    assert_eq!(secret, json!({"data": {"a": "AQI=", "b": "AQI=", "c": ""}}));
    let mut budget = json!({"status": {"disruptedPods": {"a": null, "b": "2020-01-01T00:00:00Z"}}});
    assert_eq!(decode("policy.v1.PodDisruptionBudget", &mut budget), Ok(()));
    assert_eq!(
        budget,
        json!({"status": {"disruptedPods": {"b": "2020-01-01T00:00:00Z"}}})
    );
}
