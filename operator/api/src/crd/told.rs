//! Kinds of our own, in which somebody tells something.

use serde_json::{Value, json};

use crate::schema::{boolean, int64, list, object, string, time};

/// What a node's proxy does.
pub(super) fn node_traffic() -> Value {
    let pod = object(
        json!({
            "pod": string(), "applied": int64(), "ready": boolean(), "routed": boolean(), "open": int64(),
            "opened": int64(), "refused": int64(), "reset": int64(), "timedOut": int64(),
        }),
        &[],
    );
    let status = object(
        json!({
            "method": string(),
            "synced": boolean(),
            "message": string(),
            "pods": {"type": "object", "additionalProperties": pod},
            "services": {"type": "object", "additionalProperties": int64()},
            "running": {"type": "object", "additionalProperties": string()},
            "hashes": {"type": "object", "additionalProperties": int64()},
        }),
        &[],
    );
    let columns = json!([
        {"name": "METHOD", "type": "string", "jsonPath": ".status.method"},
        {"name": "SYNCED", "type": "boolean", "jsonPath": ".status.synced"},
        {"name": "AGE", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        {"name": "MESSAGE", "type": "string", "jsonPath": ".status.message", "priority": 1},
    ]);
    told("NodeTraffic", "Cluster", status, columns)
}

/// What became of a rollout.
pub(super) fn rollout_report() -> Value {
    let lost = || object(json!({"refused": int64(), "reset": int64(), "timedOut": int64()}), &[]);
    let counter = object(
        json!({
            "node": string(), "uid": string(), "pod": string(), "revision": string(), "seen": lost(), "lost": lost(),
        }),
        &[],
    );
    let service = object(json!({"node": string(), "service": string(), "seen": int64()}), &[]);
    let step = || object(json!({"pods": int64(), "mean": string(), "max": string()}), &[]);
    let status = object(
        json!({
            "workload": string(), "revision": string(), "from": string(), "phase": string(),
            "startedAt": time(), "endedAt": time(), "writtenAt": time(), "duration": string(),
            "updated": int64(), "kept": int64(), "created": int64(), "writes": int64(),
            "steps": object(json!({"drain": step(), "replace": step(), "return": step()}), &[]),
            "lost": int64(), "kinds": lost(), "connections": int64(), "truncated": boolean(),
            "latency": object(
                json!({
                    "before": string(), "during": string(), "after": string(), "requests": int64(), "lost": int64(),
                }),
                &[],
            ),
            "counters": list(counter), "services": list(service),
        }),
        &[],
    );
    let column = |name: &str, kind: &str, path: &str| json!({"name": name, "type": kind, "jsonPath": path});
    let wide =
        |name: &str, kind: &str, path: &str| json!({"name": name, "type": kind, "jsonPath": path, "priority": 1});
    let columns = json!([
        column("CLONESET", "string", ".status.workload"),
        column("PHASE", "string", ".status.phase"),
        column("UPDATED", "integer", ".status.updated"),
        column("KEPT", "integer", ".status.kept"),
        column("LOST", "integer", ".status.lost"),
        column("DURATION", "string", ".status.duration"),
        column("AGE", "date", ".metadata.creationTimestamp"),
        wide("DRAIN", "string", ".status.steps.drain.mean"),
        wide("REPLACE", "string", ".status.steps.replace.mean"),
        wide("RETURN", "string", ".status.steps.return.mean"),
        wide("WRITES", "integer", ".status.writes"),
        wide("P99_BEFORE", "string", ".status.latency.before"),
        wide("P99_DURING", "string", ".status.latency.during"),
        wide("P99_AFTER", "string", ".status.latency.after"),
    ]);
    told("RolloutReport", "Namespaced", status, columns)
}

/// A kind of our own, which has a status and nothing else: what somebody tells.
fn told(kind: &str, scope: &str, status: Value, columns: Value) -> Value {
    let singular = kind.to_lowercase();
    let plural = format!("{singular}s");
    let fields = json!({"apiVersion": string(), "kind": string(), "metadata": {"type": "object"}, "status": status});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.afloat.dev")},
        "spec": {
            "group": "afloat.dev",
            "names": {"kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": singular},
            "scope": scope,
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "additionalPrinterColumns": columns,
                "schema": {"openAPIV3Schema": object(fields, &[])},
            }],
        },
    })
}
