//! Situations and what the plan makes of them. The interleavings are in the package `afloat-model`.

mod budgets;
mod conditions;
mod configs;
mod containers;
mod gates;
mod life;
mod losses;
pub(crate) mod merge;
mod sidecars;
mod steady;
mod surge;
mod traffic;

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{CloneSet, CloneSetStatus, Gates, Status as _, Steps, names};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::{Value, json};

use super::plan;
use crate::action::patch::ReportPatch;
use crate::action::{Action, Why};
use crate::pod::images::Nodes;
use crate::pod::launch::Opened;
use crate::pod::object::Pod;
use crate::pod::server::Server;
use crate::workload::claim::Claim;
use crate::workload::kind::Workload as _;
use crate::workload::observed::Observed;
use crate::workload::observed::Recorded;
use crate::workload::revision::{data, hash, object};
use crate::workload::traffic::Traffic;

type Plan = crate::workload::observed::Plan<CloneSetStatus>;

const START: &str = "2026-01-01T00:00:00Z";

/// A CloneSet with revisions for `images`, the last of which is wanted.
struct Scene {
    set: Value,
    revisions: Vec<Value>,
    pods: Vec<Value>,
    claims: Vec<Value>,
    guards: Vec<afloat_disruption::guards::Guard>,
    server: Server,
    gates: Gates,
    traffic: Traffic,
    /// None: the cluster keeps no reports.
    reports: Option<Vec<Value>>,
}

impl Scene {
    fn new(images: &[&str], rolling: &Value) -> Self {
        let set = json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "set", "resourceVersion": "1", "generation": 1},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": ""}]}},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            },
        });
        let mut scene = Self {
            set,
            revisions: Vec::new(),
            pods: Vec::new(),
            claims: Vec::new(),
            guards: Vec::new(),
            server: Server::default(),
            gates: Gates::default(),
            traffic: Traffic::default(),
            reports: None,
        };
        for (index, image) in images.iter().enumerate() {
            scene.set["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
            let set: CloneSet = serde_json::from_value(scene.set.clone()).unwrap();
            let text = hash(&crate::go::bytes(&data(&set.spec.template)), 0);
            let mut revision = object(set.owner(), &text, i64::try_from(index).unwrap() + 1);
            revision["metadata"]["uid"] = json!(format!("r{index}"));
            scene.revisions.push(revision);
        }
        scene
    }

    fn revision(&self, index: usize) -> String {
        self.revisions[index]["metadata"]["name"].as_str().unwrap().to_owned()
    }

    /// An available pod at a revision.
    fn pod(&mut self, name: &str, revision: usize) -> &mut Value {
        let image = self.revisions[revision]
            .pointer("/data/spec/template/spec/containers/0/image")
            .unwrap()
            .clone();
        self.pods.push(json!({
            "metadata": {
                "name": name, "namespace": "n", "uid": name, "resourceVersion": "5", "generation": 1,
                "labels": {"app": "web", names::REVISION: self.revision(revision)},
                "annotations": {},
                "ownerReferences": [{"apiVersion": "apps.kruise.io/v1alpha1", "kind": "CloneSet", "name": "web",
                    "uid": "set", "controller": true}],
            },
            "spec": {"nodeName": "node", "containers": [{"name": "app", "image": image}],
                "readinessGates": [{"conditionType": names::INPLACE_READY}]},
            "status": {
                "phase": "Running",
                "conditions": [
                    {"type": names::INPLACE_READY, "status": "True"},
                    {"type": "Ready", "status": "True", "lastTransitionTime": START},
                ],
                "containerStatuses": [{"name": "app", "image": image, "imageID": format!("id:{image}"), "containerID": "c1",
                    "ready": true, "state": {"running": {}}}],
            },
        }));
        let replicas = self.pods.len();
        self.set["spec"]["replicas"] = json!(replicas);
        self.pods.last_mut().unwrap()
    }

    fn plan_after(&self, seconds: i64) -> Plan {
        let set: CloneSet = serde_json::from_value(self.set.clone()).unwrap();
        let pods: Vec<Arc<Pod>> = self
            .pods
            .iter()
            .map(|pod| Arc::new(serde_json::from_value(pod.clone()).unwrap()))
            .collect();
        let revisions: Vec<Arc<ControllerRevision>> = self
            .revisions
            .iter()
            .map(|revision| Arc::new(serde_json::from_value(revision.clone()).unwrap()))
            .collect();
        let claims = self
            .claims
            .iter()
            .map(|claim| Arc::new(serde_json::from_value(claim.clone()).unwrap()));
        let claims: Vec<Arc<Claim>> = claims.collect();
        let now = START.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds);
        let drained = BTreeMap::new();
        let (departed, steps) = (BTreeMap::new(), Steps::default());
        let read = |report: &Value| Arc::new(serde_json::from_value(report.clone()).unwrap());
        let reports = self
            .reports
            .as_ref()
            .map(|all| all.iter().map(read).collect::<Vec<_>>());
        let around = Observed {
            pods: &set.roster().with(pods),
            revisions: &revisions,
            claims: &claims,
            classes: &[],
            now,
            seed: 1,
            drained: &drained,
            nodes: &Nodes::new(),
            opened: &Opened::new(),
            traffic: &self.traffic,
            guards: &self.guards,
            lacks: &[],
            server: self.server,
            gates: self.gates,
            memo: &crate::workload::memo::Memo::default(),
            recorded: reports.as_ref().map(|reports| Recorded {
                reports,
                departed: &departed,
                writes: 7,
                steps: &steps,
            }),
        };
        plan(&set, &around)
    }

    fn plan(&self) -> Plan {
        self.plan_after(3600)
    }
}

