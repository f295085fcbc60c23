//! Claims: made, kept, given away, grown.

use super::*;

fn retention(deleted: &str, scaled: &str) -> Value {
    json!({"whenDeleted": deleted, "whenScaled": scaled})
}

#[test]
fn claims_come_before_pods_and_stay_after_them() {
    let mut scene = Scene::new(&recreate()).with_claims();
    assert_eq!(scene.said(), ["create claim data-web-0", "create web-0 new"]);
    scene.claim(0, "1Gi", "1Gi");
    assert_eq!(scene.said(), ["create web-0 new"], "it is found by its name");
    scene.pod(0, "new");
    scene.pod(1, "new");
    scene.claim(1, "1Gi", "1Gi");
    let fewer = scene.spec("replicas", json!(1));
    assert_eq!(fewer.said(), ["delete web-1 scale_down"]);
}

#[test]
fn a_pod_that_waits_gets_the_claim_that_it_lost() {
    let mut scene = Scene::with_old(&json!({"partition": 3}), &[0, 1, 2]).with_claims();
    for ordinal in [0, 1] {
        scene.claim(ordinal, "1Gi", "1Gi");
    }
    assert_eq!(scene.said(), [""; 0], "it runs");
    scene.of(2)["status"] = json!({"phase": "Pending"});
    let said = scene.said();
    assert!(said.contains(&"create claim data-web-2".to_owned()), "{said:?}");
}

#[test]
fn a_claim_that_is_going_holds_its_pod_up() {
    let mut scene = Scene::new(&recreate()).with_claims();
    scene.claim(0, "1Gi", "1Gi")["metadata"]["deletionTimestamp"] = json!(START);
    assert_eq!(scene.said(), [""; 0]);
    assert!(
        scene.waits().contains("web-0: claim data-web-0 is to be deleted"),
        "{}",
        scene.waits()
    );
    let mut scene = Scene::new(&recreate())
        .with_claims()
        .spec("persistentVolumeClaimRetentionPolicy", retention("Retain", "Delete"));
    scene.claim(0, "1Gi", "1Gi")["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Pod", "name": "web-0", "uid": "an earlier one"}]);
    assert_eq!(scene.said(), [""; 0]);
}

/// Kubernetes' KEP-1847, table by table.
#[test]
fn claims_belong_to_whom_they_are_to_go_with() {
    let owners = |scene: &Scene| -> Vec<String> {
        let plan = scene.plan();
        let edits = plan.actions.iter().filter_map(|action| match action {
            Action::PatchClaim { at, patch } => Some(patch.json(at)["metadata"]["ownerReferences"].clone()),
            _ => None,
        });
        let words = |edit: &Value| match edit["$patch"].as_str() {
            Some(_) => format!("-{}", edit["uid"].as_str().unwrap()),
            None => format!("+{}", edit["uid"].as_str().unwrap()),
        };
        edits
            .flat_map(|edit| edit.as_array().unwrap().iter().map(words).collect::<Vec<_>>())
            .collect()
    };
    for (policy, wanted, condemned) in [
        (retention("Retain", "Retain"), &[][..], &[][..]),
        (retention("Delete", "Retain"), &["+set"], &["+set"]),
        (retention("Retain", "Delete"), &[], &["+u0"]),
        (retention("Delete", "Delete"), &["+set"], &["+u0"]),
    ] {
        let mut scene = Scene::new(&json!({"partition": 3}))
            .with_claims()
            .spec("replicas", json!(1))
            .spec("persistentVolumeClaimRetentionPolicy", policy.clone());
        scene.pod(0, "old");
        scene.claim(0, "1Gi", "1Gi");
        assert_eq!(owners(&scene), wanted, "{policy}");
        let fewer = scene.spec("replicas", json!(0));
        assert_eq!(owners(&fewer), condemned, "{policy}");
    }
}

#[test]
fn a_pod_goes_when_its_claims_know_their_heir() {
    let mut scene = Scene::with_old(&json!({"partition": 3}), &[0, 1])
        .with_claims()
        .spec("replicas", json!(1))
        .spec("persistentVolumeClaimRetentionPolicy", retention("Retain", "Delete"));
    scene.claim(0, "1Gi", "1Gi");
    scene.claim(1, "1Gi", "1Gi");
    assert_eq!(scene.said(), ["patch claim data-web-1"]);
    scene.claims[1]["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Pod", "name": "web-1", "uid": "u1"}]);
    assert_eq!(scene.said(), ["delete web-1 scale_down"]);
    // It is wanted again before it went.
    let again = scene.spec("replicas", json!(2));
    assert_eq!(again.said(), ["patch claim data-web-1"]);
}

