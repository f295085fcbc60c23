//! One round for one CloneSet: look, plan, act, report.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use afloat_api::{CloneSet, CloneSetStatus, Status as _, Steps, names};
use afloat_rollout::action::{Action, Why};
use afloat_rollout::pod::Pod;
use afloat_rollout::pod::drain::Drain;
use afloat_rollout::pod::images::{Known, Nodes};
use afloat_rollout::pod::launch::Opened;
use afloat_rollout::texts::Text;
use afloat_rollout::workload::kind::{Sights, Workload};
use afloat_rollout::workload::observed::{Observed, Plan};
use afloat_rollout::workload::plan::seen::Recorded;
use afloat_rollout::workload::roster::Roster;
use afloat_rollout::workload::traffic::Traffic;
use afloat_watching::{Cache, Looking, Writing, Written};
use afloat_words::key::Key;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tracing::Instrument as _;

use crate::act::{Kind, Outcome, kind, reason, write_status};
use crate::again::{decided, persist};
use crate::kept::{Pods, orphans};
use crate::operator::{Memory, Operator};
use crate::roster::Kept;
use crate::told;

/// Writes of one round that are under way at the same time.
const PARALLEL: usize = 16;
/// Shortest time between two status writes of one CloneSet, unless something new is to be told.
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
pub(crate) async fn reconcile(operator: &Operator, key: &Key) -> (Next, Duration) {
    if operator.clonesets.peek(key).is_none() {
        operator.forget(key);
        return (Next::Wait, Duration::ZERO);
    }
    let looking = match operator.ledger.settle(key, |lag| operator.metrics.lagged(lag)) {
        Ok(looking) => looking,
        Err(behind) => return (Next::At(unseen(operator, key, behind.since)), Duration::ZERO),
    };
    let Some(set) = looking.at(&operator.clonesets).get(key) else {
        return (Next::At(Duration::ZERO), Duration::ZERO);
    };

    let started = Instant::now();
    let now = Timestamp::now();
    let (mut plan, pods) = look(operator, &looking, (key, &set), now);
    let planning = started.elapsed();
    let set = set.to_tell();
    tell(operator, &set, &plan);

    let mut status = plan.status.clone();
    let actions = std::mem::take(&mut plan.actions);
    // The object itself is written: its status has to be decided on the version that comes of it.
    let written = actions.iter().any(|action| matches!(action, Action::PatchSet { .. }));
    let writing = looking.write();
    let mut next = act(operator, (key, &writing), &set, (actions, &pods), &mut status).await;
    if status != set.status && !written {
        next = report(operator, (key, &writing), &set, &status, next).await;
    }
    let next = match (next, plan.wake_at) {
        (Next::Wait, Some(at)) => Next::At(until(now, at)),
        (Next::At(delay), Some(at)) => Next::At(delay.min(until(now, at))),
        (next, _) => next,
    };
    (next, planning)
}

/// What to do, by what the caches show; and the pods that are about to change or return.
fn look(
    operator: &Operator,
    looking: &Looking<'_>,
    (key, set): (&Key, &CloneSet),
    now: Timestamp,
) -> (Plan<CloneSetStatus>, Vec<Arc<Pod>>) {
    let uid = &Arc::<str>::from(set.metadata.uid.as_deref().unwrap_or_default());
    let (known, memo) = operator.with_memory(key, |memory| (memory.pods.take(), std::mem::take(&mut memory.memo)));
    let known = known.filter(|known| known.fits(set));
    let known = known.unwrap_or_else(|| Kept::new(set, vec![uid.clone(), orphans(&key.namespace)]));
    let pods = known.catch_up(&looking.at(&operator.pods), set);
    // Before the look at what proxies do, so that nothing that comes after it is missed.
    operator.observe(key, true);
    let reports = looking.at(&operator.reports).group(uid);
    let keeps_reports = operator.keeps_reports.load(Ordering::Acquire);
    let record = keeps_reports.then(|| record(operator, key));
    let recorded = record.as_ref().map(|(departed, writes, steps)| Recorded {
        reports: &reports,
        departed,
        writes: *writes,
        steps,
    });
    let mut plan = set.plan(&Observed {
        pods: &pods,
        revisions: &looking.at(&operator.revisions).group(uid),
        claims: &looking.at(&operator.claims).group(uid),
        classes: &[],
        now,
        seed: rand::random(),
        drained: &answered_drains(operator, key, &pods),
        nodes: &nodes(operator, looking, set, &pods),
        opened: &opened(operator, key, &pods),
        traffic: &traffic(operator, looking, key),
        resizes: operator.resizes,
        gates: operator.gates,
        memo: &memo,
        recorded,
    });
    operator.observe(key, plan.observes);
    operator.metrics.pods(key, &plan.phases);
    let decided = decided(&plan.actions, &pods);
    operator.with_memory(key, |memory| {
        memory.progress.saw(&plan, |name| pods.find(name), &operator.metrics);
        memory.pods = Some(pods.put_away());
        memory.memo = std::mem::take(&mut plan.memo);
    });
    (plan, decided)
}