/// What a plan does, one word per action: why and to whom.
fn words(plan: &Plan) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::CreateRevision { .. } => "create revision".to_owned(),
        Action::NumberRevision { number, .. } => format!("number {}", number.number),
        Action::DeleteRevision { at } => format!("delete revision {}", at.name),
        Action::CreatePod { .. } => "create".to_owned(),
        Action::PatchSet { .. } => "prune".to_owned(),
        Action::CreateClaim { body } => format!("claim {}", body["metadata"]["name"].as_str().unwrap()),
        Action::PatchClaim { at, .. } => format!("pass on {}", at.name),
        Action::DeleteClaim { at } => format!("delete claim {}", at.name),
        Action::ResizePod { at, .. } => format!("resize {}", at.name),
        Action::CreateReport { report } => format!("report {}", report.status.phase.as_str()),
        Action::PatchReport { patch, .. } => match patch {
            ReportPatch::Status(status) => format!("report {}", status.phase.as_str()),
            ReportPatch::Superseded { .. } => "report Superseded".to_owned(),
        },
        Action::DeleteReport { at } => format!("delete report {}", at.name),
        Action::OpenBarrier { uid, priority, .. } => format!("open {priority} of {uid}"),
        Action::DeletePod { at, why, .. }
        | Action::PatchPod { at, why, .. }
        | Action::PatchPodStatus { at, why, .. } => {
            format!("{} {}", why.as_str(), at.name)
        }
    };
    plan.actions.iter().map(word).collect()
}

/// The JSON of a pod's patch, as it is sent.
fn sent(action: &Action) -> Value {
    match action {
        Action::PatchPod { at, patch, .. }
        | Action::PatchPodStatus { at, patch, .. }
        | Action::ResizePod { at, patch } => patch.json(at),
        other => panic!("{other:?}"),
    }
}

fn in_place() -> Value {
    json!({"podUpdatePolicy": "InPlaceIfPossible", "maxUnavailable": 1})
}

