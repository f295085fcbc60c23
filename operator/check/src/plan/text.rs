//! A forecast for people.

use super::forecast::{Forecast, Outcome};

/// More names than these are counted.
const NAMES: usize = 10;

fn names(list: &[String]) -> String {
    let mut text = list.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
    if list.len() > NAMES {
        text.push_str(&format!(" and {} more", list.len() - NAMES));
    }
    text
}

/// The forecast as lines.
pub fn text(forecast: &Forecast) -> String {
    let word = match forecast.outcome {
        Outcome::Create => "is created",
        Outcome::Nothing if forecast.replicas_before == Some(forecast.replicas) => "nothing to do: no pod changes",
        Outcome::Nothing => "no pod changes",
        Outcome::InPlace => "pods change in place",
        Outcome::Recreate => "pods are recreated",
        Outcome::Refused => "pods cannot follow",
    };
    let mut out = format!("{}: {word}\n", forecast.object);
    let mut line = |name: &str, text: String| out.push_str(&format!("  {name:<11}{text}\n"));
    line("why", forecast.why.clone());
    if let Some(rollout) = &forecast.under_way {
        line("under way", rollout.clone());
    }
    match forecast.replicas_before {
        Some(before) if before != forecast.replicas => line("replicas", format!("{before} → {}", forecast.replicas)),
        _ => line("replicas", forecast.replicas.to_string()),
    }
    if matches!(forecast.outcome, Outcome::InPlace | Outcome::Recreate) {
        line(
            "how many",
            format!(
                "{} to change; at once {} may be unavailable, and {} may be there beside those wanted",
                forecast.pods_to_change, forecast.max_unavailable, forecast.max_surge
            ),
        );
    }
    if !forecast.order.is_empty() {
        line("order", names(&forecast.order));
    }
    if !forecast.first.is_empty() {
        line("first step", names(&forecast.first));
    }
    for container in &forecast.containers {
        let word = if container.restarts {
            "restarts"
        } else {
            "keeps running"
        };
        line("container", format!("{} {word}: {}", container.name, container.why));
    }
    for hold in &forecast.holds {
        line("held up", hold.to_string());
    }
    if let Some(estimate) = &forecast.estimate {
        let what = if estimate.from_history { "expected" } else { "estimate" };
        let (all, pod, rounds) = (estimate.seconds, estimate.pod_seconds, estimate.rounds);
        line("takes", format!("{what}: {all} s at least ({rounds} × {pod} s)"));
        for assumption in &estimate.assumes {
            line("", format!("assumes {assumption}"));
        }
    }
    out
}
