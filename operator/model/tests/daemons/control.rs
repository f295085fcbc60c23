//! The controller's side: what it sees, the plan it makes of that, and the plan in terms of this model.

use std::collections::BTreeMap;
use std::rc::Rc;

use afloat_api::{DaemonSet, DaemonSetStatus, Gates};
use afloat_words::daemon::pinned_to;
use k8s_openapi::api::core::v1::NodeAffinity;
use serde_json::{Value, json};

use super::object::{now, version};
use super::search::Model;
use super::setup::{Ground, NODES, SLOTS, Slot, State};
use afloat_rollout::action::{Action, At, Why};
use afloat_rollout::pod::server::Server;
use afloat_rollout::workload::kind::Workload as _;
use afloat_rollout::workload::memo::Memo;
use afloat_rollout::workload::observed::{self, Observed};
use afloat_rollout::workload::traffic::Traffic;

pub(super) type Plan = observed::Plan<DaemonSetStatus>;

/// What a plan depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct View {
    slots: [Slot; SLOTS],
    nodes: [Ground; NODES],
    target: u8,
}

impl View {
    fn of(state: &State) -> Self {
        Self {
            slots: state.slots.map(|slot| Slot { object: 0, ..slot }),
            nodes: state.nodes_seen,
            target: state.target,
        }
    }
}

/// One write.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Create {
        node: u8,
        object: u16,
    },
    Delete {
        place: usize,
        why: Why,
    },
    /// What becomes of the object that was seen.
    Patch {
        place: usize,
        why: Why,
        object: u16,
    },
}

impl Model {
    /// The plan for what the controller sees; an error if it says something that must never be said.
    pub(super) fn planned(&mut self, state: &State) -> Result<Rc<Vec<Write>>, String> {
        let view = View::of(state);
        if let Some(planned) = self.plans.get(&view) {
            return Ok(planned.clone());
        }
        let plan = self.plan(state, None);
        let planned = Rc::new(self.read(state, &plan)?);
        self.plans.insert(view, planned.clone());
        Ok(planned)
    }

    fn plan(&mut self, state: &State, before: Option<&Plan>) -> Plan {
        let mut set: DaemonSet = self.setup.set(state.target);
        if let Some(before) = before {
            set.status = before.status.clone();
        }
        let places = (0..SLOTS).filter(|place| state.slots[*place].seen != 0);
        let mut pods: Vec<_> = places
            .map(|place| self.objects.render(state.slots[place].seen, state.slots[place], place))
            .collect();
        let mut nodes = self.setup.seen_nodes(&state.nodes_seen);
        self.planted.mislead(&mut set, &mut pods, &mut nodes);
        let mut plan = set.plan(&Observed {
            pods: &set.roster().with(pods),
            revisions: &self.setup.revisions(state.target),
            claims: &[],
            classes: &[],
            now: now(),
            seed: 0,
            drained: &BTreeMap::new(),
            nodes: &nodes,
            opened: &BTreeMap::new(),
            traffic: &Traffic::default(),
            guards: &[],
            lacks: &[],
            server: Server::default(),
            gates: Gates::default(),
            memo: &Memo::default(),
            recorded: None,
        });
        self.planted.distort(&mut plan);
        plan
    }

    /// At rest: nothing to do and nothing to tell.
    pub(super) fn check_rest(&mut self, state: &State) -> Result<(), String> {
        let first = self.plan(state, None);
        let again = self.plan(state, Some(&first));
        if !again.actions.is_empty() || again.status != first.status || again.wake_at.is_some() {
            return Err(format!("it does not rest: {again:?} after {first:?}"));
        }
        Ok(())
    }

    fn read(&mut self, state: &State, plan: &Plan) -> Result<Vec<Write>, String> {
        let mut writes = Vec::new();
        let mut touched = Vec::new();
        for action in &plan.actions {
            let write = self.read_action(state, action)?;
            if let Write::Delete { place, .. } | Write::Patch { place, .. } = &write {
                if touched.contains(place) {
                    return Err(format!("two writes of one pod: {action:?}"));
                }
                touched.push(*place);
            }
            writes.push(write);
        }
        Ok(writes)
    }

    fn read_action(&mut self, state: &State, action: &Action) -> Result<Write, String> {
        Ok(match action {
            Action::CreatePod { pod } => {
                let mut body = pod.body();
                let affinity: NodeAffinity = serde_json::from_value(body["spec"]["affinity"]["nodeAffinity"].clone())
                    .map_err(|e| e.to_string())?;
                let name = pinned_to(&affinity).ok_or("a pod for no node")?;
                let node = name
                    .trim_start_matches('n')
                    .parse()
                    .map_err(|_| format!("a pod for node {name}"))?;
                body["metadata"]["generation"] = json!(1);
                body["status"] = json!({"phase": "Pending", "conditions": [], "containerStatuses": []});
                Write::Create {
                    node,
                    object: self.objects.keep(body),
                }
            }
            Action::DeletePod { at, why, .. } => Write::Delete {
                place: place(state, at)?,
                why: *why,
            },
            Action::PatchPod { at, patch, why } | Action::PatchPodStatus { at, patch, why } => {
                let place = place(state, at)?;
                let mut patch: Value = patch.json(at);
                if let Some(metadata) = patch["metadata"].as_object_mut() {
                    metadata.remove("uid");
                    metadata.remove("resourceVersion");
                }
                Write::Patch {
                    place,
                    why: *why,
                    object: self.objects.patched(state.slots[place].seen, &patch),
                }
            }
            other => return Err(format!("unexpected: {other:?}")),
        })
    }
}

/// The place of a pod that is to be written. The write must name the version that was seen.
fn place(state: &State, at: &At) -> Result<usize, String> {
    let place: usize = at
        .name
        .trim_start_matches("log-")
        .parse()
        .map_err(|_| format!("a write of {at:?}"))?;
    if at.resource_version != version(state.slots[place].seen, place) || at.uid != format!("uid-{place}") {
        return Err(format!("a write of another version than was seen: {at:?}"));
    }
    Ok(place)
}
