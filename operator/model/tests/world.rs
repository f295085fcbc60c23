//! A small world to try plans in: an API server's objects, nodes that lag, a controller whose view lags, a user who
//! changes their mind. Every move is drawn from one seed. Safety is checked at each write of the controller; at the end
//! the faults stop and the world must settle and then rest.

mod losses;
mod node;
pub(crate) mod object;
mod sight;
mod tests;
mod volume;

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{CloneSet, CloneSetStatus, Gates, names};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::{Value, json};

use afloat_watching::Written;
use afloat_words::key::Key;

use crate::merge::merge;

use afloat_rollout::action::patch::{RevisionNumber, SetPatch};
use afloat_rollout::action::{Action, At, Why};
use afloat_rollout::pod::object::Pod;
use afloat_rollout::pod::same_revision;
use afloat_rollout::pod::server::Server;
use afloat_rollout::workload::budget;
use afloat_rollout::workload::claim::Claim;
use afloat_rollout::workload::kind::Workload as _;
use afloat_rollout::workload::memo::Memo;
use afloat_rollout::workload::observed::{self, Observed};
use afloat_rollout::workload::roster::Roster;
use node::Node;

pub(crate) type Plan = observed::Plan<CloneSetStatus>;

/// Numbers out of a seed (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(sides).unwrap()).unwrap()
    }
}

/// Mistakes that the checks must find: each changes what the planner is told, or what the world makes of its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// The quiet period is skipped.
    NoGrace,
    /// One pod more than the budget.
    BudgetPlusOne,
    /// Back in service without looking at the containers.
    EarlyReturn,
    /// The partition is forgotten.
    NoPartition,
    /// Own writes are not waited for, and nothing guards them.
    StaleView,
    /// A drain is taken for granted if the condition is False for any reason (kruise #2276).
    AnyFalseIsADrain,
    /// Completion is judged by another containerID alone.
    ContainerIdAlone,
    /// More pods are created than wanted.
    OneTooMany,
    /// Hooks before updates and deletions are not asked.
    NoHooks,
    /// Claims are not looked at, so some are left behind.
    NoClaims,
    /// Claims of pods that are going are not seen, so that their successors get others.
    NewClaims,
    /// Pods that are going are taken for gone, so that their names are.
    NameTaken,
    /// A raised partition is not heeded, though the feature gate for it is on.
    NoRollback,
    /// A page of a listing counts as seen before the listing is complete.
    EarlyPage,
    /// An event counts as seen before its pod can be.
    EarlyEvent,
}

/// The kind that is seen by the operator's own cache; the others move from one version to a later one as a whole.
const PODS: usize = 1;

/// One version of everything.
#[derive(Clone)]
pub(crate) struct Snapshot {
    set: Arc<CloneSet>,
    pods: Vec<Arc<Pod>>,
    revisions: Vec<Arc<ControllerRevision>>,
    claims: Vec<Arc<Claim>>,
    version: u64,
}

pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) now: Timestamp,
    pub(crate) version: u64,
    pub(crate) set: Value,
    pub(crate) pods: BTreeMap<String, Value>,
    pub(crate) revisions: BTreeMap<String, Value>,
    pub(crate) claims: BTreeMap<String, Value>,
    pub(crate) nodes: BTreeMap<String, Node>,
    /// Whether containers crash and users delete pods: then only what we do can be judged, not what is left.
    pub(crate) faults: bool,
    pub(crate) bug: Bug,
    /// The runtime reports "app:3" under the other name of that image.
    pub(crate) old_names: bool,
    history: Vec<Snapshot>,
    /// How the controller sees pods.
    sight: sight::Sight,
    /// What the controller keeps from plan to plan.
    kept: (Roster, Memo),
    /// Per other kind (set, -, revisions, claims): the newest version that the controller has seen, and must see.
    seen: [usize; 4],
    must: [usize; 4],
    /// When the gate of a pod was last made False for which revision, by the pod's uid.
    drained: BTreeMap<String, (String, Timestamp)>,
    pub(crate) writes: usize,
    /// Feature gates, which are as they are in one world.
    pub(crate) gates: Gates,
    /// The most pods that were ever wanted at a time.
    most: usize,
    /// None: nobody counts connections, and no reports are kept.
    losses: Option<losses::Losses>,
}

