//! What OpenKruise's feature gates change.

use afloat_api::{Gates, names};
use serde_json::{Value, json};

use super::merge::merge;
use super::{START, Scene, in_place, sent, words};
use crate::action::Action;

/// The labels of the pods that a plan creates.
fn created(scene: &Scene) -> Vec<Value> {
    let actions = scene.plan().actions;
    let bodies = actions.iter().filter_map(|action| match action {
        Action::CreatePod { pod } => Some(pod.body()["metadata"]["labels"].clone()),
        _ => None,
    });
    bodies.collect()
}

fn hash(revision: &str) -> &str {
    revision.rsplit('-').next().unwrap()
}

#[test]
fn the_label_is_the_hash_alone() {
    for short in [false, true] {
        let mut scene = Scene::new(&["app:1", "app:2"], &in_place());
        scene.gates.short_hash = short;
        scene.set["spec"]["replicas"] = json!(1);
        let revision = scene.revision(1);
        let wanted = if short { hash(&revision) } else { &revision };
        let labels = &created(&scene)[0];
        assert_eq!(labels[names::REVISION], wanted);
        assert_eq!(labels[names::POD_TEMPLATE_HASH], hash(&revision));
        // An update writes it in the same form, and either form is understood.
        scene.pod("a", 0)["metadata"]["labels"][names::REVISION] = json!(hash(&scene.revision(0)));
        let patch = sent(&scene.plan().actions[0]);
        merge(&mut scene.pods[0], &patch);
        let plan = scene.plan();
        assert_eq!(words(&plan), ["update a"]);
        let patch = sent(&plan.actions[0]);
        assert_eq!(patch["metadata"]["labels"][names::REVISION], wanted);
        let state = patch["metadata"]["annotations"][names::INPLACE_STATE].as_str().unwrap();
        assert!(state.contains(&format!("\"revision\":\"{revision}\"")), "{state}");
        merge(&mut scene.pods[0], &patch);
        assert_eq!(scene.plan().status.updated_replicas, 1);
    }
}

