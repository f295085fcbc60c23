//! How many pods may be out of service at once, and whether traffic has left them.

use afloat_api::PodUpdatePolicy;
use afloat_api::names::{DRAIN, DRAIN_OBSERVED};
use afloat_rollout::workload::budget::{Round, resolve};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use crate::cel::{Cel, On, Part};
use crate::form::Form;
use crate::object::{Workload, World, amount, annotation, items, matcher, namespace};
use crate::patch;
use crate::rule::{Hit, Rule, Severity, Test};

const IN_PLACE: &str = "https://openkruise.io/docs/core-concepts/inplace-update";
const DEPLOYMENT: &str = "https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#strategy";
const BUDGETS: &str = "https://kubernetes.io/docs/tasks/run-application/configure-pdb/";

pub(super) const IN_PLACE_WITHOUT_GRACE: Rule = Rule {
    id: "in-place-without-grace",
    severity: Severity::Error,
    title: "pods behind a Service change in place without a quiet period",
    why: "An update in place takes the pod out of its Services first, and where the nodes' proxies do not report, gracePeriodSeconds 0 \
          stops the container at once: proxies that have not heard yet go on sending to it.",
    remedy: "Set inPlaceUpdateStrategy.gracePeriodSeconds above what proxies take (a DaemonSet has none: a preStop that sleeps, then), or, \
             where the nodes have agents, annotate the workload with afloat.dev/drain: Observed, which waits for what the proxies report.",
    link: IN_PLACE,
    test: Test::Workload(in_place_without_grace),
    cel: Cel::Needs("the Services that send requests to the pods"),
};

fn in_place_without_grace(world: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    let Some(rollout) = workload.rollout() else {
        return Vec::new();
    };
    let observed = annotation(workload.object, DRAIN) == Some(DRAIN_OBSERVED);
    let in_place = rollout.policy != PodUpdatePolicy::ReCreate && !rollout.on_delete;
    // With a preStop hook the container goes on serving, out of service, while the hook waits.
    let waits = |(container, _): &(crate::object::Container<'_>, Value)| {
        super::shutdown::pre_stop_seconds(container).is_some_and(|seconds| seconds > 0)
    };
    let serving = world.serving(workload);
    let services = world.services_of(workload);
    if observed || !in_place || rollout.grace_seconds > 0 || services.is_empty() {
        return Vec::new();
    }
    if !serving.is_empty() && serving.iter().all(waits) {
        return Vec::new();
    }
    if matches!(workload.form, Form::Ours(names) if !names.quiet) {
        let message = "the kind has no quiet period, nothing waits for the proxies, and the pods are behind a Service";
        let pointer = format!("/metadata/annotations/{}", patch::escape(DRAIN));
        let fix = vec![patch::set(workload.object, &pointer, json!(DRAIN_OBSERVED))];
        return vec![Hit::new(pointer, message).with_fix(fix)];
    }
    let pointer = format!("{}/inPlaceUpdateStrategy/gracePeriodSeconds", strategy(workload));
    let fix = vec![patch::set(workload.object, &pointer, json!(5))];
    vec![Hit::new(pointer, "gracePeriodSeconds is 0, and the pods are behind a Service").with_fix(fix)]
}

