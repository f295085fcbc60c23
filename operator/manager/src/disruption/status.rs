//! The loop that counts: pods, and what the workloads above them want, become a budget's status; pods learn their budget's name.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use afloat_api::{PodUnavailableBudget, names};
use afloat_disruption::count::{Row, count};
use afloat_disruption::owners::{Owner, Selected};
use afloat_rollout::pod::Wire;
use afloat_words::key::Key;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::Resource as _;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::claim::{Wrote, present, write};
use super::kept::GuardedPod;
use super::state::{Disruption, name};
use crate::kept::Group;
use crate::round::act::REQUEST_TIMEOUT;

/// Budgets counted at the same time; OpenKruise has three workers.
const WIDTH: usize = 3;
/// Who speaks in events: OpenKruise's name.
const COMPONENT: &str = "podunavailablebudget-controller";
/// Pods that learn their budget's name at the same time.
const PARALLEL: usize = 8;
/// Workloads that are not followed want other numbers at times: how often they are asked where nothing may go, and elsewhere.
const LOOK: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// Counts until `shutdown`.
pub(super) async fn work(disruption: &Disruption, shutdown: &CancellationToken) {
    let failed = |budget: &Key, why: String| tracing::warn!(%budget, why, "a PodUnavailableBudget is not counted");
    disruption
        .queue
        .work_off(WIDTH, shutdown, |key| disruption.round(key), failed)
        .await;
}

impl Disruption {
    /// Counts for one budget. Ok: when to look again if nothing changes.
    async fn round(&self, key: Key) -> Result<Option<Duration>, String> {
        let Some(mut budget) = self
            .budgets
            .peek(&key)
            .filter(|budget| budget.metadata.deletion_timestamp.is_none())
        else {
            return Ok(None);
        };
        let counting = self.pods_of(&budget).await;
        let (pods, total) = counting.inspect_err(|why| {
            let message = format!("Failed to calculate the number of expected pods: {why}");
            self.tell(&budget, "Warning", "CalculateExpectedPodCountFailed", message);
        })?;
        self.tell_pods(&budget, &pods).await?;
        let rows: Vec<Row<'_>> = pods.iter().map(|pod| row(pod)).collect();
        // The cache may be behind what the webhook has written: then the write is too late, and the present budget is counted for.
        for _ in 0..2 {
            let now = Timestamp::now();
            let counted = count(&budget, &rows, total, now);
            if counted.status != budget.status {
                match write(&self.client, &budget, &counted.status).await? {
                    Wrote::Done => self.tell_of(&budget, &pods, &counted.overdue),
                    Wrote::Gone => return Ok(None),
                    Wrote::Late => match present(&self.client, &key.namespace, &key.name).await? {
                        Some(present) => {
                            budget = Arc::new(present);
                            continue;
                        }
                        None => return Ok(None),
                    },
                }
            }
            let look = if counted.status.unavailable_allowed == 0 {
                LOOK.0
            } else {
                LOOK.1
            };
            let wake = counted
                .wake_at
                .map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
            return Ok(Some(
                wake.map_or(look, |wake| wake.min(look) + Duration::from_millis(1)),
            ));
        }
        Err("somebody else wrote its status meanwhile".to_owned())
    }

    /// Tells of what has just been counted and written: that there are no pods, or that some are still there.
    fn tell_of(&self, budget: &PodUnavailableBudget, pods: &[Arc<GuardedPod>], overdue: &[String]) {
        if pods.is_empty() {
            self.tell(budget, "Normal", "NoPods", "No matching pods found".to_owned());
        }
        let (namespace, name) = (
            budget.metadata.namespace.as_deref().unwrap_or_default(),
            name(&budget.metadata),
        );
        for pod in pods.iter().filter(|pod| overdue.iter().any(|name| **name == *pod.name)) {
            let about = json!({"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": &*pod.name, "uid": &*pod.uid});
            let message = format!("Pod was expected by PUB {namespace}/{name} to be deleted but it wasn't");
            self.recorder
                .tell_of(&about, COMPONENT, "Warning", ("NotDeleted", message));
        }
    }