/// Three of five pods are updated, and the partition now allows one.
#[test]
fn a_raised_partition_brings_pods_back() {
    for on in [false, true] {
        let mut scene = Scene::new(&["app:1", "app:2"], &in_place());
        scene.gates.partition_rollback = on;
        for (name, revision) in [("a", 0), ("b", 0), ("c", 1), ("d", 1), ("e", 1)] {
            scene.pod(name, revision);
        }
        scene.set["status"]["currentRevision"] = json!(scene.revision(0));
        scene.set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(4);
        scene.set["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = json!(5);
        let mut plan = scene.plan();
        if !on {
            assert!(plan.actions.is_empty(), "{:?}", words(&plan));
            continue;
        }
        assert_eq!(words(&plan), ["drain c", "drain d"]);
        assert_eq!(
            plan.status.update_revision,
            scene.revision(1),
            "it is told as what it is"
        );
        assert_eq!(
            (plan.status.updated_replicas, plan.status.expected_updated_replicas),
            (3, 1)
        );
        for _ in 0..2 {
            for (index, action) in [2, 3].into_iter().zip(&plan.actions) {
                merge(&mut scene.pods[index], &sent(action));
            }
            plan = scene.plan();
        }
        for index in [2, 3] {
            let pod = &mut scene.pods[index];
            assert_eq!(pod["spec"]["containers"][0]["image"], "app:1");
            assert_eq!(
                pod["metadata"]["labels"][names::REVISION],
                scene.revisions[0]["metadata"]["name"]
            );
            pod["status"]["containerStatuses"][0]["image"] = json!("app:1");
            pod["status"]["containerStatuses"][0]["imageID"] = json!("id:app:1");
        }
        assert_eq!(words(&scene.plan()), ["return c", "return d"]);
        // A new pod is an old one: e stays the only one that is updated.
        scene.pods.remove(0);
        assert_eq!(created(&scene)[0][names::REVISION], scene.revision(0));
    }
}

/// Pods of a third revision are old to OpenKruise: the partition may keep them, and they are none that go back.
#[test]
fn only_updated_pods_go_back() {
    let mut scene = Scene::new(&["app:1", "app:2", "app:3"], &in_place());
    scene.gates.partition_rollback = true;
    for (name, revision) in [("a", 1), ("b", 0), ("c", 0), ("d", 2), ("e", 2)] {
        scene.pod(name, revision);
    }
    scene.set["status"]["currentRevision"] = json!(scene.revision(0));
    let rolling = &mut scene.set["spec"]["updateStrategy"]["rollingUpdate"];
    rolling["partition"] = json!(4);
    rolling["maxUnavailable"] = json!(5);
    let mut plan = scene.plan();
    assert_eq!(
        words(&plan),
        ["drain d"],
        "a is kept, and one of the updated ones may stay"
    );
    for _ in 0..2 {
        merge(&mut scene.pods[3], &sent(&plan.actions[0]));
        plan = scene.plan();
    }
    assert_eq!(scene.pods[3]["spec"]["containers"][0]["image"], "app:1");
    assert!(plan.actions.is_empty(), "{:?}", words(&plan));
}

/// The same way back with pods that are recreated, one more than wanted at a time: those that come are old ones.
#[test]
fn a_raised_partition_recreates_with_a_surge() {
    let rolling = json!({"podUpdatePolicy": "ReCreate", "maxUnavailable": 0, "maxSurge": 1, "partition": 3});
    let mut scene = Scene::new(&["app:1", "app:2"], &rolling);
    scene.gates.partition_rollback = true;
    for (name, revision) in [("a", 0), ("b", 1), ("c", 1)] {
        scene.pod(name, revision);
    }
    scene.set["status"]["currentRevision"] = json!(scene.revision(0));
    let labels = created(&scene);
    assert_eq!(
        (labels.len(), &labels[0][names::REVISION]),
        (1, &json!(scene.revision(0)))
    );
    scene.pod("d", 0);
    scene.set["spec"]["replicas"] = json!(3);
    assert_eq!(words(&scene.plan()), ["recreate b"]);
    scene.set["spec"]["updateStrategy"]["rollingUpdate"]["paused"] = json!(true);
    let words = words(&scene.plan());
    assert!(!words.contains(&"recreate b".to_owned()), "{words:?}");
}

/// OpenKruise's own case: two pods, one of which is held before its update, and the other one is deleted.
#[test]
fn a_held_pod_counts_as_updated_for_scaling() {
    for on in [false, true] {
        let rolling = json!({"podUpdatePolicy": "InPlaceIfPossible", "maxUnavailable": "50%", "partition": "99%"});
        let mut scene = Scene::new(&["app:1", "app:2"], &rolling);
        scene.gates.preparing_update_as_update = on;
        scene.set["spec"]["lifecycle"] = json!({"inPlaceUpdate": {"labelsHandler": {"hold": "on"}}});
        scene.set["status"]["currentRevision"] = json!(scene.revision(0));
        let labels = &mut scene.pod("a", 0)["metadata"]["labels"];
        labels[names::LIFECYCLE_STATE] = json!("PreparingUpdate");
        labels["hold"] = json!("on");
        scene.set["spec"]["replicas"] = json!(2);
        let revision = scene.revision(if on { 0 } else { 1 });
        let labels = created(&scene);
        assert_eq!((labels.len(), &labels[0][names::REVISION]), (1, &json!(revision)));
        // And whoever is too many is not the one that is about to be updated.
        scene.pod("b", 0)["metadata"]["labels"][names::LIFECYCLE_STATE] = json!("Normal");
        scene.pod("c", 0)["metadata"]["labels"][names::LIFECYCLE_STATE] = json!("Normal");
        scene.set["spec"]["replicas"] = json!(2);
        assert_eq!(scene.plan().status.updated_replicas, 0, "it is not told as updated");
    }
}

fn data(size: &str) -> Value {
    json!([{"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": size}}}}])
}

#[test]
fn other_claims_recreate_pods_with_the_next_revision() {
    let mut scene = Scene::new(&["app:1", "app:2"], &in_place());
    scene.pod("a", 0);
    scene.set["spec"]["volumeClaimTemplates"] = data("2Gi");
    let annotate = |scene: &mut Scene, index: usize, hash: Option<&str>| match hash {
        Some(hash) => scene.revisions[index]["metadata"]["annotations"] = json!({names::CLAIMS_HASH: hash}),
        None => scene.revisions[index]["metadata"]["annotations"] = json!({}),
    };
    let mut outcome = |on: bool, policy: &str, had: Option<&str>, wanted: Option<&str>| {
        scene.gates.recreate_for_claims = on;
        scene.set["spec"]["updateStrategy"]["rollingUpdate"]["podUpdatePolicy"] = json!(policy);
        annotate(&mut scene, 0, had);
        annotate(&mut scene, 1, wanted);
        words(&scene.plan()).join(", ")
    };
    let possible = "InPlaceIfPossible";
    assert_eq!(outcome(true, possible, Some("1"), Some("2")), "recreate a");
    assert_eq!(outcome(true, possible, Some(""), Some("2")), "recreate a");
    assert_eq!(outcome(true, possible, Some("2"), Some("2")), "drain a");
    assert_eq!(outcome(false, possible, Some("1"), Some("2")), "drain a");
    assert_eq!(outcome(true, "InPlaceOnly", Some("1"), Some("2")), "drain a");
    // Revisions from before there were hashes.
    assert_eq!(outcome(true, possible, None, Some("2")), "drain a");
    assert_eq!(outcome(true, possible, Some("1"), None), "drain a");
}

