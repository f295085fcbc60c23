//! `afloat.dev/prewarm: Required`: no pod leaves before the image is on its node.

use afloat_words::image::full;

use super::*;
use crate::pod::images::Known;

/// Three pods, each on a node of its own, of which these have the new image.
fn scene(rolling: &Value, warm: &[u32]) -> Scene {
    let mut scene = Scene::with_old(rolling, &[0, 1, 2]);
    scene.set["metadata"]["annotations"] = json!({names::PREWARM: names::PREWARM_REQUIRED});
    for ordinal in 0..3 {
        scene.of(ordinal)["spec"]["nodeName"] = json!(format!("n{ordinal}"));
        let images = if warm.contains(&ordinal) {
            json!([{"names": ["new"]}])
        } else {
            json!([])
        };
        let node = json!({"metadata": {"name": format!("n{ordinal}")}, "status": {"images": images}});
        let node = Arc::new(serde_json::from_value(node).unwrap());
        scene.nodes.insert(format!("n{ordinal}"), Known { node, report: None });
    }
    scene
}

#[test]
fn the_first_in_turn_is_waited_for_and_the_order_is_kept() {
    let held = "3 pods to update held by afloat.dev/prewarm, as the image is not on the node: new for web-2 on n2: it is not pulled yet";
    for warm in [&[][..], &[0, 1]] {
        let cold = scene(&in_place(), warm);
        assert_eq!(cold.said(), [""; 0], "{warm:?}");
        assert!(cold.waits().contains(held), "{}", cold.waits());
        assert!(cold.plan().wake_at.is_some(), "nodes are looked at again");
    }
    assert_eq!(scene(&in_place(), &[2]).said(), ["patch web-2 drain"]);
    // Whoever wants no order gets none.
    let unordered = json!({"podUpdatePolicy": "InPlaceIfPossible", "unorderedUpdate": {}});
    assert_eq!(scene(&unordered, &[1]).said(), ["patch web-1 drain"]);
}

#[test]
fn what_a_node_could_not_pull_is_told() {
    let mut cold = scene(&in_place(), &[]);
    let known = cold.nodes.get_mut("n2").unwrap();
    let mut node = (*known.node).clone();
    node.status.refused.insert(full("new"), "manifest unknown".into());
    known.node = Arc::new(node);
    assert_eq!(cold.said(), [""; 0]);
    assert!(
        cold.waits().contains("new for web-2 on n2: manifest unknown"),
        "{}",
        cold.waits()
    );
}

#[test]
fn the_next_batch_waits_for_its_own_nodes_and_who_has_left_goes_on() {
    let two = json!({"podUpdatePolicy": "InPlaceIfPossible", "maxUnavailable": 2});
    assert_eq!(scene(&two, &[2]).said(), ["patch web-2 drain"]);
    let mut on_the_way = scene(&two, &[2]);
    let plan = on_the_way.plan();
    let Action::PatchPodStatus { at, patch, .. } = &plan.actions[0] else {
        panic!("{:?}", plan.actions)
    };
    let conditions = patch.json(at)["status"]["conditions"].clone();
    on_the_way.of(2)["status"]["conditions"] = conditions;
    on_the_way.nodes.clear();
    assert_eq!(on_the_way.said(), ["patch web-2 update"], "it is out already");
}

#[test]
fn a_new_pod_may_come_to_any_node_and_is_not_waited_for() {
    assert_eq!(scene(&recreate(), &[]).said(), ["delete web-2 recreate"]);
}
