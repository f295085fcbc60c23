//! Reports of rollouts, and what follows from losses.

use super::*;
use crate::action::patch::new_report;

/// The Service of the pods, and one node's counters: connections, and of each pod how many were reset.
pub(super) fn count(scene: &mut Scene, connections: u64, reset: &[(&str, u64)]) {
    let service = json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {"selector": {"app": "web"}}});
    scene.traffic.services = vec![Arc::new(serde_json::from_value(service).unwrap())];
    let names: Vec<String> = scene
        .pods
        .iter()
        .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    let pods: BTreeMap<_, _> = names
        .iter()
        .map(|name| {
            let reset = reset.iter().find(|(pod, _)| pod == name).map_or(0, |(_, count)| *count);
            let pod = json!({"pod": format!("n/{name}"), "applied": 6, "ready": true, "routed": true, "reset": reset});
            (name, pod)
        })
        .collect();
    let status = json!({"synced": true, "pods": pods, "services": {"n/web": connections}});
    let report = serde_json::from_value(json!({"status": status})).unwrap();
    scene.traffic.nodes = BTreeMap::from([("one".into(), Some(Arc::new(report)))]);
}

/// What the API server makes of a plan's reports and status patches, and of its status.
pub(super) fn carry_out(scene: &mut Scene, plan: &Plan) {
    for action in &plan.actions {
        match action {
            Action::CreateReport { report } => {
                let mut body = new_report(report);
                body["metadata"]["uid"] = body["metadata"]["name"].clone();
                body["metadata"]["resourceVersion"] = json!("1");
                scene.reports.as_mut().unwrap().push(body);
            }
            Action::PatchReport { at, patch } => {
                let mut all = scene.reports.as_mut().unwrap().iter_mut();
                let report = all.find(|report| report["metadata"]["name"] == *at.name).unwrap();
                for (key, value) in patch.json(at)["status"].as_object().unwrap() {
                    report["status"][key] = value.clone();
                }
            }
            Action::PatchPodStatus { at, .. } => {
                let pod = scene
                    .pods
                    .iter_mut()
                    .find(|pod| pod["metadata"]["name"] == *at.name)
                    .unwrap();
                let conditions = pod["status"]["conditions"].as_array_mut().unwrap();
                for new in sent(action)["status"]["conditions"].as_array().unwrap() {
                    conditions.retain(|old| old["type"] != new["type"]);
                    conditions.push(new.clone());
                }
            }
            _ => {}
        }
    }
    scene.set["status"] = serde_json::to_value(&plan.status).unwrap();
}

pub(super) fn scene(annotations: &Value) -> Scene {
    let mut scene = Scene::new(&["app:1", "app:2"], &in_place());
    for name in ["a", "b", "c"] {
        scene.pod(name, 0);
    }
    scene.set["metadata"]["annotations"] = annotations.clone();
    scene.set["status"]["currentRevision"] = json!(scene.revision(0));
    scene.reports = Some(Vec::new());
    count(&mut scene, 100, &[("b", 4)]);
    scene
}

/// A pod that has been moved to the new revision in place, and serves.
pub(super) fn move_on(scene: &mut Scene, pod: usize) {
    let revision = scene.revision(1);
    let pod = &mut scene.pods[pod];
    pod["metadata"]["labels"][names::REVISION] = json!(revision);
    pod["metadata"]["annotations"][names::INPLACE_STATE] = json!(json!({"revision": revision}).to_string());
    pod["spec"]["containers"][0]["image"] = json!("app:2");
    let conditions = json!([
        {"type": names::INPLACE_READY, "status": "True"},
        {"type": "Ready", "status": "True", "lastTransitionTime": START},
    ]);
    pod["status"]["conditions"] = conditions;
    pod["status"]["containerStatuses"][0]["image"] = json!("app:2");
    pod["status"]["containerStatuses"][0]["imageID"] = json!("id:app:2");
}

fn report(scene: &Scene) -> &Value {
    &scene.reports.as_ref().unwrap()[0]["status"]
}

