//! New pods, each for one node.

use std::collections::{BTreeMap, BTreeSet};

use afloat_api::{DaemonSet, PodUpdatePolicy, Rollout};
use afloat_words::daemon::{pin, tolerate};
use serde_json::{Value, json};

use crate::action::Action;
use crate::workload::kind::Workload;
use crate::workload::observed::Observed;
use crate::workload::recipe::ids::Ids;
use crate::workload::recipe::{Beside, Own, Recipe};

/// A pod for each of these nodes, at a revision.
///
/// # Errors
/// A template that no pod can be made from.
pub(super) fn pods(
    set: &DaemonSet,
    rollout: &Rollout,
    seen: &Observed<'_>,
    revision: &str,
    nodes: &[&str],
) -> Result<Vec<Action>, String> {
    if nodes.is_empty() {
        return Ok(Vec::new());
    }
    let owner = set.owner();
    let mut template = set.spec.template.clone();
    if !template["spec"].is_object() {
        template["spec"] = json!({});
    }
    tolerate(&mut template["spec"]);
    let mut beside = Beside::revision(owner, revision, seen.gates);
    beside.in_place = rollout.policy == PodUpdatePolicy::InPlaceIfPossible;
    beside.generate_name = Some(format!("{}-", owner.name()));
    let named = names_for(set, seen, nodes.len());
    let node_of: BTreeMap<&str, &str> = named.iter().map(String::as_str).zip(nodes.iter().copied()).collect();
    let own = Own {
        fields: vec!["affinity"],
        write: |spec: &mut Value, pod: &str| pin(spec, node_of.get(pod).copied().unwrap_or_default()),
    };
    let recipe = Recipe::of(owner, &template, beside, own)?;
    let pod = |name: &String| {
        let pod = recipe.pod(name.clone(), Vec::new())?;
        Ok(Action::CreatePod { pod })
    };
    named.iter().map(pod).collect()
}

/// So many names that nobody has.
fn names_for(set: &DaemonSet, seen: &Observed<'_>, count: usize) -> Vec<String> {
    let owner = set.owner();
    let mut ids = Ids::of(seen.seed);
    let mut new = BTreeSet::new();
    let mut name = || {
        loop {
            let name = format!("{}-{}", owner.name(), ids.next());
            if seen.pods.find(&name).is_none() && new.insert(name.clone()) {
                return name;
            }
        }
    };
    (0..count).map(|_| name()).collect()
}