    fn tell(&self, budget: &PodUnavailableBudget, kind: &str, reason: &str, message: String) {
        let meta = &budget.metadata;
        let about = json!({
            "apiVersion": PodUnavailableBudget::API_VERSION, "kind": PodUnavailableBudget::KIND, "namespace": meta.namespace,
            "name": meta.name, "uid": meta.uid, "resourceVersion": meta.resource_version,
        });
        self.recorder.tell_of(&about, COMPONENT, kind, (reason, message));
    }

    /// The pods that a budget is about, and how many there should be.
    async fn pods_of(&self, budget: &PodUnavailableBudget) -> Result<(Vec<Arc<GuardedPod>>, i32), String> {
        let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
        let selected = Selected::of(budget);
        let mut pods = Vec::new();
        let mut workloads = BTreeSet::new();
        let mut alone = 0;
        for pod in self.pods.peek_group(&Group::from(namespace)) {
            if !pod.active || matches!(&selected, Selected::Labels(matcher) if !matcher.selects(&pod.labels)) {
                continue;
            }
            let owners = self.owners(&pod).await?;
            if !selected.is_about(&pod.labels, &owners) {
                continue;
            }
            match owners.into_iter().last() {
                Some(top) => drop(workloads.insert(top)),
                // Nobody wants a number of these: as many as there are.
                None => alone += 1,
            }
            pods.push(pod);
        }
        if let Selected::Target(target) = selected {
            // It counts also while it has no pods.
            workloads = [Owner {
                api_version: target.api_version,
                kind: target.kind,
                name: target.name,
                uid: String::new(),
            }]
            .into();
        }
        if let Some(total) = budget.said_total() {
            return Ok((pods, total));
        }
        let mut total = alone;
        for owner in &workloads {
            let of = |pod: &&Arc<GuardedPod>| pod.controller.as_ref().is_some_and(|c| c.uid.as_str() == owner.uid);
            let has = || i32::try_from(pods.iter().filter(of).count()).unwrap_or(i32::MAX);
            total = i32::saturating_add(total, self.wanted(namespace, owner).await?.unwrap_or_else(has));
        }
        Ok((pods, total))
    }

    /// Writes the budget's name to the pods that do not bear it: of others the API server asks nobody. A pod follows the budget that was
    /// first, as long as that is there.
    async fn tell_pods(&self, budget: &PodUnavailableBudget, pods: &[Arc<GuardedPod>]) -> Result<(), String> {
        let (own, namespace) = (
            name(&budget.metadata),
            budget.metadata.namespace.as_deref().unwrap_or_default(),
        );
        let guarded = |pod: &GuardedPod| {
            let related = pod.related.as_deref();
            related.is_some_and(|related| related == own || self.budgets.peek(&Key::new(namespace, related)).is_some())
        };
        let api: Api<Wire> = Api::namespaced(self.client.clone(), namespace);
        // Each owns what it needs: who borrows cannot be handed to another thread here.
        let mut writes = Vec::new();
        for pod in pods.iter().filter(|pod| !guarded(pod)) {
            writes.push(tell(api.clone(), pod.clone(), own.to_owned()));
        }
        let mut writes = futures::stream::iter(writes).buffer_unordered(PARALLEL);
        while let Some(written) = writes.next().await {
            written?;
        }
        Ok(())
    }
}

/// Writes a budget's name to a pod.
async fn tell(api: Api<Wire>, pod: Arc<GuardedPod>, budget: String) -> Result<(), String> {
    let annotations = json!({names::RELATED_BUDGET[0]: budget, names::RELATED_BUDGET[1]: budget});
    let patch = json!({"metadata": {"uid": &*pod.uid, "annotations": annotations}});
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(&patch));
    let call = api.patch_metadata(&pod.name, &parameters, &patch);
    match tokio::time::timeout(REQUEST_TIMEOUT, call).await {
        Ok(Ok(_)) => Ok(()),
        // It is gone, or another one.
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {REQUEST_TIMEOUT:?}")),
    }
}

fn row(pod: &GuardedPod) -> Row<'_> {
    Row {
        name: &pod.name,
        created: pod.created,
        available: pod.available,
        ready_since: pod.ready_since,
        going: pod.going,
    }
}
