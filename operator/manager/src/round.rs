//! One round for one workload: look, plan, act, report.

pub(crate) mod act;
mod again;
mod config;
pub(crate) mod progress;
pub(crate) mod roster;
pub(crate) mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use afloat_api::{Operation, Status, Steps, names};
use afloat_rollout::action::{Action, Why};
use afloat_rollout::pod::Pod;
use afloat_rollout::pod::drain::Drain;
use afloat_rollout::pod::images::{Known, Nodes};
use afloat_rollout::pod::launch::Opened;
use afloat_rollout::texts::Text;
use afloat_rollout::workload::claim::Claim;
use afloat_rollout::workload::kind::Sights;
use afloat_rollout::workload::observed::{Observed, Plan, Recorded};
use afloat_rollout::workload::roster::Roster;
use afloat_rollout::workload::traffic::Traffic;
use afloat_watching::{Cache, Looking, Writing, Written};
use afloat_words::key::Key;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tracing::Instrument as _;

use self::act::{Outcome, What, reason, what, write_status};
use self::again::{decided, persist};
use self::config::{Wanted, wanted};
use self::roster::Kept;
use crate::controller::{Controller, Memory};
use crate::kept::{Pods, orphans};
use crate::kind::Kind;
use crate::operator::Operator;

/// Writes of one round that are under way at the same time.
const PARALLEL: usize = 16;
/// Shortest time between two status writes of one workload, unless something new is to be told.
const STATUS_INTERVAL: Duration = Duration::from_millis(500);

/// After this time without the sight of an own write the caches are listed anew, as in OpenKruise.
const UNSEEN: Duration = Duration::from_secs(300);

/// How long the losses of a deleted pod may still come in: as long as proxies tell of it.
const DEPARTED: Duration = Duration::from_secs(120);

/// When to look again.
pub(crate) enum Next {
    /// When something changes.
    Wait,
    /// After that time at the latest.
    At(Duration),
    /// Soon, with back-off.
    Retry,
}

/// One round; also says how long the planning took.
pub(crate) async fn reconcile<K: Kind>(controller: &Controller<K>, key: &Key) -> (Next, Duration) {
    let metrics = &controller.operator.metrics;
    if controller.sets.peek(key).is_none() {
        controller.forget(key);
        return (Next::Wait, Duration::ZERO);
    }
    let looking = match controller.ledger.settle(key, |lag| metrics.lagged(lag)) {
        Ok(looking) => looking,
        Err(behind) => return (Next::At(unseen(controller, key, behind.since)), Duration::ZERO),
    };
    let Some(set) = looking.at(&controller.sets).get(key) else {
        return (Next::At(Duration::ZERO), Duration::ZERO);
    };

    let started = Instant::now();
    let now = Timestamp::now();
    let (mut plan, pods) = match wanted(&controller.operator, &looking, key, &*set) {
        Wanted::Later(pause) => return (Next::At(pause), Duration::ZERO),
        Wanted::AsItIs => look(controller, &looking, (key, &*set, &[]), now),
        Wanted::With(set, lacks) => look(controller, &looking, (key, &set, &lacks), now),
    };
    let planning = started.elapsed();
    let set = set.to_tell();
    tell(&controller.operator, &*set, &plan);

    let mut status = plan.status.clone();
    let mut actions = std::mem::take(&mut plan.actions);
    let spends = taken(&plan.spends, &actions);
    let stay = controller
        .operator
        .disruption
        .claim(&key.namespace, set.owner(), &spends, &pods)
        .await;
    actions.retain(|action| !pod(action).is_some_and(|pod| stay.contains(pod)));
    // The object itself is written: its status has to be decided on the version that comes of it.
    let written = actions.iter().any(|action| matches!(action, Action::PatchSet { .. }));
    let writing = looking.write();
    let mut next = act(controller, (key, &writing), &*set, (actions, &pods), &mut status).await;
    if !stay.is_empty() {
        next = Next::Retry;
    }
    if status != *set.status() && !written {
        next = report(controller, (key, &writing), &*set, &status, next).await;
    }
    let next = match (next, plan.wake_at) {
        (Next::Wait, Some(at)) => Next::At(until(now, at)),
        (Next::At(delay), Some(at)) => Next::At(delay.min(until(now, at))),
        (next, _) => next,
    };
    (next, planning)
}

