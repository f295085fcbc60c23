//! The schema of ContainerRecreateRequests. What OpenKruise's webhook checks without looking at the pod is checked here.

use serde_json::{Value, json};

use super::serving::{Serving, Version};
use crate::names::{GROUP, RECREATE_NODE};
use crate::schema::{boolean, int32, int64, list, object, one_of, or, string, time};

/// The whole definition.
pub(super) fn definition(serving: &Serving) -> Value {
    let version = |version: Version| {
        json!({
            "name": version.name(),
            "served": version == Version::V1beta1 || serving.webhook.is_some(),
            "storage": version == serving.stored,
            "subresources": {"status": {}},
            "additionalPrinterColumns": columns(),
            "schema": {"openAPIV3Schema": object(
                json!({
                    "apiVersion": string(),
                    "kind": string(),
                    "metadata": {"type": "object"},
                    "spec": spec(),
                    "status": status(),
                }),
                &[],
            )},
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("containerrecreaterequests.{GROUP}")},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": "ContainerRecreateRequest", "listKind": "ContainerRecreateRequestList",
                "plural": "containerrecreaterequests", "singular": "containerrecreaterequest", "shortNames": ["crr"],
            },
            "scope": "Namespaced",
            "conversion": serving.conversion(),
            "versions": [version(Version::V1beta1), version(Version::V1alpha1)],
        },
    })
}

/// What `kubectl get` shows.
fn columns() -> Value {
    let text = |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path});
    json!([
        text("PHASE", ".status.phase"),
        text("POD", ".spec.podName"),
        text("NODE", &format!(".metadata.labels.{}", RECREATE_NODE.replace('.', "\\."))),
        {"name": "AGE", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ])
}

fn least(mut schema: Value, minimum: i64) -> Value {
    schema["minimum"] = json!(minimum);
    schema
}

fn spec() -> Value {
    let strategy = object(
        json!({
            "failurePolicy": or(one_of(&["Fail", "Ignore"]), json!("Fail")),
            "orderedRecreate": boolean(),
            "forceRecreate": boolean(),
            "terminationGracePeriodSeconds": least(int64(), 0),
            "unreadyGracePeriodSeconds": least(int64(), 0),
            "minStartedSeconds": int32(Some(0)),
        }),
        &[],
    );
    let mut containers = list(container());
    containers["minItems"] = json!(1);
    containers["maxItems"] = json!(256);
    // No container twice.
    containers["x-kubernetes-list-type"] = json!("map");
    containers["x-kubernetes-list-map-keys"] = json!(["name"]);
    let mut spec = object(
        json!({
            "podName": {"type": "string", "minLength": 1, "maxLength": 253},
            "containers": containers,
            "strategy": or(strategy, json!({})),
            "activeDeadlineSeconds": least(int64(), 3),
            "ttlSecondsAfterFinished": int32(Some(0)),
        }),
        &["podName", "containers"],
    );
    // The operator puts in what the pod has, once: a webhook may have been asked in vain.
    spec["x-kubernetes-validations"] = json!([{
        "rule": "self == oldSelf || !oldSelf.containers.all(c, has(c.statusContext))",
        "message": "spec of ContainerRecreateRequest is immutable",
    }]);
    spec
}

fn container() -> Value {
    let port = || json!({"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true});
    let header = object(json!({"name": string(), "value": string()}), &["name", "value"]);
    let hook = object(
        json!({
            "exec": object(json!({"command": list(string())}), &[]),
            "httpGet": object(
                json!({
                    "host": string(), "httpHeaders": list(header), "path": string(), "port": port(), "scheme": string(),
                }),
                &["port"],
            ),
            "tcpSocket": object(json!({"host": string(), "port": port()}), &["port"]),
            // Newer than OpenKruise's list.
            "sleep": object(json!({"seconds": int64()}), &["seconds"]),
        }),
        &[],
    );
    let container_port = object(
        json!({
            "containerPort": int32(None), "hostIP": string(), "hostPort": int32(None), "name": string(),
            "protocol": or(string(), json!("TCP")),
        }),
        &["containerPort"],
    );
    let context = object(
        json!({"containerID": string(), "restartCount": int32(None)}),
        &["containerID", "restartCount"],
    );
    object(
        json!({
            "name": {"type": "string", "minLength": 1, "maxLength": 63},
            "preStop": hook, "ports": list(container_port), "statusContext": context,
        }),
        &["name"],
    )
}

fn status() -> Value {
    let phase = || one_of(&["", "Pending", "Recreating", "Succeeded", "Failed", "Completed"]);
    let state = object(
        json!({"name": string(), "phase": phase(), "message": string(), "isKilled": boolean()}),
        &["name", "phase"],
    );
    let snapshot = object(
        json!({"name": string(), "ready": boolean(), "restartCount": int32(None), "containerID": string()}),
        &["name", "ready", "restartCount"],
    );
    let condition = object(
        json!({
            "type": string(), "status": string(), "observedGeneration": int64(), "lastTransitionTime": time(),
            "reason": string(), "message": string(),
        }),
        &["type", "status", "lastTransitionTime", "reason", "message"],
    );
    let mut conditions = list(condition);
    conditions["x-kubernetes-list-type"] = json!("map");
    conditions["x-kubernetes-list-map-keys"] = json!(["type"]);
    object(
        json!({
            "phase": phase(),
            "completionTime": time(),
            "message": string(),
            "containerRecreateStates": list(state),
            "containerStatusSnapshot": list(snapshot),
            "conditions": conditions,
        }),
        &["phase"],
    )
}
