//! The record of a rollout: its report, what it has lost, and what follows from that.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{Phase, ReportStatus, RolloutReport, Steps, names, seconds};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::{Value, json};

use super::history::Revisions;
use super::plan::{Observed, Planner};
use super::tally::Tally;
use crate::action::{Action, At};
use crate::pod::object::Pod;
use crate::workload::loss::{Limit, Meter, Ours, rolls_back};
use crate::workload::revision::template;
use crate::workload::status::{Verdict, clear_condition, set_condition};

/// Losses that come one after the other are written together, unless something follows from them.
const INTERVAL: SignedDuration = SignedDuration::from_secs(1);

/// What is kept of rollouts beside the pods themselves.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// The reports of the CloneSet.
    pub reports: &'a [Arc<RolloutReport>],
    /// Revisions of pods that were deleted lately, by UID.
    pub departed: &'a BTreeMap<String, String>,
    /// Writes for the present rollout, as far as this operator made them.
    pub writes: u64,
    /// Times that pods of the present rollout took, as far as this operator saw them.
    pub steps: &'a Steps,
}

/// The present rollout.
#[derive(Debug)]
pub(super) struct Record<'a> {
    recorded: Recorded<'a>,
    name: String,
    stored: Option<&'a RolloutReport>,
    /// It begins, or goes on.
    open: bool,
    meter: Meter,
    limit: Option<Limit>,
}

impl<'a> Record<'a> {
    /// None where no reports are kept, or none is to be.
    pub(super) fn of(seen: &Observed<'a>, revisions: &Revisions, tally: &Tally<'a>, moves: bool) -> Option<Self> {
        let recorded = seen.recorded?;
        let name = format!("{}-{}", revisions.update, revisions.update_number);
        let named = |report: &&Arc<RolloutReport>| report.metadata.name.as_deref() == Some(&name);
        let stored = recorded.reports.iter().find(named).map(Arc::as_ref);
        let limit = Limit::of(seen.cloneset);
        let mut record = Self {
            recorded,
            stored,
            open: false,
            meter: stored.map(|report| Meter::of(&report.status)).unwrap_or_default(),
            limit,
            name,
        };
        let begins = match stored.map(|report| report.status.phase) {
            // What came to rest because of its losses begins again when more is allowed.
            Some(Phase::RolledBack) => moves && !record.exceeded(),
            Some(phase) if !phase.ended() => false,
            None | Some(_) => moves,
        };
        if begins && stored.is_some_and(|report| report.status.phase != Phase::RolledBack) {
            record.meter = Meter::default();
        }
        record.open = begins || stored.is_some_and(|report| !report.status.phase.ended());
        if record.open {
            let uid = seen.cloneset.metadata.uid.as_deref();
            let of_us = |pod: &&Pod| pod.controller.as_ref().map(|owner| owner.uid.as_str()) == uid;
            let leaving = seen
                .pods
                .iter()
                .map(Arc::as_ref)
                .filter(|pod| !pod.active())
                .filter(of_us);
            let ours = Ours::of(
                tally.pods.iter().copied().chain(leaving),
                recorded.departed,
                seen.traffic,
            );
            record.meter = record.meter.look(seen.traffic, &ours, begins);
        }
        (record.open || stored.is_some()).then_some(record)
    }

    /// Whether more is lost than is allowed. What was completed is beyond that.
    pub(super) fn exceeded(&self) -> bool {
        let back = self
            .stored
            .is_some_and(|report| report.status.phase == Phase::RolledBack);
        if !self.open && !back {
            return false;
        }
        let lost = self.meter.lost.unwrap_or_default().total();
        self.limit
            .is_some_and(|limit| lost > limit.allows(self.meter.connections))
    }

    /// The revision to go back to, with its template: where that is wanted and still known.
    pub(super) fn goes_back(&self, seen: &Observed<'a>, update: &str) -> Option<(String, &'a Value)> {
        if !self.exceeded() || !rolls_back(seen.cloneset) {
            return None;
        }
        let stored = self.stored.map(|report| report.status.from.as_str());
        let from = stored.unwrap_or(&seen.cloneset.status.current_revision);
        if from == update {
            return None;
        }
        let mut revisions = seen.revisions.iter();
        let found = revisions.find(|revision| revision.metadata.name.as_deref() == Some(from))?;
        Some((from.to_owned(), template(found)?))
    }
}

