//! What a write to a pod does to it.

use afloat_api::{Operation, names};
use serde_json::Value;

/// What is done to a pod that was so and shall be so; None: nothing that takes it out of service.
///
/// As OpenKruise sees it: any other spec is an update, and so is the first label that says that the pod is unavailable. It is a
/// resize if it changes nothing but resources that change without a restart, and the quality of service stays. A label that fills an environment
/// variable is not looked at.
pub fn operation(old: &Value, new: &Value) -> Option<Operation> {
    let marked = !unavailable(old) && unavailable(new);
    if marked {
        return Some(Operation::Update);
    }
    if old["spec"] == new["spec"] {
        return None;
    }
    Some(if resizes(old, new) {
        Operation::Resize
    } else {
        Operation::Update
    })
}

/// Whether somebody has marked a pod as unavailable.
pub fn unavailable(pod: &Value) -> bool {
    let labels = pod["metadata"]["labels"].as_object();
    labels.is_some_and(|labels| labels.keys().any(|key| key.starts_with(names::UNAVAILABLE_PREFIX)))
}

/// Annotation of pods that a node made by itself.
const STATIC: &str = "kubernetes.io/config.source";

fn resizes(old: &Value, new: &Value) -> bool {
    let by_a_node = |pod: &Value| {
        let source = pod["metadata"]["annotations"][STATIC].as_str();
        source.is_some_and(|source| source != "api")
    };
    without_resources(old) == without_resources(new)
        && !by_a_node(old)
        && !by_a_node(new)
        && old["status"]["qosClass"].as_str().unwrap_or_default() == quality(new, old)
        && containers(old)
            .zip(containers(new))
            .all(|(old, new)| restarts_nothing(old, new))
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    pod["spec"]["containers"].as_array().into_iter().flatten()
}

fn without_resources(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    for container in spec["containers"].as_array_mut().into_iter().flatten() {
        if let Some(fields) = container.as_object_mut() {
            fields.remove("resources");
        }
    }
    spec
}

/// Whether every resource that differs is one that changes while the container runs.
fn restarts_nothing(old: &Value, new: &Value) -> bool {
    let amount = |container: &Value, kind: &str, name: &str| container["resources"][kind][name].clone();
    let kinds = ["requests", "limits"];
    let names = [old, new].into_iter().flat_map(|container| {
        let maps = kinds
            .iter()
            .filter_map(|kind| container["resources"][*kind].as_object());
        maps.flat_map(|map| map.keys()).cloned().collect::<Vec<_>>()
    });
    names.into_iter().all(|name| {
        let same = kinds
            .iter()
            .all(|kind| amount(old, kind, &name) == amount(new, kind, &name));
        let policies = new["resizePolicy"].as_array().into_iter().flatten();
        let policy = policies.filter(|policy| policy["resourceName"] == *name);
        let quiet = policy
            .into_iter()
            .all(|policy| policy["restartPolicy"] != "RestartContainer");
        same || ["cpu", "memory"].contains(&name.as_str()) && quiet
    })
}

/// The class of a pod by its containers' resources; where the status of the old one says nothing, none changes.
fn quality(new: &Value, old: &Value) -> &'static str {
    if !old["status"]["qosClass"].is_string() {
        return "";
    }
    let all = || containers(new).map(|container| &container["resources"]);
    let given = |resources: &Value, kind: &str, name: &str| {
        let amount = &resources[kind][name];
        amount.is_string() && *amount != "0" || amount.is_number()
    };
    let any = all().any(|r| {
        ["requests", "limits"]
            .iter()
            .any(|kind| ["cpu", "memory"].iter().any(|name| given(r, kind, name)))
    });
    let whole = |r: &Value| {
        ["cpu", "memory"].iter().all(|name| {
            let request = &r["requests"][*name];
            given(r, "limits", name) && (request.is_null() || *request == r["limits"][*name])
        })
    };
    if !any {
        "BestEffort"
    } else if all().all(whole) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(change: impl FnOnce(&mut Value)) -> Value {
        let mut pod = json!({
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{
                "name": "app", "image": "app:1", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2"}},
                "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}, {"resourceName": "memory", "restartPolicy": "RestartContainer"}],
            }]},
            "status": {"qosClass": "Burstable"},
        });
        change(&mut pod);
        pod
    }

    #[test]
    fn what_a_write_does() {
        let set = |path: &'static str, value: Value| {
            move |pod: &mut Value| match pod.pointer_mut(path) {
                Some(place) => *place = value,
                None => panic!("{path}"),
            }
        };
        let container = "/spec/containers/0";
        for (what, new, wanted) in [
            ("nothing", pod(|_| ()), None),
            ("a label", pod(set("/metadata/labels/app", json!("api"))), None),
            (
                "an image",
                pod(|p| p["spec"]["containers"][0]["image"] = json!("app:2")),
                Some(Operation::Update),
            ),
            (
                "cpu",
                pod(set("/spec/containers/0/resources/requests/cpu", json!("1500m"))),
                Some(Operation::Resize),
            ),
            (
                "memory, which restarts",
                pod(set("/spec/containers/0/resources/requests/memory", json!("2Gi"))),
                Some(Operation::Update),
            ),
            (
                "another quality",
                pod(set("/spec/containers/0/resources", json!({}))),
                Some(Operation::Update),
            ),
            (
                "cpu and image",
                pod(|p| {
                    let place = p.pointer_mut(container).unwrap();
                    place["image"] = json!("app:2");
                    place["resources"]["requests"]["cpu"] = json!("1500m");
                }),
                Some(Operation::Update),
            ),
            (
                "marked",
                pod(|p| p["metadata"]["labels"]["unavailable-pod.kruise.io/x"] = json!("true")),
                Some(Operation::Update),
            ),
        ] {
            assert_eq!(operation(&pod(|_| ()), &new), wanted, "{what}");
        }
        let marked = |value: &str| pod(|p| p["metadata"]["labels"]["unavailable-pod.kruise.io/x"] = json!(value));
        assert_eq!(operation(&marked("a"), &marked("b")), None, "it was marked before");
    }
}
