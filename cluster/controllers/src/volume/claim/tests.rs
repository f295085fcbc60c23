use super::*;
use crate::objects::storage::DEFAULT_CLASS;

struct World {
    claim: Value,
    volumes: Vec<Value>,
    classes: Vec<Value>,
    nodes: Vec<Value>,
    used: bool,
}

impl World {
    fn new(spec: Value) -> Self {
        let class = |name: &str, mode: &str| {
            json!({"metadata": {"name": name}, "provisioner": PROVISIONER, "reclaimPolicy": "Delete",
                "volumeBindingMode": mode})
        };
        let node = |name: &str| json!({"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let mut claim = json!({"metadata": {"namespace": "d", "name": "c", "uid": "u"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            "status": {"phase": "Pending"}});
        for (key, value) in spec.as_object().unwrap() {
            claim["spec"][key] = value.clone();
        }
        Self {
            claim,
            volumes: vec![],
            classes: vec![class("late", "WaitForFirstConsumer"), class("now", "Immediate")],
            nodes: vec![node("n1"), node("n2")],
            used: false,
        }
    }

    fn plan(&self) -> Vec<Action> {
        let read = |list: &[Value]| list.to_vec();
        let volumes: Vec<Arc<Volume>> = of(read(&self.volumes));
        let (classes, nodes) = (of(read(&self.classes)), of(read(&self.nodes)));
        let claim: Claim = serde_json::from_value(self.claim.clone()).unwrap();
        plan(&Seen {
            claim: &claim,
            volumes: &volumes,
            classes: &classes,
            nodes: &nodes,
            used: self.used,
            path: Some(&|node, volume| format!("/data/{node}/{volume}")),
        })
    }

    /// Plans and carries out until nothing is to be done; gives the reasons of what was told.
    fn settle(&mut self) -> Vec<&'static str> {
        let mut told = vec![];
        for _ in 0..20 {
            let actions = self.plan();
            let mut wrote = false;
            for action in actions {
                match action {
                    Action::Patch(patch) | Action::PatchStatus(patch) => merge(&mut self.claim, &patch),
                    Action::PatchVolume(found, patch) => {
                        let volume = self.volumes.iter_mut().find(|v| v["metadata"]["name"] == found.name());
                        merge(volume.unwrap(), &patch);
                    }
                    Action::CreateVolume(_, mut body) => {
                        body["status"] = json!({"phase": "Pending"});
                        self.volumes.push(body);
                    }
                    Action::Tell(_, reason, _) => {
                        told.push(reason);
                        continue;
                    }
                }
                wrote = true;
            }
            if !wrote {
                return told;
            }
        }
        panic!("it does not come to rest: {:#}", self.claim);
    }
}

fn of<T: serde::de::DeserializeOwned>(list: Vec<Value>) -> Vec<Arc<T>> {
    list.into_iter()
        .map(|v| Arc::new(serde_json::from_value(v).unwrap()))
        .collect()
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let object = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn available(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"]},
        "status": {"phase": "Available"}})
}

#[test]
fn waits_for_its_first_pod_then_gets_a_volume_on_its_node() {
    let mut world = World::new(json!({"storageClassName": "late"}));
    assert_eq!(world.settle(), ["WaitForFirstConsumer"]);
    world.claim["metadata"]["annotations"] = json!({SELECTED_NODE: "n2"});
    assert_eq!(world.settle(), ["ExternalProvisioning"]);
    let volume = &world.volumes[0];
    assert_eq!(volume["metadata"]["name"], "pvc-u");
    assert_eq!(volume["spec"]["local"]["path"], "/data/n2/pvc-u");
    assert_eq!(volume["spec"]["capacity"]["storage"], "1Gi");
    assert_eq!(world.claim["status"]["phase"], "Bound");
    assert_eq!(world.claim["spec"]["volumeName"], "pvc-u");
    assert_eq!(world.claim["status"]["capacity"]["storage"], "1Gi");
}

