//! The schema of CloneSets, one for each version. Its defaults are those that OpenKruise's mutating webhook writes
//! (`apis/apps/defaults`), so that a stored object looks the same with either, and no webhook is needed for them. One of them is
//! written there for the two in-place types only, which a schema cannot say: `inPlaceUpdateStrategy: {}`.

use serde_json::{Value, json};

use super::serving::{Serving, Version};
use super::workload::{
    age, condition, hook, number, priority_strategy, selector, selector_matches_template, volume_claim_template, wide,
};
use crate::schema::{boolean, int_or_percent, int32, int64, list, object, one_of, or, pod_template, string};

/// What `kubectl get` shows.
pub(super) fn columns() -> Value {
    json!([
        number("DESIRED", ".spec.replicas"),
        number("UPDATED", ".status.updatedReplicas"),
        number("UPDATED_READY", ".status.updatedReadyReplicas"),
        number("UPDATED_AVAILABLE", ".status.updatedAvailableReplicas"),
        number("READY", ".status.readyReplicas"),
        number("TOTAL", ".status.replicas"),
        age(),
        wide("CONTAINERS", ".spec.template.spec.containers[*].name"),
        wide("IMAGES", ".spec.template.spec.containers[*].image"),
        wide("SELECTOR", ".status.labelSelector"),
    ])
}

/// `spec` of a version.
pub(super) fn spec(version: Version, serving: &Serving) -> Value {
    let mut spec = object(
        json!({
            "replicas": or(int32(Some(0)), json!(1)),
            "selector": selector(),
            "template": pod_template(serving.template_defaults),
            "volumeClaimTemplates": list(volume_claim_template()),
            "scaleStrategy": scale_strategy(version),
            "updateStrategy": update_strategy(version),
            "revisionHistoryLimit": or(int32(Some(0)), json!(10)),
            "minReadySeconds": int32(Some(0)),
            "progressDeadlineSeconds": int32(Some(0)),
            "lifecycle": object(json!({"preDelete": hook(), "inPlaceUpdate": hook(), "preNormal": hook()}), &[]),
        }),
        &["selector", "template"],
    );
    spec["x-kubernetes-validations"] = selector_matches_template();
    spec
}

/// v1alpha1 has the settings of a rollout in `updateStrategy` itself, v1beta1 in `rollingUpdate`.
fn update_strategy(version: Version) -> Value {
    let policies = ["ReCreate", "InPlaceIfPossible", "InPlaceOnly", ""];
    match version {
        Version::V1alpha1 => {
            let mut flat = settings(version);
            let types = [&policies[..], &["OnDelete"]].concat();
            flat["type"] = or(one_of(&types), json!("ReCreate"));
            let mut strategy = object(flat, &[]);
            strategy["x-kubernetes-validations"] = no_surge_in_place_only("self.type", "");
            or(strategy, json!({}))
        }
        Version::V1beta1 => {
            let mut rolling = settings(version);
            rolling["podUpdatePolicy"] = or(one_of(&policies), json!("ReCreate"));
            let mut rolling = object(rolling, &[]);
            rolling["x-kubernetes-validations"] = no_surge_in_place_only("self.podUpdatePolicy", "rollingUpdate.");
            let kind = or(one_of(&["RollingUpdate", "OnDelete", ""]), json!("RollingUpdate"));
            or(
                object(json!({"type": kind, "rollingUpdate": or(rolling, json!({}))}), &[]),
                json!({}),
            )
        }
    }
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

/// What both versions know of a rollout.
fn settings(version: Version) -> Value {
    let mut in_place = json!({"gracePeriodSeconds": int32(Some(0))});
    // v1alpha1 has these as annotations.
    if version == Version::V1beta1 {
        in_place["imagePreDownloadParallelism"] =
            json!({"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true});
        in_place["imagePreDownloadTimeoutSeconds"] = int32(Some(0));
        in_place["imagePreDownloadMinUpdatedReadyPods"] = int32(Some(0));
    }
    json!({
        "partition": or(int_or_percent(), json!(0)),
        "maxUnavailable": or(int_or_percent(), json!("20%")),
        "maxSurge": or(int_or_percent(), json!(0)),
        "paused": boolean(),
        "priorityStrategy": priority_strategy(),
        "scatterStrategy": list(object(
            json!({"key": {"type": "string", "minLength": 1}, "value": string()}),
            &["key", "value"],
        )),
        "inPlaceUpdateStrategy": or(object(in_place, &[]), json!({})),
    })
}

fn scale_strategy(version: Version) -> Value {
    let mut fields = json!({
        "podsToDelete": list(string()),
        "maxUnavailable": int_or_percent(),
        "excludePreparingDelete": boolean(),
    });
    match version {
        Version::V1alpha1 => fields["disablePVCReuse"] = boolean(),
        Version::V1beta1 => fields["enablePVCReuse"] = or(boolean(), json!(false)),
    }
    or(object(fields, &[]), json!({}))
}

/// `status`, the same in both versions.
pub(super) fn status() -> Value {
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
            "conditions": list(condition()),
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
