//! What a plan does with what the nodes' proxies tell: drains, reports of rollouts, limits of what may be lost.

use super::scene::Scene;
use super::*;
use afloat_api::names;
use serde_json::{Value, json};

fn in_place(kind: &Names) -> Value {
    match kind.per_node {
        true => json!({"rollingUpdateType": "InPlaceIfPossible", "maxUnavailable": 1}),
        false => json!({"podUpdatePolicy": "InPlaceIfPossible", "maxUnavailable": 1}),
    }
}

/// A rollout whose first pod has come to the new revision; which that is.
fn begun(kind: &'static Names, rolling: &Value, annotations: &Value) -> (Scene, String) {
    let mut scene = Scene::new(kind, rolling, annotations);
    let plan = scene.plan(0);
    let words = plan.words();
    assert_eq!(words.len(), 2, "{}: one pod, and the report: {words:?}", kind.kind);
    assert_eq!(words[1], "report Progressing", "{}", kind.kind);
    assert!(plan.observes, "{}", kind.kind);
    scene.carry_out(&plan);
    let first = scene.first(&plan);
    scene.move_on(&first);
    (scene, first)
}

#[test]
fn a_report_begins_and_ends_with_its_rollout() {
    for kind in KINDS {
        let (mut scene, _) = begun(kind, &in_place(kind), &json!({}));
        assert_eq!(scene.reports[0]["status"]["from"], scene.named(0), "{}", kind.kind);
        assert_eq!(scene.reports[0]["status"]["revision"], scene.named(1), "{}", kind.kind);
        for pod in 0..3 {
            scene.move_on(&format!("web-{pod}"));
        }
        scene.count(160, &[]);
        let last = scene.plan(12);
        assert_eq!(last.words(), ["report Completed"], "{}", kind.kind);
        let news = &last.news[0];
        assert!(news.contains("3 of 3 pods kept, 12.0s, no connection lost"), "{news}");
        scene.carry_out(&last);
        assert_eq!(scene.reports[0]["status"]["connections"], 60, "{}", kind.kind);
        scene.count(200, &[("web-1", 9)]);
        let words = scene.plan(20).words();
        assert_eq!(words, [""; 0], "{}: what is lost later is no rollout's", kind.kind);
    }
}

#[test]
fn no_pod_is_touched_once_more_is_lost_than_allowed() {
    for kind in KINDS {
        // In place, and by new pods.
        for rolling in [in_place(kind), json!({"maxUnavailable": 1})] {
            let (mut scene, first) = begun(kind, &rolling, &json!({names::MAX_LOSS: "1"}));
            scene.count(130, &[(&first, 1)]);
            let plan = scene.plan(1);
            let words = plan.words();
            assert_eq!(words.len(), 2, "{}: one is allowed: {words:?}", kind.kind);
            assert!(plan.condition(names::LOSS_EXCEEDED).is_none(), "{}", kind.kind);

            scene.count(140, &[(&first, 2)]);
            let plan = scene.plan(1);
            assert_eq!(plan.words(), ["report LossExceeded"], "{}", kind.kind);
            let condition = plan.condition(names::LOSS_EXCEEDED).unwrap();
            let lost = format!("2 connections lost (2 reset), 2 of them by pod {first} at node one");
            assert!(condition.message.contains(&lost), "{}", condition.message);
            assert_eq!(plan.warnings, ["LossExceeded"], "{}", kind.kind);
            scene.carry_out(&plan);
            let again = scene.plan(2);
            assert_eq!((again.words(), again.warnings), (vec![], vec![]), "{}", kind.kind);

            scene.set["metadata"]["annotations"] = json!({names::MAX_LOSS: "2"});
            let more = scene.plan(3);
            assert_eq!(more.words()[1], "report Progressing", "{}", kind.kind);
            assert_ne!(scene.first(&more), first, "{}", kind.kind);
        }
    }
}

#[test]
fn no_new_pod_comes_beside_an_old_one_once_too_much_is_lost() {
    // StatefulSets have no surge.
    for kind in KINDS.iter().filter(|kind| !kind.floors) {
        let rolling = json!({"maxSurge": 1, "maxUnavailable": 0});
        let mut scene = Scene::new(kind, &rolling, &json!({names::MAX_LOSS: "0"}));
        let first = scene.plan(0);
        assert_eq!(first.words(), ["create", "report Progressing"], "{}", kind.kind);
        scene.carry_out(&first);
        scene.count(140, &[("web-0", 2)]);
        assert_eq!(scene.plan(1).words(), ["report LossExceeded"], "{}", kind.kind);
    }
}

#[test]
fn updated_pods_go_back_where_that_is_wanted() {
    for kind in KINDS {
        let wanted = json!({names::MAX_LOSS: "0", names::ON_LOSS: "Rollback"});
        let (mut scene, first) = begun(kind, &in_place(kind), &wanted);
        scene.count(130, &[(&first, 1)]);
        let plan = scene.plan(1);
        let expected = [format!("drain {first}"), "report RollingBack".to_owned()];
        assert_eq!(plan.words(), expected, "{}", kind.kind);
        let condition = plan.condition(names::LOSS_EXCEEDED).unwrap();
        assert_eq!(condition.reason, "Rollback", "{}", kind.kind);
    }
}

#[test]
fn a_pod_changes_once_all_proxies_have_let_go_of_it() {
    for kind in KINDS {
        let mut scene = Scene::new(kind, &in_place(kind), &json!({names::DRAIN: names::DRAIN_OBSERVED}));
        let empty = json!({"synced": true, "pods": {}});
        scene.report(&[("one", empty.clone()), ("two", empty)]);
        let plan = scene.plan(0);
        let first = scene.first(&plan);
        scene.carry_out(&plan);
        let uid = format!("u{}", &first["web-".len()..]);
        let says = |applied: u64, ready: bool| {
            let said = json!({"applied": applied, "ready": ready, "routed": ready, "open": 0});
            json!({"synced": true, "pods": {&uid: said}})
        };
        scene.report(&[("one", says(6, false)), ("two", says(4, true))]);
        let plan = scene.plan(1);
        assert_eq!(plan.words(), [""; 0], "{}", kind.kind);
        assert!(plan.observes, "{}", kind.kind);
        let waits = &plan.condition(names::ROLLOUT).unwrap().message;
        let waiting = format!("{first}: 1 of 2 nodes have let go, not two");
        assert!(waits.contains(&waiting), "{waits}");
        scene.report(&[("one", says(6, false)), ("two", says(6, false))]);
        assert_eq!(scene.plan(1).words(), [format!("update {first}")], "{}", kind.kind);
    }
}
