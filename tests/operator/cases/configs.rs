//! ConfigMaps and Secrets that are rolled out.

use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::case::{Case, NAME, cloneset, message, ready, restarts, same_pods};
use crate::process::PATIENCE;

/// The annotation by which a pod says what container app has read.
const STAMP: &str = "config.afloat.dev/app";

fn config_map(text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"text": text, "more": "same"}})
}

fn secret(text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "conf"}, "stringData": {"text": text}})
}

async fn becomes(case: &Case, kind: &str, text: &str) {
    let data = if kind == "Secret" { "stringData" } else { "data" };
    let patch = json!({data: {"text": text}});
    let api = case.api("", "v1", kind);
    let answer = api.patch("conf", &PatchParams::default(), &Patch::Merge(&patch)).await;
    answer.expect("a patch");
}

/// A workload that rolls them out; container app takes an environment variable from one of that kind.
fn reading(mut set: Value, kind: &str) -> Value {
    let field = if kind == "Secret" {
        "secretKeyRef"
    } else {
        "configMapKeyRef"
    };
    set["metadata"]["annotations"] = json!({"afloat.dev/config": "Rollout"});
    let env = &mut set["spec"]["template"]["spec"]["containers"][0]["env"];
    let variable = json!({"name": "APP_TEXT", "valueFrom": {field: {"name": "conf", "key": "text"}}});
    env.as_array_mut().expect("a list").push(variable);
    set
}

/// How often the container app of each pod has started again, in order of the pods' names, and none of log.
fn times(pods: &[Value]) -> Vec<u64> {
    assert!(pods.iter().all(|pod| restarts(pod, "log") == 0), "{pods:?}");
    pods.iter().map(|pod| restarts(pod, "app")).collect()
}

fn all_say(pods: &[Value], said: bool) -> bool {
    let says = |pod: &Value| pod["metadata"]["annotations"][STAMP].is_string();
    !pods.is_empty() && pods.iter().all(|pod| says(pod) == said)
}

/// Waits until all pods have restarted so often in all and serve, and the workload says so; gives the pods.
async fn restarted(case: &Case, sum: u64) -> Vec<Value> {
    let pods = case
        .until_pods("the restarts", |pods| {
            times(pods).iter().sum::<u64>() >= sum && pods.iter().all(ready)
        })
        .await;
    case.until("the rollout at its end", |set| message(set).ends_with("available"))
        .await;
    assert_eq!(times(&case.pods().await).iter().sum::<u64>(), sum);
    pods
}

