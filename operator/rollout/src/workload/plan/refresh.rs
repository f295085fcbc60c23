//! Pods that no step of the rollout is about: back in service once their update is complete, new ones into service, on
//! to the next state of their life.

use std::collections::BTreeMap;

use afloat_api::{InPlaceUpdateState, UpdateSpec, names};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::planner::{BURST, Planner};
use crate::action::Action;
use crate::pod::change::Change;
use crate::pod::complete::{Completion, completion};
use crate::pod::drain::Drain;
use crate::pod::label::same_revision;
use crate::pod::lifecycle::State;
use crate::pod::object::{Container, ContainerStatus, Pod};
use crate::pod::resize::missing;
use crate::pod::service::{out_for_shutdown, serve};
use crate::pod::update::{drop_grace, resize};
use crate::pod::{batch, launch};
use crate::workload::revision;
use crate::workload::waits::Wait;

impl<'a> Planner<'a> {
    /// Looks after all pods that are not available.
    pub(crate) fn refresh(&mut self) {
        let now = self.seen.now;
        self.room = BURST;
        for pod in self.tally.unsettled.clone() {
            if self.room == 0 {
                // The next plan comes at once.
                self.wake(now);
                return;
            }
            if let Some(at) = pod
                .ready()
                .then(|| pod.available_in(self.seen.min_ready, now))
                .flatten()
            {
                self.wake(at);
            }
            self.wait_for_return(pod);
            if self.written.contains(pod.name()) {
                continue;
            }
            if UpdateSpec::present(&pod.annotations) {
                self.continue_grace(pod);
            } else {
                self.settle(pod);
            }
        }
    }

    fn settle(&mut self, pod: &'a Pod) {
        let gated = pod.has_gate(names::INPLACE_READY);
        let in_service = pod.condition(names::INPLACE_READY).is_some_and(|c| c.status == "True");
        if let Some(until) = out_for_shutdown(pod).filter(|until| *until > self.seen.now) {
            self.wake(until);
            return;
        }
        if gated && !in_service || State::of(pod) == State::Updating {
            if self.resize(pod) {
                return;
            }
            match completion(pod, self.seen.nodes, self.seen.now) {
                Completion::Done => {}
                Completion::Waiting { container, until } => {
                    self.wait_for_container(pod, &container);
                    if let Some(at) = until {
                        // What an agent says may end it before.
                        self.observes = true;
                        self.wake(at);
                    }
                    return;
                }
            }
            if self.next_batch(pod) {
                return;
            }
        }
        let keys = self.keys(pod);
        let opens = gated && !in_service;
        if keys.is_empty() && starting(pod) {
            if !opens || !self.begins_quietly(pod) {
                self.go_on(pod);
            }
            return;
        }
        // With its gate a pod gets the state that it comes to by that.
        if opens
            && matches!(State::of(pod), State::PreparingNormal | State::Updating)
            && let Some(next) = self.next_state(pod)
        {
            self.enter_service(pod, next);
        } else if let Some(action) = serve(pod, opens, &keys, self.seen.now) {
            self.write(pod, action);
        } else {
            self.go_on(pod);
        }
    }

    fn wait_for_container(&mut self, pod: &Pod, container: &str) {
        let resize = pod
            .status
            .conditions
            .iter()
            .find(|c| c.kind.starts_with("PodResize") && c.status == "True");
        let word = pod.status.resize.as_deref().filter(|word| !word.is_empty());
        let why = if resize.is_some() || word.is_some() {
            Wait::Resize
        } else {
            Wait::Image
        };
        self.waits.pod(why, || {
            let said = resize.map(|condition| {
                let texts = [condition.reason.as_deref(), condition.message.as_deref()];
                let words = texts.into_iter().flatten().collect::<Vec<_>>().join(": ");
                format!(" ({} {words})", condition.kind)
            });
            let said = said.or_else(|| Some(format!(" (status.resize {})", word?)));
            format!("container {container} of {}{}", pod.name(), said.unwrap_or_default())
        });
    }

