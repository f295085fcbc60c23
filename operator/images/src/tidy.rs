//! What has to go from a NodeImage: entries that nobody wants any more; and entries that a node does not answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{GROUP, ImagePullJob, NodeImage, NodeImageStatus, PullPhase, TagSpec, TagStatus, names};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};

use crate::edit::Edit;
use crate::select::RESPONSE;
use crate::time::{after, seconds};
use crate::world::{Machine, World};

/// What is known of the owners of entries.
pub(crate) struct Owners<'a> {
    /// By UID.
    jobs: BTreeMap<&'a str, &'a ImagePullJob>,
    /// Copies of secrets by name; None: not known.
    copies: Option<Vec<&'a str>>,
}

impl<'a> Owners<'a> {
    pub(crate) fn of(world: &World<'a>) -> Self {
        let text = |text: &'a Option<String>| text.as_deref().unwrap_or_default();
        let names = |copies: &'a [Arc<Secret>]| copies.iter().map(|copy| text(&copy.metadata.name)).collect();
        let jobs = world.jobs.iter();
        Self {
            jobs: jobs.map(|job| (text(&job.metadata.uid), &**job)).collect(),
            copies: world.copies.map(names),
        }
    }

    fn lives(&self, owner: &ObjectReference) -> bool {
        let group = owner
            .api_version
            .as_deref()
            .and_then(|version| version.split('/').next());
        if group != Some(GROUP) || owner.kind.as_deref() != Some("ImagePullJob") {
            return true;
        }
        self.job(owner)
            .is_some_and(|job| owner.namespace == job.metadata.namespace && owner.name == job.metadata.name)
    }

    fn job(&self, owner: &ObjectReference) -> Option<&'a ImagePullJob> {
        self.jobs.get(owner.uid.as_deref()?).copied()
    }

    /// Whether an owner is a job that is to end and has not: it would ask once more for what goes before.
    fn needs(&self, owner: &ObjectReference) -> bool {
        self.job(owner)
            .is_some_and(|job| !job.spec.template.never_ends() && job.status.completion_time.is_none())
    }
}

/// Takes out of a NodeImage's spec what nobody wants any more, gives it the labels of its node, and says when to look again.
pub(crate) fn tidy(
    edit: &mut Edit,
    image: &NodeImage,
    machine: Option<&Machine<'_>>,
    owners: &Owners<'_>,
    now: Timestamp,
) -> Option<Timestamp> {
    if let Some(machine) = machine {
        edit.labels = machine.metadata.labels.clone().unwrap_or_default();
    }
    let mut wake: Option<Timestamp> = None;
    for (name, entry) in &mut edit.spec.images {
        entry.tags.retain_mut(|tag| match stays(image, name, tag, owners, now) {
            Stay::Gone => false,
            Stay::Until(at) => {
                wake = Some(wake.map_or(at, |other| other.min(at)));
                true
            }
            Stay::On => true,
        });
        for tag in &mut entry.tags {
            // Somebody wrote it by hand; OpenKruise's webhook would have put it in.
            if tag.created_at.is_none() {
                tag.created_at = Some(seconds(now));
            }
        }
        entry.pull_secrets.retain(|secret| {
            let foreign = secret.namespace != names::DAEMON_NAMESPACE || secret.mode == names::SECRET_BATCH;
            let there = |copies: &Vec<&str>| copies.contains(&secret.name.as_str());
            foreign || owners.copies.as_ref().is_none_or(there)
        });
    }
    edit.spec.images.retain(|_, entry| !entry.tags.is_empty());
    wake
}

enum Stay {
    Gone,
    Until(Timestamp),
    On,
}

fn stays(image: &NodeImage, name: &str, tag: &mut TagSpec, owners: &Owners<'_>, now: Timestamp) -> Stay {
    let had = !tag.owner_references.is_empty();
    tag.owner_references.retain(|owner| owners.lives(owner));
    if had && tag.owner_references.is_empty() {
        return Stay::Gone;
    }
    let policy = tag.pull_policy.as_ref();
    let ttl = policy.and_then(|policy| policy.ttl_seconds_after_finished);
    let ended = image
        .progress(name, &tag.tag, tag.version)
        .and_then(|status| status.completion_time.as_ref());
    let needed = tag.owner_references.iter().any(|owner| owners.needs(owner));
    match (ttl, ended) {
        (Some(ttl), Some(ended)) if !needed => {
            let end = after(ended.0, i64::from(ttl));
            if end <= now { Stay::Gone } else { Stay::Until(end) }
        }
        _ => Stay::On,
    }
}

/// The status with those entries failed that the node does not answer, and without those that are no longer wanted; and when to
/// look again.
pub(crate) fn judge(image: &NodeImage, now: Timestamp) -> (NodeImageStatus, Option<Timestamp>) {
    let mut status = image.status.clone();
    let mut wake: Option<Timestamp> = None;
    let mut overdue = false;
    let tags = image
        .spec
        .images
        .iter()
        .flat_map(|(name, entry)| entry.tags.iter().map(move |tag| (name, tag)));
    for (name, tag) in tags {
        match verdict(image, name, tag, now) {
            Verdict::Fine => {}
            Verdict::Wait(at) => wake = Some(wake.map_or(at, |other| other.min(at))),
            Verdict::Failed(message) => {
                overdue = true;
                let entry = status.image_statuses.entry(name.clone()).or_default();
                let before = entry.tags.iter().position(|status| status.tag == tag.tag);
                let started = before.and_then(|at| entry.tags.remove(at).start_time);
                entry.tags.push(TagStatus {
                    tag: tag.tag.clone(),
                    phase: PullPhase::Failed,
                    start_time: started,
                    completion_time: Some(seconds(now)),
                    version: tag.version,
                    message: message.into(),
                    ..TagStatus::default()
                });
                entry.tags.sort_by(|a, b| a.tag.cmp(&b.tag));
            }
        }
    }
    if overdue {
        for (name, entry) in &mut status.image_statuses {
            entry.tags.retain(|status| image.spec.of(name, &status.tag).is_some());
        }
        status.image_statuses.retain(|_, entry| !entry.tags.is_empty());
        let desired = image.spec.images.values().map(|entry| entry.tags.len()).sum();
        status.count(desired);
    }
    (status, wake)
}

enum Verdict {
    Fine,
    Wait(Timestamp),
    Failed(&'static str),
}

fn verdict(image: &NodeImage, name: &str, tag: &TagSpec, now: Timestamp) -> Verdict {
    let Some(created) = &tag.created_at else {
        return Verdict::Fine;
    };
    let limit = |seconds: i64, message| {
        let end = after(created.0, seconds);
        if end <= now {
            Verdict::Failed(message)
        } else {
            Verdict::Wait(end)
        }
    };
    let policy = tag.pull_policy.as_ref();
    match image.progress(name, &tag.tag, tag.version) {
        None => limit(RESPONSE, "node has not responded for a long time"),
        Some(status) if status.completion_time.is_some() => Verdict::Fine,
        Some(_) => match policy.and_then(|policy| policy.active_deadline_seconds) {
            // The node keeps to it by itself; one that is gone does not.
            Some(deadline) => limit(
                deadline.saturating_add(RESPONSE),
                "pulling exceeds the activeDeadlineSeconds",
            ),
            None => Verdict::Fine,
        },
    }
}
