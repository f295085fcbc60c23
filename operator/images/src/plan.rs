//! What the manager does next about images.

use std::collections::BTreeMap;

use afloat_api::{ImageKey, ImagePullJob, NodeImage, names};
use serde_json::{Map, Value, json};

use crate::action::{Action, At, Plan, Told, change};
use crate::difference::difference;
use crate::edit::Edit;
use crate::grant::grants;
use crate::job::{Standing, goes, invalid};
use crate::list::list;
use crate::secrets::Copies;
use crate::select::{Index, State, states};
use crate::tidy::{Owners, judge, tidy};
use crate::world::World;

/// Decides.
pub fn plan(world: &World<'_>) -> Plan {
    let mut plan = Plan::default();
    let index = Index::of(world);
    let running = jobs(world, &mut plan);
    let copies = Copies::of(world, &running);
    plan.actions.extend(copies.actions());
    let mut standings = Vec::new();
    for job in running {
        match ImageKey::of(&job.spec.image) {
            Err(why) => report(job, &invalid(job, &why.to_string(), world.now), &mut plan),
            Ok(key) => {
                let Some(states) = states(job, &key, &index, world) else {
                    continue;
                };
                let logins = copies.logins(job);
                standings.push(Standing {
                    job,
                    key,
                    states,
                    secrets: logins.references,
                    may_ask: logins.complete,
                    remarks: logins.remarks,
                });
            }
        }
    }
    let full = ask(world, &index, &standings, &mut plan);
    for (place, standing) in standings.iter_mut().enumerate() {
        let full: Vec<_> = full
            .iter()
            .filter(|(job, _)| *job == place)
            .map(|(_, node)| *node)
            .collect();
        if let Some(node) = full.first() {
            standing
                .remarks
                .push(format!("node {node} has as many images to pull as it may have"));
        }
        let (status, wake) = standing.report(world.now);
        if let Some(at) = wake {
            plan.wake(at);
        }
        tell(standing, &mut plan);
        report(standing.job, &status, &mut plan);
    }
    remove_node_images(world, &index, &standings, &mut plan);
    for one in world.lists {
        list(one, world.jobs, world.now, &mut plan);
    }
    plan
}

/// Jobs that have not ended; those that have lose what protects them, and go when their time has come.
fn jobs<'a>(world: &World<'a>, plan: &mut Plan) -> Vec<&'a ImagePullJob> {
    let mut running = Vec::new();
    for job in world.jobs {
        let ended = job.status.completion_time.as_ref().map(|time| time.0);
        let deleting = job.metadata.deletion_timestamp.is_some();
        if !deleting && ended.is_none() {
            running.push(&**job);
            continue;
        }
        let protected = |finalizer: &&String| **finalizer == names::PULL_JOB_PROTECTION;
        let finalizers = job.metadata.finalizers.as_deref().unwrap_or_default();
        let ttl = job.spec.template.completion_policy.ttl_seconds_after_finished;
        let end = goes(ended, ttl).filter(|_| !deleting);
        if finalizers.iter().any(|finalizer| protected(&finalizer)) {
            let left: Vec<_> = finalizers.iter().filter(|one| !protected(one)).collect();
            plan.actions.push(Action::PatchJob {
                at: At::of(&job.metadata),
                patch: json!({"metadata": {"finalizers": left}}),
            });
        } else if end.is_some_and(|end| end <= world.now) {
            plan.actions.push(Action::DeleteJob {
                at: At::of(&job.metadata),
            });
        }
        if let Some(end) = end.filter(|end| *end > world.now) {
            plan.wake(end);
        }
    }
    running
}

