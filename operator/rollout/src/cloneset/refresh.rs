//! Pods that no step of the rollout is about: back in service once their update is complete, new ones into service, on
//! to the next state of their life.

use afloat_api::{InPlaceUpdateState, UpdateSpec, names};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::Planner;
use crate::complete::{Completion, completion};
use crate::inplace::Change;
use crate::lifecycle::state;
use crate::pod::{Pod, same_revision};
use crate::state::{change, drop_grace, serve};

impl<'a> Planner<'a> {
    /// Looks after all pods that are not available.
    pub(super) fn refresh(&mut self) {
        let now = self.seen.now;
        for pod in self.pods.clone() {
            if self.available(pod) {
                continue;
            }
            if let Some(at) = pod.ready().then(|| pod.available_in(self.min_ready, now)).flatten() {
                self.wake(at);
            }
            if self.written.contains(pod.name()) {
                continue;
            }
            if UpdateSpec::present(pod.annotations()) {
                self.continue_grace(pod);
            } else {
                self.settle(pod);
            }
        }
    }

    fn settle(&mut self, pod: &'a Pod) {
        let gated = pod.has_gate(names::INPLACE_READY);
        let in_service = pod.condition(names::INPLACE_READY).is_some_and(|c| c.status == "True");
        if gated && !in_service || !gated && state(pod) == names::STATE_UPDATING {
            match completion(pod, self.seen.nodes, self.seen.now) {
                Completion::Done => {}
                Completion::Waiting { container, until } => {
                    self.waits.push(format!(
                        "container {container} of {} does not run its new image yet",
                        pod.name()
                    ));
                    if let Some(at) = until {
                        self.wake(at);
                    }
                    return;
                }
            }
        }
        // A pod without a node is not written yet: the scheduler is about to.
        if pod.spec.node_name.is_some()
            && let Some(action) = serve(pod, gated && !in_service, &self.keys(pod), self.seen.now)
        {
            self.write(pod, action);
            return;
        }
        self.go_on(pod);
    }

    /// Continues a quiet period that OpenKruise began: the pod has the new revision's label but not its images.
    fn continue_grace(&mut self, pod: &'a Pod) {
        let label = pod.labels().get(names::REVISION).cloned().unwrap_or_default();
        let spec = UpdateSpec::read(pod.annotations()).filter(|spec| same_revision(&label, &spec.revision));
        let state = InPlaceUpdateState::read(pod.annotations());
        let Some(spec) = spec.filter(|_| self.updated(pod)) else {
            // Another revision is wanted; while it is, the update itself removes the annotation with its own write.
            if self.updated(pod) {
                self.write(pod, drop_grace(pod));
            }
            return;
        };
        let start = state
            .and_then(|state| state.update_timestamp.parse::<Timestamp>().ok())
            .unwrap_or(self.seen.now);
        let end = start.checked_add(SignedDuration::from_secs(spec.grace_seconds.unwrap_or(0).max(0)));
        match end {
            Ok(end) if end > self.seen.now => self.wake(end),
            _ => {
                let text = |key: &str| {
                    self.seen
                        .cloneset
                        .spec
                        .template
                        .pointer(key)
                        .and_then(Value::as_object)
                        .cloned()
                };
                let all = |key: &str| {
                    let entries = text(key).unwrap_or_default();
                    entries
                        .into_iter()
                        .map(|(k, v)| (k, v.as_str().map(str::to_owned)))
                        .collect()
                };
                let wanted = Change {
                    images: spec.container_images,
                    labels: all("/metadata/labels"),
                    annotations: all("/metadata/annotations"),
                };
                self.write(
                    pod,
                    change(pod, &wanted, &label, self.moves_on(pod), self.seen.nodes, self.seen.now),
                );
            }
        }
    }
}
