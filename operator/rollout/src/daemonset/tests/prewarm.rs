//! `afloat.dev/prewarm: Required`: no pod leaves before the image is on its node, whether it changes in place or is made anew there.

use super::*;

/// Three nodes with an old pod each, of which these have the new image.
fn scene(rolling: &Value, warm: &[&str]) -> Scene {
    let mut scene = Scene::new(3, rolling).everywhere(OLD);
    scene.set["metadata"]["annotations"] = json!({names::PREWARM: names::PREWARM_REQUIRED});
    for (name, node) in &mut scene.nodes {
        if warm.contains(&name.as_str()) {
            node["status"] = json!({"images": [{"names": ["log:2"]}]});
        }
    }
    scene
}

fn waits(scene: &Scene) -> String {
    let plan = scene.plan();
    let mut conditions = plan.status.conditions.iter();
    let rollout = conditions.find(|condition| condition.kind == names::ROLLOUT);
    rollout.map(|condition| condition.message.clone()).unwrap_or_default()
}

#[test]
fn a_pod_stays_until_its_node_has_the_image() {
    for (kind, word) in [("Standard", "recreate"), ("InPlaceIfPossible", "drain")] {
        let rolling = json!({"rollingUpdateType": kind});
        let cold = scene(&rolling, &[]);
        assert_eq!(cold.does(), [""; 0], "{kind}");
        let held = "3 pods to update held by afloat.dev/prewarm, as the image is not on the node: log:2 for n3-old on n3: it is not pulled yet";
        assert!(waits(&cold).contains(held), "{kind}: {}", waits(&cold));
        assert_eq!(
            scene(&rolling, &["n2"]).does(),
            [format!("{word} n2-old")],
            "{kind}: nodes have no order"
        );
    }
}

#[test]
fn who_needs_no_other_image_waits_for_none() {
    let mut scene = scene(&json!({}), &[]);
    scene.template()["containers"][0] = json!({"name": "app", "image": "log:1", "env": [{"name": "A", "value": "b"}]});
    scene.add_revision();
    assert_eq!(scene.does(), ["recreate n3-old"]);
}

#[test]
fn a_surge_pulls_beside_the_old_pod() {
    let rolling = json!({"maxSurge": 1});
    assert_eq!(
        scene(&rolling, &[]).does(),
        Scene::new(3, &rolling).everywhere(OLD).does()
    );
}
