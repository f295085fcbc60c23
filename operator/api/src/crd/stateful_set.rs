//! The schema of Advanced StatefulSets. Its defaults are those that OpenKruise's mutating webhook writes (`apis/apps/defaults`), its rules
//! those of its validating one (`pkg/webhook/statefulset/validating`), as far as a schema can tell. It cannot ask for a StorageClass, so that
//! the operator says which claim cannot grow; and it cannot compare templates, so that the operator says what InPlaceOnly cannot do.
//!
//! Three things are otherwise on purpose. `partition` may be a percentage, and `maxUnavailable` another number than 1 with OrderedReady. An
//! OnDelete set may have the defaults of `rollingUpdate`, which a schema cannot leave out for it. And v1alpha1 has all fields of v1beta1:
//! OpenKruise's lacks some, and loses what they say.

use serde_json::{Value, json};

use super::serving::Serving;
use super::workload::{
    age, hook, number, priority_strategy, selector, selector_matches_template, volume_claim_template, wide,
};
use crate::schema::{
    anything, boolean, int_or_percent, int32, int64, list, object, one_of, or, pod_template, string, time,
};

/// What `kubectl get` shows.
pub(super) fn columns() -> Value {
    json!([
        number("DESIRED", ".spec.replicas"),
        number("CURRENT", ".status.replicas"),
        number("UPDATED", ".status.updatedReplicas"),
        number("READY", ".status.readyReplicas"),
        age(),
        wide("CONTAINERS", ".spec.template.spec.containers[*].name"),
        wide("IMAGES", ".spec.template.spec.containers[*].image"),
    ])
}

/// `spec`.
pub(super) fn spec(serving: &Serving) -> Value {
    let retention = || or(one_of(&["Retain", "Delete"]), json!("Retain"));
    let mut policy = or(one_of(&["OrderedReady", "Parallel"]), json!("OrderedReady"));
    policy["x-kubernetes-validations"] = json!([{
        "rule": "self == oldSelf", "message": "spec.podManagementPolicy is immutable",
    }]);
    let mut spec = object(
        json!({
            "replicas": or(int32(Some(0)), json!(1)),
            "selector": selector(),
            "template": template(serving.template_defaults),
            "volumeClaimTemplates": list(volume_claim_template()),
            "volumeClaimUpdateStrategy": or(
                object(json!({"type": or(one_of(&["OnDelete", "OnPodRollingUpdate"]), json!("OnDelete"))}), &[]),
                json!({}),
            ),
            "serviceName": {"type": "string", "maxLength": 253},
            "podManagementPolicy": policy,
            "updateStrategy": update_strategy(),
            "revisionHistoryLimit": or(int32(None), json!(10)),
            "reserveOrdinals": reserve_ordinals(),
            "lifecycle": object(json!({"preDelete": hook(), "inPlaceUpdate": hook(), "preNormal": hook()}), &[]),
            "scaleStrategy": object(json!({"maxUnavailable": max_unavailable()}), &[]),
            "persistentVolumeClaimRetentionPolicy": or(
                object(json!({"whenDeleted": retention(), "whenScaled": retention()}), &[]),
                json!({}),
            ),
            "ordinals": object(json!({"start": or(int32(Some(0)), json!(0))}), &[]),
        }),
        &["selector", "template"],
    );
    let mut rules = selector_matches_template();
    if let Some(rules) = rules.as_array_mut() {
        rules.extend(joint_rules());
    }
    spec["x-kubernetes-validations"] = rules;
    spec
}

/// Rules about more than one field.
fn joint_rules() -> [Value; 4] {
    const ROLLING: &str = "self.updateStrategy.rollingUpdate";
    let rolling = format!("has(self.updateStrategy) && has({ROLLING})");
    let gated = "has(self.template.spec) && has(self.template.spec.readinessGates) &&\
         self.template.spec.readinessGates.exists(g, has(g.conditionType) && g.conditionType == 'InPlaceUpdateReady')";
    [
        json!({
            "rule": "has(self.serviceName) == has(oldSelf.serviceName) && \
                     (!has(self.serviceName) || self.serviceName == oldSelf.serviceName)",
            "message": "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'reserveOrdinals', \
                        'lifecycle', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy', 'volumeClaimTemplates', \
                        'volumeClaimUpdateStrategy', 'scaleStrategy' and 'updateStrategy' are forbidden: spec.serviceName is immutable",
        }),
        json!({
            "rule": format!(
                "!({rolling}) || !has({ROLLING}.unorderedUpdate) || \
                 (has(self.podManagementPolicy) && self.podManagementPolicy == 'Parallel')"
            ),
            "message": "spec.updateStrategy.rollingUpdate.unorderedUpdate can only work with Parallel PodManagementPolicyType",
        }),
        json!({
            "rule": format!(
                "!({rolling}) || !has({ROLLING}.podUpdatePolicy) || {ROLLING}.podUpdatePolicy in ['ReCreate', ''] || ({gated})"
            ),
            "message": "spec.template.spec.readinessGates must contain InPlaceUpdateReady when podUpdatePolicy is InPlaceIfPossible or \
                        InPlaceOnly",
        }),
        json!({
            "rule": format!(
                "!has(self.updateStrategy) || !has(self.updateStrategy.type) || self.updateStrategy.type != 'OnDelete' || \
                 !has({ROLLING}) || \
                 (!has({ROLLING}.unorderedUpdate) && !has({ROLLING}.inPlaceUpdateStrategy) && \
                 (!has({ROLLING}.paused) || !{ROLLING}.paused) && \
                 (!has({ROLLING}.partition) || string({ROLLING}.partition) in ['0', '0%']) && \
                 (!has({ROLLING}.maxUnavailable) || string({ROLLING}.maxUnavailable) == '1') && \
                 (!has({ROLLING}.podUpdatePolicy) || {ROLLING}.podUpdatePolicy in ['ReCreate', '']))"
            ),
            "message": "spec.updateStrategy.rollingUpdate is only allowed for updateStrategy 'RollingUpdate'",
        }),
    ]
}

