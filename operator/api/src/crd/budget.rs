//! PodUnavailableBudget. Nothing converts between its versions: what v1alpha1 lacks stays where it is, and pods are guarded alike.

use serde_json::{Value, json};

use super::serving::Version;
use crate::schema::{int_or_percent, int32, int64, label_selector, list, object, one_of, string, time};

/// The definition.
pub(super) fn definition() -> Value {
    let version = |version: Version| {
        let mut value = json!({
            "name": version.name(),
            "served": true,
            "storage": version == Version::V1beta1,
            "subresources": {"status": {}},
            "additionalPrinterColumns": columns(),
        });
        value["schema"] = json!({"openAPIV3Schema": object(
            json!({
                "apiVersion": string(), "kind": string(), "metadata": {"type": "object"},
                "spec": spec(version), "status": status(version),
            }),
            &[],
        )});
        value
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "podunavailablebudgets.policy.kruise.io"},
        "spec": {
            "group": "policy.kruise.io",
            "names": {
                "kind": "PodUnavailableBudget", "listKind": "PodUnavailableBudgetList", "plural": "podunavailablebudgets",
                "singular": "podunavailablebudget", "shortNames": ["pub"],
            },
            "scope": "Namespaced",
            "conversion": {"strategy": "None", "webhook": null},
            "versions": [version(Version::V1beta1), version(Version::V1alpha1)],
        },
    })
}

fn columns() -> Value {
    let number = |name: &str, path: &str| json!({"name": name, "type": "integer", "jsonPath": path});
    json!([
        number("Allowed", ".status.unavailableAllowed"),
        number("Current", ".status.currentAvailable"),
        number("Desired", ".status.desiredAvailable"),
        number("Total", ".status.totalReplicas"),
    ])
}

/// The rules are those of OpenKruise's webhook.
fn spec(version: Version) -> Value {
    let number = || {
        let mut schema = int_or_percent();
        schema["pattern"] = json!("^(100|[0-9]{1,2})%$");
        schema
    };
    let word = || json!({"type": "string", "maxLength": 253});
    let mut fields = json!({
        "selector": not_empty("selector"),
        "targetRef": object(json!({"apiVersion": word(), "kind": word(), "name": word()}), &[]),
        "maxUnavailable": number(),
        "minAvailable": number(),
    });
    fields["targetRef"]["x-kubernetes-validations"] = json!([{
        "rule": "['apiVersion', 'kind', 'name'].all(f, f == 'apiVersion' ? has(self.apiVersion) && self.apiVersion != '' : \
                 f == 'kind' ? has(self.kind) && self.kind != '' : has(self.name) && self.name != '')",
        "message": "spec.targetRef needs apiVersion, kind and name",
    }]);
    if version == Version::V1beta1 {
        let mut operations = list(one_of(&["DELETE", "UPDATE", "EVICT", "RESIZE"]));
        operations["maxItems"] = json!(16);
        fields["protectOperations"] = operations;
        fields["protectTotalReplicas"] = int32(Some(1));
        fields["ignoredPodSelector"] = not_empty("ignoredPodSelector");
    }
    let mut spec = object(fields, &[]);
    spec["x-kubernetes-validations"] = json!([
        {"rule": "has(self.selector) != has(self.targetRef)", "message": "exactly one of spec.selector and spec.targetRef is needed"},
        {
            "rule": "has(self.maxUnavailable) != has(self.minAvailable)",
            "message": "exactly one of spec.maxUnavailable and spec.minAvailable is needed",
        },
        {
            "rule": "has(self.selector) == has(oldSelf.selector) && (!has(self.selector) || self.selector == oldSelf.selector) && \
                     has(self.targetRef) == has(oldSelf.targetRef) && (!has(self.targetRef) || self.targetRef == oldSelf.targetRef)",
            "message": "selector and targetRef cannot be modified",
        },
    ]);
    spec
}

fn not_empty(field: &str) -> Value {
    let mut selector = label_selector();
    selector["x-kubernetes-validations"] = json!([{
        "rule": "(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",
        "message": format!("spec.{field} must not be empty: give matchLabels or matchExpressions"),
    }]);
    selector
}

fn status(version: Version) -> Value {
    let pods = || json!({"type": "object", "additionalProperties": time()});
    let mut required = vec![
        "unavailableAllowed",
        "currentAvailable",
        "desiredAvailable",
        "totalReplicas",
    ];
    if version == Version::V1alpha1 {
        required.insert(0, "observedGeneration");
    }
    object(
        json!({
            "observedGeneration": int64(), "disruptedPods": pods(), "unavailablePods": pods(),
            "unavailableAllowed": int32(None), "currentAvailable": int32(None), "desiredAvailable": int32(None),
            "totalReplicas": int32(None),
        }),
        &required,
    )
}
