//! What a plan tells of a rollout: its report, its losses, and what follows from them.

use std::sync::Arc;

use afloat_api::{Condition, Phase, ReportStatus, RolloutReport, Steps, names, seconds};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use super::planner::Planner;
use super::record::Record;
use super::tally::ours;
use crate::action::patch::ReportPatch;
use crate::action::{Action, At};
use crate::pod::object::Pod;
use crate::workload::conditions::{Verdict, clear_condition, set_condition};

/// Losses that come one after the other are written together, unless something follows from them.
const INTERVAL: SignedDuration = SignedDuration::from_secs(1);

impl<'a> Planner<'a> {
    /// Writes the report, and tells of losses. `back`: whether the way back that is gone because of them is at its end.
    pub(crate) fn tell_of_losses(&mut self, conditions: &mut Vec<Condition>, back: Option<bool>) {
        let Some(record) = self.record.take() else {
            clear_condition(conditions, names::LOSS_EXCEEDED);
            return;
        };
        // The next report decides whether the rollout may go on.
        self.observes |= record.open;
        self.condition(&record, conditions, back.is_some());
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
            None if self.seen.rollout.paused || self.count.to_update() == 0 && !self.tally.outdated.is_empty() => {
                Phase::Paused
            }
            None => Phase::Progressing,
        }
    }

    fn condition(&mut self, record: &Record<'_>, conditions: &mut Vec<Condition>, back: bool) {
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
            clear_condition(conditions, names::LOSS_EXCEEDED);
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
        let limit = self.seen.owner.annotation(names::MAX_LOSS);
        let message = format!(
            "{} since the rollout of {} began, and {} is {:?}: {follows} (report {})",
            lost.unwrap_or_default(),
            self.revisions.update,
            names::MAX_LOSS,
            limit.unwrap_or_default(),
            record.name
        );
        let told = self
            .seen
            .conditions
            .iter()
            .find(|known| known.kind == names::LOSS_EXCEEDED);
        if told.is_none_or(|known| known.status != "True") {
            self.warnings.push(("LossExceeded", message.clone()));
        }
        self.waits.say(message.clone());
        let verdict = Verdict {
            status: true,
            reason: if back { "Rollback" } else { "MaxLoss" }.into(),
            message,
        };
        set_condition(conditions, names::LOSS_EXCEEDED, verdict, false, self.seen.now);
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
        let updated = ours(self.seen.pods).filter(|pod| self.updated(pod));
        let (kept, updated) = (updated.clone().filter(|pod| self.kept(pod)).count(), updated.count());
        let status = ReportStatus {
            workload: self.seen.owner.name().to_owned(),
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
        self.actions.push(match record.stored {
            Some(report) => Action::PatchReport {
                at: At::of(&report.metadata),
                patch: ReportPatch::Status(Box::new(status)),
            },
            None => Action::CreateReport {
                report: Box::new(self.new_report(&record.name, status)),
            },
        });
    }

    fn new_report(&self, name: &str, status: ReportStatus) -> RolloutReport {
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            namespace: self.seen.owner.metadata.namespace.clone(),
            owner_references: Some(vec![self.seen.owner.reference()]),
            ..ObjectMeta::default()
        };
        RolloutReport { metadata, status }
    }

    /// Whether an updated pod was there before: its last update in place was to this revision.
    fn kept(&self, pod: &Pod) -> bool {
        let state = pod.annotations.get(names::INPLACE_STATE);
        let revision = self.seen.owner.naming.recorded(&self.revisions.update);
        state.is_some_and(|state| state.contains(revision))
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

    /// Ends the reports of earlier rollouts that were not completed, and deletes those beyond `revisionHistoryLimit`.
    fn drop_old_reports(&mut self, record: &Record<'_>) {
        let others = record.recorded.reports.iter().map(Arc::as_ref);
        let mut others: Vec<_> = others
            .filter(|report| report.metadata.name.as_deref() != Some(&record.name))
            .filter(|report| report.metadata.deletion_timestamp.is_none())
            .collect();
        let limit = self.seen.history_limit.unwrap_or(10);
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
                let patch = ReportPatch::Superseded {
                    duration: seconds(now.0.duration_since(start)),
                    ended_at: now,
                };
                self.actions.push(Action::PatchReport { at, patch });
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
