//! `pods/eviction`: a deletion that asks the disruption budgets first.

use afloat_machinery::admission::Operation;
use afloat_machinery::selector::LabelSelector;
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use crate::admit::webhook::Asked;
use crate::clock::now;
use crate::view;
use crate::wire::body::Body;
use crate::wire::call::Call;
use crate::wire::reply;
use crate::wire::status::Status;
use crate::write::delete::DeleteOptions;
use crate::write::{Change, Writer};

/// Budgets do not protect what does not serve.
fn unprotected(pod: &Value) -> bool {
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    pod["metadata"]["deletionTimestamp"].is_string() || matches!(phase, "Succeeded" | "Failed" | "Pending" | "")
}

fn ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Whether a pod that is not ready may go without being counted.
fn free_while_unready(budget: &Value, pod: &Value) -> bool {
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    let healthy_enough = number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0;
    !ready(pod) && (budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" || healthy_enough)
}

/// The pod with the condition that says that it is evicted.
fn disrupted(pod: &Value, now: &str) -> Value {
    let mut new = pod.clone();
    let conditions = view::child(&mut new, "status")
        .entry("conditions")
        .or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else {
        return new;
    };
    let known = conditions.iter().position(|one| one["type"] == "DisruptionTarget");
    let before = known.map(|at| conditions.remove(at)).unwrap_or_default();
    let since = if before["status"] == "True" {
        before["lastTransitionTime"].clone()
    } else {
        json!(now)
    };
    conditions.push(json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting", "lastTransitionTime": since,
    }));
    new
}

/// The budget's status after one more disruption, or why there may be none.
fn spend(budget: &Value, pod: &str) -> Result<Value, Status> {
    let status = &budget["status"];
    let seen = status["observedGeneration"].as_i64().unwrap_or(0);
    if seen < budget["metadata"]["generation"].as_i64().unwrap_or(0) {
        let message = "Cannot evict pod as the disruption budget has not been processed yet: try again";
        return Err(Status::too_many_requests(message, json!({"retryAfterSeconds": 10})));
    }
    let allowed = status["disruptionsAllowed"].as_i64().unwrap_or(0);
    if allowed <= 0 {
        let number = |field: &str| status[field].as_i64().unwrap_or(0);
        let (needs, has) = (number("desiredHealthy"), number("currentHealthy"));
        let name = view::meta(budget, "name");
        let cause = format!("The disruption budget {name} needs {needs} healthy pods and has {has} currently");
        let details = json!({"causes": [{"reason": "DisruptionBudget", "message": cause}]});
        return Err(Status::too_many_requests(
            "Cannot evict pod as it would violate the pod's disruption budget.",
            details,
        ));
    }
    let mut new = budget.clone();
    let status = view::child(&mut new, "status");
    status.insert("disruptionsAllowed".into(), (allowed - 1).into());
    view::child(&mut new["status"], "disruptedPods").insert(pod.to_owned(), now().into());
    Ok(new)
}

impl Writer {
    pub(crate) async fn evict(&self, call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
        let eviction = call.object_of("policy/v1", "Eviction", body)?;
        let wanted = &eviction["deleteOptions"];
        let text = |field: &str| wanted["preconditions"][field].as_str().map(str::to_owned);
        let mut options = DeleteOptions {
            grace_seconds: wanted["gracePeriodSeconds"].as_i64(),
            propagation: None,
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            dry_run: call.query.dry_run()?
                || wanted["dryRun"]
                    .as_array()
                    .is_some_and(|d| d.iter().any(|v| v == "All")),
        };
        let asked = Asked {
            call,
            operation: Operation::Create,
            dry_run: options.dry_run,
        };
        let warnings = self.admission.ask_webhooks(asked, None, Some(&eviction)).await?;
        let pod = self.reader.object(&call.resource, call.namespace(), call.name())?;
        if !unprotected(&pod) {
            self.ask_budgets(call, &pod, options.dry_run).await?;
        }
        self.mark(call, &mut options).await?;
        let (written, _) = self
            .remove(&call.resource, call.namespace(), call.name(), &options, None)
            .await?;
        if written.changed {
            self.metrics
                .wrote(&call.user, "create", &call.resource, "eviction", call.namespace());
        }
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        let answer = reply::rendered(201, call.accept, status.to_string().into())?;
        Ok(reply::with_warnings(answer, &warnings))
    }

    /// Writes down that the pod goes by an eviction, for what judges its end (a Job's `podFailurePolicy`); the deletion is that of the
    /// pod as it is then. One that is not the pod that is meant stays as it is, for the deletion to refuse.
    async fn mark(&self, call: &Call, options: &mut DeleteOptions) -> Result<(), Status> {
        if options.dry_run {
            return Ok(());
        }
        let (uid, version) = (options.uid.clone(), options.resource_version.clone());
        let is_meant = |pod: &Value| {
            let fits = |wanted: &Option<String>, field: &str| {
                wanted.as_ref().is_none_or(|text| pod["metadata"][field] == **text)
            };
            fits(&uid, "uid") && fits(&version, "resourceVersion")
        };
        let mut meant = false;
        let marked = |pod: &Value| {
            meant = is_meant(pod);
            Ok(Change::Put(if meant { disrupted(pod, &now()) } else { pod.clone() }))
        };
        let written = self
            .modify(&call.resource, call.namespace(), call.name(), false, marked)
            .await?;
        if meant && version.is_some() {
            let pod = view::parse(&call.resource, &written.bytes)?;
            options.resource_version = pod["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        }
        Ok(())
    }

    async fn ask_budgets(&self, call: &Call, pod: &Value, dry_run: bool) -> Result<(), Status> {
        let registry = self.reader.registry();
        let Some(resource) = registry.resolve("policy", "v1", "poddisruptionbudgets") else {
            return Ok(());
        };
        let mut matching = Vec::new();
        for entry in self.reader.all(&resource, call.namespace()).entries {
            let budget = view::parse(&resource, &entry.value)?;
            let selector = &budget["spec"]["selector"];
            if selector.is_object() && LabelSelector::from_value(selector).is_ok_and(|s| s.matches(pod)) {
                matching.push(budget);
            }
        }
        let budget = match matching.as_slice() {
            [] => return Ok(()),
            [one] => one,
            _ => {
                return Err(Status::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        };
        if free_while_unready(budget, pod) {
            return Ok(());
        }
        let spend = |current: &Value| spend(current, call.name()).map(Change::Put);
        self.modify(&resource, call.namespace(), view::meta(budget, "name"), dry_run, spend)
            .await
            .map(drop)
    }
}
