//! The controller: what it plans on what it sees, and the writes that come of it.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use afloat_api::{Gates, StatefulSetStatus};
use afloat_rollout::action::patch::At;
use afloat_rollout::action::{Action, Why};
use afloat_rollout::pod::object::Pod;
use afloat_rollout::workload::kind::Workload as _;
use afloat_rollout::workload::memo::Memo;
use afloat_rollout::workload::observed::{Observed, Plan};
use afloat_rollout::workload::traffic::Traffic;
use serde_json::{Value, json};

use super::object::{now, version};
use super::search::Model;
use super::setup::{PLACES, Spec, State};

/// What a plan is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct View {
    pub(super) pods: [u16; PLACES],
    pub(super) spec: Spec,
}

impl View {
    pub(super) fn of(state: &State) -> Self {
        Self {
            pods: state.slots.map(|slot| slot.seen),
            spec: state.spec,
        }
    }
}

/// A write of a plan.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Create {
        ordinal: usize,
        object: u16,
    },
    Delete {
        ordinal: usize,
        why: Why,
    },
    Patch {
        ordinal: usize,
        why: Why,
        object: u16,
    },
    /// Makes a revision the newest.
    Newest(u8),
    /// `status.currentRevision`.
    Current(u8),
}

impl Model {
    /// The writes of the plan that is made on a view.
    pub(super) fn planned(&mut self, view: &View) -> Result<Rc<Vec<Write>>, String> {
        if let Some(known) = self.plans.get(view) {
            return Ok(known.clone());
        }
        let plan = self.plan(view);
        let mut writes = Vec::new();
        let mut touched = Vec::new();
        for action in &plan.actions {
            let Some(write) = self.read(view, action)? else {
                continue;
            };
            if let Write::Delete { ordinal, .. } | Write::Patch { ordinal, .. } | Write::Create { ordinal, .. } = &write
            {
                if touched.contains(ordinal) {
                    return Err(format!("two writes of one pod: {action:?}"));
                }
                touched.push(*ordinal);
            }
            writes.push(write);
        }
        let current = self.setup.revision(&plan.status.current_revision);
        if current != view.spec.current {
            writes.push(Write::Current(current));
        }
        let writes = Rc::new(writes);
        self.plans.insert(*view, writes.clone());
        Ok(writes)
    }

    pub(super) fn plan(&mut self, view: &View) -> Plan<StatefulSetStatus> {
        let mut set = self.setup.set(view.spec);
        let there = (0..PLACES).filter(|ordinal| view.pods[*ordinal] != 0);
        let mut pods: Vec<Arc<Pod>> = there
            .map(|ordinal| self.objects.render(view.pods[ordinal], ordinal))
            .collect();
        self.planted.mislead(&mut set, &mut pods);
        let revisions = self
            .revisions
            .entry(view.spec.newest)
            .or_insert_with(|| self.setup.revisions(view.spec.newest));
        let mut plan = set.plan(&Observed {
            pods: &set.roster().with(pods.iter().cloned()),
            revisions,
            claims: &[],
            classes: &[],
            now: now(),
            seed: 0,
            drained: &BTreeMap::new(),
            nodes: &BTreeMap::new(),
            opened: &BTreeMap::new(),
            traffic: &Traffic::default(),
            guards: &[],
            lacks: &[],
            server: afloat_rollout::pod::server::Server::default(),
            gates: Gates::default(),
            memo: &Memo::default(),
            recorded: None,
        });
        self.planted.distort(&mut plan, &pods);
        plan
    }

    fn read(&mut self, view: &View, action: &Action) -> Result<Option<Write>, String> {
        Ok(Some(match action {
            Action::NumberRevision { at, .. } => Write::Newest(self.setup.revision(&at.name)),
            Action::CreatePod { pod } => {
                let ordinal = ordinal(&pod.name);
                if view.pods[ordinal] != 0 {
                    return Err(format!("{} is created while it is there", pod.name));
                }
                let mut body = pod.body();
                body["metadata"]["generation"] = json!(2);
                body["status"] = json!({"phase": "Pending", "conditions": [], "containerStatuses": []});
                Write::Create {
                    ordinal,
                    object: self.objects.keep(body, &self.setup),
                }
            }
            Action::DeletePod { at, why, .. } => Write::Delete {
                ordinal: place(view, at, None)?,
                why: *why,
            },
            Action::PatchPod { at, patch, why } | Action::PatchPodStatus { at, patch, why } => {
                let patch = patch.json(at);
                let ordinal = place(view, at, Some(&patch))?;
                Write::Patch {
                    ordinal,
                    why: *why,
                    object: self.objects.patched(view.pods[ordinal], &patch, &self.setup),
                }
            }
            other => return Err(format!("unexpected: {other:?}")),
        }))
    }
}

fn ordinal(name: &str) -> usize {
    name.trim_start_matches("web-").parse().unwrap()
}

/// The ordinal of a pod that is to be written. The write must name the version that was seen.
fn place(view: &View, at: &At, patch: Option<&Value>) -> Result<usize, String> {
    let ordinal = ordinal(&at.name);
    let seen = version(view.pods[ordinal], ordinal);
    let body = patch.is_none_or(|patch| patch["metadata"]["resourceVersion"] == seen.as_str());
    if at.resource_version != seen || !body {
        return Err(format!("a write of another version than was seen ({seen}): {at:?}"));
    }
    Ok(ordinal)
}