impl World {
    pub(crate) fn new(seed: u64, bug: Bug) -> Self {
        let mut dice = Dice(seed);
        let replicas = 1 + dice.roll(5);
        let policy = ["InPlaceOnly", "InPlaceIfPossible", "ReCreate"][dice.roll(3)];
        let set = json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "set", "resourceVersion": "1", "generation": 1},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "app", "image": "app:1"}, {"name": "log", "image": "log:1"}]},
                },
                "updateStrategy": {"rollingUpdate": {
                    "podUpdatePolicy": policy,
                    "maxUnavailable": 1 + dice.roll(2),
                    "partition": dice.roll(2) * dice.roll(replicas + 1),
                    "maxSurge": if policy == "InPlaceOnly" { 0 } else { dice.roll(2) },
                    "inPlaceUpdateStrategy": {"gracePeriodSeconds": dice.roll(2) * 3},
                }},
            },
        });
        let mut set = set;
        if dice.roll(3) == 0 {
            set["spec"]["lifecycle"] = json!({
                "preNormal": {"labelsHandler": {"hook/normal": "on"}},
                "inPlaceUpdate": {"labelsHandler": {"hook/update": "on"}, "markPodNotReady": dice.roll(2) == 0},
                "preDelete": {"labelsHandler": {"hook/delete": "on"}, "markPodNotReady": dice.roll(2) == 0},
            });
        }
        if dice.roll(3) == 0 {
            set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {}}]);
            set["spec"]["scaleStrategy"] = json!({"enablePVCReuse": dice.roll(2) == 0});
        }
        let faults = dice.roll(2) == 0;
        let old_names = dice.roll(3) == 0;
        let gates = Gates {
            short_hash: dice.roll(3) == 0,
            partition_rollback: dice.roll(2) == 0,
            preparing_update_as_update: dice.roll(2) == 0,
            ..Gates::default()
        };
        let mut world = Self {
            dice,
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            version: 1,
            set,
            pods: BTreeMap::new(),
            revisions: BTreeMap::new(),
            claims: BTreeMap::new(),
            nodes: BTreeMap::new(),
            faults,
            bug,
            old_names,
            history: Vec::new(),
            sight: sight::Sight::new(bug),
            kept: Default::default(),
            seen: [0; 4],
            must: [0; 4],
            drained: BTreeMap::new(),
            writes: 0,
            gates,
            most: 0,
            losses: None,
        };
        world.record();
        world
    }

    /// Notes the present state as a version that may be seen.
    pub(crate) fn record(&mut self) {
        let read = |value: &Value| serde_json::from_value(value.clone()).unwrap();
        let set: CloneSet = serde_json::from_value(self.set.clone()).unwrap();
        self.most = self.most.max(set.spec.replicas() + object::max_surge(&set));
        self.history.push(Snapshot {
            version: self.version,
            set: Arc::new(set),
            pods: self
                .pods
                .values()
                .map(|pod| Arc::new(serde_json::from_value(pod.clone()).unwrap()))
                .collect(),
            revisions: self
                .revisions
                .values()
                .map(|revision| Arc::new(read(revision)))
                .collect(),
            claims: self
                .claims
                .values()
                .filter(|claim| claim["metadata"]["ownerReferences"][0]["uid"] == "set")
                .map(|claim| Arc::new(serde_json::from_value(claim.clone()).unwrap()))
                .collect(),
        });
    }

    fn latest(&self) -> usize {
        self.history.len() - 1
    }

    /// One kind's view moves on, by any number of versions.
    pub(crate) fn see(&mut self, kind: usize) {
        if kind == PODS {
            return self.sight.go_on(&self.history, &mut self.dice);
        }
        let behind = self.latest() - self.seen[kind];
        self.seen[kind] += self.dice.roll(behind + 1);
    }

    /// All views are up to date; so they are after a restart of the controller, which also forgets what it waited for.
    pub(crate) fn see_all(&mut self) {
        self.seen = [self.latest(); 4];
        self.must = [0; 4];
        self.sight.all(&self.history);
    }

    /// The controller plans and carries out any part of the plan; the rest is lost, as in a crash.
    pub(crate) fn control(&mut self, whole: bool) -> Result<usize, String> {
        let waits = (0..4).any(|kind| self.seen[kind] < self.must[kind]) || !self.sight.settled();
        if waits && self.bug != Bug::StaleView {
            return Ok(0);
        }
        self.sight.round_begins();
        let (mut plan, view) = self.plan();
        Self::check_held(&plan)?;
        self.check_names(&plan)?;
        if !whole {
            let count = self.dice.roll(plan.actions.len() + 1);
            plan.actions.truncate(count);
        }
        let count = plan.actions.len();
        for action in &plan.actions {
            self.act(action, &view)?;
        }
        if plan.status != view.status && (whole || self.dice.roll(2) == 0) {
            self.write_status(&plan, &view);
            return Ok(count + 1);
        }
        Ok(count)
    }

    fn plan(&mut self) -> (Plan, Arc<CloneSet>) {
        let view = self.history[self.seen[0]].set.clone();
        let mut told = CloneSet::clone(&view);
        let mut pods = self.sight.pods();
        let seed = u64::try_from(self.dice.roll(1 << 30)).unwrap();
        object::mislead(self.bug, &mut told, &mut pods, self.now);
        let claims = self.seen_claims(&pods);
        if self.bug == Bug::NameTaken {
            pods.retain(|pod| !pod.metadata.terminating);
        }
        let revisions = &self.history[self.seen[2]].revisions;
        let losses = self.seen_losses();
        let none = afloat_rollout::workload::traffic::Traffic::default();
        let mut kept = std::mem::take(&mut self.kept);
        sight::catch_up(&mut kept.0, self.sight.news(), &told);
        let anew = Observed {
            pods: &told.roster().with(pods.iter().cloned()),
            revisions,
            claims: &claims,
            classes: &[],
            now: self.now,
            seed,
            drained: &BTreeMap::new(),
            nodes: &self.node_images(),
            opened: &BTreeMap::new(),
            traffic: losses.as_ref().map_or(&none, |seen| &seen.traffic),
            guards: &[],
            lacks: &[],
            server: Server::default(),
            gates: Gates {
                partition_rollback: self.gates.partition_rollback && self.bug != Bug::NoRollback,
                ..self.gates
            },
            memo: &Memo::default(),
            recorded: losses.as_ref().and_then(|seen| self.recorded(seen)),
        };
        let made = told.plan(&anew);
        // Mistakes change what is seen beside it.
        if self.bug == Bug::None {
            let again = told.plan(&Observed {
                pods: &kept.0,
                memo: &kept.1,
                ..anew
            });
            let whole = |plan: &Plan| (plan.actions.clone(), plan.status.clone(), plan.wake_at, plan.observes);
            assert_eq!(whole(&again), whole(&made), "what is kept decides nothing");
            kept.1 = again.memo;
        }
        self.kept = kept;
        (made, view)
    }

    /// The API server's side of one write, with the checks of what must never happen.
    fn act(&mut self, action: &Action, view: &CloneSet) -> Result<(), String> {
        self.writes += 1;
        match action {
            Action::CreateRevision { body } => self.create_revision(body),
            Action::NumberRevision { at, number } => self.number_revision(at, number),
            Action::DeleteRevision { at } => {
                if object::matches(self.revisions.get(&at.name), at) {
                    self.revisions.remove(&at.name);
                }
                self.wrote(2);
            }
            Action::PatchSet { at, patch } => self.patch_set(at, patch),
            Action::CreateClaim { body } => self.create_claim(body)?,
            Action::DeleteClaim { at } => self.delete_claim(at)?,
            Action::CreateReport { report } => self.create_report(report),
            Action::PatchReport { at, patch } => self.patch_report(at, patch),
            Action::DeleteReport { at } => self.delete_report(at),
            Action::PatchClaim { at, patch } => {
                if object::matches(self.claims.get(&at.name), at) {
                    self.version += 1;
                    let claim = self.claims.get_mut(&at.name).unwrap();
                    merge(claim, &patch.json(at));
                    claim["metadata"]["resourceVersion"] = json!(self.version.to_string());
                    self.collect_claims();
                }
                self.wrote(3);
            }
            Action::CreatePod { pod } => {
                self.create_pod(&pod.body());
                let limit = view.spec.replicas() + object::max_surge(view);
                let total = self.active().len();
                if !self.faults && total > limit {
                    return Err(format!("{total} pods, {limit} allowed"));
                }
            }
            Action::DeletePod { at, why, claims } => {
                let guarded = self.bug != Bug::StaleView;
                if object::matches(self.pods.get(&at.name), at) || (!guarded && self.pods.contains_key(&at.name)) {
                    let available = self.available(&at.name);
                    if self.holds(&self.pods[&at.name], "hook/delete") {
                        return Err(format!("deleted {} while its hook held it", at.name));
                    }
                    self.delete_pod(&at.name);
                    self.sight.wrote(Written::Gone {
                        key: Key::new("n", at.name.as_str()),
                        uid: at.uid.clone(),
                    });
                    for claim in claims {
                        self.delete_claim(claim)?;
                    }
                    self.check_budget(available, view, &format!("deleted {} ({why:?})", at.name))?;
                }
                self.wrote(PODS);
            }
            // No container of this world has amounts or a launch priority.
            Action::ResizePod { .. } | Action::OpenBarrier { .. } => {
                return Err("a resize or a barrier".to_owned());
            }
            Action::PatchPod { at, patch, why } | Action::PatchPodStatus { at, patch, why } => {
                let guarded = self.bug != Bug::StaleView;
                if object::matches(self.pods.get(&at.name), at) || (!guarded && self.pods.contains_key(&at.name)) {
                    self.patch_pod(&at.name, &patch.json(at), *why, view)?;
                    self.sight.wrote(Written::Version(self.version));
                }
                self.wrote(PODS);
            }
        }
        Ok(())
    }

    fn wrote(&mut self, kind: usize) {
        self.record();
        if kind != PODS {
            self.must[kind] = self.latest();
        }
    }

    fn number_revision(&mut self, at: &At, number: &RevisionNumber) {
        if object::matches(self.revisions.get(&at.name), at) {
            self.version += 1;
            let revision = self.revisions.get_mut(&at.name).unwrap();
            revision["revision"] = json!(number.number);
            revision["metadata"]["resourceVersion"] = json!(self.version.to_string());
        }
        self.wrote(2);
    }

    fn patch_set(&mut self, at: &At, patch: &SetPatch) {
        if object::matches(Some(&self.set), at) {
            self.version += 1;
            merge(&mut self.set, &patch.json(at));
            self.set["metadata"]["resourceVersion"] = json!(self.version.to_string());
            let generation = self.set["metadata"]["generation"].as_i64().unwrap();
            self.set["metadata"]["generation"] = json!(generation + 1);
        }
        self.wrote(0);
    }

    fn create_revision(&mut self, body: &Value) {
        let name = body["metadata"]["name"].as_str().unwrap().to_owned();
        if !self.revisions.contains_key(&name) {
            self.version += 1;
            let mut body = body.clone();
            body["metadata"]["resourceVersion"] = json!(self.version.to_string());
            body["metadata"]["uid"] = json!(format!("uid-{}", self.version));
            self.revisions.insert(name, body);
        }
        self.wrote(2);
    }

    fn create_pod(&mut self, body: &Value) {
        let name = body["metadata"]["name"].as_str().unwrap().to_owned();
        if !self.pods.contains_key(&name) {
            self.version += 1;
            let mut body = body.clone();
            body["metadata"]["resourceVersion"] = json!(self.version.to_string());
            body["metadata"]["uid"] = json!(format!("uid-{}", self.version));
            body["metadata"]["generation"] = json!(1);
            body["metadata"]["creationTimestamp"] = json!(afloat_words::time::whole_seconds(self.now));
            body["status"] = json!({"phase": "Pending", "conditions": [], "containerStatuses": []});
            self.pods.insert(name, body);
            self.sight.wrote(Written::Version(self.version));
        }
        self.wrote(PODS);
    }

    pub(crate) fn delete_pod(&mut self, name: &str) {
        self.version += 1;
        let pod = self.pods.get_mut(name).unwrap();
        pod["metadata"]["deletionTimestamp"] = json!(afloat_words::time::whole_seconds(self.now));
        pod["metadata"]["resourceVersion"] = json!(self.version.to_string());
    }

    fn patch_pod(&mut self, name: &str, patch: &Value, why: Why, view: &CloneSet) -> Result<(), String> {
        let available = self.available(name);
        let before = self.pods[name].clone();
        let uid = before["metadata"]["uid"].as_str().unwrap().to_owned();
        self.version += 1;
        let version = self.version;
        let pod = self.pods.get_mut(name).unwrap();
        merge(pod, patch);
        pod["metadata"]["resourceVersion"] = json!(version.to_string());
        if pod["spec"] != before["spec"] {
            pod["metadata"]["generation"] = json!(before["metadata"]["generation"].as_i64().unwrap() + 1);
        }
        let pod = pod.clone();
        match why {
            Why::Drain => {
                let text = object::condition(&pod, names::INPLACE_READY)["message"]
                    .as_str()
                    .unwrap_or("")
                    .to_owned();
                self.drained.insert(uid, (text, self.now));
                self.check_budget(available, view, &format!("drained {name}"))?;
            }
            Why::Update => self.check_update(name, &before, &pod, view)?,
            Why::Return => self.check_return(name, &pod)?,
            Why::Lifecycle => self.check_budget(available, view, &format!("held {name}"))?,
            _ => {}
        }
        Ok(())
    }

    /// After a pod that was available went, enough must be left.
    fn check_budget(&self, was_available: bool, view: &CloneSet, what: &str) -> Result<(), String> {
        if self.faults || !was_available {
            return Ok(());
        }
        let left = self.active().iter().filter(|name| self.available(name)).count();
        let least = view.spec.replicas().saturating_sub(object::max_unavailable(view));
        if left < least {
            return Err(format!("{what}: {left} pods available, {least} must be"));
        }
        Ok(())
    }

    /// Images change only on a pod that left service for this very revision, long enough ago, and only those that the
    /// template changes; and the partition holds.
    fn check_update(&self, name: &str, before: &Value, after: &Value, view: &CloneSet) -> Result<(), String> {
        let revision = after["metadata"]["labels"][names::REVISION].as_str().unwrap();
        if self.holds(before, "hook/update") {
            return Err(format!("{name} changed while its hook held it"));
        }
        if before["spec"]["containers"] != after["spec"]["containers"] {
            let grace = SignedDuration::from_secs(view.spec.rollout().grace_seconds);
            let uid = after["metadata"]["uid"].as_str().unwrap();
            let drained = self.drained.get(uid).filter(|(text, _)| text.contains(revision));
            let out = object::condition(before, names::INPLACE_READY)["status"] == "False";
            if !out || drained.is_none_or(|(_, since)| self.now.duration_since(*since) < grace) {
                return Err(format!(
                    "{name} changed without a drain of {grace:?} for {revision}: {drained:?}"
                ));
            }
        }
        if before["spec"]["containers"][1] != after["spec"]["containers"][1] {
            return Err(format!("{name}: the other container changed"));
        }
        let updated = self
            .active()
            .iter()
            .filter(|pod| self.pods[**pod]["metadata"]["labels"][names::REVISION] == revision)
            .count();
        let replicas = view.spec.replicas();
        let partition = budget::partition(&view.spec.rollout().partition, replicas);
        // Whoever goes back for what was lost goes back with all pods.
        let back = self.losses.is_some() && !same_revision(revision, &view.status.update_revision);
        let forth = same_revision(revision, &object::revision(view));
        let most = if forth || !self.gates.partition_rollback {
            replicas - partition
        } else {
            partition
        };
        if !self.faults && !back && updated > most {
            return Err(format!(
                "{name}: {updated} pods updated, {most} allowed by the partition"
            ));
        }
        Ok(())
    }

    /// A pod returns to service only if the node really runs what the spec says.
    fn check_return(&self, name: &str, pod: &Value) -> Result<(), String> {
        let Some(node) = self.nodes.get(pod["metadata"]["uid"].as_str().unwrap()) else {
            return Ok(());
        };
        for container in pod["spec"]["containers"].as_array().unwrap() {
            let container_name = container["name"].as_str().unwrap();
            // Not started at all yet: a new pod; then it is not Ready for another reason.
            let Some(running) = node.running.get(container_name) else {
                continue;
            };
            if Some(running.image.as_str()) != container["image"].as_str() {
                return Err(format!(
                    "{name} returned to service with {} instead of {}",
                    running.image, container["image"]
                ));
            }
        }
        Ok(())
    }

    fn holds(&self, pod: &Value, hook: &str) -> bool {
        self.set["spec"]["lifecycle"].is_object() && pod["metadata"]["labels"][hook] == "on"
    }

    fn write_status(&mut self, plan: &Plan, view: &CloneSet) {
        self.writes += 1;
        if self.set["metadata"]["resourceVersion"] == json!(view.metadata.resource_version) {
            self.version += 1;
            self.set["status"] = serde_json::to_value(&plan.status).unwrap();
            self.set["metadata"]["resourceVersion"] = json!(self.version.to_string());
        }
        self.wrote(0);
    }

    pub(crate) fn active(&self) -> Vec<&String> {
        let alive = self
            .pods
            .iter()
            .filter(|(_, pod)| pod["metadata"]["deletionTimestamp"].is_null());
        alive.map(|(name, _)| name).collect()
    }

    pub(crate) fn available(&self, name: &str) -> bool {
        let pod: Pod = serde_json::from_value(self.pods[name].clone()).unwrap();
        pod.available(SignedDuration::ZERO, self.now)
    }
}