impl<'a> Planner<'a> {
    /// Whether pods are being moved to the update revision, or could be.
    pub(super) fn moves(&self) -> bool {
        !self.rollout.on_delete && !self.rollout.paused && self.count.to_update() > 0
    }

    /// Whether no further pod may be touched for the update.
    pub(super) fn held_by_loss(&self) -> bool {
        self.record.as_ref().is_some_and(Record::exceeded)
    }

    /// Writes the report, and tells of losses. `back`: whether the way back that is gone because of them is at its end.
    pub(super) fn tell_of_losses(&mut self, status: &mut afloat_api::CloneSetStatus, back: Option<bool>) {
        let Some(record) = self.record.take() else {
            clear_condition(status, names::LOSS_EXCEEDED);
            return;
        };
        // The next report decides whether the rollout may go on.
        self.observes |= record.open;
        self.condition(&record, status, back.is_some());
        self.drop_old_reports(&record);
        if record.open {
            let phase = self.phase(&record, back);
            self.write_report(&record, phase);
        }
    }

    fn phase(&self, record: &Record<'_>, back: Option<bool>) -> Phase {
        let complete = self.all_updated();
        match back {
            Some(true) => Phase::RolledBack,
            Some(false) => Phase::RollingBack,
            None if complete => Phase::Completed,
            None if record.exceeded() => Phase::LossExceeded,
            None if self.rollout.paused || self.count.to_update() == 0 && !self.tally.outdated.is_empty() => {
                Phase::Paused
            }
            None => Phase::Progressing,
        }
    }

    fn condition(&mut self, record: &Record<'_>, status: &mut afloat_api::CloneSetStatus, back: bool) {
        let lost = record.meter.sentence();
        if record.open && record.limit.is_some() && record.meter.lost.is_none() {
            let message = format!(
                "{} cannot be judged: no agent counts connections to these pods",
                names::MAX_LOSS
            );
            self.waits.say(message.clone());
            self.warnings.push(("LossUnknown", message));
        }
        if !record.exceeded() {
            clear_condition(status, names::LOSS_EXCEEDED);
            if let Some(lost) = lost.filter(|_| record.open) {
                self.waits.say(lost);
            }
            return;
        }
        let follows = if back {
            "the pods go back to the revision that they had before"
        } else {
            "no further pod is touched; pods that are under way go on"
        };
        let limit = self.seen.cloneset.annotation(names::MAX_LOSS);
        let message = format!(
            "{} since the rollout of {} began, and {} is {:?}: {follows} (report {})",
            lost.unwrap_or_default(),
            self.revisions.update,
            names::MAX_LOSS,
            limit.unwrap_or_default(),
            record.name
        );
        let told = self.seen.cloneset.status.condition(names::LOSS_EXCEEDED);
        if told.is_none_or(|known| known.status != "True") {
            self.warnings.push(("LossExceeded", message.clone()));
        }
        self.waits.say(message.clone());
        let verdict = Verdict {
            status: true,
            reason: if back { "Rollback" } else { "MaxLoss" },
            message,
        };
        set_condition(status, names::LOSS_EXCEEDED, verdict, false, self.seen.now);
    }

    fn write_report(&mut self, record: &Record<'_>, phase: Phase) {
        let now = self.seen.now;
        let stored = record.stored.map(|report| &report.status);
        let (meter, known) = (&record.meter, stored.cloned().unwrap_or_default());
        if stored.is_some() && known.phase == phase {
            if known.counters == meter.counters && known.lost.is_some() == meter.lost.is_some() {
                return;
            }
            let last = known.written_at.as_ref().map_or(now, |at| at.0);
            if let Some(next) = last.checked_add(INTERVAL).ok().filter(|next| *next > now) {
                self.wake(next);
                return;
            }
        }
        let started = known.started_at.map_or(now, |at| at.0);
        let updated = self.tally.pods.iter().filter(|pod| self.updated(pod));
        let (kept, updated) = (updated.clone().filter(|pod| self.kept(pod)).count(), updated.count());
        let status = ReportStatus {
            workload: self.seen.cloneset.metadata.name.clone().unwrap_or_default(),
            revision: self.revisions.update.clone(),
            from: if stored.is_some() { known.from } else { self.before() },
            phase,
            duration: if phase.ended() {
                seconds(now.duration_since(started))
            } else {
                String::new()
            },
            started_at: Some(MicroTime(started)),
            ended_at: phase.ended().then_some(MicroTime(now)),
            written_at: Some(MicroTime(now)),
            updated,
            kept,
            created: updated - kept,
            // What was counted before it begins is the last rollout's.
            writes: if stored.is_some() { record.recorded.writes } else { 0 },
            steps: if stored.is_some() {
                record.recorded.steps.clone()
            } else {
                Steps::default()
            },
            lost: meter.lost.map(|lost| lost.total()),
            kinds: meter.lost.unwrap_or_default(),
            connections: meter.connections,
            latency: None,
            counters: meter.counters.clone(),
            services: meter.services.clone(),
            truncated: meter.truncated,
        };
        if phase == Phase::Completed {
            self.news.push(("RolloutCompleted", outcome(&status)));
        }
        let at = record.stored.map(|report| At::of(&report.metadata));
        let body = self.body(&record.name, &status, at.as_ref());
        self.actions.push(Action::WriteReport { at, body });
    }

