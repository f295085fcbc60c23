//! The controller's side: what it sees, the plan it makes of that, and the plan in terms of this model. Equal views have
//! equal plans, so each is made once.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use afloat_api::CloneSetStatus;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::object::{now, version};
use super::search::Model;
use super::state::{NONE, SLOTS, Spec, State};
use afloat_rollout::action::{Action, At, Why};
use afloat_rollout::pod::server::Server;
use afloat_rollout::workload::kind::Workload as _;
use afloat_rollout::workload::observed::{self, Observed};

pub(super) type Plan = observed::Plan<CloneSetStatus>;

/// What a plan depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct View {
    pub(super) spec: Spec,
    pub(super) ranks: [u8; 3],
    pub(super) pods: [u16; SLOTS],
}

impl View {
    pub(super) fn of(state: &State) -> Self {
        Self {
            spec: state.spec_seen,
            ranks: state.ranks,
            pods: state.slots.map(|slot| slot.seen),
        }
    }
}

/// A plan.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) writes: Vec<Write>,
    /// Whether it is to be made again at some time.
    pub(super) wakes: bool,
}

/// One write.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Create {
        object: u16,
    },
    Delete {
        place: usize,
        why: Why,
    },
    Patch {
        place: usize,
        action: Rc<Action>,
        why: Why,
        patch: Rc<Value>,
        /// What becomes of the object that was seen.
        object: u16,
    },
    CreateRevision(u8),
    NumberRevision(u8, u8),
    DeleteRevision(u8),
    /// The status: its current revision.
    Status(u8),
}

impl Model {
    /// The plan for what the controller sees; an error if it says something that must never be said.
    pub(super) fn planned(&mut self, state: &State) -> Result<Rc<Planned>, String> {
        let view = View::of(state);
        if let Some(planned) = self.plans.get(&view) {
            return Ok(planned.clone());
        }
        let plan = self.plan(&view, now(), None);
        let planned = Rc::new(self.read(&view, &plan)?);
        self.plans.insert(view, planned.clone());
        Ok(planned)
    }

    /// Asks the planner. `before`: a plan whose status was written meanwhile.
    fn plan(&mut self, view: &View, time: Timestamp, before: Option<&Plan>) -> Plan {
        let mut set = self
            .sets
            .entry(view.spec)
            .or_insert_with(|| self.setup.set(view.spec))
            .clone();
        if let Some(before) = before {
            set.status = before.status.clone();
        }
        let places = (0..SLOTS).filter(|place| view.pods[*place] != 0);
        let mut pods: Vec<_> = places
            .map(|place| self.objects.render(view.pods[place], place))
            .collect();
        self.planted.mislead(&mut set, &mut pods);
        let revisions = self
            .revisions
            .entry(view.ranks)
            .or_insert_with(|| self.setup.revisions(view.ranks));
        let mut plan = set.plan(&Observed {
            pods: &set.roster().with(pods.iter().cloned()),
            revisions,
            claims: &[],
            classes: &[],
            now: time,
            seed: 0,
            drained: &BTreeMap::new(),
            nodes: &self.node_images,
            opened: &BTreeMap::new(),
            traffic: &afloat_rollout::workload::traffic::Traffic::default(),
            guards: &[],
            lacks: &[],
            server: Server::default(),
            gates: afloat_api::Gates::default(),
            memo: &afloat_rollout::workload::memo::Memo::default(),
            recorded: None,
        });
        self.planted.distort(&mut plan, &set, &pods);
        plan
    }

    /// At rest: nothing to do and nothing to tell, now and much later.
    pub(super) fn check_rest(&mut self, state: &State) -> Result<(), String> {
        let view = View::of(state);
        let first = self.plan(&view, now(), None);
        let again = self.plan(&view, now() + SignedDuration::from_hours(2), Some(&first));
        if !again.actions.is_empty() || again.status != first.status || again.wake_at.is_some() {
            return Err(format!("it does not rest: {again:?} after {first:?}"));
        }
        Ok(())
    }

    fn read(&mut self, view: &View, plan: &Plan) -> Result<Planned, String> {
        let mut writes = Vec::new();
        let mut touched = Vec::new();
        for action in &plan.actions {
            let write = self.read_action(view, action)?;
            if let Write::Delete { place, .. } | Write::Patch { place, .. } = &write {
                if touched.contains(place) {
                    return Err(format!("two writes of one pod: {action:?}"));
                }
                touched.push(*place);
            }
            writes.push(write);
        }
        let name = &plan.status.current_revision;
        let current = if name.is_empty() {
            NONE
        } else {
            self.setup.revision(name)
        };
        if current != view.spec.current && self.setup.creates() {
            writes.push(Write::Status(current));
        }
        Ok(Planned {
            writes,
            wakes: plan.wake_at.is_some(),
        })
    }

    fn read_action(&mut self, view: &View, action: &Action) -> Result<Write, String> {
        let revision = |at: &At| self.setup.revision(&at.name);
        Ok(match action {
            Action::CreateRevision { body } => {
                Write::CreateRevision(self.setup.revision(body["metadata"]["name"].as_str().unwrap()))
            }
            Action::NumberRevision { at, number } => {
                Write::NumberRevision(revision(at), u8::try_from(number.number).unwrap())
            }
            Action::DeleteRevision { at } => Write::DeleteRevision(revision(at)),
            Action::CreatePod { pod } => {
                let mut body = pod.body();
                body["metadata"]["generation"] = serde_json::json!(2);
                body["status"] = serde_json::json!({"phase": "Pending", "conditions": [], "containerStatuses": []});
                Write::Create {
                    object: self.objects.keep(body, &self.setup),
                }
            }
            Action::DeletePod { at, why, .. } => Write::Delete {
                place: place(view, at, None)?,
                why: *why,
            },
            Action::PatchPod { at, patch, why } | Action::PatchPodStatus { at, patch, why } => {
                let patch = patch.json(at);
                let place = place(view, at, Some(&patch))?;
                Write::Patch {
                    place,
                    action: Rc::new(action.clone()),
                    why: *why,
                    object: self.objects.patched(view.pods[place], &patch, &self.setup),
                    patch: Rc::new(patch),
                }
            }
            other => return Err(format!("unexpected: {other:?}")),
        })
    }
}

/// The place of a pod that is to be written. The write must name the version that was seen, in its body too: that is
/// what the server compares.
fn place(view: &View, at: &At, patch: Option<&Value>) -> Result<usize, String> {
    let place: usize = at.name.trim_start_matches("web-").parse().unwrap();
    let seen = version(view.pods[place], place);
    let uid = format!("uid-{place}");
    let body = patch.is_none_or(|patch| {
        patch["metadata"]["resourceVersion"] == seen.as_str() && patch["metadata"]["uid"] == uid.as_str()
    });
    if at.resource_version != seen || at.uid != uid || !body {
        return Err(format!(
            "a write of another version than was seen ({uid}, {seen}): {at:?} {patch:?}"
        ));
    }
    Ok(place)
}

/// Kept for its type only.
pub(super) type Revisions = Vec<Arc<k8s_openapi::api::apps::v1::ControllerRevision>>;