/// The pod that an action is about.
fn pod(action: &Action) -> Option<&str> {
    match action {
        Action::DeletePod { at, .. }
        | Action::PatchPod { at, .. }
        | Action::PatchPodStatus { at, .. }
        | Action::ResizePod { at, .. } => Some(&at.name),
        _ => None,
    }
}

/// What budgets have to let go of: only what the round does.
fn taken(spends: &[(String, Operation)], actions: &[Action]) -> Vec<(String, Operation)> {
    let acted: BTreeSet<&str> = actions.iter().filter_map(pod).collect();
    let spends = spends.iter().filter(|(name, _)| acted.contains(name.as_str()));
    spends.cloned().collect()
}

/// What to do, by what the caches show; and the pods that are about to change or return.
fn look<K: Kind>(
    controller: &Controller<K>,
    looking: &Looking<'_>,
    (key, set, lacks): (&Key, &K, &[String]),
    now: Timestamp,
) -> (Plan<K::Status>, Vec<Arc<Pod>>) {
    let operator = &*controller.operator;
    let uid = &Arc::<str>::from(set.metadata().uid.as_deref().unwrap_or_default());
    let (known, memo) = controller.with_memory(key, |memory| (memory.pods.take(), std::mem::take(&mut memory.memo)));
    let known = known.filter(|known| known.fits(set));
    let known = known.unwrap_or_else(|| Kept::new(set, vec![uid.clone(), orphans(&key.namespace)]));
    let pods = known.catch_up(&looking.at(&operator.pods), set);
    // Before the look at what proxies do, so that nothing that comes after it is missed.
    controller.observe(key, true);
    let reports = looking.at(&operator.reports).group(uid);
    let keeps_reports = operator.keeps_reports.load(Ordering::Acquire);
    let record = keeps_reports.then(|| record(controller, key));
    let recorded = record.as_ref().map(|(departed, writes, steps)| Recorded {
        reports: &reports,
        departed,
        writes: *writes,
        steps,
    });
    let mut plan = set.plan(&Observed {
        pods: &pods,
        revisions: &looking.at(&operator.revisions).group(uid),
        claims: &claims(operator, looking, set),
        classes: &looking.at(&operator.classes).all(),
        now,
        seed: rand::random(),
        drained: &answered_drains(controller, key, &pods),
        nodes: &nodes(operator, looking, set.sights(), &pods),
        opened: &opened(controller, key, &pods),
        traffic: &traffic(operator, looking, key),
        guards: &operator.disruption.guards(&key.namespace, set.owner(), &pods),
        lacks,
        server: operator.server,
        gates: operator.gates,
        memo: &memo,
        recorded,
    });
    controller.observe(key, plan.observes);
    operator.metrics.pods(K::KIND, key, &plan.phases);
    let mut decided = decided(&plan.actions, &pods);
    decided.extend(plan.spends.iter().filter_map(|(name, _)| pods.find(name).cloned()));
    controller.with_memory(key, |memory| {
        memory.progress.saw(&plan, |name| pods.find(name), &operator.metrics);
        memory.pods = Some(pods.put_away());
        memory.memo = std::mem::take(&mut plan.memo);
    });
    (plan, decided)
}

/// Its claims, each once.
fn claims<K: Kind>(operator: &Operator, looking: &Looking<'_>, set: &K) -> Vec<Arc<Claim>> {
    let view = looking.at(&operator.claims);
    let groups = set.claims();
    let mut found: Vec<Arc<Claim>> = groups.iter().flat_map(|group| view.group(group).to_vec()).collect();
    if groups.len() > 1 {
        let name = |claim: &Arc<Claim>| claim.metadata.name.clone();
        found.sort_by_cached_key(name);
        found.dedup_by_key(|claim| name(claim));
    }
    found
}

