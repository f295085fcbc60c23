//! Images of a rollout, pulled on the nodes of its pods beforehand: the jobs for it. The rules are OpenKruise's
//! (`cloneset_predownload_image.go` of 1.9.1) where its gate asks for it, and our own where `afloat.dev/prewarm` does.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{CloneSet, ImagePullJob, PodUpdatePolicy, names};
use afloat_words::owner::controller_reference;
use afloat_words::percent::{Round, scaled};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use crate::action::{Action, At, Plan};

/// Replicas of which OpenKruise pulls nothing beforehand.
const FEW: usize = 3;
/// Seconds of one pull where nothing is said, as in OpenKruise.
const TIMEOUT: i64 = 300;
/// What has failed is asked for again after so long.
const AGAIN: SignedDuration = SignedDuration::from_secs(60);

/// How much a rollout wants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Off,
    /// As OpenKruise with its gate PreDownloadImageForInPlaceUpdate.
    Gate,
    /// As the annotation says: no pod is too few, and nodes that come later pull as well.
    Own,
}

fn mode(set: &CloneSet, gate: bool) -> Mode {
    match set.annotation(names::PREWARM) {
        Some(names::PREWARM_REQUIRED | names::PREWARM_BEST_EFFORT) => Mode::Own,
        Some(names::PREWARM_OFF) => Mode::Off,
        _ if gate => Mode::Gate,
        _ => Mode::Off,
    }
}

/// The jobs of one CloneSet: those that are to be, and those that are to go. `jobs` are those that it controls.
pub fn warm(
    set: &CloneSet,
    revisions: &[Arc<ControllerRevision>],
    jobs: &[Arc<ImagePullJob>],
    (gate, now): (bool, Timestamp),
    plan: &mut Plan,
) {
    let mode = mode(set, gate);
    let jobs = jobs.iter().filter(|job| job.metadata.deletion_timestamp.is_none());
    let jobs: Vec<_> = jobs.collect();
    let (current, update) = (&set.status.current_revision, &set.status.update_revision);
    let told = set.metadata.generation.unwrap_or(0) <= set.status.observed_generation;
    if mode == Mode::Off || set.metadata.deletion_timestamp.is_some() || told && current == update {
        let gone = jobs.iter().map(|job| Action::DeleteJob {
            at: At::of(&job.metadata),
        });
        plan.actions.extend(gone);
        return;
    }
    let named = |name: &str| {
        let mut all = revisions.iter();
        all.find(|revision| revision.metadata.name.as_deref() == Some(name))
    };
    let (Some(old), Some(new)) = (named(current), named(update)) else {
        return;
    };
    if !told || !wanted(set, mode) {
        return;
    }
    let job_of = |name: &str| jobs.iter().find(|job| job.metadata.name.as_deref() == Some(name));
    let mut present = Vec::new();
    for (container, image) in images(old, new) {
        let name = format!("{update}-{container}");
        match job_of(&name) {
            None => plan.actions.push(Action::CreateJob {
                body: body(set, new, (&name, &image), mode),
            }),
            Some(job) if mode == Mode::Own && given_up(job) => again(job, now, plan),
            Some(_) => {}
        }
        present.push(name);
    }
    // Those of revisions that are not wanted any more.
    let stale = jobs
        .iter()
        .filter(|job| !present.iter().any(|name| job.metadata.name.as_ref() == Some(name)));
    plan.actions.extend(stale.map(|job| Action::DeleteJob {
        at: At::of(&job.metadata),
    }));
}

/// Whether there is anything to gain.
fn wanted(set: &CloneSet, mode: Mode) -> bool {
    let rollout = set.spec.rollout();
    if rollout.policy == PodUpdatePolicy::ReCreate || rollout.on_delete {
        return false;
    }
    let replicas = set.spec.replicas();
    let total = u32::try_from(replicas).unwrap_or(u32::MAX);
    let count = |value: &IntOrString, round| {
        let number = scaled(value, total, round).unwrap_or(0);
        usize::try_from(number).unwrap_or(0)
    };
    if mode == Mode::Gate {
        let at_once =
            count(&rollout.partition, Round::Up) == 0 && count(&rollout.max_unavailable, Round::Down) >= replicas;
        if replicas <= FEW || at_once {
            return false;
        }
    }
    let least = setting(set, 2).map_or(0, |least| count(&least, Round::Up));
    usize::try_from(set.status.updated_ready_replicas).unwrap_or(0) >= least
}