/// Writes what NodeImages are to say; gives the jobs, by their place, and nodes for which there was no room.
fn ask<'a>(world: &World<'a>, index: &Index<'a>, standings: &[Standing<'a>], plan: &mut Plan) -> Vec<(usize, &'a str)> {
    let owners = Owners::of(world);
    let mut full = Vec::new();
    let mut edits: BTreeMap<&str, Edit> = BTreeMap::new();
    for (node, image) in &index.images {
        let mut edit = Edit::of(image);
        let machine = index.machines.get(node).copied();
        if let Some(at) = tidy(&mut edit, image, machine, &owners, world.now) {
            plan.wake(at);
        }
        edits.insert(node, edit);
    }
    for standing in standings {
        let asked = standing
            .states
            .iter()
            .filter(|(_, state)| !matches!(state, State::Unasked | State::Absent));
        for (node, _) in asked {
            if let Some(edit) = edits.get_mut(node) {
                edit.follow(standing.job, &standing.key);
                edit.log_in(&standing.key, &standing.secrets);
            }
        }
    }
    for (place, node) in grants(standings, index) {
        let standing = &standings[place];
        let (Some(edit), Some(image)) = (edits.get_mut(node), index.images.get(node)) else {
            continue;
        };
        if !edit.ask(image, (standing.job, &standing.key), &standing.secrets, world.now) {
            full.push((place, node));
        }
    }
    for (node, image) in &index.images {
        let Some(edit) = edits.get(node) else { continue };
        let written = write(image, edit, plan);
        let (status, wake) = judge(image, world.now);
        if let Some(at) = wake {
            plan.wake(at);
        }
        // One write of an object at a time: what is left comes with the next plan.
        if status != image.status && !written {
            plan.actions.push(Action::PatchNodeImageStatus {
                at: At::of(&image.metadata),
                patch: json!({"status": change(&image.status, &status)}),
            });
        }
    }
    full
}

/// True if there is something to write.
fn write(image: &NodeImage, edit: &Edit, plan: &mut Plan) -> bool {
    let value = |spec| serde_json::to_value(spec).unwrap_or_default();
    let labels = |labels: &BTreeMap<String, String>| json!({"labels": labels});
    let none = BTreeMap::new();
    let spec = difference(&value(&image.spec), &value(&edit.spec));
    let label = difference(
        &labels(image.metadata.labels.as_ref().unwrap_or(&none)),
        &labels(&edit.labels),
    );
    let mut patch = Map::new();
    patch.extend(spec.map(|spec| ("spec".to_owned(), spec)));
    patch.extend(label.map(|label| ("metadata".to_owned(), label)));
    let news = !patch.is_empty();
    if news {
        plan.actions.push(Action::PatchNodeImage {
            at: At::of(&image.metadata),
            patch: Value::Object(patch),
        });
    }
    news
}

fn report(job: &ImagePullJob, status: &afloat_api::ImagePullJobStatus, plan: &mut Plan) {
    if *status != job.status {
        plan.actions.push(Action::PatchJobStatus {
            at: At::of(&job.metadata),
            patch: json!({"status": change(&job.status, status)}),
        });
    }
}

/// Events about nodes that have failed since the last report.
fn tell(standing: &Standing<'_>, plan: &mut Plan) {
    let known = &standing.job.status.failed_nodes;
    for (node, state) in &standing.states {
        if let State::Failed(why) = state
            && !known.iter().any(|known| known == node)
        {
            plan.told.push(Told {
                job: At::of(&standing.job.metadata),
                reason: "PullImageFailed",
                message: format!("Failed to pull image {} on node {node} for {why}", standing.key),
            });
        }
    }
}

/// A NodeImage for each node that is Ready, and none for one that is gone: not before the jobs that go on have told of it.
fn remove_node_images(world: &World<'_>, index: &Index<'_>, standings: &[Standing<'_>], plan: &mut Plan) {
    let names: Vec<&str> = world
        .node_images
        .iter()
        .filter_map(|image| image.metadata.name.as_deref())
        .collect();
    let known: std::collections::BTreeSet<&str> = names.into_iter().collect();
    let new = index
        .machines
        .iter()
        .filter(|(name, machine)| machine.ready && machine.stays() && !known.contains(*name));
    for (name, machine) in new {
        let body = json!({
            "apiVersion": names::API_VERSION, "kind": "NodeImage",
            "metadata": {"name": name, "labels": machine.metadata.labels}, "spec": {},
        });
        plan.actions.push(Action::CreateNodeImage { body });
    }
    for (node, image) in index.images.iter().filter(|(_, image)| index.is_gone(image)) {
        let untold = standings.iter().any(|standing| {
            let failed = matches!(standing.states.get(node), Some(State::Failed(_)));
            let told = standing.job.status.failed_nodes.iter().any(|told| told == node);
            failed && !told && !standing.job.spec.template.never_ends()
        });
        if !untold {
            // What was to be changed of it needs no change any more.
            let name = image.metadata.name.as_deref().unwrap_or_default();
            plan.actions.retain(|action| match action {
                Action::PatchNodeImage { at, .. } | Action::PatchNodeImageStatus { at, .. } => at.name != name,
                _ => true,
            });
            plan.actions.push(Action::DeleteNodeImage {
                at: At::of(&image.metadata),
            });
        }
    }
}

#[cfg(test)]
mod tests;
