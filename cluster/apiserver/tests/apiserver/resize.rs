//! `pods/resize`: what KEP-1287 lets through, and the words of the original for what it does not.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::discovery::pinned_kind;
use serde_json::{Value, json};

use super::{object, raw, refusal, server};

const URI: &str = "/api/v1/namespaces/default/pods/p/resize";

fn burstable() -> Pod {
    object(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"app": "web"}},
        "spec": {
            "containers": [
                {"name": "a", "image": "web:1", "resources": {
                    "requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "128Mi"}}},
                {"name": "b", "image": "web:1", "resources": {"requests": {"cpu": "100m", "ephemeral-storage": "1Gi"}},
                 "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]},
            ],
            "initContainers": [
                {"name": "first", "image": "web:1", "resources": {"requests": {"cpu": "10m"}}},
                {"name": "side", "image": "web:1", "restartPolicy": "Always", "resources": {"requests": {"cpu": "10m"}}},
            ],
        },
    }))
}

fn value(pod: &Pod) -> Value {
    serde_json::to_value(pod).unwrap()
}

async fn resize(pods: &Api<Pod>, patch: &Value) -> Result<Pod, kube::Error> {
    pods.patch_subresource("resize", "p", &PatchParams::default(), &Patch::Strategic(patch))
        .await
}

