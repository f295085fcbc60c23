//! What every plan reports at its end, whatever the kind's own status looks like.

use afloat_api::{Condition, Figures, Status, names};

use super::begin::told_of_configs;
use super::guarded;
use super::planner::Planner;
use crate::config;
use crate::config::stamp::{Changes, sentence};
use crate::workload::conditions::{Verdict, clear_condition, set_condition};
use crate::workload::observed::Plan;
use crate::workload::progress::{moved, rollout};
use crate::workload::{history, limit, traffic};

impl Planner<'_> {
    /// The pods in numbers.
    pub(crate) fn figures(&self) -> Figures {
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        let (tally, count) = (&self.tally, &self.count);
        Figures {
            wanted: number(count.replicas),
            expected: number(count.replicas.saturating_sub(count.partition)),
            total: number(tally.count.total),
            ready: number(tally.ready),
            available: number(tally.served),
            updated: number(tally.count.updated),
            updated_ready: number(tally.updated_ready),
            updated_available: number(tally.updated_served),
        }
    }

    /// Whether all pods that are wanted are there and updated, whether they are available or not.
    pub(crate) fn at_one_revision(&self) -> bool {
        let wanted = self.count.replicas;
        self.count.total == wanted && self.count.updated == wanted
    }

    /// A failure, told as a condition that has no reason in OpenKruise, which never clears it; here it speaks of the present.
    pub(crate) fn tell_of_failure(
        &mut self,
        conditions: &mut Vec<Condition>,
        (kind, event): (&str, &'static str),
        failure: Option<String>,
    ) {
        let Some(message) = failure else {
            clear_condition(conditions, kind);
            return;
        };
        self.warnings.push((event, message.clone()));
        let verdict = Verdict {
            status: true,
            reason: String::new(),
            message,
        };
        set_condition(conditions, kind, verdict, false, self.seen.now);
    }

    /// Annotations that mean nothing.
    pub(crate) fn tell_of_misspelt(&mut self) {
        let drain = traffic::misspelt(self.seen.owner).map(|message| ("UnknownDrain", message));
        let guards = guarded::misspelt(&self.seen).into_iter();
        let limits = limit::misspelt(self.seen.owner).into_iter();
        let config = config::misspelt(self.seen.owner.metadata).map(|message| ("UnknownConfig", message));
        let lacks = self.seen.lacks.iter().map(|message| ("ConfigLacking", message.clone()));
        for (event, message) in drain
            .into_iter()
            .chain(limits.map(|message| ("UnknownLossLimit", message)))
            .chain(guards.map(|message| ("UnknownGuard", message)))
            .chain(config)
            .chain(lacks)
        {
            self.waits.say(message.clone());
            self.warnings.push((event, message));
        }
    }

    /// Our own condition. `old` and `new` are update revision and figures, as the status tells them and is to tell them.
    pub(crate) fn tell_of_rollout(
        &mut self,
        conditions: &mut Vec<Condition>,
        old: (&str, Figures),
        new: (&str, Figures),
    ) {
        if self.moves()
            && self.nothing_may_go()
            && let Some(said) = self.allowance.held()
        {
            self.waits.say_once(said);
        }
        if self.moves() {
            self.say_which_configs_changed();
        }
        let (kind, paused) = (self.seen.owner.kind, self.seen.rollout.paused);
        let verdict = rollout(kind, paused, new.1, &self.tally.unsettled, &self.waits.sentences());
        set_condition(conditions, names::ROLLOUT, verdict, moved(old, new), self.seen.now);
    }

    /// Why pods are to be updated, as far as it is ConfigMaps and Secrets.
    fn say_which_configs_changed(&mut self) {
        let labels = self.tally.outdated_labels(self.seen.pods);
        let changes = labels
            .into_iter()
            .filter_map(|label| self.memo.compared.changes.get(&**label));
        let mut all = Changes::new();
        for (container, sources) in changes.flatten().flat_map(|change| &change.configs) {
            all.entry(container.clone())
                .or_default()
                .extend(sources.iter().cloned());
        }
        if let Some(sentence) = sentence(&all) {
            self.waits.say(sentence);
        }
    }

    /// The plan. Revisions that are `reported` stay.
    pub(crate) fn finish<S: Status>(mut self, status: S, reported: &[&str]) -> Plan<S> {
        let figures = self.figures();
        if let Some(number) = self.revisions.number.take() {
            self.news.extend(told_of_configs(self.seen.owner, self.seen.around));
            self.actions.push(number);
        }
        let (limit, revisions) = (self.seen.history_limit, self.seen.revisions);
        self.actions
            .extend(history::truncate(limit, reported, revisions, self.seen.pods));
        Plan {
            actions: self.actions,
            status,
            spends: self.spends,
            figures,
            wake_at: self.wake_at,
            warnings: self.warnings,
            news: self.news,
            phases: self.tally.phases,
            memo: self.memo,
            observes: self.observes,
        }
    }
}