#[test]
fn without_the_gate_nobody_looks_after_owners() {
    let mut scene = Scene::with_old(&json!({"partition": 3}), &[0])
        .with_claims()
        .spec("replicas", json!(1))
        .spec("persistentVolumeClaimRetentionPolicy", retention("Delete", "Delete"));
    scene.claim(0, "1Gi", "1Gi");
    scene.gates.claims_by_policy = false;
    assert_eq!(scene.said(), [""; 0]);
}

/// Three old pods with claims of 1Gi, and a template that says 2Gi.
fn growing(rolling: &Value, image: &str) -> Scene {
    let mut scene = Scene::new(rolling)
        .with_claims()
        .spec("volumeClaimUpdateStrategy", json!({"type": "OnPodRollingUpdate"}));
    for ordinal in 0..3 {
        scene.pod(ordinal, image);
        scene.claim(ordinal, "1Gi", "1Gi");
    }
    scene.set["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] = json!("2Gi");
    scene.classes = vec![json!({"metadata": {"name": "fast"}, "allowVolumeExpansion": true})];
    scene
}

fn grown(scene: &mut Scene, ordinal: usize, has: &str) {
    scene.claims[ordinal]["spec"]["resources"]["requests"]["storage"] = json!("2Gi");
    scene.claims[ordinal]["status"]["capacity"]["storage"] = json!(has);
}

#[test]
fn claims_grow_one_pod_after_the_other_and_then_it_is_updated() {
    let mut scene = growing(&recreate(), "old");
    assert_eq!(scene.said(), ["patch claim data-web-2"]);
    let plan = scene.plan();
    let Action::PatchClaim { at, patch } = &plan.actions[0] else {
        panic!()
    };
    let patch = patch.json(at);
    assert_eq!(patch["spec"]["resources"]["requests"]["storage"], "2Gi");
    assert_eq!(patch["metadata"]["annotations"][names::CLAIM_OF], "web");
    grown(&mut scene, 2, "1Gi");
    assert_eq!(scene.said(), [""; 0], "nobody goes before it has grown");
    assert!(scene.waits().contains("not grown yet: web-2"), "{}", scene.waits());
    scene.claims[2]["status"]["conditions"] = json!([{"type": "FileSystemResizePending", "status": "True"}]);
    assert_eq!(scene.said(), ["delete web-2 recreate"], "it waits for its pod");
    grown(&mut scene, 2, "2Gi");
    assert_eq!(scene.said(), ["delete web-2 recreate"]);
    let told = &scene.plan().status.volume_claims[0];
    assert_eq!((told.compatible_replicas, told.compatible_ready_replicas), (1, 1));
}

#[test]
fn claims_grow_also_where_pods_do_not_change() {
    let mut scene = growing(&json!({"maxUnavailable": 2, "partition": 1}), "new");
    assert_eq!(scene.said(), ["patch claim data-web-2", "patch claim data-web-1"]);
    grown(&mut scene, 2, "2Gi");
    grown(&mut scene, 1, "2Gi");
    assert_eq!(scene.said(), [""; 0], "the partition keeps the first one");
}

#[test]
fn a_claim_that_cannot_grow_is_told_of() {
    let mut scene = growing(&recreate(), "old");
    scene.classes[0]["allowVolumeExpansion"] = json!(false);
    let plan = scene.plan();
    assert!(plan.actions.is_empty(), "{:?}", plan.actions);
    let sentence = "claim data-web-2 cannot grow: storage class fast does not support volume expansion";
    assert_eq!(plan.warnings, [("FailedUpdatePVC", sentence.to_owned())]);
    assert!(scene.waits().contains(sentence));
    scene.classes[0]["allowVolumeExpansion"] = json!(true);
    scene.claims[2]["spec"]["accessModes"] = json!(["ReadWriteMany"]);
    assert!(scene.plan().warnings[0].1.contains("more than the size differs"));
    // Taken back, nothing is in the way.
    let back = scene.spec("volumeClaimUpdateStrategy", json!({"type": "OnDelete"}));
    assert_eq!(back.said(), ["delete web-2 recreate"]);
}
