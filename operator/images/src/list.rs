//! One ImageListPullJob: the jobs that it is made of, and how far they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{
    FailedImage, IF_NOT_PRESENT, ImageListPullJob, ImageListPullJobStatus, ImagePullJob, PullTemplate, names,
};
use afloat_words::owner::{controller_of, controller_reference};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::action::{Action, At, Plan, change};
use crate::job::{goes, small};
use crate::time::seconds;

/// The jobs of a list, by image. Those that are being deleted count no more.
fn children<'a>(list: &ImageListPullJob, jobs: &'a [Arc<ImagePullJob>]) -> BTreeMap<&'a str, Vec<&'a ImagePullJob>> {
    let uid = list.metadata.uid.as_deref();
    let mut children: BTreeMap<&str, Vec<&ImagePullJob>> = BTreeMap::new();
    for job in jobs.iter().filter(|job| job.metadata.deletion_timestamp.is_none()) {
        let owner = controller_of(&job.metadata).map(|owner| owner.uid.as_str());
        if owner.is_some() && owner == uid {
            children.entry(&job.spec.image).or_default().push(job);
        }
    }
    children
}

/// What a list's jobs have as their template. They stay as long as the list: one that went before the others have ended would be made
/// once more.
fn wanted(list: &ImageListPullJob) -> PullTemplate {
    let mut template = list.spec.template.clone();
    template.completion_policy.ttl_seconds_after_finished = None;
    template
}

/// Whether a job is what its list wants, whoever made it: what the API server fills in counts as said.
fn fits(job: &ImagePullJob, template: &PullTemplate) -> bool {
    let plain = |template: &PullTemplate| {
        let mut plain = template.clone();
        plain.completion_policy.ttl_seconds_after_finished = None;
        let policy = plain.image_pull_policy.filter(|policy| !policy.is_empty());
        plain.image_pull_policy = policy.or_else(|| Some(IF_NOT_PRESENT.to_owned()));
        plain
    };
    plain(&job.spec.template) == plain(template)
}

/// What to do about a list.
pub(crate) fn list(list: &ImageListPullJob, jobs: &[Arc<ImagePullJob>], now: Timestamp, plan: &mut Plan) {
    if list.metadata.deletion_timestamp.is_some() {
        return;
    }
    let ended = list.status.completion_time.as_ref().map(|time| time.0);
    if ended.is_some() {
        let ttl = list.spec.template.completion_policy.ttl_seconds_after_finished;
        match goes(ended, ttl) {
            Some(end) if end <= now => plan.actions.push(Action::DeleteList {
                at: At::of(&list.metadata),
            }),
            Some(end) => plan.wake(end),
            None => {}
        }
        return;
    }
    let children = children(list, jobs);
    let template = wanted(list);
    let mut current = Vec::new();
    for image in &list.spec.images {
        let all = children.get(image.as_str()).map(Vec::as_slice).unwrap_or_default();
        let (fitting, others): (Vec<_>, Vec<_>) = all.iter().copied().partition(|job| fits(job, &template));
        let mut fitting = fitting.into_iter();
        match fitting.next() {
            Some(job) => current.push(job),
            None => plan.actions.push(Action::CreateJob {
                body: child(list, image, &template),
            }),
        }
        let surplus = fitting.chain(others);
        plan.actions.extend(surplus.map(|job| Action::DeleteJob {
            at: At::of(&job.metadata),
        }));
    }
    let dropped = children
        .iter()
        .filter(|(image, _)| !list.spec.images.iter().any(|wanted| wanted == **image));
    let dropped = dropped.flat_map(|(_, jobs)| jobs);
    plan.actions.extend(dropped.map(|job| Action::DeleteJob {
        at: At::of(&job.metadata),
    }));
    let status = report(list, &current, now);
    if status != list.status {
        plan.actions.push(Action::PatchListStatus {
            at: At::of(&list.metadata),
            patch: json!({"status": change(&list.status, &status)}),
        });
    }
}

fn report(list: &ImageListPullJob, jobs: &[&ImagePullJob], now: Timestamp) -> ImageListPullJobStatus {
    let begun: Vec<_> = jobs.iter().filter(|job| job.status.start_time.is_some()).collect();
    let count = |pass: fn(&ImagePullJob) -> bool| small(begun.iter().filter(|job| pass(job)).count());
    let failed = begun.iter().filter(|job| job.status.failed > 0).map(|job| {
        let name = job.metadata.name.clone().unwrap_or_default();
        FailedImage {
            message: format!("Please check for details which nodes failed by 'kubectl get ImagePullJob {name}'."),
            image_pull_job: name,
            name: job.spec.image.clone(),
        }
    });
    let mut status = ImageListPullJobStatus {
        start_time: Some(list.status.start_time.clone().unwrap_or_else(|| seconds(now))),
        completion_time: None,
        desired: small(list.spec.images.len()),
        active: count(|job| job.status.active > 0),
        completed: count(|job| job.status.desired == job.status.failed + job.status.succeeded),
        succeeded: count(|job| job.status.desired == job.status.succeeded && job.status.failed == 0),
        failed_image_statuses: failed.collect(),
    };
    if !list.spec.template.never_ends() && status.completed == status.desired {
        status.completion_time = Some(seconds(now));
    }
    status
}

fn child(list: &ImageListPullJob, image: &str, template: &PullTemplate) -> Value {
    let mut spec = serde_json::to_value(template).unwrap_or_default();
    spec["image"] = json!(image);
    let owner = controller_reference(names::API_VERSION, "ImageListPullJob", &list.metadata);
    // The same job has the same name: what was made and not answered is not made twice.
    let identity = format!("{} {spec}", list.metadata.uid.as_deref().unwrap_or_default());
    let hash = identity.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let name: String = list
        .metadata
        .name
        .iter()
        .flat_map(|name| name.chars())
        .take(240)
        .collect();
    json!({
        "apiVersion": names::API_VERSION, "kind": "ImagePullJob",
        "metadata": {
            "namespace": list.metadata.namespace, "name": format!("{name}-{hash:08x}"), "ownerReferences": [owner],
        },
        "spec": spec,
    })
}
