//! Connections that pods lose, and the reports of rollouts.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{CloneSet, NodeTraffic, RolloutReport, Status as _, Steps, names};
use serde_json::{Value, json};

use super::{Plan, World, object};
use afloat_rollout::action::patch::{ConditionPatch, Edit, ReportPatch, new_report};
use afloat_rollout::action::{Action, At, Why};
use afloat_rollout::pod::drain::Drain;
use afloat_rollout::pod::same_revision;
use afloat_rollout::workload::observed::Recorded;
use afloat_rollout::workload::traffic::Traffic;

/// What the proxies counted, and what the operator made of it. Its views of these are never late: what is new here is
/// what follows from losses, in every state that pods can be in.
#[derive(Default)]
pub(crate) struct Losses {
    reports: BTreeMap<String, Value>,
    /// By the pod's UID.
    resets: BTreeMap<String, u64>,
    departed: BTreeMap<String, String>,
    steps: Steps,
}

/// What a plan sees of them.
pub(crate) struct Seen {
    reports: Vec<Arc<RolloutReport>>,
    pub(crate) traffic: Traffic,
}

impl World {
    /// From now on connections are counted, and none may be lost.
    pub(crate) fn count_losses(&mut self, back: bool) {
        let on_loss = if back {
            names::ON_LOSS_ROLLBACK
        } else {
            names::ON_LOSS_PAUSE
        };
        self.set["metadata"]["annotations"] = json!({
            names::DRAIN: names::DRAIN_TIMED, names::MAX_LOSS: "0", names::ON_LOSS: on_loss,
        });
        self.losses = Some(Losses::default());
        self.record();
    }

    /// Some pod loses a connection.
    pub(crate) fn lose(&mut self) {
        let pods: Vec<_> = self.pods.values().collect();
        let Some(losses) = self.losses.as_mut().filter(|_| !pods.is_empty()) else {
            return;
        };
        let uid = &pods[self.dice.roll(pods.len())]["metadata"]["uid"];
        *losses.resets.entry(uid.as_str().unwrap().to_owned()).or_default() += 1;
    }

    pub(crate) fn seen_losses(&self) -> Option<Seen> {
        let losses = self.losses.as_ref()?;
        let pods: BTreeMap<_, _> = losses
            .resets
            .iter()
            .map(|(uid, reset)| (uid, json!({"reset": reset})))
            .collect();
        let status = json!({"synced": true, "services": {"n/web": self.version}, "pods": pods});
        let node: NodeTraffic = serde_json::from_value(json!({"status": status})).unwrap();
        let service = json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {"selector": {"app": "web"}}});
        let read = |report: &Value| Arc::new(serde_json::from_value(report.clone()).unwrap());
        Some(Seen {
            reports: losses.reports.values().map(read).collect(),
            traffic: Traffic {
                nodes: BTreeMap::from([("one".to_owned(), Some(Arc::new(node)))]),
                services: vec![Arc::new(serde_json::from_value(service).unwrap())],
            },
        })
    }

    pub(crate) fn recorded<'a>(&'a self, seen: &'a Seen) -> Option<Recorded<'a>> {
        let losses = self.losses.as_ref()?;
        Some(Recorded {
            reports: &seen.reports,
            departed: &losses.departed,
            writes: 0,
            steps: &losses.steps,
        })
    }

    /// What must not be in a plan: a pod that is taken out of service for an update that lost too much.
    pub(crate) fn check_held(plan: &Plan) -> Result<(), String> {
        if plan.status.condition(names::LOSS_EXCEEDED).is_none() {
            return Ok(());
        }
        for action in &plan.actions {
            let Action::PatchPodStatus {
                at,
                patch,
                why: Why::Drain,
            } = action
            else {
                continue;
            };
            let for_update = |condition: &ConditionPatch| {
                let told = match &condition.message {
                    Edit::Set(text) => text.parse::<Drain>().ok(),
                    Edit::Keep | Edit::Remove => None,
                };
                told.is_some_and(|drain| drain.revision == plan.status.update_revision)
            };
            if patch.conditions.iter().any(for_update) {
                return Err(format!("{} is taken out of service although too much is lost", at.name));
            }
        }
        Ok(())
    }

    pub(crate) fn create_report(&mut self, report: &RolloutReport) {
        self.version += 1;
        let version = self.version;
        let Some(losses) = &mut self.losses else { return };
        let mut body = new_report(report);
        let name = body["metadata"]["name"].as_str().unwrap().to_owned();
        losses.reports.entry(name).or_insert_with(|| {
            body["metadata"]["resourceVersion"] = json!(version.to_string());
            body["metadata"]["uid"] = json!(format!("uid-{version}"));
            body
        });
    }

    pub(crate) fn patch_report(&mut self, at: &At, patch: &ReportPatch) {
        self.version += 1;
        let version = self.version;
        let Some(losses) = &mut self.losses else { return };
        if object::matches(losses.reports.get(&at.name), at) {
            let report = losses.reports.get_mut(&at.name).unwrap();
            for (key, value) in patch.json(at)["status"].as_object().unwrap() {
                report["status"][key] = value.clone();
            }
            report["metadata"]["resourceVersion"] = json!(version.to_string());
        }
    }

    pub(crate) fn delete_report(&mut self, at: &At) {
        if let Some(losses) = &mut self.losses
            && object::matches(losses.reports.get(&at.name), at)
        {
            losses.reports.remove(&at.name);
        }
    }

    /// What has to be true in the end where a rollout lost too much; None where none did.
    pub(crate) fn check_stopped(&self) -> Option<Result<(), String>> {
        let set: CloneSet = serde_json::from_value(self.set.clone()).unwrap();
        let exceeded = set.status.condition(names::LOSS_EXCEEDED)?;
        let reports = &self.losses.as_ref()?.reports;
        let of_it = |report: &&Value| report["status"]["revision"] == *set.status.update_revision;
        let report = reports
            .values()
            .filter(of_it)
            .max_by_key(|report| report["status"]["startedAt"].to_string())?;
        let (phase, from) = (&report["status"]["phase"], &report["status"]["from"]);
        let mut labels = self
            .pods
            .values()
            .map(|pod| &pod["metadata"]["labels"][names::REVISION]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Some(match exceeded.reason.as_str() {
            "Rollback" if phase != "RolledBack" || labels.any(|label| !same_revision(&text(label), &text(from))) => {
                Err(format!("not gone back to {from}: {phase}"))
            }
            "MaxLoss" if phase != "LossExceeded" => Err(format!("lost too much, and is {phase}")),
            _ => Ok(()),
        })
    }
}