/// Claims alone make no revision; the next one has their hash, and so has an old one that is wanted again.
#[test]
fn revisions_carry_the_hash_of_the_claims() {
    let mut scene = Scene::new(&["app:1", "app:2"], &in_place());
    scene.pod("a", 1);
    scene.set["spec"]["volumeClaimTemplates"] = data("2Gi");
    assert!(scene.plan().actions.is_empty());
    scene.set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("app:3");
    let [Action::CreateRevision { body }] = &scene.plan().actions[..] else {
        panic!()
    };
    let hash = body["metadata"]["annotations"][names::CLAIMS_HASH]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(hash.parse::<u32>().is_ok(), "{hash}");
    scene.set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("app:1");
    let plan = scene.plan();
    let number = plan.actions.iter().find_map(|action| match action {
        Action::NumberRevision { at, number } => Some(number.json(at)),
        _ => None,
    });
    assert_eq!(
        number.unwrap()["metadata"]["annotations"],
        json!({names::CLAIMS_HASH: hash})
    );
    // It counts in the very plan that writes it.
    scene.gates.recreate_for_claims = true;
    scene.revisions[0]["metadata"]["annotations"] = json!({names::CLAIMS_HASH: "1"});
    scene.revisions[1]["metadata"]["annotations"] = json!({names::CLAIMS_HASH: "1"});
    assert_eq!(words(&scene.plan()), ["recreate a", "number 3"]);
    scene.set["spec"]["volumeClaimTemplates"] = Value::Null;
    scene.set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("app:3");
    let [Action::CreateRevision { body }] = &scene.plan().actions[..] else {
        panic!()
    };
    assert_eq!(body["metadata"]["annotations"][names::CLAIMS_HASH], "");
}

#[test]
fn what_changes_in_place_can_be_turned_off() {
    let gates = |environment_in_place: bool, resize_in_place: bool| Gates {
        environment_in_place,
        resize_in_place,
        ..Gates::default()
    };
    let amounts = |cpu: &str| json!({"requests": {"cpu": cpu}});
    for (on, expected) in [(true, "update a"), (false, "recreate a")] {
        let mut scene = Scene::new(&["app:1"], &in_place());
        scene.gates = gates(true, on);
        let pod = scene.pod("a", 0);
        pod["spec"]["containers"][0]["resources"] = amounts("1");
        scene.revisions[0]["data"]["spec"]["template"]["spec"]["containers"][0]["resources"] = amounts("1");
        let mut new = scene.revisions[0].clone();
        new["metadata"]["name"] = json!("web-new");
        new["metadata"]["uid"] = json!("new");
        new["revision"] = json!(2);
        new["data"]["spec"]["template"]["spec"]["containers"][0]["resources"] = amounts("2");
        scene.revisions.push(new);
        scene.set["spec"]["template"]["spec"]["containers"][0]["resources"] = amounts("2");
        assert_eq!(words(&scene.plan()), [expected], "{on}");
    }
    // Without the gate labels and annotations change, and nothing restarts for them.
    for (on, expected) in [(true, "drain a"), (false, "update a")] {
        let mut scene = Scene::new(&["app:1"], &in_place());
        scene.gates = gates(on, true);
        scene.pod("a", 0);
        let env = json!([{"name": "TIER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['tier']"}}}]);
        scene.revisions[0]["data"]["spec"]["template"]["spec"]["containers"][0]["env"] = env.clone();
        let mut new = scene.revisions[0].clone();
        new["metadata"]["name"] = json!("web-new");
        new["metadata"]["uid"] = json!("new");
        new["revision"] = json!(2);
        new["data"]["spec"]["template"]["metadata"]["labels"]["tier"] = json!("front");
        scene.revisions.push(new);
        scene.set["spec"]["template"]["metadata"]["labels"]["tier"] = json!("front");
        scene.set["spec"]["template"]["spec"]["containers"][0]["env"] = env;
        scene.pods[0]["metadata"]["creationTimestamp"] = json!(START);
        assert_eq!(words(&scene.plan()), [expected], "{on}");
    }
}

/// OpenKruise finds the revision of a template by its bytes, once its webhook has filled the template in.
#[test]
fn a_new_revision_has_what_openkruises_webhook_fills_in() {
    for as_written in [false, true] {
        let mut scene = Scene::new(&["app:1"], &in_place());
        scene.gates.template_no_defaults = as_written;
        let spec = &mut scene.set["spec"]["template"]["spec"];
        spec["initContainers"] = json!([{"name": "init", "image": "init:1"}]);
        spec["volumes"] = json!([{"name": "scratch"}]);
        let actions = scene.plan().actions;
        let [Action::CreateRevision { body }] = actions.as_slice() else {
            panic!("{actions:?}")
        };
        let made = &body["data"]["spec"]["template"]["spec"];
        let policy = &made["initContainers"][0]["imagePullPolicy"];
        assert_eq!(*policy == "IfNotPresent", !as_written, "{made:#}");
        assert_eq!(made["volumes"][0]["emptyDir"] == json!({}), !as_written, "{made:#}");
        assert_eq!(
            scene.set["spec"]["template"]["spec"]["volumes"][0],
            json!({"name": "scratch"})
        );
    }
}
