//! What an update in place waits for beyond what it has to.

use serde_json::{Value, json};

use crate::cel::Cel;
use crate::object::{Container, Workload, World};
use crate::patch;
use crate::rule::{Hit, Rule, Severity, Test};
use afloat_api::PodUpdatePolicy;

/// A return that may be so much later than it could is worth a word.
const LATE_SECONDS: i64 = 5;
/// How long a startupProbe lets a container start, where nothing longer was said.
const PATIENCE_SECONDS: i64 = 60;

pub(super) const SLOW_RETURN: Rule = Rule {
    id: "slow-return",
    severity: Severity::Info,
    title: "a pod that is updated in place waits for a probe's period before it serves again",
    why: "A kubelet asks a container that it has restarted once at its start, when nothing listens yet, and then only after \
          periodSeconds (10 by default), or not before initialDelaySeconds. The pod is out of service all that time, and \
          with it the next ones of the rollout wait.",
    remedy: "Add a startupProbe with periodSeconds 1, and drop initialDelaySeconds: it finds the moment within a second, the kubelet \
             asks for readiness at once when it succeeds, and the readinessProbe may stay as rare as it is.",
    link: "https://kubernetes.io/docs/concepts/workloads/pods/probes/",
    test: Test::Workload(slow_return),
    cel: Cel::Needs("the Services that send requests to the pods"),
};

fn slow_return(world: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    let rollout = workload.rollout();
    if !rollout.is_some_and(|rollout| rollout.policy != PodUpdatePolicy::ReCreate && !rollout.on_delete) {
        return Vec::new();
    }
    let serving = world.serving(workload);
    serving
        .iter()
        .filter_map(|(container, _)| late(workload, container))
        .collect()
}

fn late(workload: &Workload<'_>, container: &Container<'_>) -> Option<Hit> {
    // With a startupProbe it is that one's period that counts: readiness is asked for when it succeeds.
    let startup = container.field("/startupProbe");
    let (kind, probe) = match startup {
        Some(probe) => ("startupProbe", probe),
        None => ("readinessProbe", container.field("/readinessProbe")?),
    };
    let number = |field: &str, default: i64| probe.get(field).and_then(Value::as_i64).unwrap_or(default);
    let (delay, period) = (number("initialDelaySeconds", 0), number("periodSeconds", 10));
    if delay.max(period) < LATE_SECONDS {
        return None;
    }
    let message = format!(
        "{kind} of container {} asks after {delay} s and then every {period} s: after each update its pod may be back {} s later \
         than it could",
        container.name(),
        delay.max(period)
    );
    let patience = delay + period * number("failureThreshold", 3);
    let mut wanted = probe.clone();
    let fields = wanted.as_object_mut()?;
    fields.remove("initialDelaySeconds");
    fields.remove("successThreshold");
    fields.insert("periodSeconds".into(), json!(1));
    fields.insert("failureThreshold".into(), json!(patience.max(PATIENCE_SECONDS)));
    let pointer = container.at(&format!("/{kind}"));
    let fix = vec![patch::set(workload.object, &container.at("/startupProbe"), wanted)];
    Some(Hit::new(pointer, message).with_fix(fix))
}