/// Where the settings of an update stand: below rollingUpdate, but of a CloneSet of v1alpha1 flat.
fn strategy(workload: &Workload<'_>) -> &'static str {
    let flat = matches!(workload.form, Form::Ours(names) if names.flat);
    if flat && workload.object["apiVersion"] == "apps.kruise.io/v1alpha1" {
        "/spec/updateStrategy"
    } else {
        "/spec/updateStrategy/rollingUpdate"
    }
}

/// Whether something else says how many pods there are.
fn autoscaled(world: &World<'_>, workload: &Workload<'_>) -> bool {
    world.autoscalers.iter().any(|scaler| {
        let reference = &scaler["spec"]["scaleTargetRef"];
        namespace(scaler) == namespace(workload.object)
            && reference["kind"] == workload.kind
            && reference["name"] == workload.object["metadata"]["name"]
            && scaler["spec"]["minReplicas"].as_u64().is_some_and(|number| number > 1)
    })
}

fn alone(world: &World<'_>, workload: &Workload<'_>) -> bool {
    workload.replicas() == Some(1) && !autoscaled(world, workload) && !world.services_of(workload).is_empty()
}

/// How many pods may be unavailable at once and where it stands; None where the kind has no such field.
fn max_unavailable(workload: &Workload<'_>, replicas: usize) -> Option<(String, usize)> {
    let stated = |pointer: &str| amount(workload.object.pointer(pointer));
    match workload.form {
        Form::Deployment
            if workload
                .object
                .pointer("/spec/strategy/type")
                .is_some_and(|kind| kind == "Recreate") =>
        {
            Some(("/spec/strategy/type".to_owned(), replicas))
        }
        Form::Deployment => {
            let pointer = "/spec/strategy/rollingUpdate/maxUnavailable";
            let value = stated(pointer).unwrap_or_else(|| IntOrString::String("25%".into()));
            Some((pointer.to_owned(), resolve(&value, replicas, Round::Down)))
        }
        Form::Ours(_) => {
            let pointer = format!("{}/maxUnavailable", strategy(workload));
            Some((pointer, workload.limits(replicas)?.max_unavailable))
        }
        Form::StatefulSet => {
            let pointer = "/spec/updateStrategy/rollingUpdate/maxUnavailable";
            let value = stated(pointer).unwrap_or(IntOrString::Int(1));
            Some((pointer.to_owned(), resolve(&value, replicas, Round::Up)))
        }
        _ => None,
    }
}

pub(super) const LAST_ENDPOINT: Rule = Rule {
    id: "last-endpoint",
    severity: Severity::Error,
    title: "an update takes the only endpoint of a Service away",
    why: "With one pod and none beside it, an update leaves the Service without an endpoint for as long as the pod takes to \
          stop and start: every request in that time is refused. An update in place is shorter, and still has the gap.",
    remedy: "Run two pods; or let a CloneSet surge (maxSurge: 1), which keeps the last available pod until another one is.",
    link: DEPLOYMENT,
    test: Test::Workload(last_endpoint),
    cel: Cel::Needs("the Services that send requests to the pods"),
};

fn goes(workload: &Workload<'_>) -> bool {
    match workload.form {
        Form::Ours(_) => workload
            .rollout()
            .is_some_and(|rollout| !rollout.on_delete && resolve(&rollout.max_surge, 1, Round::Up) == 0),
        Form::StatefulSet => workload
            .object
            .pointer("/spec/updateStrategy/type")
            .is_none_or(|kind| kind != "OnDelete"),
        Form::Deployment => max_unavailable(workload, 1).is_some_and(|(_, number)| number > 0),
        _ => false,
    }
}

fn last_endpoint(world: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    if !alone(world, workload) || !goes(workload) {
        return Vec::new();
    }
    let pointer = "/spec/replicas";
    let fix = vec![patch::set(workload.object, pointer, json!(2))];
    vec![
        Hit::new(
            pointer,
            "one pod behind a Service, and an update takes it out of service",
        )
        .with_fix(fix),
    ]
}

pub(super) const SINGLE_REPLICA: Rule = Rule {
    id: "single-replica",
    severity: Severity::Warning,
    title: "one pod is all there is behind a Service",
    why: "Whatever takes the pod away (a node that is drained or dies, an eviction, a crash) takes the Service away until a new \
          one has started. No update strategy helps there.",
    remedy: "Run two pods, on different nodes (topologySpreadConstraints), with a PodDisruptionBudget.",
    link: "https://kubernetes.io/docs/concepts/workloads/pods/disruptions/",
    test: Test::Workload(single_replica),
    cel: Cel::Needs("the Services that send requests to the pods"),
};

fn single_replica(world: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    // Said already, and worse.
    if !alone(world, workload) || goes(workload) {
        return Vec::new();
    }
    let hit = Hit::new("/spec/replicas", "one pod behind a Service");
    if workload.form == Form::Pod {
        return vec![Hit::new("/kind", "one pod that nothing replaces is behind a Service")];
    }
    let fix = vec![patch::set(workload.object, "/spec/replicas", json!(2))];
    vec![hit.with_fix(fix)]
}

pub(super) const MAX_UNAVAILABLE_ALL: Rule = Rule {
    id: "max-unavailable-all",
    severity: Severity::Error,
    title: "an update may take all pods out of service at once",
    why: "maxUnavailable of 100 %, or of as many pods as there are, or the strategy Recreate, lets an update stop every pod before \
          a new one serves: the application is down until the first is ready again.",
    remedy: "Set maxUnavailable to a part of the pods (25%), and use RollingUpdate.",
    link: DEPLOYMENT,
    test: Test::Workload(max_unavailable_all),
    cel: Cel::Finds {
        on: On::Workloads,
        part: Part::Spec,
        found: concat!(
            "variables.perNode ? (has(variables.rolling.maxUnavailable) && \
             variables.rolling.maxUnavailable == '100%' ? ['maxUnavailable: 100%'] : []) ",
            ": variables.replicas <= 1 ? [] ",
            ": variables.kind == 'Deployment' && has(variables.strategy.type) && variables.strategy.type == 'Recreate' \
             ? ['strategy: Recreate'] ",
            // Rounded up, it is all of them sooner.
            ": variables.maxUnavailable.matches('^[0-9]+%$') && (variables.floors || variables.surges \
             ? int(variables.maxUnavailable.replace('%', '')) >= 100 \
             : int(variables.maxUnavailable.replace('%', '')) * variables.replicas > 100 * (variables.replicas - 1)) \
             ? ['maxUnavailable: ' + variables.maxUnavailable] ",
            ": variables.maxUnavailable.matches('^[0-9]+$') && int(variables.maxUnavailable) >= variables.replicas \
             ? ['maxUnavailable: ' + variables.maxUnavailable] : []",
        ),
    },
};

fn max_unavailable_all(_: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    let Some(replicas) = workload.replicas().filter(|replicas| *replicas > 1) else {
        let pointer = "/spec/updateStrategy/rollingUpdate/maxUnavailable";
        let all = workload.form.per_node() && workload.object.pointer(pointer).is_some_and(|value| value == "100%");
        let fix = vec![patch::set(workload.object, pointer, json!("25%"))];
        let hit = || {
            Hit::new(
                pointer,
                "maxUnavailable 100% allows the pods of all nodes to go at once",
            )
            .with_fix(fix)
        };
        return all.then(hit).into_iter().collect();
    };
    let Some((pointer, number)) = max_unavailable(workload, replicas) else {
        return Vec::new();
    };
    if number < replicas {
        return Vec::new();
    }
    if pointer.ends_with("/type") {
        let fix = vec![patch::set(workload.object, &pointer, json!("RollingUpdate"))];
        let message = format!("strategy Recreate stops all {replicas} pods before the first new one starts");
        return vec![Hit::new(pointer, message).with_fix(fix)];
    }
    let message = format!("maxUnavailable allows {number} of {replicas} pods to go at once");
    let one = match workload.form {
        Form::StatefulSet => true,
        Form::Ours(names) => names.floors,
        _ => false,
    };
    let part = if one { json!(1) } else { json!("25%") };
    let fix = vec![patch::set(workload.object, &pointer, part)];
    vec![Hit::new(pointer, message).with_fix(fix)]
}

pub(super) const HOST_PORT: Rule = Rule {
    id: "host-port",
    severity: Severity::Warning,
    title: "pods hold a port of their node",
    why: "Two pods with one hostPort never run on one node. A new pod cannot start beside the old one, so a release waits for \
          a free node or for the old pod to go, and scaling ends at the number of nodes.",
    remedy: "Use a Service (NodePort, LoadBalancer); where the node's port is the point, a DaemonSet, or an update in place, which \
             keeps the pod where it is.",
    link: "https://kubernetes.io/docs/concepts/configuration/overview/",
    test: Test::Workload(host_port),
    cel: Cel::Finds {
        on: On::Workloads,
        part: Part::Spec,
        found: "variables.inPlace || variables.perNode ? [] : variables.containers.filter(c, has(c.ports) && \
                c.ports.exists(p, has(p.hostPort) && p.hostPort > 0)).map(c, c.name)",
    },
};

fn host_port(_: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    let in_place = workload
        .rollout()
        .is_some_and(|rollout| rollout.policy != PodUpdatePolicy::ReCreate);
    if in_place || workload.form.per_node() || workload.form == Form::Pod {
        return Vec::new();
    }
    let mut found = Vec::new();
    for container in workload.containers() {
        for (index, port) in items(container.value, "/ports").enumerate() {
            let Some(number) = port
                .get("hostPort")
                .and_then(Value::as_u64)
                .filter(|number| *number > 0)
            else {
                continue;
            };
            let pointer = container.at(&format!("/ports/{index}/hostPort"));
            let message = format!("container {} holds port {number} of its node", container.name());
            let fix = vec![patch::remove(&pointer)];
            found.push(Hit::new(pointer, message).with_fix(fix));
        }
    }
    found
}

/// The budget's field that counts, what it leaves to disrupt of that many pods, and the pods.
fn disruptions(world: &World<'_>, budget: &Value) -> Option<(&'static str, usize, usize)> {
    if budget["kind"] != "PodDisruptionBudget" {
        return None;
    }
    let matcher = matcher(&budget["spec"]["selector"])?;
    let same = world
        .workloads
        .iter()
        .filter(|workload| namespace(workload.object) == namespace(budget));
    let selected = same.filter(|workload| !workload.controlled() && matcher.selects(&workload.labels()));
    let pods: usize = selected.filter_map(Workload::replicas).sum();
    let field = |name: &str| amount(budget.pointer("/spec").and_then(|spec| spec.get(name)));
    if let Some(value) = field("maxUnavailable") {
        // Of no pods, percentages say nothing; the number 0 does.
        let pods = pods.max(1);
        return Some(("/spec/maxUnavailable", resolve(&value, pods, Round::Up), pods));
    }
    let value = field("minAvailable")?;
    if pods == 0 {
        let all = value == IntOrString::String("100%".into());
        return all.then_some(("/spec/minAvailable", 0, 1));
    }
    Some((
        "/spec/minAvailable",
        pods.saturating_sub(resolve(&value, pods, Round::Up)),
        pods,
    ))
}

pub(super) const BUDGET_ALLOWS_NOTHING: Rule = Rule {
    id: "pdb-allows-nothing",
    severity: Severity::Warning,
    title: "a PodDisruptionBudget allows no disruption at all",
    why: "kubectl drain and cluster upgrades evict pods, and this budget refuses every eviction: a node cannot be emptied, until \
          somebody deletes the pods by force, without any care for requests.",
    remedy: "Allow one: maxUnavailable: 1, and run more pods than must be available.",
    link: BUDGETS,
    test: Test::Object(budget_allows_nothing),
    cel: Cel::Finds {
        on: On::Budgets,
        part: Part::Spec,
        found: "!has(variables.spec.selector) ? [] \
                : has(variables.spec.maxUnavailable) ? (string(variables.spec.maxUnavailable).matches('^0*[1-9][0-9]*%?$') \
                ? [] : ['maxUnavailable: ' + string(variables.spec.maxUnavailable)]) \
                : has(variables.spec.minAvailable) && string(variables.spec.minAvailable) == '100%' \
                ? ['minAvailable: 100%'] : []",
    },
};

fn budget_allows_nothing(world: &World<'_>, budget: &Value) -> Vec<Hit> {
    match disruptions(world, budget) {
        Some((pointer, 0, pods)) => {
            let mut fix = Vec::new();
            if pointer.ends_with("minAvailable") {
                fix.push(patch::remove(pointer));
            }
            fix.push(patch::set(budget, "/spec/maxUnavailable", json!(1)));
            vec![Hit::new(pointer, format!("of {pods} pods none may be evicted")).with_fix(fix)]
        }
        _ => Vec::new(),
    }
}

pub(super) const BUDGET_ALLOWS_ALL: Rule = Rule {
    id: "pdb-allows-all",
    severity: Severity::Warning,
    title: "a PodDisruptionBudget allows all pods to be evicted at once",
    why: "The budget is there and protects nothing: draining two nodes at once may evict every pod before a new one serves.",
    remedy: "Set maxUnavailable: 1, or a minAvailable that is enough to serve.",
    link: BUDGETS,
    test: Test::Object(budget_allows_all),
    cel: Cel::Needs("the pods that the budget is for"),
};

fn budget_allows_all(world: &World<'_>, budget: &Value) -> Vec<Hit> {
    match disruptions(world, budget) {
        Some((pointer, number, pods)) if pods > 1 && number >= pods => {
            let mut fix = Vec::new();
            if pointer.ends_with("minAvailable") {
                fix.push(patch::remove(pointer));
            }
            fix.push(patch::set(budget, "/spec/maxUnavailable", json!(1)));
            vec![Hit::new(pointer, format!("all {pods} pods may be evicted at once")).with_fix(fix)]
        }
        _ => Vec::new(),
    }
}