#[test]
fn a_new_set_gets_its_revision_first() {
    let mut scene = Scene::new(&["app:1"], &in_place());
    scene.revisions.clear();
    scene.set["spec"]["replicas"] = json!(2);
    assert_eq!(words(&scene.plan()), ["create revision"]);
    let scene = Scene {
        set: scene.set,
        ..Scene::new(&["app:1"], &in_place())
    };
    let plan = scene.plan();
    assert_eq!(words(&plan), ["create", "create"]);
    let Action::CreatePod { pod } = &plan.actions[0] else {
        panic!()
    };
    let body = pod.body();
    assert_eq!(
        body["spec"]["readinessGates"],
        json!([{"conditionType": "InPlaceUpdateReady"}, {"conditionType": "KruisePodReady"}])
    );
    let id = body["metadata"]["labels"][names::INSTANCE_ID].as_str().unwrap();
    assert_eq!(body["metadata"]["name"], format!("web-{id}"));
    assert_eq!(body["metadata"]["labels"][names::REVISION], scene.revision(0));
    assert_eq!(
        body["metadata"]["ownerReferences"][0]["apiVersion"],
        "apps.kruise.io/v1beta1"
    );
}

#[test]
fn one_pod_at_a_time_in_three_writes() {
    let mut scene = Scene::new(&["app:1", "app:2"], &in_place());
    scene.pod("a", 0);
    scene.pod("b", 0);
    let first = scene.plan();
    assert_eq!(words(&first), ["drain a"]);
    let patch = sent(&first.actions[0]);
    scene.pods[0]["status"]["conditions"] = patch["status"]["conditions"].clone();
    let second = scene.plan();
    assert_eq!(words(&second), ["update a"]);
    assert!(
        second.status.conditions[0]
            .message
            .contains("1 pod to update held by the budget (maxUnavailable): b")
    );
}

/// A new pod, the containers of which run, and which waits for its gate.
fn arrive(scene: &mut Scene, name: &str) {
    let pod = scene.pod(name, 0);
    pod["status"]["conditions"] = json!([]);
}

#[test]
fn who_is_there_comes_into_service_while_thousands_are_created() {
    let mut scene = Scene::new(&["app:1"], &in_place());
    for number in 0..3 {
        arrive(&mut scene, &number.to_string());
    }
    scene.set["spec"]["replicas"] = json!(100_000);
    let words = words(&scene.plan());
    assert_eq!(words.iter().filter(|word| *word == "create").count(), 500);
    assert_eq!(words[500..], ["return 0", "return 1", "return 2"]);
}

#[test]
fn who_is_out_of_service_comes_back_while_hundreds_leave_it() {
    let mut scene = Scene::new(
        &["app:1", "app:2"],
        &json!({"podUpdatePolicy": "InPlaceOnly", "maxUnavailable": "100%"}),
    );
    for number in 0..600 {
        scene.pod(&number.to_string(), 0);
    }
    let returning = scene.pod("x", 1);
    returning["status"]["conditions"] = json!([]);
    let words = words(&scene.plan());
    assert_eq!(words.iter().filter(|word| word.starts_with("drain")).count(), 500);
    assert!(words.contains(&"return x".to_owned()), "{:?}", words.last());
}

#[test]
fn a_set_at_rest_is_left_alone() {
    let mut scene = Scene::new(&["app:1"], &in_place());
    scene.pod("a", 0);
    let plan = scene.plan();
    assert!(plan.actions.is_empty(), "{:?}", words(&plan));
    scene.set["status"] = serde_json::to_value(&plan.status).unwrap();
    let again = scene.plan_after(7200);
    assert_eq!(again.status, plan.status);
    assert_eq!(again.wake_at, None);
    assert_eq!(
        plan.status.condition(names::ROLLOUT).unwrap().reason,
        "CloneSetAvailable"
    );
}

/// kruise #2276: the condition is False, but not for this update: it must be made anew before any image changes.
#[test]
fn a_false_condition_of_another_update_is_no_drain() {
    let mut scene = Scene::new(&["app:1", "app:2"], &in_place());
    let pod = scene.pod("a", 0);
    pod["status"]["conditions"] = json!([
        {"type": names::INPLACE_READY, "status": "False", "reason": "StartInPlaceUpdate", "lastTransitionTime": START},
    ]);
    assert_eq!(words(&scene.plan()), ["drain a"]);
}