#[test]
fn a_report_begins_and_ends_with_its_rollout() {
    let mut scene = scene(&json!({}));
    let first = scene.plan_after(0);
    assert_eq!(words(&first), ["drain a", "report Progressing"]);
    assert!(first.observes);
    carry_out(&mut scene, &first);
    assert_eq!(report(&scene)["from"], scene.revision(0));
    assert_eq!(report(&scene)["lost"], 0, "what was lost before is not its own");

    for pod in 0..3 {
        move_on(&mut scene, pod);
    }
    count(&mut scene, 160, &[("b", 4)]);
    let last = scene.plan_after(12);
    assert_eq!(words(&last), ["report Completed"]);
    assert_eq!(last.news[0].0, "RolloutCompleted");
    assert!(
        last.news[0].1.contains("3 of 3 pods kept, 12.0s, no connection lost"),
        "{:?}",
        last.news
    );
    carry_out(&mut scene, &last);
    assert_eq!(report(&scene)["connections"], 60);
    assert_eq!(
        (&report(&scene)["kept"], &report(&scene)["writes"]),
        (&json!(3), &json!(7))
    );

    count(&mut scene, 200, &[("b", 9)]);
    let quiet = scene.plan_after(20);
    assert_eq!(words(&quiet), Vec::<String>::new());
    assert!(!quiet.observes, "what is lost later is no rollout's");

    // A limit that comes later is not for what is complete.
    scene.reports.as_mut().unwrap()[0]["status"]["lost"] = json!(5);
    scene.reports.as_mut().unwrap()[0]["status"]["kinds"] = json!({"reset": 5});
    scene.set["metadata"]["annotations"] = json!({names::MAX_LOSS: "0", names::ON_LOSS: "Rollback"});
    let late = scene.plan_after(21);
    assert_eq!(words(&late), Vec::<String>::new());
    assert!(late.status.condition(names::LOSS_EXCEEDED).is_none());
}

#[test]
fn losses_are_written_and_told() {
    let mut scene = scene(&json!({}));
    let plan = scene.plan_after(0);
    carry_out(&mut scene, &plan);
    count(&mut scene, 130, &[("a", 2), ("b", 5)]);
    assert_eq!(
        words(&scene.plan_after(0)),
        Vec::<String>::new(),
        "not more often than once a second"
    );
    let plan = scene.plan_after(1);
    assert_eq!(words(&plan), ["report Progressing"]);
    carry_out(&mut scene, &plan);
    assert_eq!(report(&scene)["lost"], 3);
    assert_eq!(report(&scene)["connections"], 30);
    let message = &plan.status.condition(names::ROLLOUT).unwrap().message;
    assert!(
        message.contains("3 connections lost (3 reset), 2 of them by pod a at node one"),
        "{message}"
    );
    assert_eq!(words(&scene.plan_after(9)), Vec::<String>::new());
}

#[test]
fn no_pod_is_touched_once_more_is_lost_than_allowed() {
    let mut scene = scene(&json!({names::MAX_LOSS: "1"}));
    let plan = scene.plan_after(0);
    carry_out(&mut scene, &plan);
    move_on(&mut scene, 0);
    count(&mut scene, 130, &[("a", 1), ("b", 4)]);
    let plan = scene.plan_after(1);
    assert_eq!(words(&plan), ["drain b", "report Progressing"], "one is allowed");
    assert!(plan.status.condition(names::LOSS_EXCEEDED).is_none());

    count(&mut scene, 140, &[("a", 2), ("b", 4)]);
    let plan = scene.plan_after(1);
    assert_eq!(words(&plan), ["report LossExceeded"]);
    let message = &plan.status.condition(names::LOSS_EXCEEDED).unwrap().message;
    assert!(
        message.contains("2 connections lost (2 reset), 2 of them by pod a at node one"),
        "{message}"
    );
    assert_eq!(plan.warnings[0].0, "LossExceeded");
    carry_out(&mut scene, &plan);
    let again = scene.plan_after(2);
    assert_eq!(words(&again), Vec::<String>::new());
    assert!(again.warnings.is_empty(), "{:?}", again.warnings);

    scene.set["metadata"]["annotations"] = json!({names::MAX_LOSS: "2"});
    assert_eq!(words(&scene.plan_after(3)), ["drain b", "report Progressing"]);
    scene.set["metadata"]["annotations"] = json!({names::MAX_LOSS: "10%"});
    assert_eq!(
        words(&scene.plan_after(3)),
        ["drain b", "report Progressing"],
        "2 of 40"
    );
    scene.set["metadata"]["annotations"] = json!({names::MAX_LOSS: "2%"});
    assert_eq!(words(&scene.plan_after(3)), Vec::<String>::new(), "1 of 40");
    scene.set["metadata"]["annotations"] = json!({names::MAX_LOSS: "few"});
    let plan = scene.plan_after(3);
    assert_eq!(words(&plan), Vec::<String>::new());
    assert!(plan.warnings.iter().any(|(reason, _)| *reason == "UnknownLossLimit"));
}

