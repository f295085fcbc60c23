use serde_json::{Value, json};

use super::*;
use crate::authorization::User;

fn pod(name: &str, node: &str, spec: Value) -> Value {
    let mut pod = json!({"metadata": {"namespace": "n", "name": name}, "spec": spec});
    pod["spec"]["nodeName"] = node.into();
    pod
}

#[test]
fn a_node_has_to_do_with_what_its_pods_refer_to() {
    let mut links = PodLinks::default();
    let volumes = json!([
        {"name": "a", "secret": {"secretName": "s1"}}, {"name": "b", "configMap": {"name": "c1"}},
        {"name": "c", "projected": {"sources": [{"secret": {"name": "s2"}}, {"configMap": {"name": "c2"}}]}},
        {"name": "d", "persistentVolumeClaim": {"claimName": "p1"}}, {"name": "e", "ephemeral": {}},
    ]);
    let env = json!([{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "k"}}}]);
    let spec = json!({
        "serviceAccountName": "robot", "imagePullSecrets": [{"name": "s4"}], "volumes": volumes,
        "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "c3"}}]}],
        "containers": [{"name": "a", "env": env}],
        "ephemeralContainers": [{"name": "x", "envFrom": [{"secretRef": {"name": "s5"}}]}],
    });
    links.put(&pod("p", "one", spec.clone()));
    let uses = |links: &PodLinks, node: &str, source, name: &str| links.uses(node, source, "n", name);
    for (source, names) in [
        (Source::Secret, &["s1", "s2", "s3", "s4", "s5"][..]),
        (Source::ConfigMap, &["c1", "c2", "c3"]),
        (Source::Claim, &["p1", "p-e"]),
        (Source::Account, &["robot"]),
    ] {
        for name in names {
            assert!(uses(&links, "one", source, name), "{name}");
            assert!(!uses(&links, "two", source, name), "{name}");
            assert!(!links.uses("one", source, "other", name), "{name}");
        }
    }
    assert!(!uses(&links, "one", Source::Secret, "c1"));
    assert!(links.runs("one", "n", "p") && !links.runs("two", "n", "p") && !links.runs("one", "n", "q"));

    // Another pod with the same, and both gone one after the other.
    links.put(&pod(
        "q",
        "one",
        json!({"volumes": [{"name": "a", "secret": {"secretName": "s1"}}]}),
    ));
    links.remove(&pod("p", "one", spec));
    assert!(uses(&links, "one", Source::Secret, "s1") && !uses(&links, "one", Source::Secret, "s2"));
    // A change is what counts from then on; a pod that is bound to nobody counts for nobody.
    links.put(&pod("q", "one", json!({})));
    assert!(!uses(&links, "one", Source::Secret, "s1"));
    links.put(&pod("q", "", json!({"serviceAccountName": "robot"})));
    assert!(!links.runs("one", "n", "q") && !links.runs("", "n", "q"));
}

#[test]
fn mirror_pods_give_no_rights() {
    let mut links = PodLinks::default();
    let mut mirror = pod("p", "one", json!({"serviceAccountName": "robot"}));
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": ""});
    links.put(&mirror);
    assert!(links.runs("one", "n", "p") && !links.uses("one", Source::Account, "n", "robot"));
}

#[test]
fn volumes_lead_from_secrets_to_claims() {
    let mut links = VolumeLinks::default();
    let volume = json!({"metadata": {"name": "v"}, "spec": {"claimRef": {"namespace": "n", "name": "c"},
        "csi": {"nodeStageSecretRef": {"name": "s", "namespace": "drivers"}, "controllerExpandSecretRef": {"name": "hidden", "namespace": "drivers"}}}});
    links.put(&volume);
    let claim = ("n".to_owned(), "c".to_owned());
    assert_eq!(links.claim("v"), Some(&claim));
    assert_eq!(links.claims_with("drivers", "s").collect::<Vec<_>>(), [&claim]);
    assert_eq!(links.claims_with("drivers", "hidden").count(), 0);
    links.put(&json!({"metadata": {"name": "v"}, "spec": {"claimRef": null}}));
    assert_eq!((links.claim("v"), links.claims_with("drivers", "s").count()), (None, 0));
}

#[test]
fn labels_lead_workloads_to_nodes() {
    let node = |labels: Value| json!({"metadata": {"name": "n", "labels": labels}});
    let old = node(json!({"kept.kubernetes.io/a": "1", "gone.k8s.io/b": "1", "mine": "1"}));
    let new = node(json!({
        "kept.kubernetes.io/a": "1", "mine": "2", "kubernetes.io/os": "linux", "x.node.kubernetes.io/y": "1",
        "node-restriction.kubernetes.io/z": "1", "a.node-restriction.kubernetes.io/z": "1", "notkubernetes.io/x": "1", "k8s.io/q": "",
    }));
    let all: Vec<&str> = labels::forbidden(Some(&old), &new).into_iter().collect();
    assert_eq!(
        all,
        [
            "a.node-restriction.kubernetes.io/z",
            "gone.k8s.io/b",
            "k8s.io/q",
            "node-restriction.kubernetes.io/z"
        ]
    );
}

#[test]
fn nodes_are_known_by_name_and_group() {
    assert_eq!(node_of(&User::node("a")), Some("a"));
    assert_eq!(node_of(&User::named("system:node:a", &["system:authenticated"])), None);
    assert_eq!(node_of(&User::named("a", &["system:nodes"])), None);
}