/// One of OpenKruise's three settings: a field in v1beta1, an annotation for those who write none.
fn setting(set: &CloneSet, place: usize) -> Option<IntOrString> {
    let rolling = set.spec.update_strategy.rolling_update.as_ref();
    let fields = rolling.and_then(|rolling| rolling.in_place_update_strategy.as_ref());
    let field = fields.and_then(|fields| match place {
        0 => fields.image_pre_download_parallelism.clone(),
        1 => fields.image_pre_download_timeout_seconds.map(IntOrString::Int),
        _ => fields.image_pre_download_min_updated_ready_pods.map(IntOrString::Int),
    });
    let annotation = || {
        let text = set.annotation(names::PREDOWNLOAD[place].0)?;
        Some(
            text.parse()
                .map_or_else(|_| IntOrString::String(text.to_owned()), IntOrString::Int),
        )
    };
    field.or_else(annotation)
}

/// Images of the new revision that the old one has not, by container.
fn images(old: &ControllerRevision, new: &ControllerRevision) -> BTreeMap<String, String> {
    let of = |revision: &ControllerRevision| -> BTreeMap<String, String> {
        let data = revision.data.as_ref().map(|data| &data.0);
        let containers = data.and_then(|data| data.pointer("/spec/template/spec/containers")?.as_array());
        let text = |container: &Value, key: &str| container[key].as_str().unwrap_or_default().to_owned();
        let all = containers.into_iter().flatten();
        all.map(|container| (text(container, "name"), text(container, "image")))
            .collect()
    };
    let before = of(old);
    let mut images = of(new);
    images.retain(|container, image| before.get(container) != Some(image));
    images
}

fn body(set: &CloneSet, revision: &ControllerRevision, (name, image): (&str, &str), mode: Mode) -> Value {
    let template = &set.spec.template;
    let part = |path: &str| template.pointer(path).cloned().unwrap_or_else(|| json!({}));
    let hash = revision
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(names::REVISION_HASH));
    let mut labels = part("/metadata/labels");
    labels[names::REVISION_HASH] = json!(hash);
    let secrets = template.pointer("/spec/imagePullSecrets").and_then(Value::as_array);
    let secrets: Vec<_> = secrets.into_iter().flatten().map(|secret| &secret["name"]).collect();
    let mut selector = json!(set.spec.selector);
    let updated = json!({"key": names::REVISION, "operator": "NotIn", "values": [revision.metadata.name, hash]});
    let expressions = selector["matchExpressions"].as_array().cloned().unwrap_or_default();
    selector["matchExpressions"] = Value::Array(expressions.into_iter().chain([updated]).collect());
    let parallelism = match setting(set, 0) {
        Some(IntOrString::Int(number)) => number,
        _ => 1,
    };
    let timeout = match setting(set, 1) {
        Some(IntOrString::Int(seconds)) => i64::from(seconds),
        _ => TIMEOUT,
    };
    json!({
        "apiVersion": names::API_VERSION, "kind": "ImagePullJob",
        "metadata": {
            "namespace": set.metadata.namespace, "name": name, "labels": labels,
            "ownerReferences": [controller_reference(names::API_VERSION, "CloneSet", &set.metadata)],
        },
        "spec": {
            "image": image, "podSelector": selector, "parallelism": parallelism, "pullSecrets": secrets,
            "pullPolicy": {"backoffLimit": 1, "timeoutSeconds": timeout},
            "completionPolicy": {"type": if mode == Mode::Own { "Never" } else { "Always" }},
            "sandboxConfig": {"labels": labels, "annotations": part("/metadata/annotations")},
        },
    })
}

/// Whether a job has failed somewhere and has nothing more to do.
fn given_up(job: &ImagePullJob) -> bool {
    let status = &job.status;
    status.failed > 0 && status.active == 0
}

/// Takes it away after a while, so that the next one tries again.
fn again(job: &ImagePullJob, now: Timestamp, plan: &mut Plan) {
    let made = job.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    match made.checked_add(AGAIN) {
        Ok(at) if at > now => plan.wake(at),
        _ => plan.actions.push(Action::DeleteJob {
            at: At::of(&job.metadata),
        }),
    }
}

#[cfg(test)]
mod tests;
