//! Services that lead nowhere.

use serde_json::Value;

use super::source;
use crate::cel::Cel;
use crate::object::{Id, Workload, World, namespace, ports, selects, target};
use crate::rule::{Hit, Rule, Severity, Test};

const SERVICES: &str = "https://kubernetes.io/docs/concepts/services-networking/service/";

pub(super) const SELECTS_NOTHING: Rule = Rule {
    id: "service-selects-nothing",
    severity: Severity::Error,
    title: "a Service selects none of the pods",
    why: "A Service whose selector matches no pod has no endpoints, and every request to it is refused. It is applied without an \
          error: a changed label is enough.",
    remedy: "Make spec.selector a part of the labels in the workload's spec.template.metadata.labels.",
    link: SERVICES,
    test: Test::Object(selects_nothing),
    cel: Cel::Needs("the pods in the Service's namespace"),
};

/// The workloads of the Service's namespace, and those of them that it selects; None if it is no Service that selects.
fn reach<'w, 'a>(world: &'w World<'a>, service: &Value) -> Option<(Vec<&'w Workload<'a>>, Vec<&'w Workload<'a>>)> {
    let selector = service.pointer("/spec/selector").and_then(Value::as_object);
    let external = service.pointer("/spec/type").is_some_and(|kind| kind == "ExternalName");
    if service["kind"] != "Service" || external || selector.is_none_or(serde_json::Map::is_empty) {
        return None;
    }
    let near = world
        .workloads
        .iter()
        .filter(|workload| namespace(workload.object) == namespace(service));
    let near: Vec<_> = near.collect();
    let selected = near
        .iter()
        .copied()
        .filter(|workload| selects(service, workload))
        .collect();
    Some((near, selected))
}

fn selects_nothing(world: &World<'_>, service: &Value) -> Vec<Hit> {
    match reach(world, service) {
        // Without a workload beside it nothing can be said: its pods may be elsewhere.
        Some((near, selected))
            if selected.is_empty() && !near.is_empty() && !source::may_be(world.objects, service) =>
        {
            let names: Vec<String> = near
                .iter()
                .take(3)
                .map(|workload| Id::of(workload.object).to_string())
                .collect();
            let message = format!("no pod has these labels; looked at {}", names.join(", "));
            vec![Hit::new("/spec/selector", message)]
        }
        _ => Vec::new(),
    }
}

pub(super) const PORT_UNKNOWN: Rule = Rule {
    id: "service-port-unknown",
    severity: Severity::Error,
    title: "a Service's targetPort names no port of its pods",
    why: "A targetPort by name is looked up in the containers' ports. Where there is none of that name the pod is no endpoint for \
          that port, and requests are refused, without an error anywhere.",
    remedy: "Name the container's port so, or give targetPort the number.",
    link: SERVICES,
    test: Test::Object(port_unknown),
    cel: Cel::Needs("the pods in the Service's namespace"),
};

fn port_unknown(world: &World<'_>, service: &Value) -> Vec<Hit> {
    let Some((_, selected)) = reach(world, service) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (index, port) in ports(service).enumerate() {
        let target = target(port);
        let Some(name) = target.as_str() else { continue };
        let lacks = |workload: &&&Workload<'_>| {
            let sidecars = workload.init_containers().into_iter();
            let mut containers = workload.containers().into_iter().chain(sidecars);
            !containers.any(|container| container.declares(&target))
        };
        if let Some(workload) = selected.iter().find(lacks) {
            let message = format!("{} has no container port named {name}", Id::of(workload.object));
            found.push(Hit::new(format!("/spec/ports/{index}/targetPort"), message));
        }
    }
    found
}
