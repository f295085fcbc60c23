//! Defaults and admission of pods and pod templates.

mod app_armor;
pub(crate) mod checks;
mod container;
mod container_checks;
pub(crate) mod ephemeral;
pub(crate) mod probe;
pub(crate) mod resize;
mod resources;
mod security_checks;
pub(crate) mod update;

use serde_json::{Map, Value, json};

use super::volume;
use crate::json::{each, each_in, list, set, set_number, set_text, text};

/// Seconds that a pod stays on a node that is not ready or cannot be reached, unless it says otherwise
/// (admission plugin DefaultTolerationSeconds).
const DEFAULT_TOLERATION_SECONDS: i64 = 300;

/// Defaults of a Pod; templates get [`default_spec`] only.
pub(crate) fn default_pod(pod: &mut Value) {
    each_in(Some(pod), "spec", |spec| {
        default_spec(spec);
        if spec
            .get("terminationGracePeriodSeconds")
            .and_then(Value::as_i64)
            .is_some_and(|seconds| seconds < 0)
        {
            spec.insert("terminationGracePeriodSeconds".into(), json!(1));
        }
        set(Some(spec), "enableServiceLinks", || json!(true));
        for key in ["containers", "initContainers"] {
            each(spec, key, resources::requests_from_limits);
        }
        each(spec, "containers", resources::default_resize_policy);
        each(spec, "initContainers", |container| {
            if text(container.get("restartPolicy")) == "Always" {
                resources::default_resize_policy(container);
            }
        });
        if spec.get("hostNetwork") == Some(&json!(true)) {
            for key in ["containers", "initContainers"] {
                each(spec, key, |c| each(c, "ports", container::host_port));
            }
        }
    });
}

/// Defaults of a PodTemplate.
pub(crate) fn default_template(template: &mut Value) {
    each_in(template.get_mut("template"), "spec", default_spec);
}

/// Defaults of a PodSpec.
pub(crate) fn default_spec(spec: &mut Map<String, Value>) {
    set_text(spec, "dnsPolicy", "ClusterFirst");
    set_text(spec, "restartPolicy", "Always");
    set_text(spec, "schedulerName", "default-scheduler");
    set(Some(spec), "terminationGracePeriodSeconds", || json!(30));
    set(Some(spec), "securityContext", || json!({}));
    each(spec, "volumes", volume::default_volume);
    for key in ["containers", "initContainers", "ephemeralContainers"] {
        each(spec, key, container::default_container);
    }
    each(spec, "topologySpreadConstraints", |c| set_number(c, "maxSkew", 1));
    // `serviceAccount` is the old name of the same thing; both are shown.
    match (
        text(spec.get("serviceAccountName")).to_owned(),
        text(spec.get("serviceAccount")).to_owned(),
    ) {
        (name, old) if name.is_empty() && !old.is_empty() => {
            spec.insert("serviceAccountName".into(), old.into());
        }
        (name, _) if !name.is_empty() => {
            spec.insert("serviceAccount".into(), name.into());
        }
        _ => {}
    }
}

/// What Kubernetes' admission adds to a new pod, and its first status.
pub(crate) fn admit(pod: &mut Value) {
    each_in(Some(pod), "spec", |spec| {
        set_text(spec, "serviceAccountName", "default");
        set_text(spec, "serviceAccount", "default");
        default_tolerations(spec);
    });
    let mut status = json!({"phase": "Pending", "qosClass": qos_class(pod)});
    if !list(pod.get("spec"), "schedulingGates").is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "lastProbeTime": null,
            "lastTransitionTime": null, "message": "Scheduling is blocked due to non-empty scheduling gates"
        }]);
    }
    crate::json::set_status(pod, status);
    app_armor::complete(pod);
}

fn default_tolerations(spec: &mut Map<String, Value>) {
    set(Some(spec), "tolerations", || json!([]));
    let Some(Value::Array(tolerations)) = spec.get_mut("tolerations") else {
        return;
    };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covered = tolerations.iter().any(|t| {
            let (k, effect) = (text(t.get("key")), text(t.get("effect")));
            (k == key || k.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        });
        if !covered {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": DEFAULT_TOLERATION_SECONDS
            }));
        }
    }
}

/// `Guaranteed` if every container's cpu and memory requests equal its limits, `BestEffort` if none has any, else
/// `Burstable`.
pub(crate) fn qos_class(pod: &Value) -> &'static str {
    let spec = pod.get("spec");
    let containers = || list(spec, "containers").iter().chain(list(spec, "initContainers"));
    let any = containers().any(|c| resources::has_compute(c, "requests") || resources::has_compute(c, "limits"));
    if !any {
        return "BestEffort";
    }
    if containers().all(resources::is_guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}
