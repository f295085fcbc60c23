//! Containers that are to be started anew without any change.

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::case::{Case, cloneset, condition, container, name, ready, restarts, same_pods, uid};
use crate::process::PATIENCE;

fn requests(case: &Case) -> Api<DynamicObject> {
    case.api("apps.kruise.io", "v1beta1", "ContainerRecreateRequest")
}

fn request(pod: &str, container: &str) -> Value {
    json!({
        "apiVersion": "apps.kruise.io/v1beta1", "kind": "ContainerRecreateRequest", "metadata": {"name": "again"},
        "spec": {"podName": pod, "containers": [{"name": container}], "ttlSecondsAfterFinished": 0,
            "strategy": {"unreadyGracePeriodSeconds": 15}},
    })
}

/// What the agent of a node writes, where there is none.
async fn write(case: &Case, status: Value) {
    let patch = json!({"status": status});
    let written = requests(case)
        .patch_status("again", &PatchParams::default(), &Patch::Merge(&patch))
        .await;
    written.expect("a status");
}

pub(super) async fn a_request_takes_its_pod_out_of_service_and_back(case: &Case) {
    let pods = case.start(&cloneset(1)).await;
    let pod = &pods[0];
    // The operator may have its webhook a moment later than itself; without it the request is filled in afterwards.
    case.create(&request(name(pod), "app")).await;
    let deadline = Instant::now() + PATIENCE;
    let filled = loop {
        let object = requests(case).get("again").await.expect("the request");
        let object = serde_json::to_value(&object).expect("JSON");
        if !object["spec"]["containers"][0]["statusContext"].is_null() {
            break object;
        }
        assert!(Instant::now() < deadline, "{object}");
        sleep(std::time::Duration::from_millis(50)).await;
    };
    let labels = &filled["metadata"]["labels"];
    assert_eq!(labels["crr.apps.kruise.io/pod-uid"], uid(pod));
    assert_eq!(labels["crr.apps.kruise.io/node-name"], pod["spec"]["nodeName"]);
    assert_eq!(labels["crr.apps.kruise.io/active"], "true");
    let context = &filled["spec"]["containers"][0]["statusContext"];
    assert_eq!(context["containerID"], container(pod, "app")["containerID"]);
    assert_eq!(filled["spec"]["strategy"]["terminationGracePeriodSeconds"], 5);
    let patch = Patch::Merge(json!({"spec": {"activeDeadlineSeconds": 100}}));
    let refused = requests(case).patch("again", &PatchParams::default(), &patch).await;
    let why = refused.expect_err("it is immutable").to_string();
    assert!(why.contains("spec of ContainerRecreateRequest is immutable"), "{why}");

    let played = case.ground.can_pause_nodes();
    if played {
        write(case, json!({"phase": "Recreating"})).await;
    }
    let key = format!(
        r#"[{{"userAgent":"ContainerRecreateRequest","key":"{}/again"}}]"#,
        case.namespace
    );
    case.until_pods("the pod out of service", |pods| {
        let gate = condition(&pods[0], "KruisePodReady");
        gate["status"] == "False" && gate["message"] == *key
    })
    .await;
    if played {
        write(
            case,
            json!({"phase": "Completed", "completionTime": "2026-01-01T00:00:00Z"}),
        )
        .await;
    }
    case.until_pods("the pod back in service", |pods| {
        ready(&pods[0]) && condition(&pods[0], "KruisePodReady")["status"] == "True"
    })
    .await;
    let deadline = Instant::now() + PATIENCE;
    while requests(case).get_opt("again").await.expect("an answer").is_some() {
        assert!(Instant::now() < deadline, "the request stays");
        sleep(std::time::Duration::from_millis(50)).await;
    }
    let after = case.pods().await;
    assert!(same_pods(&pods, &after));
    if !played {
        assert_eq!((restarts(&after[0], "app"), restarts(&after[0], "log")), (1, 0));
    }
}

pub(super) async fn a_template_asks_for_restarts(case: &Case) {
    let before = case.start(&cloneset(2)).await;
    let at =
        |value: &str| json!({"spec": {"template": {"metadata": {"annotations": {"restart.afloat.dev/app": value}}}}});
    for (value, times) in [("1", 1), ("2", 2)] {
        case.patch(at(value)).await;
        case.settled().await;
        let after = case.pods().await;
        assert!(same_pods(&before, &after), "{after:?}");
        for pod in &after {
            assert_eq!((restarts(pod, "app"), restarts(pod, "log")), (times, 0), "{pod}");
            assert_eq!(pod["metadata"]["annotations"]["restart.afloat.dev/app"], value);
        }
    }
    // Taken away it restarts nothing.
    case.patch(json!({"spec": {"template": {"metadata": {"annotations": {"restart.afloat.dev/app": null}}}}}))
        .await;
    case.settled().await;
    let after = case.pods().await;
    assert!(after.iter().all(|pod| restarts(pod, "app") == 2), "{after:?}");
}
