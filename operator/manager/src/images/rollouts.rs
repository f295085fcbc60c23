//! What rollouts of a kind of workload want pulled beforehand, by what its controller knows.

use std::sync::Arc;

use afloat_api::{Gates, PodUpdatePolicy, Status as _};
use afloat_images::{Plan, Release, warm};
use afloat_watching::{Cache, Looking, Queue};
use afloat_words::key::Key;
use jiff::Timestamp;

use crate::kept::{Group, Sets};
use crate::kind::Kind;
use crate::operator::Operator;

/// From now on each change that may move what is pulled beforehand puts the key into the queue.
pub(crate) fn ask<K: Kind>(sets: &Cache<Sets<K>>, queue: &Arc<Queue>, key: &Key) {
    let keys = [key.clone()];
    queue.follow_news(sets, move |_: &K| keys.clone(), same, |_| false);
}

/// Whether a workload wants the same as before. What its spec says has a generation.
fn same<K: Kind>(old: &K, new: &K) -> bool {
    let of = |set: &K| {
        let (meta, warming) = (set.metadata(), set.warming());
        (
            (meta.uid.clone(), meta.generation, meta.annotations.clone()),
            (meta.deletion_timestamp.is_some(), warming.done),
            warming.current.map(str::to_owned),
            set.status().update_revision().to_owned(),
            (set.status().observed_generation(), set.figures().updated_ready),
        )
    };
    of(old) == of(new)
}

/// The jobs of all of them: those that are to be, and those that are to go.
pub(crate) fn warm_all<K: Kind>(
    operator: &Operator,
    sets: &[Arc<K>],
    (looking, now): (&Looking<'_>, Timestamp),
    plan: &mut Plan,
) {
    let (revisions, jobs) = (looking.at(&operator.revisions), looking.at(&operator.pull_jobs));
    for set in sets {
        let uid = Group::from(set.metadata().uid.as_deref().unwrap_or_default());
        let release = release(&**set, &operator.gates);
        warm(&release, &revisions.group(&uid), &jobs.group(&uid), now, plan);
    }
}

/// The workload in the words of images.
fn release<'a, K: Kind>(set: &'a K, gates: &Gates) -> Release<'a> {
    let (warming, rollout, figures) = (set.warming(), set.rollout(), set.figures());
    let wanted = usize::try_from(figures.wanted).unwrap_or(0);
    let limits = set.limits(wanted);
    let at_once = limits.partition == 0 && limits.max_unavailable >= wanted;
    let in_place = rollout.policy != PodUpdatePolicy::ReCreate && !rollout.on_delete;
    Release {
        api_version: K::API_VERSION,
        kind: K::KIND,
        metadata: set.metadata(),
        template: set.template(),
        selector: warming.selector,
        current: warming.current,
        update: set.status().update_revision(),
        observed_generation: set.status().observed_generation(),
        done: warming.done,
        stays: in_place || warming.keeps_nodes,
        gate: (warming.gate)(gates),
        needless: wanted <= warming.few || at_once,
        replicas: figures.wanted,
        updated_ready: figures.updated_ready,
        settings: warming.settings,
    }
}
