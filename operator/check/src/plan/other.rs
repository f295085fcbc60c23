//! Deployments and StatefulSets: their controllers know no change in place.

use afloat_rollout::pod::inplace::compare;
use afloat_rollout::workload::budget::Round;
use serde_json::Value;

use super::forecast::{Forecast, Hold, Outcome, Situation};
use super::parts::{all_anew, budget_notes, estimate, image_change, pods_of, start, stop_seconds, template};
use crate::form::Form;
use crate::object::{Workload, items};

pub(super) fn forecast(seen: &Situation<'_>, workload: &Workload<'_>) -> Forecast {
    let mut forecast = start(seen, workload);
    let Some(old) = seen.old else {
        forecast.outcome = Outcome::Create;
        forecast.why = format!("there is no such {}", workload.kind);
        return forecast;
    };
    let (before, after) = (template(old), template(seen.new));
    if afloat_rollout::pod::meaning::equivalent(&before, &after) {
        return forecast;
    }
    forecast.outcome = Outcome::Recreate;
    forecast.why = match compare(&before, &after) {
        Err(obstacle) => format!("spec.template.{} changed", obstacle.0),
        Ok(change) => {
            let images: Vec<String> = change
                .images
                .iter()
                .map(|(name, image)| format!("container {name}: {}", image_change(seen, name, image)))
                .collect();
            let what = if images.is_empty() {
                "the pod template changed".to_owned()
            } else {
                images.join(", ")
            };
            format!(
                "{what}; a {} replaces its pods for any change of the template (a workload of apps.kruise.io could make this one in place)",
                workload.kind
            )
        }
    };
    forecast.containers = all_anew(workload);
    forecast.pods_to_change = forecast.replicas;
    if workload.form == Form::Deployment {
        roll_deployment(seen.new, &mut forecast);
    } else {
        roll_statefulset(seen, &mut forecast);
    }
    forecast.holds.extend(budget_notes(seen, workload));
    let moves = !forecast.holds.iter().any(Hold::stops);
    let stop = if workload.form == Form::StatefulSet {
        stop_seconds(workload)
    } else {
        0
    };
    let at_once = forecast.max_unavailable + forecast.max_surge;
    forecast.estimate = moves.then(|| estimate(seen, workload, forecast.pods_to_change, at_once, (0, stop)));
    forecast
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// How many at once, and what holds them.
fn roll_deployment(object: &Value, forecast: &mut Forecast) {
    if text(object, "/spec/strategy/type") == "Recreate" {
        forecast.max_unavailable = forecast.replicas;
    } else {
        let rolling = "/spec/strategy/rollingUpdate";
        let (down, up) = (format!("{rolling}/maxUnavailable"), format!("{rolling}/maxSurge"));
        forecast.max_unavailable = pods_of(object, &down, "25%", forecast.replicas, Round::Down);
        forecast.max_surge = pods_of(object, &up, "25%", forecast.replicas, Round::Up);
        if forecast.max_unavailable + forecast.max_surge == 0 {
            forecast.max_unavailable = 1;
        }
    }
    if object.pointer("/spec/paused") == Some(&Value::Bool(true)) {
        forecast.holds.push(Hold::Paused("spec.paused"));
    }
}

/// By its name, as the controller knows its pods.
fn is_pod_of(set: &Value, pod: &Value) -> bool {
    let parts = text(pod, "/metadata/name").rsplit_once('-');
    parts.is_some_and(|(name, ordinal)| name == text(set, "/metadata/name") && ordinal.parse::<u32>().is_ok())
}

fn is_ready(pod: &Value) -> bool {
    items(pod, "/status/conditions").any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The same: one at a time.
fn roll_statefulset(seen: &Situation<'_>, forecast: &mut Forecast) {
    let object = seen.new;
    forecast.max_unavailable = 1;
    if text(object, "/spec/podManagementPolicy") != "Parallel" {
        let waiting = seen.pods.iter().find(|pod| is_pod_of(object, pod) && !is_ready(pod));
        let name = waiting.map(|pod| text(pod, "/metadata/name").to_owned());
        forecast.holds.extend(name.map(Hold::NotReady));
    }
    let partition = object
        .pointer("/spec/updateStrategy/rollingUpdate/partition")
        .and_then(Value::as_u64);
    if let Some(partition) = partition.filter(|partition| *partition > 0) {
        forecast.pods_to_change = forecast.replicas.saturating_sub(partition);
        forecast.holds.push(Hold::Ordinals(partition));
    }
    if text(object, "/spec/updateStrategy/type") == "OnDelete" {
        forecast.holds.push(Hold::OnDelete);
    }
}
