//! The status that a kubelet reports for a pod, and whether it has to be written.

use afloat_words::image;
use serde_json::{Map, Value, json};

use crate::images::NodeImages;
use crate::kubelet::{Ended, Local, LocalContainer, Phase};
use crate::options::{Options, Reported};
use crate::pod::Pod;

/// Everything but the conditions; compared with what was written last.
pub(crate) type Written = Value;

/// The patch that brings the pod's status to what the node sees, and what it contains; None: nothing to say.
///
/// Conditions are compared with the object, because others write them too (a controller may turn Ready False); the rest
/// is compared with what was written last, because a server may drop fields that it does not know.
pub(crate) fn report(
    pod: &Pod,
    local: &Local,
    images: &NodeImages,
    options: &Options,
    host_ip: &str,
    written: Option<&Written>,
    wall: &str,
) -> Option<(Value, Written)> {
    let statuses: Vec<Value> = local
        .containers
        .iter()
        .map(|container| container_status(container, images, options))
        .collect();
    let conditions = conditions(pod, local, wall);
    let turned = conditions.iter().any(|condition| {
        let kind = condition["type"].as_str().unwrap_or_default();
        pod.condition(kind)
            .is_none_or(|old| condition["status"] != old.status.as_str())
    });
    let mut status = Map::new();
    status.insert("phase".into(), phase(local).into());
    status.insert("startTime".into(), local.start_time.as_str().into());
    status.insert("hostIP".into(), host_ip.into());
    status.insert("hostIPs".into(), json!([{"ip": host_ip}]));
    status.insert("podIP".into(), local.ip.as_str().into());
    status.insert("podIPs".into(), json!([{"ip": local.ip}]));
    status.insert("containerStatuses".into(), statuses.into());
    if options.observed_generation
        && let Some(generation) = pod.metadata.generation
    {
        status.insert("observedGeneration".into(), generation.into());
    }
    let rest = Value::Object(status.clone());
    if !turned && written == Some(&rest) {
        return None;
    }
    status.insert("conditions".into(), conditions.into());
    let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
    Some((patch, rest))
}

/// As a kubelet's `getPhase` for restartPolicy Always: Pending until every container has been started once.
fn phase(local: &Local) -> &'static str {
    let all_started = local.containers.iter().all(|container| container.last.is_some());
    if all_started { "Running" } else { "Pending" }
}

fn ready(container: &LocalContainer) -> bool {
    // While its predecessor is being stopped, a container is not served any more.
    container.phase == Phase::Running
}

fn conditions(pod: &Pod, local: &Local, wall: &str) -> Vec<Value> {
    let unready: Vec<&str> = local
        .containers
        .iter()
        .filter(|container| !ready(container))
        .map(|container| container.name.as_str())
        .collect();
    let closed: Vec<&str> = pod
        .spec
        .readiness_gates
        .iter()
        .map(|gate| gate.condition_type.as_str())
        .filter(|kind| pod.condition(kind).is_none_or(|condition| condition.status != "True"))
        .collect();
    let why_not = |names: &[&str]| {
        Some((
            "ContainersNotReady",
            format!("containers with unready status: [{}]", names.join(" ")),
        ))
    };
    let containers = if unready.is_empty() { None } else { why_not(&unready) };
    let gates = (!closed.is_empty()).then(|| {
        let lines: Vec<String> = closed
            .iter()
            .map(|kind| match pod.condition(kind) {
                Some(_) => format!("the status of pod readiness gate \"{kind}\" is not \"True\", but False"),
                None => format!("corresponding condition of pod readiness gate \"{kind}\" does not exist."),
            })
            .collect();
        ("ReadinessGatesNotReady", lines.join(", "))
    });
    let condition = |kind: &str, why: Option<(&str, String)>| {
        let word = if why.is_none() { "True" } else { "False" };
        let same = pod.condition(kind).filter(|old| old.status == word);
        let since = same.and_then(|old| old.last_transition_time.as_deref()).unwrap_or(wall);
        let mut condition = json!({"type": kind, "status": word, "lastProbeTime": null, "lastTransitionTime": since});
        if let Some((reason, message)) = why {
            condition["reason"] = reason.into();
            condition["message"] = message.into();
        } else if let Some(old) = pod.condition(kind) {
            // What speaks of the old state goes.
            if old.reason.is_some() {
                condition["reason"] = Value::Null;
            }
            if old.message.is_some() {
                condition["message"] = Value::Null;
            }
        }
        condition
    };
    vec![
        condition("PodScheduled", None),
        condition("Initialized", None),
        condition("ContainersReady", containers.clone()),
        condition("Ready", containers.or(gates)),
    ]
}

fn container_status(container: &LocalContainer, images: &NodeImages, options: &Options) -> Value {
    let mut status = json!({
        "name": container.name, "ready": ready(container), "restartCount": container.restarts(), "image": "", "imageID": "",
        "lastState": {},
    });
    let running = matches!(container.phase, Phase::Running | Phase::Stopping(_));
    status["started"] = running.into();
    if let Some(ran) = &container.last {
        let tag = match options.reported {
            Reported::FirstKnown => images.first_tag(&ran.digest).map(str::to_owned),
            Reported::Requested => Some(image::full(&ran.image)).filter(|full| !full.contains('@')),
        };
        let id = images.id(&ran.digest);
        status["image"] = tag.unwrap_or_else(|| id.clone()).into();
        status["imageID"] = id.into();
        status["containerID"] = ran.id.as_str().into();
        status["state"] = match &ran.ended {
            Some(ended) => terminated(ended),
            None => json!({"running": {"startedAt": ran.started}}),
        };
        if let Some(ended) = &container.before {
            status["lastState"] = terminated(ended);
        }
    } else {
        status["image"] = match &container.phase {
            Phase::Starting { image, .. } | Phase::NoImage(image) => image.as_str().into(),
            _ => Value::from(""),
        };
        status["state"] = json!({"waiting": {"reason": "ContainerCreating"}});
    }
    if let Phase::NoImage(image) = &container.phase {
        if let Some(ended) = container.last.as_ref().and_then(|ran| ran.ended.as_ref()) {
            status["lastState"] = terminated(ended);
        }
        let message = format!("Back-off pulling image \"{image}\"");
        status["state"] = json!({"waiting": {"reason": "ImagePullBackOff", "message": message}});
    }
    if running
        && container
            .resources
            .as_object()
            .is_some_and(|resources| !resources.is_empty())
    {
        status["resources"] = container.resources.clone();
        if !container.resources["requests"].is_null() {
            status["allocatedResources"] = container.resources["requests"].clone();
        }
    }
    status
}

fn terminated(ended: &Ended) -> Value {
    let reason = if ended.code == 0 { "Completed" } else { "Error" };
    json!({"terminated": {"exitCode": ended.code, "reason": reason, "startedAt": ended.started,
        "finishedAt": ended.finished, "containerID": ended.id}})
}
