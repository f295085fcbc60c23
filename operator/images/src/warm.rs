//! Images of a rollout, pulled on the nodes of its pods beforehand: the jobs for it. The rules are OpenKruise's
//! (`*_predownload_image.go` of 1.9.1) where its gates ask for it, and our own where `afloat.dev/prewarm` does.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{ImagePullJob, InPlaceUpdateStrategy, names};
use afloat_words::owner::controller_reference;
use afloat_words::percent::{Round, scaled};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use crate::action::{Action, At, Plan};

/// Seconds of one pull where nothing is said, as in OpenKruise.
const TIMEOUT: i64 = 300;
/// What has failed is asked for again after so long.
const AGAIN: SignedDuration = SignedDuration::from_secs(60);

/// A workload, of whatever kind, as far as its rollout may want images beforehand.
#[derive(Clone, Debug)]
pub struct Release<'a> {
    /// Group and version of its kind.
    pub api_version: &'a str,
    /// Its kind.
    pub kind: &'a str,
    /// Its name, and what it was told by annotations.
    pub metadata: &'a ObjectMeta,
    /// What its pods are made from.
    pub template: &'a Value,
    /// Its pods.
    pub selector: &'a LabelSelector,
    /// The revision that all pods had last; None: each older one may be some pod's.
    pub current: Option<&'a str>,
    /// The revision of the template: its name, or its hash.
    pub update: &'a str,
    /// Generation of the spec that the status speaks of.
    pub observed_generation: i64,
    /// As far as the status tells, no pod is left to be updated.
    pub done: bool,
    /// Pods stay on their nodes while they are updated: in place, or as the kind makes new ones there. Where this is false,
    /// nothing is gained.
    pub stays: bool,
    /// What OpenKruise's gate for the kind says.
    pub gate: bool,
    /// OpenKruise would pull nothing: they are few, or all change at once.
    pub needless: bool,
    /// How many pods are wanted.
    pub replicas: i32,
    /// Updated ones that are Ready.
    pub updated_ready: i32,
    /// Settings that are fields.
    pub settings: Option<&'a InPlaceUpdateStrategy>,
}

impl Release<'_> {
    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    fn mode(&self) -> Mode {
        match self.annotation(names::PREWARM) {
            Some(names::PREWARM_REQUIRED | names::PREWARM_BEST_EFFORT) => Mode::Own,
            Some(names::PREWARM_OFF) => Mode::Off,
            _ if self.gate => Mode::Gate,
            _ => Mode::Off,
        }
    }

    /// Whether there is anything to gain.
    fn wanted(&self, mode: Mode) -> bool {
        if !self.stays || mode == Mode::Gate && self.needless {
            return false;
        }
        let total = u32::try_from(self.replicas).unwrap_or(0);
        let count = |value: &IntOrString| scaled(value, total, Round::Up).unwrap_or(0);
        let least = self.setting(2).map_or(0, |least| count(&least));
        i64::from(self.updated_ready) >= least
    }

    /// One of OpenKruise's three settings: a field in v1beta1 of CloneSet, an annotation for those who write none.
    fn setting(&self, place: usize) -> Option<IntOrString> {
        let field = self.settings.and_then(|fields| match place {
            0 => fields.image_pre_download_parallelism.clone(),
            1 => fields.image_pre_download_timeout_seconds.map(IntOrString::Int),
            _ => fields.image_pre_download_min_updated_ready_pods.map(IntOrString::Int),
        });
        let annotation = || {
            let text = self.annotation(names::PREDOWNLOAD[place].0)?;
            Some(
                text.parse()
                    .map_or_else(|_| IntOrString::String(text.to_owned()), IntOrString::Int),
            )
        };
        field.or_else(annotation)
    }
}

/// How much a rollout wants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Off,
    /// As OpenKruise with its gate for the kind.
    Gate,
    /// As the annotation says: no pod is too few, and nodes that come later pull as well.
    Own,
}

