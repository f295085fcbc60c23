//! Drains and returns that follow what the nodes' proxies report.

use super::*;

/// Of a pod: the version applied, whether it takes connections, how many are open.
type Said<'a> = (&'a str, u64, bool, u64);

/// The Service of the pods, and one report per node.
fn report(scene: &mut Scene, nodes: &[(&str, &[Said])]) {
    let service = json!({"metadata": {"namespace": "n"}, "spec": {"selector": {"app": "web"}}});
    scene.traffic.services = vec![Arc::new(serde_json::from_value(service).unwrap())];
    let report = |pods: &[Said]| {
        let pods: BTreeMap<_, _> = pods
            .iter()
            .map(|(pod, applied, ready, open)| {
                (
                    *pod,
                    json!({"applied": applied, "ready": ready, "routed": ready, "open": open}),
                )
            })
            .collect();
        serde_json::from_value(json!({"status": {"synced": true, "pods": pods}})).unwrap()
    };
    let nodes = nodes
        .iter()
        .map(|(node, pods)| ((*node).to_owned(), Some(Arc::new(report(pods)))));
    scene.traffic.nodes = nodes.collect();
}

/// What the API server and the node make of the first status patch of a plan.
fn carry_out(scene: &mut Scene, pod: usize, plan: &Plan) {
    let patch = sent(&plan.actions[0]);
    let conditions = scene.pods[pod]["status"]["conditions"].as_array_mut().unwrap();
    for new in patch["status"]["conditions"].as_array().unwrap() {
        conditions.retain(|old| old["type"] != new["type"]);
        conditions.push(new.clone());
    }
}

fn message(plan: &Plan) -> String {
    plan.status.conditions[0].message.clone()
}

fn scene(rolling: &Value) -> Scene {
    let mut scene = Scene::new(&["app:1", "app:2"], rolling);
    scene.pod("a", 0);
    scene.pod("b", 0);
    report(&mut scene, &[("one", &[]), ("two", &[])]);
    scene
}

#[test]
fn the_image_changes_once_all_nodes_have_let_go() {
    let mut scene = scene(&in_place());
    let first = scene.plan();
    assert_eq!(words(&first), ["drain a"]);
    carry_out(&mut scene, 0, &first);

    report(
        &mut scene,
        &[("one", &[("a", 6, false, 0)]), ("two", &[("a", 4, true, 3)])],
    );
    let waiting = scene.plan();
    assert_eq!(words(&waiting), Vec::<String>::new());
    assert!(waiting.observes);
    assert!(
        message(&waiting).contains("a: 1 of 2 nodes have let go, not two"),
        "{}",
        message(&waiting)
    );

    report(
        &mut scene,
        &[("one", &[("a", 6, false, 0)]), ("two", &[("a", 6, false, 3)])],
    );
    assert_eq!(
        words(&scene.plan()),
        ["update a"],
        "no grace period: connections end with the container"
    );
}

#[test]
fn the_grace_period_is_the_limit_of_everything() {
    let rolling = json!({"podUpdatePolicy": "InPlaceIfPossible", "maxUnavailable": 1,
        "inPlaceUpdateStrategy": {"gracePeriodSeconds": 10}});
    let mut scene = scene(&rolling);
    let first = scene.plan();
    carry_out(&mut scene, 0, &first);
    report(
        &mut scene,
        &[("one", &[("a", 6, false, 2)]), ("two", &[("a", 6, false, 1)])],
    );
    let open = scene.plan_after(3605);
    assert!(open.actions.is_empty());
    assert!(
        message(&open).contains("a: 3 connections are open"),
        "{}",
        message(&open)
    );
    assert_eq!(words(&scene.plan_after(3610)), ["update a"]);
    report(&mut scene, &[("one", &[("a", 6, false, 0)]), ("two", &[])]);
    assert!(scene.plan_after(3609).actions.is_empty());
    let late = scene.plan_after(3610);
    assert_eq!(words(&late), ["update a"]);
    assert_eq!(late.warnings[0].0, "DrainLimit");
}

#[test]
fn a_node_that_says_nothing_ends_at_the_limit_too() {
    let mut scene = scene(&in_place());
    let first = scene.plan();
    carry_out(&mut scene, 0, &first);
    assert!(scene.plan_after(3629).actions.is_empty());
    assert_eq!(words(&scene.plan_after(3630)), ["update a"]);
}

#[test]
fn a_pod_is_back_once_all_nodes_send_to_it_again() {
    let mut scene = scene(&in_place());
    scene.pods.clear();
    scene.pod("a", 1)["status"]["conditions"][1]["lastTransitionTime"] = json!("2026-01-01T01:00:00Z");
    scene.pod("b", 0);
    report(
        &mut scene,
        &[("one", &[("a", 8, true, 0)]), ("two", &[("a", 6, false, 0)])],
    );
    let early = scene.plan_after(3601);
    assert!(early.observes);
    assert_eq!((early.status.available_replicas, early.status.ready_replicas), (1, 2));
    assert!(
        message(&early).contains("1 pod Ready and not sent to yet: a by two"),
        "{}",
        message(&early)
    );
    // The next one may leave already: nodes learn of it after they learned of the other's return.
    assert_eq!(words(&early), ["drain b"]);
    carry_out(&mut scene, 1, &early);
    assert!(scene.plan_after(3601).actions.is_empty());
    report(
        &mut scene,
        &[
            ("one", &[("a", 8, true, 0), ("b", 9, false, 0)]),
            ("two", &[("a", 8, true, 0)]),
        ],
    );
    let later = scene.plan_after(3601);
    assert!(later.actions.is_empty());
    assert_eq!(later.status.available_replicas, 1);
}

#[test]
fn pods_that_go_for_good_are_let_go_of_first() {
    let mut scene = scene(&in_place());
    scene.set["spec"]["replicas"] = json!(1);
    scene.set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("app:1");
    scene.revisions.truncate(1);
    let first = scene.plan();
    assert_eq!(words(&first), ["drain a"]);
    carry_out(&mut scene, 0, &first);
    let waiting = scene.plan();
    assert!(waiting.actions.is_empty(), "{:?}", words(&waiting));
    report(
        &mut scene,
        &[("one", &[("a", 6, false, 0)]), ("two", &[("a", 6, false, 0)])],
    );
    assert_eq!(words(&scene.plan()), ["scale_down a"]);
    // Somebody changed their mind.
    scene.set["spec"]["replicas"] = json!(2);
    assert_eq!(words(&scene.plan()), ["return a"]);
}

#[test]
fn a_timed_drain_asks_nobody() {
    let mut scene = scene(&in_place());
    scene.set["metadata"]["annotations"] = json!({names::DRAIN: names::DRAIN_TIMED});
    let first = scene.plan();
    carry_out(&mut scene, 0, &first);
    assert_eq!(words(&scene.plan()), ["update a"]);
    scene.set["metadata"]["annotations"] = json!({names::DRAIN: "Never"});
    assert!(
        scene
            .plan()
            .warnings
            .iter()
            .any(|(reason, _)| *reason == "UnknownDrain")
    );
}
