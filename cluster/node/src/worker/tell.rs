//! What a worker tells the API server of its pod, and when.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, Patch, PatchParams};

use super::Worker;
use crate::clock::later;
use crate::options::API_LIMIT;
use crate::pod::plan::Plan;
use crate::pod::spec;
use crate::pod::status::patch;

/// How long the status of a pod that is being started may wait for changes that are about to follow, so that one write
/// tells them all. Never waits: the loss of readiness, and anything when nothing is about to follow.
const SETTLE: Duration = Duration::from_millis(500);
/// The same for a pod that ends: what stops with it stops within moments.
const SETTLE_ENDING: Duration = Duration::from_millis(100);

/// What became of the status.
pub(super) enum Told {
    /// It was written: what was planned is out of date.
    Written,
    /// Nothing to write now; look again then.
    Later(Option<Timestamp>),
}

impl Worker {
    /// Writes the status if it differs and it is time to.
    pub(super) async fn tell(&mut self, plan: &Plan, now: Timestamp) -> Told {
        let gone = self.state.ending.is_some_and(|ending| ending.gone) || self.state.deleted;
        let patch = if gone {
            None
        } else {
            patch::status_patch(&self.pod, &plan.status)
        };
        let Some(patch) = patch else {
            self.dirty_since = None;
            return Told::Later(None);
        };
        if let Some(after) = self.write_after.filter(|after| *after > now) {
            return Told::Later(Some(after));
        }
        let since = *self.dirty_since.get_or_insert(now);
        let settle = if self.state.ending.is_some() {
            SETTLE_ENDING
        } else {
            SETTLE
        };
        let until = later(since, settle);
        if now < until && self.may_wait(plan) {
            return Told::Later(Some(until));
        }
        self.write_status(patch, &plan.status, now).await
    }

    fn may_wait(&self, plan: &Plan) -> bool {
        if self.state.ending.is_some() {
            // Its endpoints are marked terminating already. Its end is told at once: the object waits for that.
            return self.state.instances().any(|(_, instance)| instance.alive());
        }
        plan.settling && !patch::loses_readiness(&self.pod, &plan.status)
    }

    async fn write_status(&mut self, patch: serde_json::Value, wanted: &PodStatus, now: Timestamp) -> Told {
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), spec::namespace(&self.pod));
        let name = spec::name(&self.pod).to_owned();
        let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
        let call = api.patch_status(&name, &params, &patch);
        let error = match tokio::time::timeout(API_LIMIT, call).await {
            Ok(Ok(pod)) if spec::uid(&pod) == spec::uid(&self.pod) => {
                self.take_pod(pod);
                if patch::status_patch(&self.pod, wanted).is_none() {
                    self.dirty_since = None;
                    self.write_failures = 0;
                    return Told::Written;
                }
                "the API server did not keep what was written".to_owned()
            }
            Ok(Ok(_)) => "the object is another pod's now".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        self.write_failures += 1;
        let wait = Duration::from_millis(100) * 2u32.pow(self.write_failures.min(7));
        tracing::debug!(pod = name, error, ?wait, "status not written");
        let at = later(now, wait);
        self.write_after = Some(at);
        Told::Later(Some(at))
    }
}
