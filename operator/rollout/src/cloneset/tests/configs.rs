//! Templates that say what their ConfigMaps and Secrets hold.

use serde_json::{Value, json};

use super::containers::{act, scene, state};
use super::losses::{carry_out, count, move_on};
use super::{Scene, in_place, losses, words};
use afloat_api::{Status as _, names};

/// Two revisions of which the first says `before` of container app, and the second `after`; empty: nothing.
fn said(before: &str, after: &str) -> Scene {
    let annotations = |text: &str| {
        if text.is_empty() {
            json!({})
        } else {
            json!({"config.afloat.dev/app": text})
        }
    };
    let mut scene = scene(|template| template["metadata"]["annotations"] = annotations(after));
    scene.revisions[0]["data"]["spec"]["template"]["metadata"]["annotations"] = annotations(before);
    scene.pods[0]["metadata"]["annotations"] = annotations(before);
    scene
}

fn images(scene: &Scene) -> [&Value; 2] {
    [0, 1].map(|index| &scene.pods[0]["spec"]["containers"][index]["image"])
}

#[test]
fn a_container_whose_config_map_holds_something_else_restarts() {
    let mut scene = said("ConfigMap/web=1", "ConfigMap/web=2~1");
    let plan = scene.plan_after(0);
    let told = &plan.status.conditions[0].message;
    assert!(told.contains("ConfigMap web changed, read by container app"), "{told}");
    assert_eq!(act(&mut scene, 0), ["drain a"]);
    assert_eq!(act(&mut scene, 0), ["update a"]);
    assert_eq!(images(&scene), [&json!("docker.io/library/app:1"), &json!("log:1")]);
    let annotations = &scene.pods[0]["metadata"]["annotations"];
    assert_eq!(annotations["config.afloat.dev/app"], "ConfigMap/web=2~1");
    assert!(state(&scene).update_env_from_metadata);
    assert!(act(&mut scene, 1).is_empty(), "the node is at work");
}

#[test]
fn what_is_told_first_is_written_down_whatever_the_policy_is() {
    for policy in ["InPlaceOnly", "InPlaceIfPossible", "ReCreate"] {
        for (before, after) in [("", "ConfigMap/web=1"), ("ConfigMap/web=1", "")] {
            let mut scene = said(before, after);
            scene.set["spec"]["updateStrategy"]["rollingUpdate"] = json!({"podUpdatePolicy": policy, "maxSurge": 1});
            assert_eq!(act(&mut scene, 0), ["update a"], "{policy}");
            assert_eq!(images(&scene), [&json!("app:1"), &json!("log:1")]);
            let labels = &scene.pods[0]["metadata"]["labels"];
            assert_eq!(labels[names::REVISION], scene.revision(1));
        }
    }
    let mut scene = said("ConfigMap/web=1", "ConfigMap/web=2~1");
    scene.set["spec"]["updateStrategy"]["rollingUpdate"] = json!({"podUpdatePolicy": "ReCreate", "maxUnavailable": 1});
    assert_eq!(words(&scene.plan()), ["recreate a"], "a pod starts with what there is");
}

#[test]
fn a_change_is_told_once_when_its_revision_is_made() {
    let mut scene = said("ConfigMap/web=1", "ConfigMap/web=2~1");
    scene.revisions.truncate(1);
    let plan = scene.plan();
    assert_eq!(words(&plan), ["create revision"]);
    let told = (
        "ConfigChanged",
        "ConfigMap web changed, read by container app".to_owned(),
    );
    assert_eq!(plan.news, [told]);

    // Taken back: the revision from before is wanted again.
    let mut scene = said("ConfigMap/web=2~1", "ConfigMap/web=1");
    scene.revisions.swap(0, 1);
    for (index, revision) in scene.revisions.iter_mut().enumerate() {
        revision["revision"] = json!(index + 1);
    }
    let plan = scene.plan();
    assert!(words(&plan).contains(&"number 3".to_owned()), "{:?}", words(&plan));
    assert_eq!(plan.news[0].0, "ConfigChanged");
}

#[test]
fn a_container_that_only_prepares_the_pod_needs_another_pod() {
    let init = |text: &'static str| {
        move |template: &mut Value| {
            template["spec"]["initContainers"] = json!([{"name": "first", "image": "first:1"}]);
            template["metadata"]["annotations"] = json!({"config.afloat.dev/first": text});
        }
    };
    let mut scene = scene(init("ConfigMap/web=2"));
    init("ConfigMap/web=1")(&mut scene.revisions[0]["data"]["spec"]["template"]);
    assert_eq!(words(&scene.plan()), ["recreate a"]);
    scene.set["spec"]["updateStrategy"]["rollingUpdate"] =
        json!({"podUpdatePolicy": "InPlaceOnly", "maxUnavailable": 1});
    let plan = scene.plan();
    assert!(plan.actions.is_empty(), "{:?}", words(&plan));
    let failed = plan.status.condition(names::FAILED_UPDATE).unwrap();
    assert!(
        failed
            .message
            .contains("metadata.annotations[config.afloat.dev/first] changed"),
        "{}",
        failed.message
    );
}

#[test]
fn nobody_goes_back_to_a_content_that_is_no_more() {
    let mut scene = losses::scene(&json!({names::MAX_LOSS: "0", names::ON_LOSS: "Rollback"}));
    for (index, text) in ["ConfigMap/web=1", "ConfigMap/web=2"].into_iter().enumerate() {
        let template = &mut scene.revisions[index]["data"]["spec"]["template"];
        template["metadata"]["annotations"] = json!({"config.afloat.dev/app": text});
    }
    scene.set["spec"]["template"]["metadata"]["annotations"] = json!({"config.afloat.dev/app": "ConfigMap/web=2"});
    let plan = scene.plan_after(0);
    carry_out(&mut scene, &plan);
    move_on(&mut scene, 0);
    count(&mut scene, 130, &[("a", 1), ("b", 4)]);
    let plan = scene.plan_after(1);
    assert_eq!(words(&plan), ["report LossExceeded"]);
    assert_eq!(plan.status.condition(names::LOSS_EXCEEDED).unwrap().reason, "MaxLoss");

    let mut scene = said("ConfigMap/web=1", "ConfigMap/web=2");
    scene.pods.clear();
    for name in ["a", "b"] {
        scene.pod(name, 1);
    }
    scene.gates.partition_rollback = true;
    scene.set["status"]["currentRevision"] = json!(scene.revision(0));
    let mut rolling = in_place();
    rolling["partition"] = json!(1);
    scene.set["spec"]["updateStrategy"]["rollingUpdate"] = rolling;
    let back = words(&scene.plan());
    assert!(!back.iter().any(|word| word.starts_with("drain")), "{back:?}");
}
