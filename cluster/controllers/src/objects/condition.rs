//! Conditions of workloads and nodes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;
use serde_json::{Value, json};

use super::time::seconds;

/// One entry of `status.conditions`, as workloads and nodes have them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) last_transition_time: Option<Time>,
    pub(crate) last_update_time: Option<Time>,
    pub(crate) last_heartbeat_time: Option<Time>,
}

/// Conditions as JSON; none are left out.
pub(crate) fn conditions_json(conditions: &[Condition]) -> Value {
    if conditions.is_empty() {
        return Value::Null;
    }
    conditions
        .iter()
        .map(|condition| {
            let mut entry = json!({
                "type": condition.type_, "status": condition.status, "reason": condition.reason, "message": condition.message,
            });
            if let Some(at) = &condition.last_transition_time {
                entry["lastTransitionTime"] = json!(seconds(at.0));
            }
            if let Some(at) = &condition.last_update_time {
                entry["lastUpdateTime"] = json!(seconds(at.0));
            }
            entry
        })
        .collect()
}