/// The template, with what the rules read of it.
fn template(defaults: bool) -> Value {
    let mut template = pod_template(defaults);
    let mut gate = anything();
    gate["properties"] = json!({"conditionType": {"type": "string", "maxLength": 317}});
    let spec = &mut template["properties"]["spec"];
    spec["properties"]["readinessGates"] = json!({"type": "array", "maxItems": 64, "items": gate});
    spec["properties"]["activeDeadlineSeconds"] = int64();
    spec["x-kubernetes-validations"] = json!([{
        "rule": "!has(self.activeDeadlineSeconds)",
        "message": "activeDeadlineSeconds in StatefulSet is not Supported",
    }]);
    template
}

fn update_strategy() -> Value {
    let rolling = object(
        json!({
            "partition": or(int_or_percent(), json!(0)),
            "maxUnavailable": or(max_unavailable(), json!(1)),
            "podUpdatePolicy": or(one_of(&["ReCreate", "InPlaceIfPossible", "InPlaceOnly", ""]), json!("ReCreate")),
            "paused": boolean(),
            "unorderedUpdate": object(json!({"priorityStrategy": priority_strategy()}), &[]),
            "inPlaceUpdateStrategy": object(json!({"gracePeriodSeconds": int32(Some(0))}), &[]),
            "minReadySeconds":
                or(json!({"type": "integer", "format": "int32", "minimum": 0, "maximum": 300}), json!(0)),
        }),
        &[],
    );
    let kind = or(one_of(&["RollingUpdate", "OnDelete", ""]), json!("RollingUpdate"));
    or(
        object(json!({"type": kind, "rollingUpdate": or(rolling, json!({}))}), &[]),
        json!({}),
    )
}

/// At least one pod.
fn max_unavailable() -> Value {
    let mut amount = int_or_percent();
    amount["minimum"] = json!(1);
    amount["pattern"] = json!("^0*[1-9][0-9]*%$");
    amount
}

/// Numbers, and ranges as text. That a range goes upwards a rule could say only at a cost that Kubernetes refuses: a policy does, which is
/// installed beside (`operator/install/objects/policies.yaml`).
fn reserve_ordinals() -> Value {
    json!({
        "type": "array",
        "maxItems": 1000,
        "items": {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": true,
            "minimum": 0,
            "maxLength": 21,
            "pattern": "^[0-9]{1,10}-[0-9]{1,10}$",
        },
    })
}

/// `status`.
pub(super) fn status() -> Value {
    let condition = object(
        json!({"type": string(), "status": string(), "lastTransitionTime": time(), "reason": string(), "message": string()}),
        &["type", "status"],
    );
    let claim = object(
        json!({"volumeClaimName": string(), "compatibleReplicas": int32(None), "compatibleReadyReplicas": int32(None)}),
        &["volumeClaimName", "compatibleReplicas", "compatibleReadyReplicas"],
    );
    object(
        json!({
            "observedGeneration": int64(),
            "replicas": int32(None),
            "readyReplicas": int32(None),
            "availableReplicas": int32(None),
            "currentReplicas": int32(None),
            "updatedReplicas": int32(None),
            "updatedReadyReplicas": int32(None),
            "updatedAvailableReplicas": int32(None),
            "currentRevision": string(),
            "updateRevision": string(),
            "collisionCount": int32(None),
            "conditions": list(condition),
            "labelSelector": string(),
            "volumeClaims": list(claim),
        }),
        &[
            "replicas",
            "readyReplicas",
            "availableReplicas",
            "currentReplicas",
            "updatedReplicas",
        ],
    )
}
