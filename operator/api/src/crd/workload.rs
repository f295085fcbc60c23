//! What the schemas of workloads have in common.

use serde_json::{Value, json};

use crate::schema::{anything, boolean, label_selector, labels, list, object, or, string, time};

/// A column of `kubectl get` with a number.
pub(super) fn number(name: &str, path: &str) -> Value {
    json!({"name": name, "type": "integer", "jsonPath": path})
}

/// A column of `kubectl get -o wide` with a text.
pub(super) fn wide(name: &str, path: &str) -> Value {
    json!({"name": name, "type": "string", "jsonPath": path, "priority": 1})
}

/// The column about the object's age.
pub(super) fn age() -> Value {
    json!({"name": "AGE", "type": "date", "jsonPath": ".metadata.creationTimestamp"})
}

/// The subresource by which replicas are set.
pub(super) fn scale() -> Value {
    json!({
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.labelSelector",
    })
}

/// How a rule finds the template's labels; absent ones are an empty map.
const TEMPLATE_LABELS: &str =
    "(has(self.template.metadata) && has(self.template.metadata.labels) ? self.template.metadata.labels : {})";

/// `spec.selector`: something, and for ever.
pub(super) fn selector() -> Value {
    let mut selector = label_selector();
    selector["x-kubernetes-validations"] = json!([
        {
            "rule": "(has(self.matchLabels) && size(self.matchLabels) > 0) || \
                     (has(self.matchExpressions) && size(self.matchExpressions) > 0)",
            "message": "spec.selector must not be empty: give matchLabels or matchExpressions",
        },
        {"rule": "self == oldSelf", "message": "spec.selector is immutable"},
    ]);
    selector
}

/// Rules of `spec`: the selector selects what is made from the template.
pub(super) fn selector_matches_template() -> Value {
    json!([
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
    ])
}

/// A hook of `spec.lifecycle`.
pub(super) fn hook() -> Value {
    object(
        json!({"labelsHandler": labels(), "finalizersHandler": list(string()), "markPodNotReady": boolean()}),
        &[],
    )
}

/// One of `status.conditions`.
pub(super) fn condition() -> Value {
    object(
        json!({
            "type": string(),
            "status": string(),
            "lastUpdateTime": time(),
            "lastTransitionTime": time(),
            "reason": string(),
            "message": string(),
        }),
        &["type", "status"],
    )
}

/// The order of updates by labels.
pub(super) fn priority_strategy() -> Value {
    object(
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
    )
}

/// A claim's template: kept verbatim, with the one default that OpenKruise's webhook gives it. Another one, Kubernetes' own
/// `volumeMode` for example, would change the hash of the claims that is on OpenKruise's revisions.
pub(super) fn volume_claim_template() -> Value {
    let mut status = anything();
    status["properties"] = json!({"phase": or(string(), json!("Pending"))});
    let mut claim = anything();
    claim["properties"] = json!({"spec": anything(), "status": or(status, json!({}))});
    claim
}
