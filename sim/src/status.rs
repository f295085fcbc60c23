//! The status that a kubelet reports for a pod, and whether it has to be written.

use afloat_words::image;
use serde_json::{Map, Value, json};

use crate::images::NodeImages;
use crate::kubelet::{Ended, Local, LocalContainer, Phase, Ran, Stage};
use crate::options::{Options, Reported, Statuses};
use crate::pod::{Container, Pod};

/// What kubelets up to 1.32 say of a resize that they cannot do, and how those after it say it.
const RESIZE: &str = "resize";
const RESIZE_PENDING: &str = "PodResizePending";
const INFEASIBLE: &str = "Infeasible";

/// Everything but the conditions; compared with what was written last.
pub(crate) type Written = Value;

/// The patch that brings the pod's status to what the node sees, and what the status then contains; None: nothing to say. As a
/// kubelet's it contains only what differs, and names all conditions in their order (`PatchPodStatus` of Kubernetes' `util/pod`).
///
/// `pod` is what the kubelet has seen of its spec and gates, `object` the newest version. Conditions are compared with the latter, because others write them too (a controller may turn Ready False); the rest
/// is compared with what was written last, because a server may drop fields that it does not know.
pub(crate) fn report(
    (pod, object): (&Pod, &Pod),
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
        .map(|container| {
            let spec = pod.spec.containers.iter().find(|spec| spec.name == container.name);
            container_status(container, spec, images, options)
        })
        .collect();
    let mut conditions = conditions((pod, object), local, options, wall);
    let order: Vec<Value> = conditions
        .iter()
        .map(|condition| json!({"type": condition["type"]}))
        .collect();
    let turned = conditions.iter().any(|condition| turned(object, condition));
    conditions.retain(|condition| differs(object, condition));
    let mut status = Map::new();
    status.insert("phase".into(), phase(local).into());
    status.insert("startTime".into(), local.start_time.as_str().into());
    status.insert("hostIP".into(), host_ip.into());
    status.insert("hostIPs".into(), json!([{"ip": host_ip}]));
    if !matches!(local.stage, Stage::New | Stage::Taken) {
        status.insert("podIP".into(), local.ip.as_str().into());
        status.insert("podIPs".into(), json!([{"ip": local.ip}]));
    }
    status.insert("containerStatuses".into(), statuses.into());
    if options.observed_generation
        && let Some(generation) = pod.metadata.generation
    {
        status.insert("observedGeneration".into(), generation.into());
    }
    if local.refused.is_some() && !options.observed_generation {
        status.insert(RESIZE.into(), INFEASIBLE.into());
    }
    let rest = Value::Object(status.clone());
    // A resize that is refused no more.
    let withdrawn =
        options.observed_generation && local.refused.is_none() && object.condition(RESIZE_PENDING).is_some();
    if !turned && !withdrawn && written == Some(&rest) {
        return None;
    }
    if let Some(written) = written {
        status.retain(|field, value| written.get(field) != Some(value));
        if written.get(RESIZE).is_some() && rest.get(RESIZE).is_none() {
            status.insert(RESIZE.into(), Value::Null);
        }
    }
    if withdrawn {
        conditions.push(json!({"type": RESIZE_PENDING, "$patch": "delete"}));
    }
    if !conditions.is_empty() {
        status.insert("$setElementOrder/conditions".into(), order.into());
        status.insert("conditions".into(), conditions.into());
    }
    let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
    Some((patch, rest))
}

/// Whether the object says otherwise.
fn turned(pod: &Pod, condition: &Value) -> bool {
    let old = pod.condition(condition["type"].as_str().unwrap_or_default());
    old.is_none_or(|old| condition["status"] != old.status.as_str())
}