#[test]
fn in_place_only_names_the_field_that_forbids_it() {
    let mut scene = Scene::new(
        &["app:1", "app:2"],
        &json!({"podUpdatePolicy": "InPlaceOnly", "maxUnavailable": 1}),
    );
    scene.pod("a", 0);
    scene.revisions[0]["data"]["spec"]["template"]["spec"]["hostNetwork"] = json!(true);
    let plan = scene.plan();
    assert!(plan.actions.is_empty());
    let failed = plan
        .status
        .conditions
        .iter()
        .find(|condition| condition.kind == names::FAILED_UPDATE)
        .unwrap();
    assert_eq!(
        failed.message,
        "pod a cannot be updated in place: spec.hostNetwork changed"
    );
    assert_eq!(plan.warnings.len(), 1);
}

#[test]
fn in_place_if_possible_recreates_otherwise() {
    let mut scene = Scene::new(&["app:1", "app:2"], &in_place());
    scene.pod("a", 0);
    scene.pod("b", 0);
    scene.revisions[0]["data"]["spec"]["template"]["spec"]["hostNetwork"] = json!(true);
    assert_eq!(words(&scene.plan()), ["recreate a"]);
}

/// A pod that cannot pull its image is free to be updated, whatever the budget.
#[test]
fn a_stuck_pod_never_wedges_the_rollout() {
    let mut scene = Scene::new(
        &["app:bad", "app:2"],
        &json!({"podUpdatePolicy": "InPlaceOnly", "maxUnavailable": 0}),
    );
    let pod = scene.pod("a", 0);
    pod["status"] = json!({"phase": "Pending", "conditions": [{"type": names::INPLACE_READY, "status": "True"}]});
    assert_eq!(words(&scene.plan()), ["drain a"]);
}

#[test]
fn labels_alone_change_without_leaving_service() {
    let mut scene = Scene::new(&["app:1"], &in_place());
    scene.pod("a", 0);
    let old = scene.revisions[0].clone();
    scene.set["spec"]["template"]["metadata"]["labels"]["tier"] = json!("front");
    let set: CloneSet = serde_json::from_value(scene.set.clone()).unwrap();
    scene.revisions = vec![old, object(set.owner(), "new", 2)];
    let plan = scene.plan();
    assert_eq!(words(&plan), ["update a"]);
    let patch = sent(&plan.actions[0]);
    assert_eq!(patch["metadata"]["labels"]["tier"], "front");
    assert!(patch.get("spec").is_none());
}

#[test]
fn a_wanted_old_revision_becomes_the_newest() {
    let mut scene = Scene::new(&["app:1", "app:2"], &in_place());
    scene.set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("app:1");
    assert_eq!(words(&scene.plan()), ["number 3"]);
}

#[test]
fn history_is_cut_from_the_oldest() {
    let mut scene = Scene::new(&["app:1", "app:2", "app:3", "app:4"], &in_place());
    scene.set["spec"]["revisionHistoryLimit"] = json!(1);
    scene.pod("a", 1);
    assert_eq!(
        words(&scene.plan())[1..],
        [format!("delete revision {}", scene.revision(0))]
    );
}

