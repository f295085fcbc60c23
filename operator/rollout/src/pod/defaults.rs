//! What is filled into a pod template where it says nothing.
//!
//! Two fill it in: the API server when it makes a pod of it, and OpenKruise's webhook when a template of a CloneSet is new
//! (not with its gate `TemplateNoDefaults`). They agree but for one field: the webhook writes `imagePullPolicy: Always`
//! for each of `containers`, whatever the image's tag.
//!
//! Sources: `SetDefaults_*` and `SetObjectDefaults_PodTemplate` of core/v1 in Kubernetes 1.32.10; `apis/apps/defaults/pod.go`
//! of OpenKruise 1.9.1. Defaults that are empty (`securityContext: {}`, `emptyDir: {}`, a hostPath's `type`, a gRPC probe's
//! `service`) are not listed: an empty field is as good as none (see [`super::meaning`]).

use afloat_words::image::ImageName;
use afloat_words::quantity;
use serde_json::{Map, Value};

use crate::pod::resources::text;

/// A value that is filled in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Default {
    Text(&'static str),
    Number(i64),
    Flag(bool),
}

impl Default {
    fn is(self, value: &Value) -> bool {
        match self {
            Self::Text(text) => value == text,
            Self::Number(number) => value == number,
            Self::Flag(flag) => value == flag,
        }
    }
}

const CONTAINERS: &[&str] = &["containers", "initContainers", "ephemeralContainers"];
const PROBES: &[&str] = &["livenessProbe", "readinessProbe", "startupProbe"];
const FILES: &[&str] = &["secret", "configMap", "downwardAPI", "projected"];

/// The fields or lists that an object stands in, a field of it, and what is filled in there. Of a projected volume's sources
/// only the volume itself has a mode; a source that states one is none that Kubernetes accepts.
pub(crate) const DEFAULTS: &[(&[&str], &str, Default)] = &[
    (&["spec"], "dnsPolicy", Default::Text("ClusterFirst")),
    (&["spec"], "restartPolicy", Default::Text("Always")),
    (&["spec"], "schedulerName", Default::Text("default-scheduler")),
    (&["spec"], "terminationGracePeriodSeconds", Default::Number(30)),
    // These two when a pod is made; the priority's by admission.
    (&["spec"], "enableServiceLinks", Default::Flag(true)),
    (&["spec"], "preemptionPolicy", Default::Text("PreemptLowerPriority")),
    // Of the claim in an ephemeral volume.
    (&["spec"], "volumeMode", Default::Text("Filesystem")),
    (
        CONTAINERS,
        "terminationMessagePath",
        Default::Text("/dev/termination-log"),
    ),
    (CONTAINERS, "terminationMessagePolicy", Default::Text("File")),
    (&["ports"], "protocol", Default::Text("TCP")),
    (PROBES, "timeoutSeconds", Default::Number(1)),
    (PROBES, "periodSeconds", Default::Number(10)),
    (PROBES, "successThreshold", Default::Number(1)),
    (PROBES, "failureThreshold", Default::Number(3)),
    (&["httpGet"], "scheme", Default::Text("HTTP")),
    (&["httpGet"], "path", Default::Text("/")),
    (&["fieldRef"], "apiVersion", Default::Text("v1")),
    (&["resourceFieldRef"], "divisor", Default::Text("0")),
    // Up to Kubernetes 1.11 with its gate on.
    (&["securityContext"], "procMount", Default::Text("Default")),
    (FILES, "defaultMode", Default::Number(0o644)),
    (&["serviceAccountToken"], "expirationSeconds", Default::Number(3600)),
    (&["iscsi"], "iscsiInterface", Default::Text("default")),
    (&["rbd"], "pool", Default::Text("rbd")),
    (&["rbd"], "user", Default::Text("admin")),
    (&["rbd"], "keyring", Default::Text("/etc/ceph/keyring")),
    (&["azureDisk"], "cachingMode", Default::Text("ReadWrite")),
    (&["azureDisk"], "kind", Default::Text("Shared")),
    (&["azureDisk"], "fsType", Default::Text("ext4")),
    (&["azureDisk"], "readOnly", Default::Flag(false)),
    (&["scaleIO"], "storageMode", Default::Text("ThinProvisioned")),
    (&["scaleIO"], "fsType", Default::Text("xfs")),
];

/// Whether this value is what is filled in where the field is absent. `owner` is the name of the field, or list, that the
/// object stands in.
pub(crate) fn is_default(owner: &str, field: &str, value: &Value) -> bool {
    let found = DEFAULTS
        .iter()
        .find(|(owners, name, _)| *name == field && owners.contains(&owner));
    found.is_some_and(|(_, _, default)| default.is(value))
}

/// Takes out of a container what a pod has of itself: requests that are the limits, and the policy that a resize restarts
/// nothing. Kubernetes fills both in when a pod is made, of `containers` and, as to requests, of `initContainers`.
pub(crate) fn drop_derived(owner: &str, container: &mut Map<String, Value>) {
    if !matches!(owner, "containers" | "initContainers") {
        return;
    }
    if let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut) {
        let limits = resources.get("limits").and_then(Value::as_object).cloned();
        let limits = limits.unwrap_or_default();
        if let Some(requests) = resources.get_mut("requests").and_then(Value::as_object_mut) {
            requests.retain(|name, amount| {
                let limit = limits.get(name);
                limit.is_none_or(|limit| !quantity::same(&text(limit), &text(amount)))
            });
            if requests.is_empty() {
                resources.remove("requests");
            }
        }
    }
    if let Some(policies) = container.get_mut("resizePolicy").and_then(Value::as_array_mut) {
        policies.retain(|policy| policy["restartPolicy"] != "NotRequired");
        if policies.is_empty() {
            container.remove("resizePolicy");
        }
    }
}

/// The field with the image and the one with its pull policy, of an object that has these.
pub(crate) fn pull_fields(owner: &str) -> Option<(&'static str, &'static str)> {
    match owner {
        _ if CONTAINERS.contains(&owner) => Some(("image", "imagePullPolicy")),
        // A volume that is an image.
        "image" => Some(("reference", "pullPolicy")),
        _ => None,
    }
}

/// Whether two objects have the same pull policy as far as they say: one that says nothing agrees with one that says what
/// somebody would have filled in there. Two that say something else differ, though each is somebody's default.
pub(crate) fn same_pull_policy(owner: &str, a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    let Some((image, policy)) = pull_fields(owner) else {
        return true;
    };
    match (a.get(policy), b.get(policy)) {
        (None, None) => true,
        (Some(stated), None) => fills_in(owner, a.get(image), stated),
        (None, Some(stated)) => fills_in(owner, b.get(image), stated),
        (Some(a), Some(b)) => a == b,
    }
}

fn fills_in(owner: &str, image: Option<&Value>, policy: &Value) -> bool {
    // Kubernetes reads the tag `latest` beside a digest, too.
    let name = ImageName::of(image.and_then(Value::as_str).unwrap_or_default());
    let by_tag = if name.tag() == Some("latest") {
        "Always"
    } else {
        "IfNotPresent"
    };
    policy == by_tag || owner == "containers" && policy == "Always"
}

#[cfg(test)]
mod tests;
