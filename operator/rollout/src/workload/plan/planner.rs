//! A plan in the making: what it was made of, what it has decided so far, and what is left of the budget. The steps are methods of
//! it in the files beside this one.

use std::collections::BTreeSet;
use std::sync::Arc;

use afloat_api::{Operation, PodUpdatePolicy, names};
use afloat_disruption::evict;
use afloat_disruption::guards::Allowance;
use jiff::Timestamp;

use super::difference::{add_unfinished, compare_all};
use super::guarded::{allowance, replaces_evicted};
use super::record::Record;
use super::seen::Seen;
use super::tally::{Tally, listed, specified};
use crate::action::Action;
use crate::pod::batch;
use crate::pod::change::Change;
use crate::pod::object::Pod;
use crate::workload::budget::{Count, Limits};
use crate::workload::history::Revisions;
use crate::workload::memo::Memo;
use crate::workload::roster::Member;
use crate::workload::traffic::Watched;
use crate::workload::waits::{Wait, Waits};

/// Writes that one step of a plan asks for at most (creation, the update, what comes back): what comes after is decided on what
/// came of these, and the memory for thousands of patches is never needed at once. It is the number that Kubernetes' ReplicaSet
/// creates at once. Each step has its own, so that none keeps another from its work: while 100,000 pods are created, those that
/// are there come into service, and who is out of service comes back while others leave it.
pub(crate) const BURST: usize = 500;

