//! Workloads of ours, as the operator's planner sees them.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{PodUpdatePolicy, Status as _, convert, names};
use afloat_rollout::action::{Action, Why};
use afloat_rollout::go::bytes;
use afloat_rollout::kinds::{self, Visit};
use afloat_rollout::pod::change::Change;
use afloat_rollout::pod::inplace::compare;
use afloat_rollout::pod::meaning::equivalent;
use afloat_rollout::pod::{Pod, same_revision};
use afloat_rollout::workload::budget::{Count, Limits, Round, resolve};
use afloat_rollout::workload::foresight::Foreseen;
use afloat_rollout::workload::history::same_meaning;
use afloat_rollout::workload::memo::Memo;
use afloat_rollout::workload::observed::Observed;
use afloat_rollout::workload::revision;
use afloat_rollout::workload::traffic::Traffic;
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::configs::told;
use super::forecast::{ContainerChange, Forecast, Hold, Outcome, Situation};
use super::parts::{all_anew, budget_notes, count, estimate, image_change, start, stop_seconds};
use crate::object::{Container, Workload};

/// None for kinds that are not looked after by us.
pub(super) fn forecast(seen: &Situation<'_>, workload: Workload<'_>) -> Option<Forecast> {
    kinds::with(workload.kind, Asked { seen, workload })
}

/// A question about a workload of some kind.
struct Asked<'a> {
    seen: &'a Situation<'a>,
    workload: Workload<'a>,
}

impl Visit for Asked<'_> {
    type Out = Forecast;
    fn visit<W: Foreseen>(self) -> Forecast {
        forecast_of::<W>(self.seen, &self.workload)
    }
}

fn forecast_of<W: Foreseen>(seen: &Situation<'_>, workload: &Workload<'_>) -> Forecast {
    let mut forecast = start(seen, workload);
    let Some(set) = set::<W>(seen, forecast.replicas) else {
        forecast.outcome = Outcome::Refused;
        forecast.why = format!("the object cannot be read as a {}", W::KIND);
        return forecast;
    };
    let Some(old) = seen.old else {
        forecast.outcome = Outcome::Create;
        forecast.why = format!("there is no such {}", W::KIND);
        return forecast;
    };
    let revisions = revisions(seen, &set);
    let (set, before, after) = told(seen, set, old, &revisions);
    let world = World::new(seen, &set, revisions);
    let rollout = set.rollout();
    let limits = set.limits(world.pods.len());
    let Limits {
        replicas,
        partition: kept,
        max_unavailable,
        ..
    } = limits;
    // Also of one that is paused: what there may be beside the pods wanted once it goes on.
    let surge = resolve(&rollout.max_surge, replicas, Round::Up);
    forecast.replicas = count(replicas);
    forecast.max_unavailable = count(max_unavailable);
    forecast.max_surge = count(surge);

    if equivalent(&before, &after) {
        forecast.holds.extend(budget_notes(seen, workload));
        return forecast;
    }
    let difference = difference(seen, old, (&before, &after));
    decide(seen, workload, rollout.policy, difference, &mut forecast);

    order(seen, &set, &world, limits, &mut forecast);
    let min_ready = set.min_ready();
    let available = world
        .pods
        .iter()
        .filter(|pod| pod.available(min_ready, seen.now))
        .count();
    let missing = world.pods.len().saturating_sub(available);
    let unavailable = Hold::Unavailable {
        missing,
        pods: world.pods.len(),
        free: max_unavailable.saturating_sub(missing),
        max_unavailable,
    };
    let holds = [
        (rollout.paused, Hold::Paused("updateStrategy.rollingUpdate.paused")),
        (rollout.on_delete, Hold::OnDelete),
        (kept > 0, Hold::Kept { kept, replicas }),
        (missing > 0, unavailable),
        (max_unavailable + surge == 0, Hold::NoRoom),
    ];
    let holds = holds.into_iter().filter_map(|(holds, hold)| holds.then_some(hold));
    forecast.holds.extend(holds);
    forecast.holds.extend(budget_notes(seen, workload));
    let stands = forecast.holds.iter().any(Hold::stops);
    if !stands && forecast.outcome != Outcome::Refused {
        let in_place = forecast.outcome == Outcome::InPlace;
        let quiet = u64::try_from(rollout.grace_seconds).unwrap_or(0);
        let stops = if in_place {
            (quiet, stop_seconds(workload))
        } else {
            (0, 0)
        };
        let at_once = count(max_unavailable + if in_place { 0 } else { surge });
        forecast.estimate = Some(estimate(seen, workload, forecast.pods_to_change, at_once, stops));
    }
    forecast
}

