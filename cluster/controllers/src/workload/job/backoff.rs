//! How long a Job waits before it makes a pod in place of one that failed.
//!
//! It is reckoned from the pods that are there: failures of pods that are gone are not known, as after a restart of Kubernetes' own
//! controller, which keeps them in memory.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::objects::Pod;

/// Delay after the first failure; it doubles with each, up to the last: as documented.
const FIRST_SECONDS: i64 = 10;
const LAST_SECONDS: i64 = 600;

/// `seconds` after `since`.
pub(super) fn after(since: Timestamp, seconds: i64) -> Timestamp {
    since
        .checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

/// When the next pod may be made after so many failures, the last of which was then.
pub(super) fn due(failures: usize, last: Timestamp) -> Timestamp {
    let doublings = failures.saturating_sub(1).min(10);
    after(last, (FIRST_SECONDS << doublings).min(LAST_SECONDS))
}

/// When the next pod may be made, if anything failed since the last success.
pub(super) fn due_after<'a>(
    failed: impl Iterator<Item = &'a Arc<Pod>>,
    succeeded: impl Iterator<Item = &'a Arc<Pod>>,
) -> Option<Timestamp> {
    let success = succeeded.map(|pod| finished_at(pod)).max();
    let ends = failed
        .map(|pod| finished_at(pod))
        .filter(|at| success.is_none_or(|success| *at > success));
    let (failures, last) = ends.fold((0, None), |(failures, last), at| (failures + 1, last.max(Some(at))));
    last.map(|last| due(failures, last))
}

/// When a pod ended: the end of its last container, or when it ceased to be ready, or when it was to be deleted, or at worst when it
/// began.
pub(super) fn finished_at(pod: &Pod) -> Timestamp {
    let not_ready = || {
        let ready = pod.condition("Ready").filter(|condition| condition.status == "False")?;
        ready.last_transition_time.as_ref().map(|time| time.0)
    };
    let deleted = || {
        let at = pod.metadata.deletion_timestamp.as_ref()?.0;
        Some(after(at, -pod.metadata.deletion_grace_period_seconds.unwrap_or(0)))
    };
    let created = || {
        pod.metadata
            .creation_timestamp
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0)
    };
    containers_ended(pod)
        .or_else(not_ready)
        .or_else(deleted)
        .unwrap_or_else(created)
}

fn containers_ended(pod: &Pod) -> Option<Timestamp> {
    let ends = pod.status.ends.as_ref()?;
    let sidecars = ends.init_containers.iter().filter(|container| container.sidecar);
    let times: Option<Vec<Timestamp>> = ends
        .containers
        .iter()
        .chain(sidecars)
        .map(|container| Some(container.terminated.as_ref()?.finished_at.as_ref()?.0))
        .collect();
    times?.into_iter().max()
}
