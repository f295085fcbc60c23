//! The schemas of NodeImage, ImagePullJob and ImageListPullJob: the same in both versions, so that nobody has to convert. Their
//! defaults and rules are those of OpenKruise's webhooks (`apis/apps/defaults/v1beta1.go`, `pkg/webhook/imagepulljob`).

use serde_json::{Value, json};

use super::serving::{Serving, Version};
use crate::names::GROUP;
use crate::schema::{int32, int64, label_selector, labels, list, object, one_of, or, string, time};

/// A reference to an image: registry, path, tag, digest (distribution's grammar, without its bounds).
const IMAGE: &str = r"^([A-Za-z0-9.:\[\]-]+/)?[a-z0-9]+((\.|_|__|-+|/)[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?$";
/// Images of a list, as OpenKruise has it.
const IMAGES_MAX: u32 = 255;
/// Images of a node, as OpenKruise has it.
const NODE_IMAGES_MAX: u32 = 256;

/// All three.
pub(super) fn definitions(serving: &Serving) -> [Value; 3] {
    let number = |name: &str, path: &str| json!({"name": name, "type": "integer", "jsonPath": path});
    let age = || json!({"name": "AGE", "type": "date", "jsonPath": ".metadata.creationTimestamp"});
    let message = || json!({"name": "MESSAGE", "type": "string", "jsonPath": ".status.message"});
    let ended = |columns: Vec<Value>| json!(columns);
    let node = definition(serving, "NodeImage", "Cluster", &node_spec(), &node_status(), |_| {
        ended(vec![
            number("DESIRED", ".status.desired"),
            number("PULLING", ".status.pulling"),
            number("SUCCEED", ".status.succeeded"),
            number("FAILED", ".status.failed"),
            age(),
        ])
    });
    let job = definition(
        serving,
        "ImagePullJob",
        "Namespaced",
        &job_spec(),
        &job_status(),
        |version| {
            let mut columns = vec![
                number("TOTAL", ".status.desired"),
                number("ACTIVE", ".status.active"),
                number("SUCCEED", ".status.succeeded"),
                number("FAILED", ".status.failed"),
                age(),
            ];
            columns.extend((version == Version::V1alpha1).then(message));
            ended(columns)
        },
    );
    let list = definition(
        serving,
        "ImageListPullJob",
        "Namespaced",
        &list_spec(),
        &list_status(),
        |_| {
            ended(vec![
                number("TOTAL", ".status.desired"),
                number("SUCCEEDED", ".status.succeeded"),
                number("COMPLETED", ".status.completed"),
                age(),
            ])
        },
    );
    [node, job, list]
}