#[test]
fn pods_under_way_go_on() {
    let mut scene = scene(&json!({names::MAX_LOSS: "0"}));
    scene.set["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = json!(2);
    let plan = scene.plan_after(0);
    assert_eq!(words(&plan), ["drain a", "drain b", "report Progressing"]);
    carry_out(&mut scene, &plan);
    move_on(&mut scene, 0);
    let gone = json!({"pod": "n/b", "applied": 9, "ready": false, "routed": false, "reset": 1});
    let status = json!({"synced": true, "services": {"n/web": 100}, "pods": {"b": gone,
        "a": {"applied": 9, "ready": true, "routed": true}, "c": {"applied": 9, "ready": true, "routed": true}}});
    let report = serde_json::from_value(json!({"status": status})).unwrap();
    scene.traffic.nodes = BTreeMap::from([("one".into(), Some(Arc::new(report)))]);
    assert_eq!(
        words(&scene.plan_after(5)),
        ["update b", "report LossExceeded"],
        "not c"
    );
}

#[test]
fn the_next_pod_waits_until_proxies_tell_of_the_last_one() {
    let mut scene = scene(&json!({names::MAX_LOSS: "0"}));
    let plan = scene.plan_after(0);
    carry_out(&mut scene, &plan);
    move_on(&mut scene, 0);
    let status = json!({"synced": true, "services": {"n/web": 100}, "pods": {
        "a": {"applied": 9, "ready": false, "routed": false},
        "b": {"applied": 9, "ready": true, "reset": 4}, "c": {"applied": 9, "ready": true}}});
    let report = serde_json::from_value(json!({"status": status})).unwrap();
    scene.traffic.nodes = BTreeMap::from([("one".into(), Some(Arc::new(report)))]);
    assert_eq!(words(&scene.plan_after(1)), Vec::<String>::new());
    count(&mut scene, 100, &[("b", 4)]);
    assert_eq!(words(&scene.plan_after(1)), ["drain b"]);
}

#[test]
fn updated_pods_go_back_where_that_is_wanted() {
    let mut scene = scene(&json!({names::MAX_LOSS: "0", names::ON_LOSS: "Rollback"}));
    let plan = scene.plan_after(0);
    carry_out(&mut scene, &plan);
    move_on(&mut scene, 0);
    count(&mut scene, 130, &[("a", 1), ("b", 4)]);
    let plan = scene.plan_after(1);
    assert_eq!(words(&plan), ["drain a", "report RollingBack"]);
    assert_eq!(plan.status.condition(names::LOSS_EXCEEDED).unwrap().reason, "Rollback");
    assert_eq!(
        plan.status.update_revision,
        scene.revision(1),
        "what is wanted is still told"
    );
    assert_eq!((plan.status.updated_replicas, plan.status.replicas), (1, 3));
    carry_out(&mut scene, &plan);

    // Back.
    let revision = scene.revision(0);
    let pod = &mut scene.pods[0];
    pod["metadata"]["labels"][names::REVISION] = json!(revision);
    pod["metadata"]["annotations"][names::INPLACE_STATE] = json!(json!({"revision": revision}).to_string());
    pod["spec"]["containers"][0]["image"] = json!("app:1");
    pod["status"]["containerStatuses"][0]["image"] = json!("app:1");
    pod["status"]["containerStatuses"][0]["imageID"] = json!("id:app:1");
    let plan = scene.plan_after(20);
    assert_eq!(words(&plan), ["return a"]);
    carry_out(&mut scene, &plan);
    let conditions = scene.pods[0]["status"]["conditions"].as_array_mut().unwrap();
    conditions.retain(|condition| condition["type"] != "Ready");
    conditions.push(json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:20Z"}));
    let plan = scene.plan_after(21);
    assert_eq!(words(&plan), ["report RolledBack"]);
    carry_out(&mut scene, &plan);
    assert_eq!(words(&scene.plan_after(30)), Vec::<String>::new(), "it stays there");

    // Another template is another rollout.
    scene.set["metadata"]["annotations"] = json!({});
    assert_eq!(words(&scene.plan_after(31)), ["drain a", "report Progressing"]);
}

#[test]
fn an_earlier_rollout_is_superseded_and_old_reports_go() {
    let mut scene = scene(&json!({}));
    let old = |name: &str, phase: &str, day: u32| {
        json!({"metadata": {"name": name, "uid": name, "resourceVersion": "1"},
            "status": {"phase": phase, "startedAt": format!("2025-12-{day:02}T00:00:00.000000Z")}})
    };
    scene.set["spec"]["revisionHistoryLimit"] = json!(2);
    scene.reports = Some(vec![
        old("web-x-3", "Progressing", 3),
        old("web-x-1", "Completed", 1),
        old("web-x-2", "Completed", 2),
    ]);
    assert_eq!(
        words(&scene.plan_after(0)),
        [
            "drain a",
            "delete report web-x-1",
            "delete report web-x-2",
            "report Superseded",
            "report Progressing"
        ]
    );
}

#[test]
fn without_agents_losses_are_unknown_and_limits_are_said_to_be_idle() {
    let mut scene = scene(&json!({names::MAX_LOSS: "0"}));
    scene.traffic = Traffic::default();
    let plan = scene.plan_after(0);
    assert_eq!(words(&plan), ["drain a", "report Progressing"]);
    assert!(plan.warnings.iter().any(|(reason, _)| *reason == "LossUnknown"));
    carry_out(&mut scene, &plan);
    assert!(report(&scene).get("lost").is_none());
}
