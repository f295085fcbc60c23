//! The CustomResourceDefinitions. Both versions have the same schema, the union of their fields, because the CRDs have
//! conversion strategy None: the API server then only rewrites `apiVersion`, and must not prune the other version's
//! fields. Defaults and validation live here, so that no webhook is needed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use crate::names::GROUP;
use crate::schema::{
    anything, boolean, int_or_percent, int32, int64, label_selector, labels, list, object, one_of, pod_template,
    string, time,
};

/// Every CRD that the operator needs, as objects to create or apply.
pub fn crds() -> Vec<CustomResourceDefinition> {
    #[allow(clippy::expect_used)] // they are constants, and a test reads each of them
    let read = |value| serde_json::from_value(value).expect("the definitions below are CustomResourceDefinitions");
    vec![read(clone_set()), read(node_traffic()), read(rollout_report())]
}

fn clone_set() -> Value {
    let version = |name: &str, storage: bool| {
        let mut version = json!({
            "name": name,
            "served": true,
            "storage": storage,
            "subresources": {
                "status": {},
                "scale": {
                    "specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.labelSelector",
                },
            },
            "additionalPrinterColumns": clone_set_columns(),
        });
        version["schema"] = json!({"openAPIV3Schema": object(
            json!({
                "apiVersion": string(),
                "kind": string(),
                "metadata": {"type": "object"},
                "spec": clone_set_spec(),
                "status": clone_set_status(),
            }),
            &[],
        )});
        version
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("clonesets.{GROUP}")},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": "CloneSet", "listKind": "CloneSetList", "plural": "clonesets", "singular": "cloneset",
                "shortNames": ["clone"],
            },
            "scope": "Namespaced",
            "conversion": {"strategy": "None"},
            "versions": [version("v1alpha1", false), version("v1beta1", true)],
        },
    })
}