    /// The template of the revision whose label the pod has.
    fn template_of(&self, pod: &Pod) -> Option<&'a Value> {
        if self.updated(pod) {
            return Some(self.seen.owner.template);
        }
        let label = pod.labels.get(names::REVISION)?;
        let named = |name: &str| same_revision(label, name);
        let revisions = self.seen.revisions.iter();
        let mut found = revisions.filter(|revision| revision.metadata.name.as_deref().is_some_and(named));
        revision::template(found.next()?)
    }

    /// Writes new amounts that the pod's update is to bring and its spec does not have yet: they go through a
    /// subresource, so in a write of their own.
    fn resize(&mut self, pod: &'a Pod) -> bool {
        let text = pod.annotations.get(names::INPLACE_STATE).unwrap_or_default();
        if !self.seen.server.resizes || !text.contains("\"updateResources\"") {
            return false;
        }
        let (Some(state), Some(template)) = (InPlaceUpdateState::read(&pod.annotations), self.template_of(pod)) else {
            return false;
        };
        let missing = missing(pod, template, &state.next_container_resources);
        if missing.is_empty() {
            return false;
        }
        self.write(pod, resize(pod, missing));
        true
    }

    /// Containers that wait for those before them: true if there are any.
    fn next_batch(&mut self, pod: &'a Pod) -> bool {
        let text = pod.annotations.get(names::INPLACE_STATE).unwrap_or_default();
        if !text.contains("\"nextContainer") {
            return false;
        }
        let label = pod.labels.get(names::REVISION).unwrap_or_default();
        let unfinished = |state: &InPlaceUpdateState| state.waits() && same_revision(label, &state.revision);
        let Some(state) = InPlaceUpdateState::read(&pod.annotations).filter(unfinished) else {
            return false;
        };
        let ready = |name: &str| pod.container_status(name).is_some_and(ContainerStatus::steady);
        let required = state
            .pre_check_before_next
            .iter()
            .flat_map(|check| &check.containers_required_ready);
        let sidecars = pod.spec.containers.iter().filter(|container| container.sidecar);
        let sidecars = sidecars.map(|container| container.name.as_str());
        let mut required = required.map(String::as_str).chain(sidecars);
        if let Some(container) = required.find(|name| !ready(name)) {
            self.waits.pod(Wait::Batch, || {
                format!("{} waits until its container {container} is Ready", pod.name())
            });
            return true;
        }
        let template = self.template_of(pod).unwrap_or(&Value::Null);
        let wanted = match batch::with_restarts(pod, batch::waiting(&state), template) {
            Ok(wanted) => wanted,
            Err(why) => {
                self.failed_update = Some(format!("pod {} cannot be updated in place: {why}", pod.name()));
                return true;
            }
        };
        let in_service = pod
            .condition(names::INPLACE_READY)
            .is_none_or(|gate| gate.status == "True");
        if in_service && !self.stays_in_service(pod, &wanted) {
            // Somebody put it back meanwhile.
            self.take_out(pod, &state.revision);
            return true;
        }
        if !Drain::of(pod).is_some_and(|drain| self.held_by_drain(pod, &drain)) {
            self.apply(pod, &batch::first(pod, &wanted), &state.revision, in_service);
        }
        true
    }

    /// Lets the next containers of pods with a launch priority start.
    pub(crate) fn launch(&mut self) {
        for pod in self.tally.ordered.clone() {
            for action in launch::next(pod, self.seen.opened) {
                match action {
                    Action::PatchPod { .. } if self.written.contains(pod.name()) => {}
                    Action::PatchPod { .. } => self.write(pod, action),
                    other => self.actions.push(other),
                }
            }
        }
    }

    /// Continues a quiet period that OpenKruise began: the pod has the new revision's label but not its images.
    fn continue_grace(&mut self, pod: &'a Pod) {
        let label = pod.labels.get(names::REVISION).unwrap_or_default().to_owned();
        let spec = UpdateSpec::read(&pod.annotations).filter(|spec| same_revision(&label, &spec.revision));
        let state = InPlaceUpdateState::read(&pod.annotations);
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
                let template = self.seen.owner.template;
                let patch = metadata_patch(&spec);
                // The patch knows what the new template no longer has.
                let all = |key: &str| {
                    let mut all = entries(patch.pointer(key));
                    all.extend(entries(template.pointer(key)));
                    all
                };
                let mut wanted = Change {
                    images: spec.container_images,
                    labels: all("/metadata/labels"),
                    annotations: all("/metadata/annotations"),
                    resources: spec.container_resources,
                    ..Change::default()
                };
                batch::add_metadata(&mut wanted, &spec.container_ref_metadata);
                match batch::with_restarts(pod, wanted, template) {
                    Ok(wanted) => self.apply(pod, &batch::first(pod, &wanted), &label, false),
                    Err(why) => {
                        self.failed_update = Some(format!("pod {} cannot be updated in place: {why}", pod.name()));
                    }
                }
            }
        }
    }
}

/// Whether it is a new pod that scheduler and node still write to in quick succession: what is written between theirs
/// meets a conflict more often than not. Once its containers run, the node has nothing to write until they are ready, and
/// with the gate open by then its first Ready is not a round late.
fn starting(pod: &Pod) -> bool {
    let fresh = |gate: &str| pod.condition(gate).is_none();
    let up = |container: &Container| {
        let status = pod.container_status(&container.name);
        status.is_some_and(|status| status.ready || status.state.running.is_some())
    };
    fresh(names::INPLACE_READY) && fresh(names::KRUISE_POD_READY) && !pod.spec.containers.iter().all(up)
}

/// Labels and annotations to write; None removes one.
type Entries = BTreeMap<String, Option<String>>;

fn entries(map: Option<&Value>) -> Entries {
    let map = map.and_then(Value::as_object).into_iter().flatten();
    map.map(|(key, value)| (key.clone(), value.as_str().map(str::to_owned)))
        .collect()
}

/// The patch that OpenKruise left for the end of the quiet period; null if it cannot be read.
fn metadata_patch(spec: &UpdateSpec) -> Value {
    let bytes = spec
        .meta_data_patch
        .as_ref()
        .and_then(|text| BASE64_STANDARD.decode(text).ok());
    bytes
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}