/// The events of a plan; of warnings, those that the status does not say already.
fn tell<K: Kind>(operator: &Operator, set: &K, plan: &Plan<K::Status>) {
    let told = |message: &str| {
        let mut conditions = set.status().conditions().iter();
        conditions.any(|condition| condition.message.contains(message))
    };
    for (kind, message) in plan.warnings.iter().filter(|(_, message)| !told(message)) {
        operator.recorder.tell(set, "Warning", kind, message.clone());
    }
    for (kind, message) in &plan.news {
        operator.recorder.tell(set, "Normal", kind, message.clone());
    }
}

/// The caches do not show all our own writes yet: how long to wait at most, as each change in them asks for another round.
fn unseen<K: Kind>(controller: &Controller<K>, key: &Key, since: Instant) -> Duration {
    let left = UNSEEN.saturating_sub(since.elapsed());
    if left.is_zero() {
        tracing::warn!(kind = K::KIND, %key, "own writes not seen for five minutes, listing anew");
        controller.ledger.relist(key);
        return Duration::from_secs(10);
    }
    left.min(Duration::from_secs(5))
}

/// The nodes that a plan looks at, with what their agents say.
fn nodes(operator: &Operator, looking: &Looking<'_>, sights: Sights, pods: &Roster) -> Nodes {
    let name = |pod: &Arc<Pod>| pod.spec.node_name.as_ref().map(Text::shared);
    let (known, reports) = (looking.at(&operator.nodes), looking.at(&operator.traffic));
    let images = looking.at(&operator.node_images);
    let names: BTreeSet<Arc<str>> = match sights {
        Sights::OutOfService => pods.out_of_service().filter_map(name).collect(),
        Sights::OfPods => pods.pods().filter_map(name).collect(),
        Sights::All => known.all().iter().map(|node| Key::of(&node.metadata).name).collect(),
    };
    let node = |name: Arc<str>| {
        let key = Key::new("", name);
        let node = known.get(&key)?.to_tell();
        // What it has pulled for somebody is on it, whatever it lists.
        let told = images.get(&key);
        let node = told.map_or(node.clone(), |told| Arc::new(node.with_pulls(&told)));
        let report = reports.get(&key).map(|report| report.to_tell());
        Some((key.name.to_string(), Known { node, report }))
    };
    names.into_iter().filter_map(node).collect()
}

/// What the proxies of all Ready nodes do, and for which Services of the namespace. Nothing where no agent reports.
pub(crate) fn traffic(operator: &Operator, looking: &Looking<'_>, key: &Key) -> Traffic {
    let reports = looking.at(&operator.traffic).all();
    if reports.is_empty() {
        return Traffic::default();
    }
    let name = |meta: &ObjectMeta| meta.name.clone().unwrap_or_default();
    let mut reports: BTreeMap<_, _> = reports
        .iter()
        .map(|report| (name(&report.metadata), report.clone()))
        .collect();
    let nodes = looking.at(&operator.nodes).all();
    let ready = nodes
        .iter()
        .filter(|node| node.status.ready)
        .map(|node| name(&node.metadata));
    Traffic {
        nodes: ready.map(|name| (name.clone(), reports.remove(&name))).collect(),
        services: looking.at(&operator.services).group(&key.namespace).to_vec(),
    }
}

/// When the drains that are under way were answered; forgets the others.
fn answered_drains<K: Kind>(controller: &Controller<K>, key: &Key, pods: &Roster) -> BTreeMap<String, Timestamp> {
    controller.with_memory(key, |memory| {
        memory.drains.retain(|uid, (_, name)| {
            let pod = pods.find(name);
            pod.is_some_and(|pod| pod.metadata.uid == *uid && Drain::of(pod).is_some())
        });
        let drains = memory.drains.iter();
        drains.map(|(uid, (at, _))| (uid.clone(), *at)).collect()
    })
}

/// What is kept of the present rollout; forgets pods that are gone for long.
fn record<K: Kind>(controller: &Controller<K>, key: &Key) -> (BTreeMap<String, String>, u64, Steps) {
    controller.with_memory(key, |memory| {
        memory.departed.retain(|_, (_, since)| since.elapsed() < DEPARTED);
        let departed = memory.departed.iter();
        let departed = departed.map(|(uid, (revision, _))| (uid.clone(), revision.clone()));
        (departed.collect(), memory.progress.writes(), memory.progress.steps())
    })
}

