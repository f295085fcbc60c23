//! The pulls of one node: which begins next, which is tried again, when one is given up, and what there is to tell.
//!
//! So many run at a time; of those that wait, those come first of whose job the fewest run, then the oldest, so that no job keeps
//! another from its turn. A pull that rests after a failure takes nobody's place.

mod task;

use std::collections::BTreeMap;
use std::time::Duration;

use afloat_api::{ImageKey, ImageStatus, NodeImageSpec, NodeImageStatus, PullPhase, SyncStatus, TagSpec, TagStatus};
use jiff::Timestamp;

use crate::time::seconds;
pub use task::{Failure, Pulled};
use task::{Phase, Task};

/// A pull that is to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Which image.
    pub image: ImageKey,
    /// Not if the node has it already.
    pub if_not_present: bool,
    /// When to give it up.
    pub limit: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Puller {
    tasks: BTreeMap<ImageKey, Task>,
    limit: usize,
}

impl Puller {
    /// `limit`: pulls at a time, at least 1.
    pub fn new(limit: usize) -> Self {
        Self {
            tasks: BTreeMap::new(),
            limit: limit.max(1),
        }
    }

    /// Takes what is wanted, and what was last told of it. Gives the pulls that nobody wants any more; nothing that they bring counts.
    pub fn take(&mut self, spec: &NodeImageSpec, told: &NodeImageStatus) -> Vec<ImageKey> {
        let mut stopped = Vec::new();
        self.tasks.retain(|key, task| {
            let wanted = spec.of(&key.name, &key.tag).is_some();
            if !wanted && task.phase.runs() {
                stopped.push(key.clone());
            }
            wanted
        });
        for (name, image) in &spec.images {
            for tag in &image.tags {
                let key = ImageKey {
                    name: name.clone(),
                    tag: tag.tag.clone(),
                };
                let ended = told
                    .of(name, &tag.tag)
                    .is_some_and(|status| status.version == tag.version && status.completion_time.is_some());
                if self.want(&key, tag, ended) {
                    stopped.push(key);
                }
            }
        }
        stopped
    }

    /// True if a pull is to be stopped.
    fn want(&mut self, key: &ImageKey, tag: &TagSpec, ended: bool) -> bool {
        let Some(task) = self.tasks.get_mut(key) else {
            if !ended {
                self.tasks.insert(key.clone(), Task::new(tag));
            }
            return false;
        };
        if ended && task.version <= tag.version {
            // Told and known, or somebody else has given it up.
            let runs = task.phase.runs();
            self.tasks.remove(key);
            return runs;
        }
        if task.version == tag.version {
            task.follow(tag);
            return false;
        }
        if task.phase.ended() || !Task::new(tag).if_not_present {
            // What is on the way may be older than what is asked for now.
            let runs = task.phase.runs();
            *task = Task::new(tag);
            return runs;
        }
        task.version = tag.version;
        task.follow(tag);
        false
    }

    /// Pulls that are to begin now; those whose time is over have failed.
    pub fn next(&mut self, now: Timestamp) -> Vec<Start> {
        for task in self.tasks.values_mut() {
            if !task.phase.runs() && !task.phase.ended() && task.is_late(now) {
                task.give_up("pulling exceeds the activeDeadlineSeconds", now);
            }
        }
        let mut running: BTreeMap<String, usize> = BTreeMap::new();
        for task in self.tasks.values().filter(|task| task.phase.runs()) {
            *running.entry(task.owner.clone()).or_default() += 1;
        }
        let mut starts = Vec::new();
        while running.values().sum::<usize>() < self.limit {
            let of_owner = |task: &Task| running.get(&task.owner).copied().unwrap_or(0);
            let ready = self.tasks.iter().filter(|(_, task)| task.phase.ready(now));
            let next = ready.min_by_key(|(key, task)| (of_owner(task), task.asked, *key));
            let Some(key) = next.map(|(key, _)| key.clone()) else {
                break;
            };
            let Some(task) = self.tasks.get_mut(&key) else { break };
            *running.entry(task.owner.clone()).or_default() += 1;
            starts.push(Start {
                image: key,
                if_not_present: task.if_not_present,
                limit: task.begin(now),
            });
        }
        starts
    }

    /// How far a pull is, in percent. False: that is known.
    pub fn progressed(&mut self, image: &ImageKey, percent: i32) -> bool {
        match self.tasks.get_mut(image).map(|task| &mut task.phase) {
            Some(Phase::Pulling { percent: known }) if *known < percent => {
                *known = percent.min(100);
                true
            }
            _ => false,
        }
    }

    /// A pull has ended.
    pub fn ended(&mut self, image: &ImageKey, result: Result<Pulled, Failure>, now: Timestamp) {
        let Some(task) = self.tasks.get_mut(image).filter(|task| task.phase.runs()) else {
            return;
        };
        match result {
            Ok(pulled) => {
                task.phase = Phase::Ended {
                    at: now,
                    outcome: Ok(pulled),
                };
            }
            Err(failure) => task.failed(&failure, now),
        }
    }

    /// When a pull that rests may begin again.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let resting = self.tasks.values().filter_map(|task| match task.phase {
            Phase::Resting { until, .. } => Some(until),
            _ => None,
        });
        resting.min()
    }

    /// What there is to tell of what is wanted.
    pub fn status(&self, spec: &NodeImageSpec, told: &NodeImageStatus, now: Timestamp) -> NodeImageStatus {
        let mut status = NodeImageStatus {
            first_sync_status: told.first_sync_status.clone(),
            ..NodeImageStatus::default()
        };
        for (name, image) in &spec.images {
            let tag = |tag: &TagSpec| -> Option<TagStatus> {
                let key = ImageKey {
                    name: name.clone(),
                    tag: tag.tag.clone(),
                };
                match self.tasks.get(&key) {
                    Some(task) => Some(task.status(&key)),
                    None => told.of(name, &tag.tag).cloned(),
                }
            };
            let mut tags: Vec<_> = image.tags.iter().filter_map(tag).collect();
            tags.sort_by(|a, b| a.tag.cmp(&b.tag));
            if !tags.is_empty() {
                status.image_statuses.insert(name.clone(), ImageStatus { tags });
            }
        }
        let desired = spec.images.values().map(|image| image.tags.len()).sum();
        status.count(desired);
        if status.first_sync_status.is_none() && desired > 0 && status.succeeded + status.failed == status.desired {
            status.first_sync_status = Some(first_sync(&status, now));
        }
        status
    }
}

/// The first time that nothing was left to do.
fn first_sync(status: &NodeImageStatus, now: Timestamp) -> SyncStatus {
    let failed = status.image_statuses.iter().flat_map(|(name, image)| {
        let tags = image.tags.iter().filter(|tag| tag.phase == PullPhase::Failed);
        tags.map(move |tag| format!("{name}:{}", tag.tag))
    });
    let failed: Vec<_> = failed.collect();
    SyncStatus {
        sync_at: Some(seconds(now)),
        status: if failed.is_empty() { "Succeeded" } else { "Failed" }.into(),
        message: match failed.first() {
            Some(first) => format!("{} images could not be pulled, one of them {first}", failed.len()),
            None => String::new(),
        },
    }
}

#[cfg(test)]
mod tests;