#[tokio::test]
async fn a_container_with_requests_gets_a_resize_policy() {
    let (_server, client) = server().await;
    let pods = Api::<Pod>::namespaced(client, "default");
    let made = value(&pods.create(&PostParams::default(), &burstable()).await.unwrap());
    let policy = |name: &str, restart: &str| json!({"resourceName": name, "restartPolicy": restart});
    let expected = [
        (
            "/spec/containers/0",
            json!([policy("cpu", "NotRequired"), policy("memory", "NotRequired")]),
        ),
        ("/spec/containers/1", json!([policy("cpu", "RestartContainer")])),
        ("/spec/initContainers/0", Value::Null),
        ("/spec/initContainers/1", json!([policy("cpu", "NotRequired")])),
    ];
    for (container, policies) in expected {
        let found = made.pointer(container).unwrap();
        assert_eq!(found["resizePolicy"], policies, "{container}");
    }
    let mut wrong = value(&burstable());
    wrong["metadata"]["name"] = "q".into();
    wrong["spec"]["restartPolicy"] = "Never".into();
    wrong["spec"]["containers"][0]["resizePolicy"] = json!([policy("disk", "NotRequired"), policy("cpu", "Sometimes")]);
    wrong["spec"]["containers"][1]["resizePolicy"] = json!([policy("cpu", "RestartContainer")]);
    let (code, _, message) = refusal(pods.create(&PostParams::default(), &object::<Pod>(wrong)).await);
    assert_eq!(code, 422);
    for part in [
        "spec.containers[0].resizePolicy: Unsupported value: \"disk\": supported values: \"cpu\", \"memory\"",
        "spec.containers[0].resizePolicy: Unsupported value: \"Sometimes\": supported values: \"NotRequired\", \"RestartContainer\"",
        "spec.containers[1].resizePolicy: Invalid value: \"RestartContainer\": must be 'NotRequired' when `restartPolicy` is 'Never'",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn only_resources_change_by_a_resize() {
    let (_server, client) = server().await;
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    let made = pods.create(&PostParams::default(), &burstable()).await.unwrap();
    let patch = json!({
        "metadata": {"labels": {"app": "other"}, "annotations": {"x": "y"}},
        "spec": {
            "activeDeadlineSeconds": 5,
            "containers": [{"name": "a", "image": "web:2", "resources": {"requests": {"cpu": "150m"}}}],
            "initContainers": [{"name": "side", "resources": {"requests": {"cpu": "20m"}}}],
        },
        "status": {"phase": "Failed"},
    });
    let resized = resize(&pods, &patch).await.unwrap();
    let mut expected = value(&made);
    expected["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "150m".into();
    expected["spec"]["initContainers"][1]["resources"]["requests"]["cpu"] = "20m".into();
    expected["metadata"]["generation"] = 2.into();
    expected["metadata"]["resourceVersion"] = resized.metadata.resource_version.clone().unwrap().into();
    assert_eq!(value(&resized), expected);
    assert_eq!(pods.get_subresource("resize", "p").await.unwrap(), resized);

    // The other kinds of writes: a merge patch, a JSON patch, a PUT.
    let operations = json!([{"op": "replace", "path": "/spec/containers/0/resources/requests/cpu", "value": "160m"}]);
    let operations: Patch<()> = Patch::Json(serde_json::from_value(operations).unwrap());
    let params = PatchParams::default();
    let resized = pods
        .patch_subresource("resize", "p", &params, &operations)
        .await
        .unwrap();
    assert_eq!(
        value(&resized)["spec"]["containers"][0]["resources"]["requests"]["cpu"],
        "160m"
    );
    let mut whole = value(&resized);
    whole["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "170m".into();
    whole["spec"]["hostNetwork"] = true.into();
    let json = [("content-type", "application/json")];
    let (code, body) = raw(&client, "PUT", URI, &json, &whole.to_string()).await;
    assert_eq!(code, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["spec"]["containers"][0]["resources"]["requests"]["cpu"], "170m");
    assert_eq!(
        (&body["spec"]["hostNetwork"], &body["metadata"]["generation"]),
        (&Value::Null, &json!(4))
    );
    let (code, _) = raw(&client, "PUT", URI, &json, &whole.to_string()).await;
    assert_eq!(code, 409, "the whole pod is older than what is there");
    let containers = body["spec"]["containers"].clone();
    let mut merged = containers.clone();
    merged[0]["resources"]["limits"]["memory"] = "256Mi".into();
    let merged = json!({"spec": {"containers": merged}});
    let resized = pods
        .patch_subresource("resize", "p", &params, &Patch::Merge(&merged))
        .await
        .unwrap();
    assert_eq!(
        value(&resized)["spec"]["containers"][0]["resources"]["limits"]["memory"],
        "256Mi"
    );

    // The same amount in other words is a change to the server and none to validation.
    let same =
        json!({"spec": {"containers": [{"name": "b", "resources": {"requests": {"ephemeral-storage": "1024Mi"}}}]}});
    resize(&pods, &same).await.unwrap();
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "one table of cases")]
async fn what_may_not_change_is_refused_in_the_words_of_the_original() {
    let (_server, client) = server().await;
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    pods.create(&PostParams::default(), &burstable()).await.unwrap();
    let containers = |patch: Value| json!({"spec": {"containers": patch}});
    let cases = [
        (
            containers(json!([{"name": "a", "resources": {"requests": {"cpu": null}}, "x": 1}])),
            // The limit is the request again: nothing is removed.
            None,
        ),
        (
            containers(json!([{"name": "a", "resources": {"limits": {"memory": null}}}])),
            Some("spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"),
        ),
        (
            containers(json!([{"name": "b", "resources": {"requests": {"cpu": null}}}])),
            Some("spec.containers[1].resources.requests: Forbidden: resource requests cannot be removed"),
        ),
        (
            containers(json!([{"name": "b", "resources": {"requests": {"ephemeral-storage": "2Gi"}}}])),
            Some("spec: Forbidden: only cpu and memory resources are mutable"),
        ),
        (
            containers(
                json!([{"name": "b", "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]}]),
            ),
            Some("spec: Forbidden: only cpu and memory resources are mutable"),
        ),
        (
            containers(json!([{"name": "a", "resources": {"requests": {"cpu": "1"}}}])),
            Some(
                "spec.containers[0].resources.requests: Invalid value: \"1\": must be less than or equal to cpu limit of 200m",
            ),
        ),
        (
            containers(json!([{"name": "a", "resources": {"requests": {"cpu": "-1"}}}])),
            Some(
                "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
        ),
        (
            containers(json!([{"name": "c", "image": "web:1"}])),
            Some("spec.containers: Forbidden: containers may not be added or removed on resize"),
        ),
        (
            json!({"spec": {"initContainers": [{"name": "first", "resources": {"requests": {"cpu": "20m"}}}]}}),
            Some("spec: Forbidden: resources for non-sidecar init containers are immutable"),
        ),
    ];
    for (patch, expected) in cases {
        let result = resize(&pods, &patch).await;
        let Some(expected) = expected else {
            result.unwrap_or_else(|e| panic!("{patch}: {e}"));
            continue;
        };
        let (code, reason, message) = refusal(result);
        assert_eq!((code, reason.as_str()), (422, "Invalid"), "{patch}");
        assert_eq!(message, format!("Pod \"p\" is invalid: {expected}"), "{patch}");
    }
    let swap = json!([
        {"op": "move", "from": "/spec/containers/0", "path": "/spec/containers/1"},
    ]);
    let swap: Patch<()> = Patch::Json(serde_json::from_value(swap).unwrap());
    let (code, _, message) = refusal(
        pods.patch_subresource("resize", "p", &PatchParams::default(), &swap)
            .await,
    );
    assert_eq!(code, 422);
    assert!(
        message.contains("spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize"),
        "{message}"
    );
    // An ordinary update still leaves resources alone.
    let patch = containers(json!([{"name": "b", "resources": {"requests": {"cpu": "150m"}}}]));
    let (code, _, message) = refusal(
        pods.patch("p", &PatchParams::default(), &Patch::Strategic(&patch))
            .await,
    );
    assert_eq!(code, 422);
    assert!(
        message.starts_with("Pod \"p\" is invalid: spec: Forbidden: pod updates may not change fields other than"),
        "{message}"
    );
    let nobody = pods
        .patch_subresource("resize", "q", &PatchParams::default(), &Patch::Merge(&patch))
        .await;
    assert_eq!(refusal(nobody).0, 404);
    let headers = [("content-type", "application/json")];
    assert_eq!(raw(&client, "DELETE", URI, &headers, "").await.0, 405);
}

#[tokio::test]
async fn the_class_of_a_pod_does_not_change() {
    let (_server, client) = server().await;
    let pods = Api::<Pod>::namespaced(client, "default");
    let all = |cpu: &str, memory: &str| json!({"cpu": cpu, "memory": memory});
    let cases = [
        ("BestEffort", json!({}), json!({"requests": {"cpu": "1m"}})),
        (
            "Guaranteed",
            json!({"limits": all("1", "1Gi")}),
            json!({"limits": {"cpu": "2"}}),
        ),
        (
            "Burstable",
            json!({"limits": all("1", "1Gi"), "requests": all("500m", "1Gi")}),
            json!({"requests": {"cpu": "1"}}),
        ),
    ];
    for (class, before, after) in cases {
        let pod: Pod = object(json!({
            "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "web:1", "resources": before}]},
        }));
        let made = pods.create(&PostParams::default(), &pod).await.unwrap();
        assert_eq!(made.status.unwrap().qos_class.as_deref(), Some(class));
        let patch = json!({"spec": {"containers": [{"name": "c", "resources": after}]}});
        let (code, _, message) = refusal(resize(&pods, &patch).await);
        let expected = format!(
            "Pod \"p\" is invalid: spec: Invalid value: \"{class}\": Pod QOS Class may not change as a result of resizing"
        );
        assert_eq!((code, message), (422, expected));
        pods.delete("p", &kube::api::DeleteParams::default().grace_period(0))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_node_that_reports_no_resources_cannot_resize() {
    let (_server, client) = server().await;
    let pods = Api::<Pod>::namespaced(client, "default");
    pods.create(&PostParams::default(), &burstable()).await.unwrap();
    let container = json!({"name": "a", "image": "web:1", "imageID": "x", "ready": true, "restartCount": 0,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}});
    let patch = json!({"spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "150m"}}}]}});
    let params = PatchParams::default();
    let running = json!({"status": {"containerStatuses": [container]}});
    pods.patch_status("p", &params, &Patch::Merge(&running)).await.unwrap();
    let (code, _, message) = refusal(resize(&pods, &patch).await);
    let expected = "Pod \"p\" is invalid: spec: Forbidden: Pod running on node without support for resize";
    assert_eq!((code, message.as_str()), (422, expected));
    let mut container = container;
    container["resources"] = json!({});
    let running = json!({"status": {"containerStatuses": [container]}});
    pods.patch_status("p", &params, &Patch::Merge(&running)).await.unwrap();
    resize(&pods, &patch).await.unwrap();
}

#[tokio::test]
async fn clients_find_the_subresource() {
    let (_server, client) = server().await;
    let json = [("accept", "application/json")];
    let (_, list) = raw(&client, "GET", "/api/v1", &json, "").await;
    let list: Value = serde_json::from_str(&list).unwrap();
    let row = list["resources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["name"] == "pods/resize");
    assert_eq!(
        *row.unwrap(),
        json!({"name": "pods/resize", "singularName": "", "namespaced": true, "kind": "Pod", "verbs": ["get", "patch", "update"]})
    );
    let gvk = kube::core::GroupVersionKind::gvk("", "v1", "Pod");
    let (_, capabilities) = pinned_kind(&client, &gvk).await.unwrap();
    assert!(capabilities.subresources.iter().any(|(r, _)| r.plural == "resize"));
    let (_, document) = raw(&client, "GET", "/openapi/v3/api/v1", &json, "").await;
    let document: Value = serde_json::from_str(&document).unwrap();
    let operations = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/resize"];
    for (verb, there) in [("get", true), ("put", true), ("patch", true), ("delete", false)] {
        assert_eq!(operations[verb].is_object(), there, "{verb}");
    }
}
