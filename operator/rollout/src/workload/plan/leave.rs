//! Pods that are out of service, and whether that has reached everybody.

use afloat_api::{Operation, names};
use jiff::SignedDuration;

use super::planner::Planner;
use crate::pod::drain::{DELETION, Drain};
use crate::pod::object::Pod;
use crate::pod::service::leave_service;
use crate::workload::traffic::{LIMIT, Leaving};
use crate::workload::waits::Wait;

impl<'a> Planner<'a> {
    /// Takes a pod out of service, for a revision or for [`DELETION`].
    pub(super) fn take_out(&mut self, pod: &'a Pod, purpose: &str) {
        let observed = self.watched.covers(pod);
        self.write(pod, leave_service(pod, purpose, observed, self.seen.now));
    }

    /// Whether a pod that is out of service must not be touched yet; if so, nobody else in this plan does.
    pub(super) fn held_by_drain(&mut self, pod: &'a Pod, drain: &Drain) -> bool {
        let grace = SignedDuration::from_secs(self.seen.rollout.grace_seconds);
        let Some(leaving) = self.watched.leaving(pod, drain) else {
            return self.holds_until(pod, drain, grace, Wait::Grace, String::new());
        };
        // Who states a quiet period states the limit; connections have it to end by themselves, and without one the
        // container's own termination ends them.
        let limit = if grace.is_zero() { LIMIT } else { grace };
        match leaving {
            Leaving::Gone => false,
            Leaving::Open(connections) => {
                let said = format!(": {connections} connections are open");
                self.holds_until(pod, drain, grace, Wait::Connections, said)
            }
            Leaving::Uncounted(node) => {
                let said = format!(": {node} cannot count the connections that are open");
                self.holds_until(pod, drain, grace, Wait::Connections, said)
            }
            Leaving::Sent { gone, nodes, example } => {
                let said = format!(": {gone} of {nodes} nodes have let go, not {example}");
                let holds = self.holds_until(pod, drain, limit, Wait::LetGo, said);
                if !holds {
                    self.warnings.push((
                        "DrainLimit",
                        format!(
                            "pod {}: only {gone} of {nodes} nodes have let go after {limit:#}, not {example}; going on, and \
                             requests may be lost",
                            pod.name()
                        ),
                    ));
                }
                holds
            }
        }
    }

    fn holds_until(&mut self, pod: &'a Pod, drain: &Drain, limit: SignedDuration, why: Wait, said: String) -> bool {
        let answered = self.seen.drained.get(pod.metadata.uid.as_str());
        let start = answered.map_or(drain.since, |at| (*at).max(drain.since));
        let Some(end) = start.checked_add(limit).ok().filter(|end| *end > self.seen.now) else {
            return false;
        };
        self.observes |= why != Wait::Grace;
        self.wake(end);
        self.written.insert(pod.name());
        self.waits
            .pod(why, || format!("{}{said}, until {end} at most", pod.name()));
        true
    }

    /// Before a deletion: whether the pod stays for now, as proxies still have to let go of it. A pod without our gate
    /// cannot be taken out of service other than by deleting it.
    pub(super) fn drains_before_deletion(&mut self, pod: &'a Pod) -> bool {
        if !self.watched.covers(pod) {
            return false;
        }
        match Drain::of(pod) {
            Some(drain) => self.held_by_drain(pod, &drain),
            None if pod.ready() && pod.has_gate(names::INPLACE_READY) => {
                if self.spend(pod, Operation::Delete) {
                    self.take_out(pod, DELETION);
                }
                true
            }
            None => false,
        }
    }

    /// Notes a Ready pod that not all nodes send to yet.
    pub(super) fn wait_for_return(&mut self, pod: &Pod) {
        if let Some((limit, node)) = self.watched.returning(pod, self.seen.now).filter(|_| pod.ready()) {
            self.observes = true;
            self.wake(limit);
            self.waits.pod(Wait::Return, || format!("{} by {node}", pod.name()));
        }
    }
}

/// The pod is out of service for its deletion.
pub(crate) fn leaves_for_good(pod: &Pod) -> bool {
    Drain::of(pod).is_some_and(|drain| drain.revision == DELETION)
}