/// The jobs of one workload: those that are to be, and those that are to go. `jobs` are those that it controls.
pub fn warm(
    release: &Release<'_>,
    revisions: &[Arc<ControllerRevision>],
    jobs: &[Arc<ImagePullJob>],
    now: Timestamp,
    plan: &mut Plan,
) {
    let mode = release.mode();
    let jobs = jobs.iter().filter(|job| job.metadata.deletion_timestamp.is_none());
    let jobs: Vec<_> = jobs.collect();
    let meta = release.metadata;
    let told = meta.generation.unwrap_or(0) <= release.observed_generation;
    if mode == Mode::Off || meta.deletion_timestamp.is_some() || told && release.done {
        let gone = jobs.iter().map(|job| Action::DeleteJob {
            at: At::of(&job.metadata),
        });
        plan.actions.extend(gone);
        return;
    }
    let Some((olds, new)) = versions(release, revisions) else {
        return;
    };
    if !told || !release.wanted(mode) {
        return;
    }
    let update = new.metadata.name.as_deref().unwrap_or_default();
    let job_of = |name: &str| jobs.iter().find(|job| job.metadata.name.as_deref() == Some(name));
    let mut present = Vec::new();
    for (container, image) in images(&olds, new) {
        let name = format!("{update}-{container}");
        match job_of(&name) {
            None => plan.actions.push(Action::CreateJob {
                body: body(release, new, (&name, &image), mode),
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

/// By whichever label the kind has it.
fn hash(revision: &ControllerRevision) -> Option<&String> {
    let labels = revision.metadata.labels.as_ref()?;
    labels.get(names::REVISION_HASH).or_else(|| labels.get(names::REVISION))
}

/// The revisions that pods may have, at least one, and the one that they are to have.
fn versions<'r>(
    release: &Release<'_>,
    revisions: &'r [Arc<ControllerRevision>],
) -> Option<(Vec<&'r ControllerRevision>, &'r ControllerRevision)> {
    let is = |revision: &ControllerRevision, name: &str| {
        revision.metadata.name.as_deref() == Some(name) || hash(revision).is_some_and(|hash| hash == name)
    };
    let all = || revisions.iter().map(|revision| &**revision);
    let new = all().find(|revision| is(revision, release.update))?;
    let old = |revision: &&ControllerRevision| match release.current {
        Some(current) => is(revision, current),
        None => revision.metadata.name != new.metadata.name,
    };
    let olds: Vec<_> = all().filter(old).collect();
    (!olds.is_empty()).then_some((olds, new))
}

/// Images of the new revision that one of the old ones has not, by container.
fn images(olds: &[&ControllerRevision], new: &ControllerRevision) -> BTreeMap<String, String> {
    let of = |revision: &ControllerRevision| -> BTreeMap<String, String> {
        let data = revision.data.as_ref().map(|data| &data.0);
        let containers = data.and_then(|data| data.pointer("/spec/template/spec/containers")?.as_array());
        let text = |container: &Value, key: &str| container[key].as_str().unwrap_or_default().to_owned();
        let all = containers.into_iter().flatten();
        all.map(|container| (text(container, "name"), text(container, "image")))
            .collect()
    };
    let before: Vec<_> = olds.iter().map(|old| of(old)).collect();
    let mut images = of(new);
    images.retain(|container, image| before.iter().any(|before| before.get(container) != Some(image)));
    images
}

fn body(release: &Release<'_>, revision: &ControllerRevision, (name, image): (&str, &str), mode: Mode) -> Value {
    let template = release.template;
    let part = |path: &str| template.pointer(path).cloned().unwrap_or_else(|| json!({}));
    let hash = hash(revision);
    let mut labels = part("/metadata/labels");
    labels[names::REVISION_HASH] = json!(hash);
    let secrets = template.pointer("/spec/imagePullSecrets").and_then(Value::as_array);
    let secrets: Vec<_> = secrets.into_iter().flatten().map(|secret| &secret["name"]).collect();
    let mut selector = json!(release.selector);
    let updated = json!({"key": names::REVISION, "operator": "NotIn", "values": [revision.metadata.name, hash]});
    let expressions = selector["matchExpressions"].as_array().cloned().unwrap_or_default();
    selector["matchExpressions"] = Value::Array(expressions.into_iter().chain([updated]).collect());
    let parallelism = match release.setting(0) {
        Some(IntOrString::Int(number)) => number,
        _ => 1,
    };
    let timeout = match release.setting(1) {
        Some(IntOrString::Int(seconds)) => i64::from(seconds),
        _ => TIMEOUT,
    };
    json!({
        "apiVersion": names::API_VERSION, "kind": "ImagePullJob",
        "metadata": {
            "namespace": release.metadata.namespace, "name": name, "labels": labels,
            "ownerReferences": [controller_reference(release.api_version, release.kind, release.metadata)],
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