/// How far the pods that are there were let start; forgets the others.
fn opened<K: Kind>(controller: &Controller<K>, key: &Key, pods: &Roster) -> Opened {
    controller.with_memory(key, |memory| {
        if !memory.opened.is_empty() {
            let here: BTreeSet<&str> = pods.pods().map(|pod| pod.metadata.uid.as_str()).collect();
            memory.opened.retain(|uid, _| here.contains(uid.as_str()));
        }
        memory.opened.clone()
    })
}

fn until(now: Timestamp, at: Timestamp) -> Duration {
    // Timers are coarse to a millisecond: being late by one beats an empty round.
    Duration::try_from(at.duration_since(now)).unwrap_or_default() + Duration::from_millis(1)
}

async fn act<K: Kind>(
    controller: &Controller<K>,
    (key, writing): (&Key, &Writing<'_>),
    set: &K,
    (actions, pods): (Vec<Action>, &[Arc<Pod>]),
    status: &mut K::Status,
) -> Next {
    let operator = &*controller.operator;
    // What keeps one pod from being created (a quota, a policy) keeps the others too: do not try them all.
    let refused = &AtomicBool::new(false);
    let revision = &*status.update_revision().to_owned();
    let outcomes = futures::stream::iter(actions)
        .map(|action| async move {
            if refused.load(Ordering::Relaxed) && matches!(action, Action::CreatePod { .. }) {
                return (action, Outcome::Skipped);
            }
            let span = tracing::debug_span!("write", reason = reason(&action));
            let hands = (&operator.client, &operator.metrics);
            let outcome = persist::<K>(hands, &key.namespace, &action, pods)
                .instrument(span)
                .await;
            if keeps_pods_back(&action, &outcome) {
                refused.store(true, Ordering::Relaxed);
            }
            (action, outcome)
        })
        .buffer_unordered(PARALLEL);
    let mut outcomes = std::pin::pin!(outcomes);
    let mut next = Next::Wait;
    while let Some((action, outcome)) = outcomes.next().await {
        tracing::debug!(kind = K::KIND, %key, ?action, ?outcome, "acted");
        operator.metrics.wrote(reason(&action), &outcome);
        match outcome {
            Outcome::Done(all) => {
                for (what, written) in all {
                    controller.wrote(writing, what, written);
                }
                controller.with_memory(key, |memory| {
                    remember(memory, &action, &operator.pods, key);
                    memory.progress.wrote(&action, &operator.metrics);
                });
                if matches!(action, Action::OpenBarrier { .. }) {
                    // Nothing that is watched changes by it, and it may be the last.
                    next = soon(next);
                }
                for event in set.done(&action, revision) {
                    operator.recorder.tell(set, event.kind, event.reason, event.message);
                }
            }
            Outcome::Conflict | Outcome::Skipped => next = Next::Retry,
            Outcome::AlreadyExists => {
                // A pod gets another name next time, a revision needs another hash.
                if matches!(action, Action::CreateRevision { .. }) {
                    status.set_collision_count(status.collision_count().saturating_add(1));
                }
                next = Next::Retry;
            }
            Outcome::Refused(why) => {
                tracing::warn!(kind = K::KIND, %key, reason = reason(&action), why, "write refused");
                if let Some(event) = set.refused(&action, revision, &why) {
                    operator.recorder.tell(set, event.kind, event.reason, event.message);
                }
                next = Next::Retry;
            }
            Outcome::Unknown(why) => {
                tracing::warn!(kind = K::KIND, %key, reason = reason(&action), why, "write without an answer, listing anew");
                if let Some(what) = what(&action) {
                    controller.wrote(writing, what, Written::Unknown);
                }
                next = Next::Retry;
            }
        }
    }
    next
}

/// Whether no further pod is to be created in this round.
fn keeps_pods_back(action: &Action, outcome: &Outcome) -> bool {
    matches!((action, outcome), (Action::CreatePod { .. }, Outcome::Refused(_)))
}

/// What only the answer to a write tells.
fn remember(memory: &mut Memory, action: &Action, pods: &Cache<Pods>, key: &Key) {
    match action {
        Action::DeletePod { at, .. } => {
            let name = Key::new(key.namespace.clone(), at.name.as_str());
            let pod = pods.peek(&name).filter(|pod| pod.metadata.uid == *at.uid);
            let revision = pod.and_then(|pod| pod.labels.get(names::REVISION).map(str::to_owned));
            let gone = (revision.unwrap_or_default(), Instant::now());
            memory.departed.insert(at.uid.clone(), gone);
        }
        Action::PatchPodStatus {
            at, why: Why::Drain, ..
        } => {
            let answered = (Timestamp::now(), at.name.as_str().into());
            memory.drains.insert(at.uid.clone(), answered);
        }
        Action::OpenBarrier { uid, priority, .. } => {
            memory.opened.insert(uid.clone(), *priority);
        }
        _ => {}
    }
}

fn soon(next: Next) -> Next {
    match next {
        Next::Retry => Next::Retry,
        Next::Wait | Next::At(_) => Next::At(Duration::ZERO),
    }
}

/// Writes the status, unless it was just written and nothing of weight has changed.
async fn report<K: Kind>(
    controller: &Controller<K>,
    (key, writing): (&Key, &Writing<'_>),
    set: &K,
    status: &K::Status,
    next: Next,
) -> Next {
    let operator = &*controller.operator;
    let written = controller.with_memory(key, |memory| memory.status_written);
    let pause = written
        .map(|at| STATUS_INTERVAL.saturating_sub(at.elapsed()))
        .unwrap_or_default();
    if !pause.is_zero() && !weighty(set.status(), status) {
        return match next {
            Next::Wait => Next::At(pause),
            Next::At(delay) => Next::At(delay.min(pause)),
            Next::Retry => Next::Retry,
        };
    }
    let value = serde_json::to_value(status).unwrap_or_default();
    let outcome = write_status::<K>(&operator.client, key, set.metadata(), &value).await;
    operator.metrics.wrote("status", &outcome);
    match outcome {
        Outcome::Done(all) => {
            for (what, written) in all {
                controller.wrote(writing, what, written);
            }
            controller.with_memory(key, |memory| memory.status_written = Some(Instant::now()));
            next
        }
        Outcome::Unknown(why) => {
            tracing::warn!(kind = K::KIND, %key, why, "status write without an answer, listing anew");
            controller.wrote(writing, What::Workload, Written::Unknown);
            Next::Retry
        }
        Outcome::Refused(why) => {
            tracing::warn!(kind = K::KIND, %key, why, "status write refused");
            Next::Retry
        }
        Outcome::Conflict | Outcome::AlreadyExists | Outcome::Skipped => Next::Retry,
    }
}

/// Another generation, another revision, or the end of something: worth a write at once.
fn weighty<S: Status>(old: &S, new: &S) -> bool {
    fn reasons<S: Status>(status: &S) -> [Option<&str>; 3] {
        [names::PROGRESSING, names::ROLLOUT, names::LOSS_EXCEEDED]
            .map(|kind| Some(status.condition(kind)?.reason.as_str()))
    }
    old.observed_generation() != new.observed_generation()
        || old.update_revision() != new.update_revision()
        || old.collision_count() != new.collision_count()
        || reasons(old) != reasons(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use afloat_rollout::action::NewPod;
    use serde_json::json;

    #[test]
    fn only_a_refused_creation_of_a_pod_keeps_other_pods_back() {
        let refused = || Outcome::Refused("forbidden: exceeded quota".into());
        let pod = Action::CreatePod {
            pod: NewPod {
                name: "web-a".into(),
                labels: Vec::new(),
                common: Arc::default(),
                own: Default::default(),
            },
        };
        let claim = Action::CreateClaim { body: json!({}) };
        assert!(keeps_pods_back(&pod, &refused()));
        assert!(
            !keeps_pods_back(&claim, &refused()),
            "its pod waits for it, others need not"
        );
        assert!(!keeps_pods_back(&pod, &Outcome::Conflict));
    }
}