/// How many pods change, in which order, and which go first.
fn order<W: Foreseen>(seen: &Situation<'_>, set: &W, world: &World, limits: Limits, forecast: &mut Forecast) {
    let Limits {
        replicas,
        partition: kept,
        ..
    } = limits;
    let updated = world.pods.iter().filter(|pod| pod.at_revision(&world.update)).count();
    let all: Vec<&Pod> = world.pods.iter().map(Arc::as_ref).collect();
    let figures = Count {
        replicas,
        partition: kept,
        total: if all.is_empty() { replicas } else { all.len() },
        updated,
        ..Count::default()
    };
    forecast.pods_to_change = count(figures.to_update());
    let waiting = all
        .iter()
        .copied()
        .filter(|pod| !pod.at_revision(&world.update))
        .collect();
    let order = set.order(waiting, &all);
    let names = order.into_iter().map(|pod| pod.name().to_owned());
    forecast.order = names.take(figures.to_update()).collect();
    if forecast.outcome != Outcome::Refused {
        forecast.first = world.first(seen, set);
    }
}

/// What changes in place, under the operator's feature gates; an error says why it cannot.
fn difference(seen: &Situation<'_>, old: &Value, (before, after): (&Value, &Value)) -> Result<Change, String> {
    let change = compare(before, after)
        .map_err(|obstacle| format!("spec.template.{} changed, which a running pod cannot", obstacle.0))?;
    seen.server.allows(&change)?;
    let change = change.under(seen.gates)?;
    let claims = |object: &Value| object["spec"].get("volumeClaimTemplates").cloned();
    if seen.gates.recreate_for_claims && claims(old) != claims(seen.new) {
        return Err(
            "spec.volumeClaimTemplates changed, and the feature gate RecreatePodWhenChangeVCTInCloneSetGate is on"
                .to_owned(),
        );
    }
    Ok(change)
}

/// In place or not, and what restarts.
fn decide(
    seen: &Situation<'_>,
    workload: &Workload<'_>,
    policy: PodUpdatePolicy,
    difference: Result<Change, String>,
    forecast: &mut Forecast,
) {
    match (policy, difference) {
        (PodUpdatePolicy::ReCreate, difference) => {
            forecast.outcome = Outcome::Recreate;
            forecast.why = match difference {
                Ok(_) => "podUpdatePolicy is ReCreate (this change could be made in place: InPlaceIfPossible)".into(),
                Err(why) => format!("podUpdatePolicy is ReCreate, and {why}"),
            };
            forecast.containers = all_anew(workload);
        }
        (PodUpdatePolicy::InPlaceIfPossible, Err(why)) => {
            forecast.outcome = Outcome::Recreate;
            forecast.why = why;
            forecast.containers = all_anew(workload);
        }
        (PodUpdatePolicy::InPlaceOnly, Err(why)) => {
            forecast.outcome = Outcome::Refused;
            forecast.why = format!("{why}, and podUpdatePolicy is InPlaceOnly");
        }
        (_, Ok(change)) => {
            forecast.outcome = Outcome::InPlace;
            forecast.why = "all that changed in spec.template can change in a running pod".into();
            forecast.containers = containers(seen, workload, &change);
        }
    }
}

/// What an update in place does to each container.
fn containers(seen: &Situation<'_>, workload: &Workload<'_>, change: &Change) -> Vec<ContainerChange> {
    let sidecars = workload.init_containers().into_iter();
    let sidecars = sidecars.filter(Container::is_sidecar);
    let all = workload.containers().into_iter().chain(sidecars);
    all.map(|container| {
        let name = container.name();
        let policies = container.field("/resizePolicy").and_then(Value::as_array);
        let restarting = policies
            .into_iter()
            .flatten()
            .any(|policy| policy["restartPolicy"] == "RestartContainer");
        let (restarts, why) = if let Some(image) = change.images.get(name) {
            (true, image_change(seen, name, image))
        } else if let Some(sources) = change.configs.get(name) {
            let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
            (true, format!("{} changed", sources.join(", ")))
        } else if change.environment.contains_key(name) {
            (
                true,
                "takes environment from labels or annotations that change".to_owned(),
            )
        } else if change.resources.contains_key(name) && restarting {
            (
                true,
                "resources change, and its resizePolicy may ask for a restart".to_owned(),
            )
        } else if change.resources.contains_key(name) {
            (false, "resources change while it runs".to_owned())
        } else {
            (false, "nothing of it changes".to_owned())
        };
        ContainerChange {
            name: name.to_owned(),
            restarts,
            why,
        }
    })
    .collect()
}