#[test]
fn an_immediate_claim_gets_the_emptiest_node() {
    let mut world = World::new(json!({"storageClassName": "now"}));
    let there = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "k", "operator": "In", "values": ["n1"]}]}]}});
    world
        .volumes
        .push(json!({"metadata": {"name": "other"}, "spec": {"nodeAffinity": there}}));
    world.settle();
    assert_eq!(world.claim["metadata"]["annotations"][SELECTED_NODE], "n2");
    assert_eq!(world.claim["status"]["phase"], "Bound");
}

#[test]
fn a_node_that_went_is_chosen_anew() {
    let mut world = World::new(json!({"storageClassName": "late"}));
    world.claim["metadata"]["annotations"] = json!({SELECTED_NODE: "gone"});
    assert_eq!(
        world.settle(),
        ["ExternalProvisioning", "ProvisioningFailed", "WaitForFirstConsumer"]
    );
    assert!(world.claim["metadata"]["annotations"].get(SELECTED_NODE).is_none());
}

#[test]
fn a_static_volume_is_bound_from_both_sides() {
    let mut world = World::new(json!({"storageClassName": ""}));
    assert_eq!(world.settle(), ["FailedBinding"]);
    world.volumes.push(available("disk"));
    assert!(world.settle().is_empty());
    assert_eq!(world.claim["spec"]["volumeName"], "disk");
    assert_eq!(world.claim["status"]["capacity"]["storage"], "2Gi");
    assert_eq!(world.volumes[0]["spec"]["claimRef"]["uid"], "u");
    assert_eq!(world.volumes[0]["metadata"]["annotations"][BOUND_BY_CONTROLLER], "yes");

    world.volumes.clear();
    assert_eq!(world.settle(), ["ClaimLost"]);
    assert_eq!(world.claim["status"]["phase"], "Lost");
}

#[test]
fn a_wish_for_one_volume_is_granted_or_explained() {
    let mut world = World::new(json!({"storageClassName": "", "volumeName": "disk"}));
    assert!(world.settle().is_empty());
    let mut taken = available("disk");
    taken["spec"]["claimRef"] = json!({"namespace": "d", "name": "other", "uid": "x"});
    world.volumes.push(taken);
    assert_eq!(world.settle(), ["FailedBinding"]);
    world.volumes[0] = available("disk");
    world.volumes[0]["spec"]["accessModes"] = json!(["ReadOnlyMany"]);
    assert_eq!(world.settle(), ["VolumeMismatch"]);
    world.volumes[0] = available("disk");
    world.settle();
    assert_eq!(world.claim["status"]["phase"], "Bound");
    // The user's choice is not the controller's.
    assert!(
        world.claim["metadata"]["annotations"]
            .get(BOUND_BY_CONTROLLER)
            .is_none()
    );
}

#[test]
fn a_default_class_that_comes_later_is_taken() {
    let mut world = World::new(json!({}));
    assert_eq!(world.settle(), ["FailedBinding"]);
    world.classes[1]["metadata"]["annotations"] = json!({DEFAULT_CLASS: "true"});
    world.settle();
    assert_eq!(world.claim["spec"]["storageClassName"], "now");
}

#[test]
fn a_deleted_claim_waits_for_its_pods() {
    let mut world = World::new(json!({}));
    world.claim["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    world.claim["metadata"]["finalizers"] = json!([CLAIM_PROTECTION, "other/one"]);
    world.used = true;
    assert!(world.plan().is_empty());
    world.used = false;
    let [Action::Patch(patch)] = &world.plan()[..] else {
        panic!("one patch")
    };
    assert_eq!(*patch, json!({"metadata": {"finalizers": ["other/one"]}}));
}

#[test]
fn what_cannot_be_made_is_told() {
    for (spec, reason) in [
        (json!({"storageClassName": "none"}), "ProvisioningFailed"),
        (
            json!({"storageClassName": "now", "volumeMode": "Block"}),
            "ProvisioningFailed",
        ),
        (
            json!({"storageClassName": "now", "selector": {"matchLabels": {"a": "b"}}}),
            "ProvisioningFailed",
        ),
    ] {
        let mut world = World::new(spec.clone());
        assert_eq!(world.settle().last(), Some(&reason), "{spec}");
        assert!(world.volumes.is_empty());
    }
}