    /// Whether an updated pod was there before: its last update in place was to this revision.
    fn kept(&self, pod: &Pod) -> bool {
        let state = pod.annotations.get(names::INPLACE_STATE);
        state.is_some_and(|state| state.contains(&self.revisions.update))
    }

    /// The revision that the pods have before the rollout begins.
    fn before(&self) -> String {
        let current = &self.revisions.current;
        if *current == self.revisions.update {
            String::new()
        } else {
            current.clone()
        }
    }

    /// To create, or as a merge patch over what is there, which leaves what others have added.
    fn body(&self, name: &str, status: &ReportStatus, at: Option<&At>) -> Value {
        let mut body = json!({"status": status});
        if let Some(status) = body["status"].as_object_mut() {
            status.remove("latency");
        }
        match at {
            Some(at) => body["metadata"] = Value::Object(crate::pod::state::preconditions(at)),
            None => {
                body["apiVersion"] = json!(<RolloutReport as k8s_openapi::Resource>::API_VERSION);
                body["kind"] = json!(<RolloutReport as k8s_openapi::Resource>::KIND);
                body["metadata"] = json!({
                    "name": name,
                    "namespace": self.seen.cloneset.metadata.namespace,
                    "ownerReferences": [crate::workload::revision::owner(self.seen.cloneset)],
                });
                if let Some(status) = body["status"].as_object_mut() {
                    status.retain(|_, value| !value.is_null());
                }
            }
        }
        body
    }

    /// Ends the reports of earlier rollouts that were not completed, and deletes those beyond `revisionHistoryLimit`.
    fn drop_old_reports(&mut self, record: &Record<'_>) {
        let others = record.recorded.reports.iter().map(Arc::as_ref);
        let mut others: Vec<_> = others
            .filter(|report| report.metadata.name.as_deref() != Some(&record.name))
            .filter(|report| report.metadata.deletion_timestamp.is_none())
            .collect();
        let limit = self.seen.cloneset.spec.revision_history_limit.unwrap_or(10);
        let limit = usize::try_from(limit).unwrap_or(0);
        others.sort_by_key(|report| report.status.started_at.as_ref().map(|at| at.0));
        let surplus = (others.len() + 1).saturating_sub(limit.max(1));
        for (index, report) in others.into_iter().enumerate() {
            let at = At::of(&report.metadata);
            if index < surplus {
                self.actions.push(Action::DeleteReport { at });
            } else if !report.status.phase.ended() {
                let now = MicroTime(self.seen.now);
                let start = report.status.started_at.as_ref().map_or(now.0, |at| at.0);
                let body = json!({
                    "metadata": crate::pod::state::preconditions(&at),
                    "status": {
                        "phase": Phase::Superseded, "endedAt": now, "writtenAt": now,
                        "duration": seconds(now.0.duration_since(start)),
                    },
                });
                self.actions.push(Action::WriteReport { at: Some(at), body });
            }
        }
    }
}

fn outcome(report: &ReportStatus) -> String {
    let lost = match report.lost {
        None => "losses were not counted".to_owned(),
        Some(0) => "no connection lost".to_owned(),
        Some(lost) => format!("{lost} connections lost"),
    };
    format!(
        "revision {}: {} of {} pods kept, {}, {lost}",
        report.revision, report.kept, report.updated, report.duration
    )
}