/// An object as its type, by way of its text: from there the program reads every kind, and a second way is as much code again.
fn typed<T: DeserializeOwned>(object: &Value) -> Option<T> {
    serde_json::from_str(&object.to_string()).ok()
}

/// The object as it will be, with what only the server knows of it.
fn set<W: Foreseen>(seen: &Situation<'_>, replicas: u64) -> Option<W> {
    let mut object = seen.new.clone();
    object["spec"]["replicas"] = json!(replicas);
    if let Some(old) = seen.old {
        for field in ["uid", "resourceVersion", "generation", "namespace"] {
            if let Some(value) = old["metadata"].get(field) {
                object["metadata"][field] = value.clone();
            }
        }
        if let Some(status) = old.get("status") {
            object["status"] = status.clone();
        }
    }
    convert::convert(&mut object, W::API_VERSION).ok()?;
    typed(&object)
}

/// Whether an object is controlled by a workload that there is.
fn controlled<W: Foreseen>(set: &W, object: &Value) -> bool {
    let uid = set.metadata().uid.as_deref().unwrap_or_default();
    let mut owners = crate::object::items(object, "/metadata/ownerReferences");
    !uid.is_empty() && owners.any(|owner| owner["uid"] == uid && owner["controller"] == true)
}

/// Its revisions, the newest last.
fn revisions<W: Foreseen>(seen: &Situation<'_>, set: &W) -> Vec<Arc<ControllerRevision>> {
    let own = seen.revisions.iter().filter(|object| controlled(set, object));
    let mut revisions: Vec<Arc<ControllerRevision>> = own.filter_map(|object| typed(object).map(Arc::new)).collect();
    revisions.sort_by_key(|revision| revision.revision);
    revisions
}

/// The workload's pods and revisions as they are, and the revision that is to come.
struct World {
    pods: Vec<Arc<Pod>>,
    revisions: Vec<Arc<ControllerRevision>>,
    update: String,
}

impl World {
    fn new<W: Foreseen>(seen: &Situation<'_>, set: &W, mut revisions: Vec<Arc<ControllerRevision>>) -> Self {
        let read = |object: &Value| typed::<Pod>(object).map(Arc::new);
        let pods = seen
            .pods
            .iter()
            .filter(|object| controlled(set, object))
            .filter_map(read)
            .filter(|pod| pod.active())
            .collect();
        let sorted: Vec<_> = revisions.iter().collect();
        let known = same_meaning(set.template(), set.status().update_revision(), &sorted);
        let update = if let Some(known) = known {
            known.metadata.name.clone().unwrap_or_default()
        } else {
            let hash = revision::hash(&bytes(&revision::data(set.template())), 0);
            let newest = revisions.iter().map(|revision| revision.revision).max().unwrap_or(0);
            let object = revision::object(set.owner(), &hash, newest + 1);
            revisions.extend(typed(&object).map(Arc::new));
            revision::name(set.owner().name(), &hash)
        };
        Self {
            pods,
            revisions,
            update,
        }
    }

    /// The pods that the operator's first plan takes.
    fn first<W: Foreseen>(&self, seen: &Situation<'_>, set: &W) -> Vec<String> {
        let plan = set.plan(&Observed {
            pods: &set.roster().with(self.pods.iter().cloned()),
            revisions: &self.revisions,
            claims: &[],
            classes: &[],
            now: seen.now,
            seed: 0,
            drained: &BTreeMap::new(),
            nodes: &BTreeMap::new(),
            opened: &BTreeMap::new(),
            traffic: &Traffic::default(),
            guards: &[],
            lacks: &[],
            server: seen.server,
            gates: seen.gates,
            memo: &Memo::default(),
            recorded: None,
        });
        let outdated = |name: &str| {
            let pod = self.pods.iter().find(|pod| pod.name() == name);
            let label = pod.and_then(|pod| pod.labels.get(names::REVISION));
            label.is_some_and(|label| !same_revision(label, &self.update))
        };
        let mut found: Vec<String> = Vec::new();
        for action in plan.actions {
            let (at, why) = match action {
                Action::DeletePod { at, why, .. }
                | Action::PatchPod { at, why, .. }
                | Action::PatchPodStatus { at, why, .. } => (at, why),
                _ => continue,
            };
            let update = matches!(why, Why::ReCreate | Why::Drain | Why::Update | Why::Lifecycle);
            if update && outdated(&at.name) && !found.contains(&at.name) {
                found.push(at.name);
            }
        }
        found
    }
}