/// The events of a plan; of warnings, those that the status does not say already.
fn tell(operator: &Operator, set: &CloneSet, plan: &Plan<CloneSetStatus>) {
    let told = |message: &str| {
        let mut conditions = set.status.conditions.iter();
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
fn unseen(operator: &Operator, key: &Key, since: Instant) -> Duration {
    let left = UNSEEN.saturating_sub(since.elapsed());
    if left.is_zero() {
        tracing::warn!(%key, "own writes not seen for five minutes, listing anew");
        operator.ledger.relist(key);
        return Duration::from_secs(10);
    }
    left.min(Duration::from_secs(5))
}

/// The nodes of pods that are out of service; of all pods if they are to be spread.
fn nodes(operator: &Operator, looking: &Looking<'_>, set: &CloneSet, pods: &Roster) -> Nodes {
    let name = |pod: &Arc<Pod>| pod.spec.node_name.as_ref().map(Text::shared);
    let (known, reports) = (looking.at(&operator.nodes), looking.at(&operator.traffic));
    let names: BTreeSet<Arc<str>> = match set.sights() {
        Sights::OutOfService => pods.out_of_service().filter_map(name).collect(),
        Sights::OfPods => pods.pods().filter_map(name).collect(),
        Sights::All => known.all().iter().map(|node| Key::of(&node.metadata).name).collect(),
    };
    let node = |name: Arc<str>| {
        let key = Key::new("", name);
        let node = known.get(&key)?.to_tell();
        let report = reports.get(&key).map(|report| report.to_tell());
        Some((key.name.to_string(), Known { node, report }))
    };
    names.into_iter().filter_map(node).collect()
}

/// What the proxies of all Ready nodes do, and for which Services of the namespace. Nothing where no agent reports.
fn traffic(operator: &Operator, looking: &Looking<'_>, key: &Key) -> Traffic {
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
fn answered_drains(operator: &Operator, key: &Key, pods: &Roster) -> BTreeMap<String, Timestamp> {
    operator.with_memory(key, |memory| {
        memory.drains.retain(|uid, (_, name)| {
            let pod = pods.find(name);
            pod.is_some_and(|pod| pod.metadata.uid == *uid && Drain::of(pod).is_some())
        });
        let drains = memory.drains.iter();
        drains.map(|(uid, (at, _))| (uid.clone(), *at)).collect()
    })
}

/// What is kept of the present rollout; forgets pods that are gone for long.
fn record(operator: &Operator, key: &Key) -> (BTreeMap<String, String>, u64, Steps) {
    operator.with_memory(key, |memory| {
        memory.departed.retain(|_, (_, since)| since.elapsed() < DEPARTED);
        let departed = memory.departed.iter();
        let departed = departed.map(|(uid, (revision, _))| (uid.clone(), revision.clone()));
        (departed.collect(), memory.progress.writes(), memory.progress.steps())
    })
}

/// How far the pods that are there were let start; forgets the others.
fn opened(operator: &Operator, key: &Key, pods: &Roster) -> Opened {
    operator.with_memory(key, |memory| {
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

async fn act(
    operator: &Operator,
    (key, writing): (&Key, &Writing<'_>),
    set: &CloneSet,
    (actions, pods): (Vec<Action>, &[Arc<Pod>]),
    status: &mut CloneSetStatus,
) -> Next {
    // What keeps one pod from being created (a quota, a policy) keeps the others too: do not try them all.
    let refused = &AtomicBool::new(false);
    let revision = status.update_revision.clone();
    let revision = revision.as_str();
    let outcomes = futures::stream::iter(actions)
        .map(|action| async move {
            if refused.load(Ordering::Relaxed) && matches!(action, Action::CreatePod { .. }) {
                return (action, Outcome::Skipped);
            }
            let span = tracing::debug_span!("write", reason = reason(&action));
            let hands = (&operator.client, &operator.metrics);
            let outcome = persist(hands, &key.namespace, &action, pods).instrument(span).await;
            if keeps_pods_back(&action, &outcome) {
                refused.store(true, Ordering::Relaxed);
            }
            (action, outcome)
        })
        .buffer_unordered(PARALLEL);
    let mut outcomes = std::pin::pin!(outcomes);
    let mut next = Next::Wait;
    while let Some((action, outcome)) = outcomes.next().await {
        tracing::debug!(%key, ?action, ?outcome, "acted");
        operator.metrics.wrote(reason(&action), &outcome);
        match outcome {
            Outcome::Done(all) => {
                for (kind, written) in all {
                    operator.wrote(writing, kind, written);
                }
                operator.with_memory(key, |memory| {
                    remember(memory, &action, &operator.pods, key);
                    memory.progress.wrote(&action, &operator.metrics);
                });
                if matches!(action, Action::OpenBarrier { .. }) {
                    // Nothing that is watched changes by it, and it may be the last.
                    next = soon(next);
                }
                for event in told::done(&action, revision) {
                    operator.recorder.tell(set, event.kind, event.reason, event.message);
                }
            }
            Outcome::Conflict | Outcome::Skipped => next = Next::Retry,
            Outcome::AlreadyExists => {
                // A pod gets another name next time, a revision needs another hash.
                if matches!(action, Action::CreateRevision { .. }) {
                    status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
                }
                next = Next::Retry;
            }
            Outcome::Refused(why) => {
                tracing::warn!(%key, reason = reason(&action), why, "write refused");
                if let Some(event) = told::refused(&action, revision, &why) {
                    operator.recorder.tell(set, event.kind, event.reason, event.message);
                }
                next = Next::Retry;
            }
            Outcome::Unknown(why) => {
                tracing::warn!(%key, reason = reason(&action), why, "write without an answer, listing anew");
                if let Some(kind) = kind(&action) {
                    operator.wrote(writing, kind, Written::Unknown);
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
async fn report(
    operator: &Operator,
    (key, writing): (&Key, &Writing<'_>),
    set: &CloneSet,
    status: &CloneSetStatus,
    next: Next,
) -> Next {
    let written = operator.with_memory(key, |memory| memory.status_written);
    let pause = written
        .map(|at| STATUS_INTERVAL.saturating_sub(at.elapsed()))
        .unwrap_or_default();
    if !pause.is_zero() && !weighty(&set.status, status) {
        return match next {
            Next::Wait => Next::At(pause),
            Next::At(delay) => Next::At(delay.min(pause)),
            Next::Retry => Next::Retry,
        };
    }
    let value = serde_json::to_value(status).unwrap_or_default();
    let outcome = write_status(&operator.client, key, &set.metadata, &value).await;
    operator.metrics.wrote("status", &outcome);
    match outcome {
        Outcome::Done(all) => {
            for (kind, written) in all {
                operator.wrote(writing, kind, written);
            }
            operator.with_memory(key, |memory| memory.status_written = Some(Instant::now()));
            next
        }
        Outcome::Unknown(why) => {
            tracing::warn!(%key, why, "status write without an answer, listing anew");
            operator.wrote(writing, Kind::CloneSet, Written::Unknown);
            Next::Retry
        }
        Outcome::Refused(why) => {
            tracing::warn!(%key, why, "status write refused");
            Next::Retry
        }
        Outcome::Conflict | Outcome::AlreadyExists | Outcome::Skipped => Next::Retry,
    }
}

/// Another generation, another revision, or the end of something: worth a write at once.
fn weighty(old: &CloneSetStatus, new: &CloneSetStatus) -> bool {
    fn reasons(status: &CloneSetStatus) -> [Option<&str>; 3] {
        [names::PROGRESSING, names::ROLLOUT, names::LOSS_EXCEEDED]
            .map(|kind| Some(status.condition(kind)?.reason.as_str()))
    }
    old.observed_generation != new.observed_generation
        || old.update_revision != new.update_revision
        || old.collision_count != new.collision_count
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
                spec: None,
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
