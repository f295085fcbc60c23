//! `afloat plan`: what it says is what then happens.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cluster::{Cluster, afloat, cloneset};

fn plan(arguments: &[&str], input: &str) -> (i32, String, String) {
    afloat(&[&["plan", "-f", "-"], arguments].concat(), input)
}

fn set(edit: impl FnOnce(&mut Value)) -> String {
    let mut set: Value = serde_json::from_str(&cloneset("web", 3)).unwrap();
    set["spec"]["updateStrategy"] =
        json!({"rollingUpdate": {"podUpdatePolicy": "InPlaceIfPossible", "maxUnavailable": 1}});
    edit(&mut set);
    set.to_string()
}

fn second_image(set: &mut Value) {
    set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:v2");
}

#[test]
fn files_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let old = dir.path().join("old.json");
    std::fs::write(&old, set(|_| ())).unwrap();
    let against = ["--against", old.to_str().unwrap()];
    for (new, words) in [
        (
            set(second_image),
            &["change in place", "web:v1 → web:v2", "3 to change"][..],
        ),
        (
            set(|set| set["spec"]["template"]["spec"]["hostNetwork"] = json!(true)),
            &["recreated", "spec.template.spec.hostNetwork"],
        ),
        (
            set(|set| set["spec"]["replicas"] = json!(5)),
            &["no pod changes", "3 → 5"],
        ),
        (
            set(|set| {
                set["spec"]["template"]["spec"]["hostNetwork"] = json!(true);
                set["spec"]["updateStrategy"]["rollingUpdate"]["podUpdatePolicy"] = json!("InPlaceOnly");
            }),
            &["cannot follow", "InPlaceOnly"],
        ),
        (
            set(|set| {
                second_image(set);
                set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(2);
            }),
            &["1 to change", "partition keeps 2 of 3"],
        ),
        (set(|set| set["metadata"]["name"] = json!("new")), &["is created"]),
    ] {
        let (code, text, error) = plan(&against, &new);
        assert_eq!(code, 0, "{error}");
        for word in words {
            assert!(text.contains(word), "{word} in {text}");
        }
    }
    let (code, _, error) = plan(&against, "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n");
    assert!(
        code == 2 && error.lines().count() == 1 && error.contains("apps.kruise.io"),
        "{error}"
    );
}

#[test]
fn a_rollout_goes_as_it_was_planned() {
    let Some(cluster) = Cluster::boot(2) else { return };
    cluster.build_images();
    cluster.apply(&set(|_| ()));
    cluster.wait("three pods", &["clonesets", "web"], |web| {
        web["status"]["availableReplicas"] == 3
    });
    let pods = || -> BTreeMap<String, (Value, Value)> {
        let list = cluster.get(&["pods"]).expect("pods");
        let pods = list["items"].as_array().unwrap().iter();
        pods.map(|pod| {
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            let restarts = pod["status"]["containerStatuses"][0]["restartCount"].clone();
            (name, (pod["metadata"]["uid"].clone(), restarts))
        })
        .collect()
    };
    let before = pods();
    let kubeconfig = cluster.dir().join("kubeconfig");
    let live = ["--kubeconfig", kubeconfig.to_str().unwrap(), "--json"];
    let (code, text, error) = plan(&live, &set(second_image));
    assert_eq!(code, 0, "{error}");
    let told: Value = serde_json::from_str(&text).expect("JSON");
    let told = &told["plans"][0];
    assert_eq!(told["outcome"], "inPlace", "{text}");
    assert_eq!(told["podsToChange"], 3, "{text}");
    assert_eq!(told["containers"][0]["restarts"], true, "{text}");
    let order: Vec<&str> = told["order"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(order.len(), 3, "{text}");
    assert_eq!(told["first"], json!([order[0]]), "maxUnavailable is 1: {text}");
    assert_eq!(pods(), before, "a plan changes nothing");

    // What others have set in the meantime stays, and is no change.
    let patch = json!({"spec": {"replicas": 3, "template": {"metadata": {"annotations": {"restarted": "yes"}}}}});
    cluster.kubectl(&["patch", "clonesets", "web", "--type=merge", "-p", &patch.to_string()]);
    cluster.wait("the annotation in the pods", &["clonesets", "web"], |web| {
        web["status"]["updatedReplicas"] == 3 && web["status"]["observedGeneration"] == web["metadata"]["generation"]
    });
    let (code, text, error) = plan(&live, &set(|_| ()));
    assert_eq!(code, 0, "{error}");
    let told: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(told["plans"][0]["outcome"], "nothing", "{text}");
    let (code, text, error) = plan(
        &live,
        &set(|set| set["spec"]["selector"] = json!({"matchLabels": {"app": "other"}})),
    );
    assert_eq!(code, 0, "{error}");
    assert!(
        text.contains("the API server would refuse it: ") && text.contains("selector"),
        "{text}"
    );

    // Partition 2 lets exactly the first pod of the order go.
    cluster.apply(&set(|set| {
        second_image(set);
        set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(2);
    }));
    cluster.wait("the first pod", &["clonesets", "web"], |web| {
        web["status"]["updatedAvailableReplicas"] == 1 && web["status"]["availableReplicas"] == 3
    });
    let after = pods();
    for (name, (uid, restarts)) in &before {
        let wanted = if name == order[0] { json!(1) } else { restarts.clone() };
        assert_eq!(after[name], (uid.clone(), wanted), "{name} of {order:?}");
    }
}

#[test]
fn what_others_set_in_a_deployment_stays() {
    let Some(cluster) = Cluster::boot_with(0, &[]) else {
        return;
    };
    let manifest = |env: &[&str]| {
        let env: Vec<_> = env.iter().map(|name| json!({"name": name, "value": "1"})).collect();
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web:v1", "env": env}]}}}})
        .to_string()
    };
    let kubeconfig = cluster.dir().join("kubeconfig");
    let outcome = |manifest: &str| {
        let live = ["--kubeconfig", kubeconfig.to_str().unwrap(), "--json"];
        let (code, text, error) = plan(&live, manifest);
        assert_eq!(code, 0, "{error}");
        let told: Value = serde_json::from_str(&text).expect("JSON");
        told["plans"][0]["outcome"].as_str().unwrap_or_default().to_owned()
    };
    cluster.apply(&manifest(&["A", "B"]));
    cluster.kubectl(&["scale", "deployment/web", "--replicas=2"]);
    cluster.kubectl(&["set", "env", "deployment/web", "X=1"]);
    assert_eq!(outcome(&manifest(&["A", "B"])), "nothing");
    assert_eq!(outcome(&manifest(&["A"])), "recreate");

    // As kubectl does it.
    cluster.apply(&manifest(&["A"]));
    let live = cluster.get(&["deployment", "web"]).expect("the Deployment");
    let env = live
        .pointer("/spec/template/spec/containers/0/env")
        .and_then(Value::as_array)
        .expect("variables");
    let names: Vec<_> = env.iter().map(|variable| &variable["name"]).collect();
    assert!(
        names.len() == 2 && names.contains(&&json!("A")) && names.contains(&&json!("X")),
        "{env:?}"
    );
    assert_eq!(outcome(&manifest(&["A"])), "nothing");
}
