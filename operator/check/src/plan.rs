//! What a change of a workload will do: in place or not and why, how many pods at a time and which first, what restarts,
//! what holds it up, and how long it may take. The first step of a workload of ours is what the operator's own planner says.

mod configs;
mod forecast;
mod other;
mod ours;
mod parts;
mod text;

use serde_json::Value;

use crate::form::Form;
use crate::object::Workload;

pub use afloat_rollout::pod::server::Server;
pub use forecast::{ContainerChange, Estimate, Forecast, Hold, Outcome, Situation};
pub use text::text;

/// Whether changes of an object can be foretold.
pub fn is_planned(object: &Value) -> bool {
    let workload = Workload::of(object);
    let planned = |form| matches!(form, Form::Ours(_) | Form::Deployment | Form::StatefulSet);
    workload.is_some_and(|workload| planned(workload.form))
}

/// Tells what a change will do; None for kinds without a plan.
pub fn forecast(seen: &Situation<'_>) -> Option<Forecast> {
    let workload = Workload::of(seen.new)?;
    match workload.form {
        Form::Ours(_) => ours::forecast(seen, workload),
        Form::Deployment | Form::StatefulSet => Some(other::forecast(seen, &workload)),
        _ => None,
    }
}
