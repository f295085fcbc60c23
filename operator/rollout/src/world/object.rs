//! What the API server does to objects, as far as this world needs it.

use std::sync::Arc;

use afloat_api::{CloneSet, names};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::Bug;
use crate::action::At;
use crate::pod::drain::Drain;
use crate::pod::object::Pod;

/// Whether the preconditions hold.
pub(crate) fn matches(object: Option<&Value>, at: &At) -> bool {
    object.is_some_and(|object| {
        object["metadata"]["resourceVersion"] == at.resource_version.as_str()
            && object["metadata"]["uid"] == at.uid.as_str()
    })
}

/// Strategic merge, for the lists of a pod that are patched.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let (Some(target), Some(patch)) = (target.as_object_mut(), patch.as_object()) else {
        return;
    };
    for (key, value) in patch {
        let by = match key.as_str() {
            "containers" | "containerStatuses" => Some("name"),
            "conditions" => Some("type"),
            "ownerReferences" => Some("uid"),
            _ => None,
        };
        let slot = target.entry(key.clone()).or_insert(Value::Null);
        match (by, value) {
            (_, Value::Null) => {
                target.remove(key);
            }
            (Some(by), Value::Array(items)) => {
                if !slot.is_array() {
                    *slot = json!([]);
                }
                let list = slot.as_array_mut().unwrap();
                for item in items {
                    if item["$patch"] == "delete" {
                        list.retain(|old| old[by] != item[by]);
                    } else if let Some(old) = list.iter_mut().find(|old| old[by] == item[by]) {
                        merge(old, item);
                    } else {
                        list.push(item.clone());
                    }
                }
            }
            (_, Value::Object(_)) if slot.is_object() => merge(slot, value),
            _ => *slot = value.clone(),
        }
    }
}

/// One of a pod's conditions; null if absent.
pub(crate) fn condition(pod: &Value, kind: &str) -> Value {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions
        .into_iter()
        .find(|condition| condition["type"] == kind)
        .unwrap_or(Value::Null)
}

fn number(value: &IntOrString) -> usize {
    match value {
        IntOrString::Int(number) => usize::try_from(*number).unwrap(),
        IntOrString::String(_) => unreachable!("this world uses numbers"),
    }
}

pub(crate) fn max_surge(set: &CloneSet) -> usize {
    number(&set.spec.rollout().max_surge)
}

pub(crate) fn max_unavailable(set: &CloneSet) -> usize {
    number(&set.spec.rollout().max_unavailable)
}

/// Makes the planner err.
pub(crate) fn mislead(bug: Bug, set: &mut CloneSet, pods: &mut [Arc<Pod>], now: Timestamp) {
    if bug == Bug::NoHooks
        && let Some(hooks) = set.spec.lifecycle.as_mut()
    {
        hooks.in_place_update = None;
        hooks.pre_delete = None;
    }
    let Some(rolling) = set.spec.update_strategy.rolling_update.as_mut() else {
        return;
    };
    match bug {
        Bug::NoGrace => rolling.in_place_update_strategy = None,
        Bug::BudgetPlusOne => {
            let more = rolling.max_unavailable.as_ref().map_or(0, number) + 1;
            rolling.max_unavailable = Some(IntOrString::Int(i32::try_from(more).unwrap()));
        }
        Bug::NoPartition => rolling.partition = None,
        Bug::OneTooMany => set.spec.replicas = set.spec.replicas.map(|replicas| replicas + 1),
        Bug::EarlyReturn => edit(pods, |pod| {
            pod.annotations.set(names::INPLACE_STATE, None);
        }),
        Bug::ContainerIdAlone => edit(pods, |pod| {
            let images: Vec<_> = pod
                .spec
                .containers
                .iter()
                .map(|container| container.image.clone())
                .collect();
            for (status, image) in pod.status.container_statuses.iter_mut().zip(images) {
                status.image = image;
            }
        }),
        Bug::AnyFalseIsADrain => {
            let revision = set.status.update_revision.clone();
            edit(pods, |pod| {
                let false_gate =
                    |c: &&mut crate::pod::object::PodCondition| c.kind == names::INPLACE_READY && c.status == "False";
                if let Some(condition) = pod.status.conditions.iter_mut().find(false_gate) {
                    let long_ago = now - jiff::SignedDuration::from_secs(60);
                    let drain = Drain {
                        revision: revision.clone(),
                        since: long_ago,
                        ready_at: None,
                    };
                    condition.message = Some(drain.to_string().as_str().into());
                }
            });
        }
        Bug::None | Bug::StaleView | Bug::NoHooks | Bug::NoClaims => {}
    }
}

fn edit(pods: &mut [Arc<Pod>], change: impl Fn(&mut Pod)) {
    for pod in pods {
        change(Arc::make_mut(pod));
    }
}