#[test]
fn orphans_are_adopted_and_strangers_released() {
    let mut scene = Scene::new(&["app:1"], &in_place());
    scene.pod("orphan", 0)["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("ownerReferences");
    scene.pod("stranger", 0)["metadata"]["labels"]["app"] = json!("other");
    scene.pod("foreign", 0)["metadata"]["ownerReferences"][0]["uid"] = json!("other set");
    scene.set["spec"]["replicas"] = json!(0);
    assert_eq!(words(&scene.plan()), ["adopt orphan", "release stranger"]);
}

#[test]
fn a_specified_pod_is_replaced_within_the_budget() {
    let mut scene = Scene::new(&["app:1"], &in_place());
    for name in ["a", "b", "c"] {
        scene.pod(name, 0)["metadata"]["labels"][names::SPECIFIED_DELETE] = json!("true");
    }
    assert_eq!(words(&scene.plan()), ["specified_delete a"]);
    scene.set["spec"]["updateStrategy"]["rollingUpdate"] = json!({"maxUnavailable": 0, "maxSurge": 1});
    assert_eq!(words(&scene.plan()), ["create"]);
}

#[test]
fn scaling_down_takes_old_pods_first() {
    let mut scene = Scene::new(&["app:1", "app:2"], &json!({"paused": true, "maxUnavailable": 1}));
    scene.pod("a", 1);
    scene.pod("b", 0);
    scene.set["spec"]["replicas"] = json!(1);
    assert_eq!(words(&scene.plan()), ["scale_down b"]);
}

/// kruise #2369
#[test]
fn an_in_place_rollout_needs_no_extra_pods() {
    let mut scene = Scene::new(&["app:1", "app:2"], &in_place());
    scene.set["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"] = json!(1);
    scene.pod("a", 0);
    scene.pod("b", 0);
    assert_eq!(words(&scene.plan()), ["drain a"]);
}

#[test]
fn the_quiet_period_counts_from_when_the_drain_was_answered() {
    let grace = json!({"podUpdatePolicy": "InPlaceOnly", "maxUnavailable": 1,
        "inPlaceUpdateStrategy": {"gracePeriodSeconds": 10}});
    let mut scene = Scene::new(&["app:1", "app:2"], &grace);
    let revision = scene.revision(1);
    scene.pod("a", 0)["status"]["conditions"] = json!([{
        "type": names::INPLACE_READY, "status": "False",
        "message": format!("updating to {revision}, out of service since {START}"),
    }]);
    let early = scene.plan_after(9);
    assert!(early.actions.is_empty());
    assert_eq!(early.wake_at.unwrap().to_string(), "2026-01-01T00:00:10Z");
    assert_eq!(words(&scene.plan_after(10)), ["update a"]);
}

#[test]
fn min_ready_seconds_are_waited_for() {
    let mut scene = Scene::new(&["app:1", "app:2"], &in_place());
    scene.set["spec"]["minReadySeconds"] = json!(30);
    scene.pod("a", 1);
    scene.pod("b", 0);
    let plan = scene.plan_after(10);
    assert_eq!(words(&plan), ["drain b"], "not available yet, so free");
    assert_eq!(plan.wake_at.unwrap().to_string(), "2026-01-01T00:00:30Z");
    assert_eq!((plan.status.ready_replicas, plan.status.available_replicas), (2, 0));
}

/// A pod in OpenKruise's own quiet period: its label is new already, its images are not.
#[test]
fn openkruises_quiet_period_is_continued() {
    let mut scene = Scene::new(&["app:1", "app:2"], &in_place());
    let revision = scene.revision(1);
    let pod = scene.pod("a", 0);
    pod["metadata"]["labels"][names::REVISION] = json!(revision);
    let state =
        json!({"revision": revision, "updateTimestamp": START, "lastContainerStatuses": null, "updateImages": true});
    let spec = json!({"revision": revision, "containerImages": {"app": "app:2"}, "graceSeconds": 20});
    pod["metadata"]["annotations"] =
        json!({names::INPLACE_STATE: state.to_string(), names::INPLACE_GRACE: spec.to_string()});
    pod["status"]["conditions"] =
        json!([{"type": names::INPLACE_READY, "status": "False", "reason": "StartInPlaceUpdate"}]);
    let early = scene.plan_after(19);
    assert!(early.actions.is_empty());
    assert_eq!(early.wake_at.unwrap().to_string(), "2026-01-01T00:00:20Z");
    let late = scene.plan_after(20);
    assert_eq!(words(&late), ["update a"]);
    let patch = sent(&late.actions[0]);
    assert_eq!(patch["spec"]["containers"], json!([{"name": "app", "image": "app:2"}]));
    assert_eq!(patch["metadata"]["annotations"][names::INPLACE_GRACE], Value::Null);

    // A third revision is wanted meanwhile: a drain of our own, then its image, whatever the label says.
    scene.set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("app:3");
    let set: CloneSet = serde_json::from_value(scene.set.clone()).unwrap();
    scene.revisions.push(object(set.owner(), "third", 3));
    assert_eq!(words(&scene.plan_after(5)), ["drain a"]);
}

/// OpenKruise is between the change of the image and its completion; nothing is written but the return to service.
#[test]
fn an_update_that_openkruise_began_is_completed() {
    let mut scene = Scene::new(&["app:1", "app:2"], &in_place());
    let revision = scene.revision(1);
    let pod = scene.pod("a", 1);
    let state = json!({"revision": revision, "updateTimestamp": START,
        "lastContainerStatuses": {"app": {"imageID": "id:app:1"}}, "updateImages": true});
    pod["metadata"]["annotations"] = json!({names::INPLACE_STATE: state.to_string()});
    pod["status"]["conditions"] =
        json!([{"type": names::INPLACE_READY, "status": "False", "reason": "StartInPlaceUpdate"}]);
    pod["status"]["containerStatuses"][0]["imageID"] = json!("id:app:1");
    pod["status"]["containerStatuses"][0]["image"] = json!("app:1");
    assert!(scene.plan().actions.is_empty());
    scene.pods[0]["status"]["containerStatuses"][0]["imageID"] = json!("id:app:2");
    let done = scene.plan();
    assert_eq!(words(&done), ["return a"]);
    assert!(matches!(
        &done.actions[0],
        Action::PatchPodStatus { why: Why::Return, .. }
    ));
}

#[test]
fn the_status_says_what_it_waits_for() {
    let mut scene = Scene::new(&["app:1"], &in_place());
    let pod = scene.pod("a", 0);
    pod["status"]["conditions"][1]["status"] = json!("False");
    pod["status"]["containerStatuses"][0]["state"] = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let plan = scene.plan();
    assert!(
        plan.status.conditions[0]
            .message
            .ends_with("1 pod not Ready: container app of a CrashLoopBackOff")
    );
}

#[test]
fn pods_to_delete_are_pruned_once_they_are_gone() {
    let mut scene = Scene::new(&["app:1"], &in_place());
    scene.pod("a", 0);
    scene.pod("b", 0);
    scene.set["spec"]["scaleStrategy"]["podsToDelete"] = json!(["a", "gone"]);
    let plan = scene.plan();
    assert_eq!(words(&plan), ["specified_delete a", "prune"]);
    let Action::PatchSet { patch, .. } = &plan.actions[1] else {
        panic!()
    };
    assert_eq!(patch.pods_to_delete, ["a"]);
    scene.set["spec"]["scaleStrategy"]["podsToDelete"] = json!(["b"]);
    scene.set["spec"]["replicas"] = json!(1);
    assert_eq!(
        words(&scene.plan()),
        ["specified_delete b"],
        "the number is reached by that one"
    );
}

#[test]
fn scaling_up_is_limited_by_unavailable_pods() {
    let mut scene = Scene::new(&["app:1"], &in_place());
    scene.pod("a", 0);
    scene.pod("b", 0)["status"]["conditions"][1]["status"] = json!("False");
    scene.set["spec"]["replicas"] = json!(5);
    scene.set["spec"]["scaleStrategy"]["maxUnavailable"] = json!(2);
    assert_eq!(words(&scene.plan()), ["create"]);
    scene.set["spec"]["scaleStrategy"]["maxUnavailable"] = json!("20%");
    let plan = scene.plan();
    assert!(plan.actions.is_empty());
    assert_eq!(plan.warnings[0].0, "ScaleUpLimited");
}

#[test]
fn the_order_of_updates_can_be_given() {
    let mut scene = Scene::new(&["app:1", "app:2"], &in_place());
    for (name, canary) in [("a", "no"), ("b", "yes")] {
        scene.pod(name, 0)["metadata"]["labels"]["canary"] = json!(canary);
    }
    scene.set["spec"]["updateStrategy"]["rollingUpdate"]["priorityStrategy"] = json!({"weightPriority": [
        {"weight": 1, "matchSelector": {"matchLabels": {"canary": "yes"}}}]});
    assert_eq!(words(&scene.plan()), ["drain b"]);
}