/// Whether the object says it in other words, or otherwise.
fn differs(pod: &Pod, condition: &Value) -> bool {
    let old = pod.condition(condition["type"].as_str().unwrap_or_default());
    let same = |word: &Option<String>, field: &str| word.as_deref() == condition[field].as_str();
    old.is_none_or(|old| turned(pod, condition) || !same(&old.reason, "reason") || !same(&old.message, "message"))
}

/// As a kubelet's `getPhase` for restartPolicy Always: Pending until every container has been started once; and, once it is deleted
/// and all have ended, what they ended with.
fn phase(local: &Local) -> &'static str {
    if local.stage == Stage::Ended {
        let ran = local.containers.iter().filter_map(|container| container.last.as_ref());
        let mut ended = ran.filter_map(|ran| ran.ended.as_ref());
        return if ended.all(|ended| ended.code == 0) {
            "Succeeded"
        } else {
            "Failed"
        };
    }
    let all_started = local.containers.iter().all(|container| container.last.is_some());
    if all_started { "Running" } else { "Pending" }
}

fn ready(container: &LocalContainer) -> bool {
    // While its predecessor is being stopped, a container is not served any more.
    container.phase == Phase::Running && container.ready
}

fn conditions((pod, object): (&Pod, &Pod), local: &Local, options: &Options, wall: &str) -> Vec<Value> {
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
        let same = object.condition(kind).filter(|old| old.status == word);
        let since = same.and_then(|old| old.last_transition_time.as_deref()).unwrap_or(wall);
        let mut condition = json!({"type": kind, "status": word, "lastProbeTime": null, "lastTransitionTime": since});
        if let Some((reason, message)) = why {
            condition["reason"] = reason.into();
            condition["message"] = message.into();
        } else if let Some(old) = object.condition(kind) {
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
    let mut all = vec![
        condition("PodScheduled", None),
        condition("Initialized", None),
        condition("ContainersReady", containers.clone()),
        condition("Ready", containers.or(gates)),
    ];
    if options.statuses == Statuses::EachStep {
        all.insert(
            0,
            sandbox(condition("PodReadyToStartContainers", None), object, local, wall),
        );
    }
    if let Some(why) = local.refused.as_ref().filter(|_| options.observed_generation) {
        let mut pending = condition(RESIZE_PENDING, None);
        pending["reason"] = INFEASIBLE.into();
        pending["message"] = why.as_str().into();
        all.push(pending);
    }
    all
}

/// KEP-3085. It has no words of its own.
fn sandbox(mut ready: Value, object: &Pod, local: &Local, wall: &str) -> Value {
    if local.stage != Stage::Sandbox {
        let old = object.condition("PodReadyToStartContainers");
        let same = old.filter(|old| old.status == "False");
        ready["status"] = "False".into();
        ready["lastTransitionTime"] = same
            .and_then(|old| old.last_transition_time.as_deref())
            .unwrap_or(wall)
            .into();
    }
    ready
}

fn container_status(
    container: &LocalContainer,
    spec: Option<&Container>,
    images: &NodeImages,
    options: &Options,
) -> Value {
    let mut status = json!({
        "name": container.name, "ready": ready(container), "restartCount": container.restarts(), "image": "", "imageID": "",
        "lastState": {},
    });
    if options.statuses == Statuses::EachStep
        && let Some(spec) = spec.filter(|spec| !spec.volume_mounts.is_empty())
    {
        status["volumeMounts"] = json!(spec.volume_mounts);
    }
    let ended = |ran: &Ran| ran.ended.is_some();
    let running =
        matches!(container.phase, Phase::Running | Phase::Stopping(_)) && !container.last.as_ref().is_some_and(ended);
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
            Phase::Starting { image, .. } | Phase::Hook { image, .. } | Phase::NoImage(image) => image.as_str().into(),
            _ => spec.map_or("", |spec| spec.image.as_str()).into(),
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
    if running {
        // Also of a container that asks for nothing.
        status["resources"] = match &container.resources {
            Value::Null => json!({}),
            resources => resources.clone(),
        };
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