fn node_traffic() -> Value {
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

fn rollout_report() -> Value {
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

fn clone_set_columns() -> Value {
    let number = |name: &str, path: &str| json!({"name": name, "type": "integer", "jsonPath": path});
    let wide = |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path, "priority": 1});
    json!([
        number("DESIRED", ".spec.replicas"),
        number("UPDATED", ".status.updatedReplicas"),
        number("UPDATED_READY", ".status.updatedReadyReplicas"),
        number("UPDATED_AVAILABLE", ".status.updatedAvailableReplicas"),
        number("READY", ".status.readyReplicas"),
        number("TOTAL", ".status.replicas"),
        {"name": "AGE", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        wide("CONTAINERS", ".spec.template.spec.containers[*].name"),
        wide("IMAGES", ".spec.template.spec.containers[*].image"),
        wide("SELECTOR", ".status.labelSelector"),
    ])
}

/// How a rule finds the template's labels; absent ones are an empty map.
const TEMPLATE_LABELS: &str =
    "(has(self.template.metadata) && has(self.template.metadata.labels) ? self.template.metadata.labels : {})";

fn clone_set_spec() -> Value {
    let mut replicas = int32(Some(0));
    replicas["default"] = json!(1);
    let mut history = int32(Some(0));
    history["default"] = json!(10);
    let mut selector = label_selector();
    selector["x-kubernetes-validations"] = json!([
        {
            "rule": "(has(self.matchLabels) && size(self.matchLabels) > 0) || \
                     (has(self.matchExpressions) && size(self.matchExpressions) > 0)",
            "message": "spec.selector must not be empty: give matchLabels or matchExpressions",
        },
        {"rule": "self == oldSelf", "message": "spec.selector is immutable"},
    ]);
    let mut spec = object(
        json!({
            "replicas": replicas,
            "selector": selector,
            "template": pod_template(),
            "volumeClaimTemplates": list(anything()),
            "scaleStrategy": object(
                json!({
                    "podsToDelete": list(string()),
                    "maxUnavailable": int_or_percent(),
                    "enablePVCReuse": boolean(),
                    "disablePVCReuse": boolean(),
                    "excludePreparingDelete": boolean(),
                }),
                &[],
            ),
            "updateStrategy": update_strategy(),
            "revisionHistoryLimit": history,
            "minReadySeconds": int32(Some(0)),
            "progressDeadlineSeconds": int32(Some(0)),
            "lifecycle": object(json!({"preDelete": hook(), "inPlaceUpdate": hook(), "preNormal": hook()}), &[]),
        }),
        &["selector", "template"],
    );
    spec["x-kubernetes-validations"] = json!([
        {
            "rule": format!(
                "!has(self.selector.matchLabels) || self.selector.matchLabels.all(k, \
                 k in {TEMPLATE_LABELS} && {TEMPLATE_LABELS}[k] == self.selector.matchLabels[k])"
            ),
            "message": "spec.selector.matchLabels must match spec.template.metadata.labels",
        },
        {
            "rule": format!(
                "!has(self.selector.matchExpressions) || self.selector.matchExpressions.all(e, \
                 e.operator == 'Exists' ? e.key in {TEMPLATE_LABELS} : \
                 e.operator == 'DoesNotExist' ? !(e.key in {TEMPLATE_LABELS}) : \
                 e.operator == 'In' ? \
                 (e.key in {TEMPLATE_LABELS} && has(e.values) && {TEMPLATE_LABELS}[e.key] in e.values) : \
                 !(e.key in {TEMPLATE_LABELS} && has(e.values) && {TEMPLATE_LABELS}[e.key] in e.values))"
            ),
            "message": "spec.selector.matchExpressions must match spec.template.metadata.labels",
        },
    ]);
    spec
}

/// Both shapes: v1beta1's `rollingUpdate` and v1alpha1's flat settings.
fn update_strategy() -> Value {
    let mut rolling = settings();
    rolling["podUpdatePolicy"] = one_of(&["ReCreate", "InPlaceIfPossible", "InPlaceOnly", ""]);
    let mut rolling = object(rolling, &[]);
    rolling["x-kubernetes-validations"] = no_surge_in_place_only("self.podUpdatePolicy", "rollingUpdate.");
    let mut flat = settings();
    flat["type"] = one_of(&[
        "RollingUpdate",
        "OnDelete",
        "ReCreate",
        "InPlaceIfPossible",
        "InPlaceOnly",
        "",
    ]);
    flat["rollingUpdate"] = rolling;
    let mut strategy = object(flat, &[]);
    strategy["x-kubernetes-validations"] = no_surge_in_place_only("self.type", "");
    strategy
}

fn no_surge_in_place_only(policy: &str, prefix: &str) -> Value {
    json!([{
        "rule": format!(
            "!has({policy}) || {policy} != 'InPlaceOnly' || !has(self.maxSurge) || \
             string(self.maxSurge) in ['0', '0%']"
        ),
        "message": format!("spec.updateStrategy.{prefix}maxSurge must be 0 with InPlaceOnly: no pod may be replaced"),
    }])
}

fn settings() -> Value {
    json!({
        "partition": int_or_percent(),
        "maxUnavailable": int_or_percent(),
        "maxSurge": int_or_percent(),
        "paused": boolean(),
        "priorityStrategy": object(
            json!({
                "weightPriority": list(object(
                    json!({
                        "weight": {"type": "integer", "format": "int32", "minimum": 0, "maximum": 100},
                        "matchSelector": label_selector(),
                    }),
                    &["weight", "matchSelector"],
                )),
                "orderPriority": list(object(json!({"orderedKey": {"type": "string", "minLength": 1}}), &["orderedKey"])),
            }),
            &[],
        ),
        "scatterStrategy": list(object(
            json!({"key": {"type": "string", "minLength": 1}, "value": string()}),
            &["key", "value"],
        )),
        "inPlaceUpdateStrategy": object(
            json!({
                "gracePeriodSeconds": int32(Some(0)),
                "imagePreDownloadParallelism": {
                    "anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true,
                },
                "imagePreDownloadTimeoutSeconds": int32(Some(0)),
                "imagePreDownloadMinUpdatedReadyPods": int32(Some(0)),
            }),
            &[],
        ),
    })
}

fn hook() -> Value {
    object(
        json!({"labelsHandler": labels(), "finalizersHandler": list(string()), "markPodNotReady": boolean()}),
        &[],
    )
}

fn clone_set_status() -> Value {
    let condition = object(
        json!({
            "type": string(),
            "status": string(),
            "lastUpdateTime": time(),
            "lastTransitionTime": time(),
            "reason": string(),
            "message": string(),
        }),
        &["type", "status"],
    );
    object(
        json!({
            "observedGeneration": int64(),
            "replicas": int32(None),
            "readyReplicas": int32(None),
            "availableReplicas": int32(None),
            "updatedReplicas": int32(None),
            "updatedReadyReplicas": int32(None),
            "updatedAvailableReplicas": int32(None),
            "expectedUpdatedReplicas": int32(None),
            "updateRevision": string(),
            "currentRevision": string(),
            "collisionCount": int32(None),
            "conditions": list(condition),
            "labelSelector": string(),
        }),
        &[
            "replicas",
            "readyReplicas",
            "availableReplicas",
            "updatedReplicas",
            "updatedReadyReplicas",
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The YAML that people install must be what the code says. `UPDATE_EXPECT=1 cargo test -p afloat-api` rewrites it.
    #[test]
    fn golden_files_match() {
        for crd in crds() {
            let name = crd.spec.names.plural.clone();
            let text = serde_saphyr::to_string(&serde_json::to_value(&crd).unwrap()).unwrap();
            expect_test::expect_file![format!("{}/crds/{name}.yaml", env!("CARGO_MANIFEST_DIR"))].assert_eq(&text);
        }
    }

    #[test]
    fn one_version_is_stored() {
        for crd in crds() {
            assert_eq!(crd.spec.versions.iter().filter(|version| version.storage).count(), 1);
        }
    }
}
