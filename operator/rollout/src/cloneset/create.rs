//! New pods: how many of which revision, and the object.

use std::collections::BTreeSet;

use afloat_api::{CloneSet, Gates, names};
use afloat_words::time::whole_seconds;
use serde_json::{Value, json};

use super::claim::{self, ById};
use super::observed::Observed;
use super::owner::owner;
use crate::action::Action;
use crate::pod::label::{revision_label, short};
use crate::pod::launch;
use crate::pod::object::Pod;
use crate::workload::budget::Count;
use crate::workload::history::Revisions;
use crate::workload::plan::planner::BURST;

/// Pods to create.
#[derive(Debug, Default)]
pub(super) struct Creation<'a> {
    pub(super) actions: Vec<Action>,
    /// How many of them are at the update revision.
    pub(super) updated: usize,
    /// Pods that have to be gone first, as another one takes their names and claims.
    pub(super) after: Vec<&'a Pod>,
}

/// Creates at once at most: a whole pod is fifty times the size of a patch, and the memory of the process is what the most of them
/// took. Of a large workload it is a share, as each plan looks at all of its pods.
fn burst(replicas: usize) -> usize {
    (replicas / 50).clamp(100, BURST)
}

/// Creates `missing` pods, as many at once as [`burst`] says. Those that the partition keeps at the old revision come
/// first, as far as its template is still known. Claims that others left behind are taken before new ones are made, those
/// of pods that are not gone yet included: who deletes eight pods gets their data back, and not eight empty volumes beside.
///
/// # Errors
/// A template that no pod can be made from.
pub(super) fn pods<'a>(
    seen: &Observed<'a>,
    revisions: &Revisions,
    claims: &ById<'a>,
    count: &Count,
    missing: usize,
) -> Result<Creation<'a>, String> {
    let mut creation = Creation::default();
    if missing == 0 {
        return Ok(creation);
    }
    let old = count.total - count.updated;
    let missing = missing.min(burst(count.replicas));
    let at_old = match revisions.old_template.as_ref() {
        Some(_) => count.partition.saturating_sub(old).min(missing),
        None => 0,
    };
    let mut ids = Ids { state: seen.seed };
    let set_name = seen.cloneset.metadata.name.as_deref().unwrap_or_default();
    let mut known: Vec<&str> = seen.pods.iter().map(|pod| pod.name()).collect();
    known.sort_unstable();
    let mut new = BTreeSet::new();
    let left = claim::left(seen.cloneset, seen.pods, claims);
    creation.after = left.held;
    creation.after.truncate(missing.saturating_sub(left.free.len()));
    let mut free = left.free.into_iter().map(str::to_owned);
    for index in 0..missing - creation.after.len() {
        let id = free.next().unwrap_or_else(|| {
            let mut id = ids.next();
            let taken = |name: String| known.binary_search(&name.as_str()).is_ok() || new.contains(&name);
            while taken(format!("{set_name}-{id}")) {
                id = ids.next();
            }
            id
        });
        new.insert(format!("{set_name}-{id}"));
        let body = match revisions.old_template.as_ref() {
            Some(template) if index < at_old => body(seen, template, &revisions.current, &id)?,
            _ => {
                creation.updated += 1;
                body(seen, &seen.cloneset.spec.template, &revisions.update, &id)?
            }
        };
        creation.actions.extend(claim::missing(seen.cloneset, claims, &id));
        creation.actions.push(Action::CreatePod { body });
    }
    Ok(creation)
}

/// A pod of a template.
fn body(seen: &Observed<'_>, template: &Value, revision: &str, id: &str) -> Result<Value, String> {
    let set = seen.cloneset;
    let set_name = set.metadata.name.as_deref().unwrap_or_default();
    let name = format!("{set_name}-{id}");
    let mut metadata = json!({
        "name": name,
        "generateName": format!("{set_name}-"),
        "namespace": set.metadata.namespace,
        "ownerReferences": [owner(set).reference()],
    });
    for part in ["annotations", "finalizers"] {
        if let Some(value) = template
            .pointer(&format!("/metadata/{part}"))
            .filter(|value| !value.is_null())
        {
            metadata[part] = value.clone();
        }
    }
    metadata["labels"] = labels(template, revision, id, seen.gates);
    metadata["annotations"][names::LIFECYCLE_TIMESTAMP] = json!(whole_seconds(seen.now));

    let mut spec = template
        .get("spec")
        .filter(|spec| spec.is_object())
        .cloned()
        .unwrap_or(json!({}));
    claim::mount(set, &mut spec, id);
    launch::put_barriers(template, &mut spec, &name)?;
    add_gates(set, &mut spec);
    Ok(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
}

fn labels(template: &Value, revision: &str, id: &str, gates: Gates) -> Value {
    let mut labels = template
        .pointer("/metadata/labels")
        .filter(|value| value.is_object())
        .cloned()
        .unwrap_or(json!({}));
    labels[names::REVISION] = json!(revision_label(revision, gates));
    labels[names::POD_TEMPLATE_HASH] = json!(short(revision));
    labels[names::INSTANCE_ID] = json!(id);
    labels[names::LIFECYCLE_STATE] = json!(names::STATE_PREPARING_NORMAL);
    labels
}

/// The readiness gates by which a pod is taken out of service.
fn add_gates(set: &CloneSet, spec: &mut Value) {
    let mut gates = spec
        .get("readinessGates")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let hooks = set.spec.lifecycle.as_ref();
    let marks = [
        hooks.and_then(|h| h.pre_delete.as_ref()),
        hooks.and_then(|h| h.in_place_update.as_ref()),
    ]
    .into_iter()
    .flatten()
    .any(|hook| hook.mark_pod_not_ready);
    for gate in [Some(names::INPLACE_READY), marks.then_some(names::KRUISE_POD_READY)]
        .into_iter()
        .flatten()
    {
        if !gates.iter().any(|present| present["conditionType"] == gate) {
            gates.push(json!({"conditionType": gate}));
        }
    }
    spec["readinessGates"] = Value::Array(gates);
}

/// Five characters at a time out of a seed (splitmix64), in Kubernetes' alphabet for generated names.
struct Ids {
    state: u64,
}

impl Ids {
    fn next(&mut self) -> String {
        const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (0..5)
            .map(|_| {
                let digit = usize::try_from(mixed % 27).unwrap_or(0);
                mixed /= 27;
                char::from(ALPHABET[digit])
            })
            .collect()
    }
}
