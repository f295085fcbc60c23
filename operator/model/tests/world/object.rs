//! What the API server does to objects, as far as this world needs it.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{CloneSet, names};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::Bug;
use afloat_rollout::action::At;
use afloat_rollout::go::bytes;
use afloat_rollout::pod::drain::Drain;
use afloat_rollout::pod::object::Pod;
use afloat_rollout::workload::revision::{data, hash, name};

/// Whether the preconditions hold.
pub(crate) fn matches(object: Option<&Value>, at: &At) -> bool {
    object.is_some_and(|object| {
        object["metadata"]["resourceVersion"] == at.resource_version.as_str()
            && object["metadata"]["uid"] == at.uid.as_str()
    })
}

/// One of a pod's conditions; null if absent.
pub(crate) fn condition(pod: &Value, kind: &str) -> Value {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions
        .into_iter()
        .find(|condition| condition["type"] == kind)
        .unwrap_or(Value::Null)
}

/// Name of the revision that the present template has.
pub(crate) fn revision(set: &CloneSet) -> String {
    name("web", &hash(&bytes(&data(&set.spec.template)), 0))
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
            forget(pod, names::INPLACE_STATE);
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
                let false_gate = |c: &&mut afloat_rollout::pod::object::PodCondition| {
                    c.kind == names::INPLACE_READY && c.status == "False"
                };
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
        Bug::None
        | Bug::StaleView
        | Bug::NoHooks
        | Bug::NoClaims
        | Bug::NewClaims
        | Bug::NameTaken
        | Bug::NoRollback
        | Bug::EarlyPage
        | Bug::EarlyEvent => {}
    }
}

fn edit(pods: &mut [Arc<Pod>], change: impl Fn(&mut Pod)) {
    for pod in pods {
        change(Arc::make_mut(pod));
    }
}

/// Takes an annotation away from a pod.
pub(crate) fn forget(pod: &mut Pod, annotation: &str) {
    // All that anybody in these worlds writes.
    let keys = [
        names::INPLACE_STATE,
        names::INPLACE_FROM,
        names::INPLACE_GRACE,
        names::LIFECYCLE_TIMESTAMP,
    ];
    let kept = keys.into_iter().filter(|key| *key != annotation);
    let entry = |key: &str| Some((key.to_owned(), pod.annotations.get(key)?.to_owned()));
    let kept: BTreeMap<String, String> = kept.filter_map(entry).collect();
    pod.annotations = kept.into();
}