/// See the module.
pub(crate) struct Planner<'a> {
    pub(crate) seen: Seen<'a>,
    pub(crate) revisions: Revisions,
    /// What has to change of the pods that are not updated stands in it, by their revision labels.
    pub(crate) memo: Memo,
    /// By the place of a label in the roster: whether that touches containers.
    pub(crate) restarting: Vec<bool>,
    pub(crate) watched: Watched<'a>,
    pub(crate) record: Option<Record<'a>>,
    pub(crate) observes: bool,
    pub(crate) tally: Tally<'a>,
    /// Pods that this plan already writes; each is written at most once.
    pub(crate) written: BTreeSet<&'a str>,
    /// Available pods that may still be taken out of service.
    pub(crate) may_go: usize,
    /// Fewer pods are wanted: nobody has a say in that here, as with Kubernetes' own workloads. Webhooks may have.
    pub(crate) scales_down: bool,
    /// What budgets leave that are not the workload's own.
    pub(crate) allowance: Allowance<'a>,
    /// Pods that were taken of it, and for what.
    pub(crate) spends: Vec<(String, Operation)>,
    /// Available pods that this plan leaves.
    pub(crate) left: usize,
    /// Pods beyond `replicas` that are useful now.
    pub(crate) surge: usize,
    pub(crate) count: Count,
    /// Pods at the update revision that this plan creates.
    pub(crate) coming: usize,
    pub(crate) actions: Vec<Action>,
    /// Writes to pods that the present step may still ask for.
    pub(crate) room: usize,
    pub(crate) wake_at: Option<Timestamp>,
    pub(crate) waits: Waits,
    pub(crate) warnings: Vec<(&'static str, String)>,
    pub(crate) news: Vec<(&'static str, String)>,
    pub(crate) failed_update: Option<String>,
}

/// What is there, and what is wanted.
fn with_wishes(there: Count, wanted: Limits) -> Count {
    Count {
        replicas: wanted.replicas,
        partition: wanted.partition,
        max_unavailable: wanted.max_unavailable,
        max_surge: wanted.max_surge,
        ..there
    }
}

impl<'a> Planner<'a> {
    /// Looks at what is there; nothing is decided yet.
    pub(crate) fn new(seen: Seen<'a>, revisions: Revisions, mut memo: Memo) -> Self {
        let watched = Watched::of(seen.owner, seen.traffic);
        let tally = Tally::take(&seen, &revisions.update, watched);
        let count = with_wishes(tally.count, seen.limits);
        compare_all(&mut memo.compared, &seen, &revisions, &tally.outdated_labels(seen.pods));
        let touches = |label: &Arc<str>| {
            let change = memo
                .compared
                .changes
                .get(&**label)
                .and_then(|change| change.as_ref().ok());
            change.is_some_and(Change::touches_containers)
        };
        let allowance = allowance(seen);
        let mut planner = Self {
            seen,
            restarting: seen.pods.labels().iter().map(touches).collect(),
            memo,
            revisions,
            tally,
            watched,
            record: None,
            observes: false,
            written: BTreeSet::new(),
            may_go: count.may_go(),
            scales_down: false,
            allowance,
            spends: Vec::new(),
            left: count.available,
            surge: count.surge(),
            count,
            coming: 0,
            actions: Vec::new(),
            room: BURST,
            wake_at: None,
            waits: Waits::default(),
            warnings: Vec::new(),
            news: Vec::new(),
            failed_update: None,
        };
        planner.record = Record::of(&seen, &planner.revisions, planner.moves());
        if planner.held_by_loss() {
            planner.surge = 0;
        }
        if planner.surge > 0 && planner.surge_is_needless() {
            planner.surge = 0;
        }
        planner
    }

    /// What another planner wants done.
    pub(crate) fn take_over(&mut self, other: Planner<'_>) {
        self.actions = other.actions;
        self.wake_at = other.wake_at;
        self.waits = other.waits;
        self.warnings = other.warnings;
        self.observes = other.observes;
        self.spends = other.spends;
        self.failed_update = other.failed_update;
    }

    /// Whether pods are being moved to the update revision, or could be.
    pub(crate) fn moves(&self) -> bool {
        !self.seen.rollout.on_delete && !self.seen.rollout.paused && self.count.to_update() > 0
    }

    /// Whether no further pod may be touched for the update.
    pub(crate) fn held_by_loss(&self) -> bool {
        self.record.as_ref().is_some_and(Record::exceeded)
    }

    /// A rollout that is in place for every pod and has a budget of its own gains nothing from extra pods
    /// (kruise #2369), unless that budget is everything that serves; one that restarts nothing gains nothing anyway.
    pub(crate) fn surge_is_needless(&self) -> bool {
        let count = self.count;
        let outdated = self.tally.outdated.iter();
        let mut changes = outdated.map(|member| self.difference(member.pod()));
        if count.to_delete > 0 {
            false
        } else if self.seen.rollout.policy != PodUpdatePolicy::ReCreate
            && count.max_unavailable > 0
            && count.max_unavailable < count.replicas
        {
            changes.all(|change| change.is_ok())
        } else {
            !self.tally.outdated.is_empty() && changes.all(|change| change.is_ok_and(|change| change.only_notes()))
        }
    }

    pub(crate) fn all_updated(&self) -> bool {
        let all = self.count.replicas;
        self.count.total == all && self.tally.phases.available >= all
    }

    pub(crate) fn available(&self, pod: &Pod) -> bool {
        pod.available(self.seen.min_ready, self.seen.now)
    }

    pub(crate) fn updated(&self, pod: &Pod) -> bool {
        pod.at_revision(&self.revisions.update)
    }

    pub(crate) fn listed(&self, member: &Member) -> bool {
        listed(member, self.seen.pods_to_delete)
    }

    pub(crate) fn specified(&self, pod: &Pod) -> bool {
        specified(pod, self.seen.pods_to_delete) || self.evicted(pod)
    }

    /// Whether its eviction waits for its replacement.
    pub(crate) fn evicted(&self, pod: &Pod) -> bool {
        pod.annotations.contains_key(names::EVICTION_WAITS) && replaces_evicted(&self.seen)
    }

    /// Whether an evicted pod stays until one more pod is available than are wanted; after [`evict::LIMIT`] it goes as others do.
    pub(crate) fn waits_for_replacement(&mut self, pod: &'a Pod) -> bool {
        let asked = specified(pod, self.seen.pods_to_delete);
        if asked || !self.evicted(pod) || !self.available(pod) || self.left > self.count.replicas {
            return false;
        }
        let end = pod.annotations.get(names::EVICTION_WAITS).and_then(evict::end);
        let Some(end) = end.filter(|end| *end > self.seen.now) else {
            return false;
        };
        self.wake(end);
        self.waits.pod(Wait::Replacement, || pod.name().to_owned());
        true
    }

    pub(crate) fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |other| other.min(at)));
    }

    /// Whether the pod may be believed to serve in a moment: until then it is left alone.
    pub(crate) fn unproven(&self, pod: &Pod) -> bool {
        pod.unproven(self.seen.min_ready, self.seen.now)
    }

    /// Takes an available pod out of the budget; unavailable ones are free, but for those that serve and are not believed yet,
    /// and so are those that do not count.
    pub(crate) fn spend(&mut self, pod: &Pod, operation: Operation) -> bool {
        if self.seen.excess.contains(pod.name()) {
            return true;
        }
        if !self.available(pod) {
            return !self.unproven(pod);
        }
        if self.may_go == 0 || !self.allowed(pod, operation) {
            return false;
        }
        self.left = self.left.saturating_sub(1);
        self.may_go -= 1;
        true
    }

    /// Whether no pod that serves may go any more.
    pub(crate) fn nothing_may_go(&self) -> bool {
        self.may_go == 0 || self.allowance.most() == Some(0)
    }

    /// Whether the other budgets let it go; if so, it is taken of them.
    fn allowed(&mut self, pod: &Pod, operation: Operation) -> bool {
        if self.scales_down || self.allowance.is_free() {
            return true;
        }
        match self.allowance.spend(pod.name(), operation) {
            Ok(()) => self.spends.push((pod.name().to_owned(), operation)),
            Err(said) => {
                self.waits.say_once(said);
                return false;
            }
        }
        true
    }

    /// Whether the pod is the last available one while another is about to come: then it can wait, and nothing is lost.
    pub(crate) fn stays_for_another(&mut self, pod: &Pod) -> bool {
        let last = self.surge > 0 && self.left == 1 && self.available(pod);
        if last {
            self.waits.pod(Wait::LastAvailable, || pod.name().to_owned());
        }
        last
    }

    /// What an in-place update of the pod to the update revision would change.
    pub(crate) fn difference(&self, pod: &Pod) -> Result<Change, String> {
        let label = pod.labels.get(names::REVISION).unwrap_or_default();
        let unknown = || Err(format!("its revision {label:?} is unknown"));
        let mut change = self.memo.compared.changes.get(label).cloned().unwrap_or_else(unknown)?;
        let template = self.seen.owner.template;
        add_unfinished(pod, template, self.seen.server.resizes, &mut change);
        self.seen.server.allows_on(pod, &change)?;
        batch::with_restarts(pod, change, template)
    }

    pub(crate) fn write(&mut self, pod: &'a Pod, action: Action) {
        self.written.insert(pod.name());
        if self.room > 0 {
            self.room -= 1;
            self.actions.push(action);
        } else {
            // Left to the next plan; in this one nobody else decides about the pod, and its part of the budget is spent.
            self.wake(self.seen.now);
        }
    }
}