/// Waits for an event.
async fn told(case: &Case, reason: &str, message: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = case.list("", "v1", "Event").await;
        if all
            .iter()
            .any(|event| event["reason"] == reason && event["message"] == message)
        {
            return;
        }
        assert!(Instant::now() < deadline, "waited in vain for {reason}: {all:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

pub(super) async fn a_changed_config_map_restarts_who_reads_it(case: &Case) {
    case.create(&config_map("one")).await;
    let mut set = reading(cloneset(2), "ConfigMap");
    set["metadata"]["annotations"] = json!({});
    let before = case.start(&set).await;

    // Turned on: written down, and nothing restarts.
    let turn = |value: Value| json!({"metadata": {"annotations": {"afloat.dev/config": value}}});
    case.patch(turn(json!("Rollout"))).await;
    case.until_pods("all to say what they read", |pods| all_say(pods, true))
        .await;
    case.settled().await;
    assert_eq!(times(&case.pods().await), [0, 0]);

    becomes(case, "ConfigMap", "two").await;
    let after = restarted(case, 2).await;
    assert_eq!(times(&after), [1, 1]);
    assert!(same_pods(&before, &after), "{after:?}");
    told(case, "ConfigChanged", "ConfigMap conf changed, read by container app").await;

    // A partition keeps one, which is not touched when the content is taken back.
    case.rolling(json!({"partition": 1})).await;
    becomes(case, "ConfigMap", "three").await;
    let part = |set: &Value| set["status"]["updatedAvailableReplicas"] == 1 && set["status"]["availableReplicas"] == 2;
    case.until("one of two updated", part).await;
    let sum = |pods: &[Value]| times(pods).iter().sum::<u64>();
    assert_eq!(sum(&case.pods().await), 3);
    becomes(case, "ConfigMap", "two").await;
    case.rolling(json!({"partition": 0})).await;
    let back = restarted(case, 4).await;
    let mut all = times(&back);
    all.sort_unstable();
    assert_eq!(all, [1, 3], "one there and back");

    // A pause holds a change, and what nobody reads is none.
    case.rolling(json!({"paused": true})).await;
    becomes(case, "ConfigMap", "four").await;
    case.until("the pause", |set| {
        set["status"]["updatedReplicas"] == 0 && message(set).contains("paused")
    })
    .await;
    assert_eq!(sum(&case.pods().await), 4);
    case.rolling(json!({"paused": false})).await;
    restarted(case, 6).await;

    // Turned off: nothing restarts.
    case.patch(turn(Value::Null)).await;
    case.until_pods("none to say what they read", |pods| all_say(pods, false))
        .await;
    case.settled().await;
    assert_eq!(sum(&case.pods().await), 6);
}

pub(super) async fn missing_configs_restart_nothing(case: &Case) {
    case.create(&config_map("one")).await;
    case.start(&reading(cloneset(1), "ConfigMap")).await;
    case.until_pods("all to say what they read", |pods| all_say(pods, true))
        .await;
    let api = case.api("", "v1", "ConfigMap");
    api.delete("conf", &DeleteParams::default()).await.expect("deletion");
    let missing = "ConfigMap conf is missing: who reads it is left as it is";
    case.until("word of it", |set| message(set).contains(missing)).await;
    assert_eq!(times(&case.pods().await), [0]);
    // Back with what it held: nothing has changed.
    case.create(&config_map("one")).await;
    case.until("no word of it", |set| message(set).ends_with("available"))
        .await;
    assert_eq!(times(&case.pods().await), [0]);
    case.patch(json!({"metadata": {"annotations": {"afloat.dev/config": "rollout"}}}))
        .await;
    case.until("word of the value", |set| message(set).contains("say Rollout"))
        .await;
}

pub(super) async fn secret_configs_in_pods_of_ordinals(case: &Case) {
    case.looks_at("StatefulSet");
    case.create(&secret("one")).await;
    let mut set = reading(cloneset(2), "Secret");
    set["kind"] = json!("StatefulSet");
    set["spec"]["serviceName"] = json!("peers");
    set["spec"]["template"]["spec"]["readinessGates"] = json!([{"conditionType": "InPlaceUpdateReady"}]);
    let before = case.start(&set).await;
    case.until_pods("all to say what they read", |pods| all_say(pods, true))
        .await;
    becomes(case, "Secret", "two").await;
    let after = restarted(case, 2).await;
    assert!(same_pods(&before, &after), "{after:?}");
    let said = after[0]["metadata"]["annotations"][STAMP].as_str().unwrap_or_default();
    assert!(said.starts_with("Secret/conf="), "{said}");
}

pub(super) async fn daemons_read_configs(case: &Case) {
    case.looks_at("DaemonSet");
    case.create(&config_map("one")).await;
    let spec = &cloneset(0)["spec"];
    let set = json!({
        "apiVersion": "apps.kruise.io/v1beta1", "kind": "DaemonSet", "metadata": {"name": NAME},
        "spec": {"selector": spec["selector"], "template": spec["template"],
            "updateStrategy": {"type": "RollingUpdate",
                "rollingUpdate": {"rollingUpdateType": "InPlaceIfPossible", "maxUnavailable": "100%"}}},
    });
    case.create(&reading(set, "ConfigMap")).await;
    let before = case
        .until_pods("all to serve and to say what they read", |pods| {
            all_say(pods, true) && pods.iter().all(ready)
        })
        .await;
    becomes(case, "ConfigMap", "two").await;
    let after = restarted(case, before.len() as u64).await;
    assert!(same_pods(&before, &after), "{after:?}");
}