/// A kind that both versions have alike. Both are served in any case: there is nothing to convert.
fn definition(
    serving: &Serving,
    kind: &str,
    scope: &str,
    spec: &Value,
    status: &Value,
    columns: impl Fn(Version) -> Value,
) -> Value {
    let singular = kind.to_lowercase();
    let plural = format!("{singular}s");
    let version = |version: Version| {
        let fields = json!({
            "apiVersion": string(), "kind": string(), "metadata": {"type": "object"}, "spec": spec, "status": status,
        });
        json!({
            "name": version.name(),
            "served": true,
            "storage": version == serving.stored,
            "subresources": {"status": {}},
            "additionalPrinterColumns": columns(version),
            "schema": {"openAPIV3Schema": object(fields, &[])},
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {
            "group": GROUP,
            "names": {"kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": singular},
            "scope": scope,
            "conversion": {"strategy": "None", "webhook": null},
            "versions": [version(Version::V1beta1), version(Version::V1alpha1)],
        },
    })
}

fn sandbox_config() -> Value {
    object(json!({"labels": labels(), "annotations": labels()}), &[])
}

fn node_spec() -> Value {
    let owner = object(
        json!({
            "apiVersion": string(), "kind": string(), "namespace": string(), "name": string(), "uid": string(),
            "resourceVersion": string(), "fieldPath": string(),
        }),
        &[],
    );
    let policy = object(
        json!({
            "timeoutSeconds": or(int32(None), json!(600)), "backoffLimit": or(int32(None), json!(3)),
            "ttlSecondsAfterFinished": int32(None), "activeDeadlineSeconds": int64(),
        }),
        &[],
    );
    let mut name = string();
    name["minLength"] = json!(1);
    let tag = object(
        json!({
            "tag": name, "createdAt": time(), "pullPolicy": or(policy, json!({})), "ownerReferences": list(owner),
            "version": {"type": "integer", "format": "int64", "minimum": 0}, "imagePullPolicy": string(),
        }),
        &["tag"],
    );
    let mut tags = list(tag);
    tags["x-kubernetes-list-type"] = json!("map");
    tags["x-kubernetes-list-map-keys"] = json!(["tag"]);
    let secret = object(json!({"namespace": string(), "name": string(), "mode": string()}), &[]);
    let image = object(
        json!({"pullSecrets": list(secret), "tags": tags, "sandboxConfig": sandbox_config()}),
        &["tags"],
    );
    let images = json!({"type": "object", "additionalProperties": image, "maxProperties": NODE_IMAGES_MAX});
    object(json!({"images": images}), &[])
}

fn node_status() -> Value {
    let tag = object(
        json!({
            "tag": string(), "phase": string(), "progress": int32(None), "startTime": time(), "completionTime": time(),
            "version": int64(), "imageID": string(), "digest": string(), "message": string(),
        }),
        &["tag", "phase"],
    );
    let image = object(json!({"tags": list(tag)}), &["tags"]);
    let sync = object(json!({"syncAt": time(), "status": string(), "message": string()}), &[]);
    object(
        json!({
            "desired": int32(None), "succeeded": int32(None), "failed": int32(None), "pulling": int32(None),
            "waiting": int32(None), "imageStatuses": {"type": "object", "additionalProperties": image},
            "firstSyncStatus": sync,
        }),
        &["desired"],
    )
}

/// What both kinds of jobs have in their specs.
fn template(image_pull_policy: Value) -> Value {
    let mut selector = label_selector();
    // It is not only a label selector.
    if let Some(fields) = selector.as_object_mut() {
        fields.remove("x-kubernetes-map-type");
    }
    let mut names = list(json!({"type": "string", "maxLength": 253}));
    names["x-kubernetes-list-type"] = json!("set");
    selector["properties"]["names"] = names;
    selector["x-kubernetes-validations"] = json!([{
        "rule": "!has(self.names) || !(has(self.matchLabels) || has(self.matchExpressions))",
        "message": "can not set both names and labelSelector in this spec.selector",
    }]);
    let parallelism = json!({
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": true, "minimum": 0, "maxLength": 10, "pattern": "^[0-9]+$",
    });
    let pull_policy = object(
        json!({"timeoutSeconds": or(int32(None), json!(600)), "backoffLimit": or(int32(None), json!(3))}),
        &[],
    );
    let completion = object(
        json!({
            "type": or(one_of(&["Always", "Never"]), json!("Always")),
            "activeDeadlineSeconds": int64(), "ttlSecondsAfterFinished": int32(None),
        }),
        &[],
    );
    let mut secrets = list(json!({"type": "string", "maxLength": 253}));
    secrets["maxItems"] = json!(64);
    json!({
        "pullSecrets": secrets, "selector": selector, "podSelector": label_selector(), "parallelism": parallelism,
        "pullPolicy": or(pull_policy, json!({})), "completionPolicy": or(completion, json!({})),
        "sandboxConfig": sandbox_config(), "imagePullPolicy": image_pull_policy,
    })
}

fn rules(with_deadline: bool) -> Vec<Value> {
    let mut rules = vec![
        json!({
            "rule": "!(has(self.selector) && has(self.podSelector))",
            "message": "can not set both selector and podSelector",
        }),
        json!({
            "rule": "self.completionPolicy.type != 'Never' || !(has(self.completionPolicy.activeDeadlineSeconds) || \
                     has(self.completionPolicy.ttlSecondsAfterFinished))",
            "message": "activeDeadlineSeconds and ttlSecondsAfterFinished can only work with Always CompletionPolicyType",
        }),
    ];
    if with_deadline {
        rules.push(json!({
            "rule": "!has(self.completionPolicy.activeDeadlineSeconds) || \
                     self.pullPolicy.timeoutSeconds <= self.completionPolicy.activeDeadlineSeconds",
            "message": "completionPolicy.activeDeadlineSeconds must be greater than pullPolicy.timeoutSeconds(default 600)",
        }));
        rules.push(json!({
            "rule": "has(self.pullSecrets) == has(oldSelf.pullSecrets) && \
                     (!has(self.pullSecrets) || self.pullSecrets == oldSelf.pullSecrets)",
            "message": "spec.pullSecrets is immutable",
        }));
    }
    rules
}

fn image() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 512, "pattern": IMAGE})
}

fn job_spec() -> Value {
    let policy = or(one_of(&["Always", "IfNotPresent", ""]), json!("IfNotPresent"));
    let mut fields = template(policy);
    fields["image"] = image();
    let mut spec = object(fields, &["image"]);
    spec["x-kubernetes-validations"] = Value::Array(rules(true));
    spec
}

fn list_spec() -> Value {
    let mut fields = template(one_of(&["Always", "IfNotPresent", ""]));
    let mut images = list(image());
    images["minItems"] = json!(1);
    images["maxItems"] = json!(IMAGES_MAX);
    images["x-kubernetes-list-type"] = json!("set");
    fields["images"] = images;
    let mut spec = object(fields, &["images"]);
    spec["x-kubernetes-validations"] = Value::Array(rules(false));
    spec
}

fn job_status() -> Value {
    object(
        json!({
            "startTime": time(), "completionTime": time(), "desired": int32(None), "active": int32(None),
            "succeeded": int32(None), "failed": int32(None), "message": string(), "failedNodes": list(string()),
        }),
        &["desired"],
    )
}

fn list_status() -> Value {
    let failed = object(
        json!({"imagePullJob": string(), "name": string(), "message": string()}),
        &[],
    );
    object(
        json!({
            "startTime": time(), "completionTime": time(), "desired": int32(None), "active": int32(None),
            "completed": int32(None), "succeeded": int32(None), "failedImageStatuses": list(failed),
        }),
        &["desired"],
    )
}
