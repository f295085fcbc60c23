//! All rules, asked of all objects.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::finding::Finding;
use crate::image::Images;
use crate::object::{Id, Workload, World, path};
use crate::rule::{IGNORE, Test};
use crate::rules::RULES;

/// All findings about the objects, in their order and per object in the order of the rules.
pub fn check(objects: &[Value], images: &Images, ignored: &BTreeSet<String>) -> Vec<Finding> {
    let world = World::new(objects, images);
    let mut found = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        let id = Id::of(object);
        let listed = object
            .pointer("/metadata/annotations")
            .and_then(|annotations| annotations.get(IGNORE)?.as_str())
            .unwrap_or_default();
        let skips = |rule: &str| listed.split(',').any(|word| word.trim() == rule || word.trim() == "*");
        let workload = Workload::of(object).filter(|workload| !workload.controlled());
        for rule in RULES {
            if ignored.contains(rule.id) || skips(rule.id) {
                continue;
            }
            let hits = match (rule.test, &workload) {
                (Test::Workload(test), Some(workload)) => test(&world, workload),
                (Test::Object(test), _) => test(&world, object),
                (Test::Workload(_), None) => Vec::new(),
            };
            found.extend(hits.into_iter().map(|hit| Finding {
                rule: rule.id,
                severity: rule.severity,
                object: id.clone(),
                index,
                path: path(&hit.pointer),
                pointer: hit.pointer,
                message: hit.message,
                explanation: rule.why,
                remedy: rule.remedy,
                fix: hit.fix,
                link: rule.link,
            }));
        }
    }
    found
}

/// The references of all images that the objects name.
pub fn references(objects: &[Value]) -> BTreeSet<String> {
    let workloads = objects.iter().filter_map(Workload::of);
    workloads
        .flat_map(|workload| {
            let containers = workload.containers().into_iter().chain(workload.init_containers());
            containers
                .map(|container| container.image().to_owned())
                .collect::<Vec<_>>()
        })
        .filter(|image| !image.is_empty())
        .collect()
}
