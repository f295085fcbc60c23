use serde_json::json;

use super::*;
use crate::kinds::Registry;

const NOW: &str = "2026-11-22T08:00:00Z";
const CREATED: &str = "2026-11-22T07:59:00Z";

fn row(api_version: &str, kind: &str, mut object: Value) -> Vec<String> {
    let resource = Registry::builtin().by_kind(api_version, kind).unwrap();
    if object.get("metadata").is_none() {
        object["metadata"] = json!({"name": "x"});
    }
    object["metadata"]["creationTimestamp"] = CREATED.into();
    let cells = cells(&resource, &object, NOW);
    assert_eq!(cells.len(), columns(&resource).len(), "{kind}: cells and columns");
    cells
        .iter()
        .map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_owned))
        .collect()
}

fn pod(spec: &Value, status: &Value) -> Vec<String> {
    row("v1", "Pod", json!({"spec": spec, "status": status}))
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table of cases")]
fn the_status_of_a_pod_is_one_word() {
    let one = json!({"containers": [{"name": "a"}]});
    let with_init = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]});
    let with_sidecar =
        json!({"containers": [{"name": "a"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]});
    let running = json!({"name": "a", "ready": true, "state": {"running": {}}});
    let waiting = |reason: &str| json!({"phase": "Pending", "containerStatuses": [{"name": "a", "state": {"waiting": {"reason": reason}}}]});
    let init = |state: Value| json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": state}]});
    let terminated =
        |t: Value| json!({"phase": "Running", "containerStatuses": [{"name": "a", "state": {"terminated": t}}]});
    let cases = [
        (&one, json!({"phase": "Pending"}), "0/1", "Pending"),
        (
            &one,
            json!({"phase": "Running", "containerStatuses": [running]}),
            "1/1",
            "Running",
        ),
        (&one, waiting("ContainerCreating"), "0/1", "ContainerCreating"),
        (&one, waiting("CrashLoopBackOff"), "0/1", "CrashLoopBackOff"),
        (&one, waiting("ImagePullBackOff"), "0/1", "ImagePullBackOff"),
        (
            &one,
            terminated(json!({"reason": "Error", "exitCode": 1})),
            "0/1",
            "Error",
        ),
        (
            &one,
            terminated(json!({"reason": "Completed", "exitCode": 0})),
            "0/1",
            "Completed",
        ),
        (&one, terminated(json!({"exitCode": 3})), "0/1", "ExitCode:3"),
        (
            &one,
            terminated(json!({"signal": 9, "exitCode": 137})),
            "0/1",
            "Signal:9",
        ),
        (&one, json!({"phase": "Failed", "reason": "Evicted"}), "0/1", "Evicted"),
        (&with_init, init(json!({"running": {}})), "0/1", "Init:0/2"),
        (
            &with_sidecar,
            json!({"phase": "Succeeded", "conditions": [{"type": "Initialized", "status": "True"}],
                   "initContainerStatuses": [{"name": "s", "state": {"terminated": {"exitCode": 7, "reason": "Error"}}}],
                   "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}),
            "0/2",
            "Completed",
        ),
        (
            &with_init,
            init(json!({"terminated": {"exitCode": 1, "reason": "Error"}})),
            "0/1",
            "Init:Error",
        ),
        (
            &with_init,
            init(json!({"waiting": {"reason": "CrashLoopBackOff"}})),
            "0/1",
            "Init:CrashLoopBackOff",
        ),
        (
            &one,
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
            "0/1",
            "SchedulingGated",
        ),
    ];
    for (spec, status, ready, word) in cases {
        let row = pod(spec, &status);
        assert_eq!((row[1].as_str(), row[2].as_str()), (ready, word), "{status}");
    }
    let leaving = row(
        "v1",
        "Pod",
        json!({"metadata": {"name": "x", "deletionTimestamp": NOW}, "spec": one, "status": {"phase": "Running"}}),
    );
    assert_eq!(leaving[2], "Terminating");
}

#[test]
fn a_pod_shows_restarts_addresses_and_gates() {
    let spec = json!({"containers": [{"name": "a"}, {"name": "b"}], "nodeName": "node-1", "readinessGates": [{"conditionType": "InPlaceUpdateReady"}],
        "initContainers": [{"name": "s", "restartPolicy": "Always"}]});
    let status = json!({"phase": "Running", "podIP": "10.1.0.2", "conditions": [{"type": "InPlaceUpdateReady", "status": "True"}],
        "initContainerStatuses": [{"name": "s", "ready": true, "started": true, "restartCount": 1, "state": {"running": {}}}],
        "containerStatuses": [
            {"name": "a", "ready": true, "restartCount": 2, "state": {"running": {}}, "lastState": {"terminated": {"finishedAt": "2026-11-22T07:59:55Z"}}},
            {"name": "b", "ready": false, "restartCount": 0, "state": {"running": {}}}]});
    assert_eq!(
        pod(&spec, &status),
        [
            "x",
            "2/3",
            "Running",
            "3 (5s ago)",
            "60s",
            "10.1.0.2",
            "node-1",
            "<none>",
            "1/1"
        ]
    );
}

#[test]
fn every_built_in_kind_has_as_many_cells_as_columns() {
    for resource in Registry::builtin().all() {
        let cells = cells(resource, &json!({"metadata": {"name": "x"}}), NOW);
        assert_eq!(cells.len(), columns(resource).len(), "{}", resource.kind);
    }
}

#[test]
fn rows_of_other_kinds() {
    let template = json!({"spec": {"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]}});
    let cases = [
        (
            "apps/v1",
            "Deployment",
            json!({"spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template}, "status": {"readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2}}),
            vec!["x", "2/3", "1", "2", "60s", "a,b", "a:1,b:1", "app=web"],
        ),
        (
            "v1",
            "Service",
            json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.9", "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}}),
            vec![
                "x",
                "NodePort",
                "10.96.0.9",
                "<none>",
                "80:30080/TCP,53/UDP",
                "60s",
                "<none>",
            ],
        ),
        (
            "v1",
            "Service",
            json!({"spec": {"type": "ClusterIP", "clusterIP": "None", "selector": {"app": "web"}}}),
            vec!["x", "ClusterIP", "None", "<none>", "<none>", "60s", "app=web"],
        ),
        (
            "v1",
            "Node",
            json!({"metadata": {"name": "x", "labels": {"node-role.kubernetes.io/worker": ""}}, "spec": {"unschedulable": true},
                "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}], "nodeInfo": {"kubeletVersion": "v1.33.0"}}}),
            vec![
                "x",
                "Ready,SchedulingDisabled",
                "worker",
                "60s",
                "v1.33.0",
                "10.0.0.1",
                "<none>",
                "<unknown>",
                "<unknown>",
                "<unknown>",
            ],
        ),
        (
            "discovery.k8s.io/v1",
            "EndpointSlice",
            json!({"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["1"]}, {"addresses": ["2"]}, {"addresses": ["3"]}, {"addresses": ["4"]}]}),
            vec!["x", "IPv4", "80", "1,2,3 + 1 more...", "60s"],
        ),
    ];
    for (api_version, kind, object, wanted) in cases {
        assert_eq!(row(api_version, kind, object), wanted, "{kind}");
    }
}

#[test]
fn rows_of_jobs_events_and_budgets() {
    let cases = [
        (
            "batch/v1",
            "Job",
            json!({"spec": {"completions": 2}, "status": {"succeeded": 1, "startTime": "2026-11-22T07:59:50Z"}}),
            vec!["x", "Running", "1/2", "10s", "60s", "", "", "<none>"],
        ),
        (
            "batch/v1",
            "Job",
            json!({"spec": {"parallelism": 3}, "status": {"conditions": [{"type": "FailureTarget", "status": "True"}]}}),
            vec!["x", "FailureTarget", "0/1 of 3", "", "60s", "", "", "<none>"],
        ),
        (
            "batch/v1",
            "CronJob",
            json!({"spec": {"schedule": "0 * * * *", "suspend": false, "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "a:1"}]}}}}},
                "status": {"lastScheduleTime": "2026-11-22T07:59:50Z", "active": [{}]}}),
            vec![
                "x",
                "0 * * * *",
                "<none>",
                "False",
                "1",
                "10s",
                "60s",
                "a",
                "a:1",
                "<none>",
            ],
        ),
        (
            "v1",
            "Event",
            json!({"involvedObject": {"kind": "Pod", "name": "web-0"}, "reason": "Killing", "type": "Normal", "message": "bye\n",
                "lastTimestamp": "2026-11-22T07:59:58Z", "firstTimestamp": "2026-11-22T07:59:50Z", "count": 3, "source": {"component": "kubelet", "host": "n1"}}),
            vec![
                "2s",
                "Normal",
                "Killing",
                "pod/web-0",
                "",
                "kubelet, n1",
                "bye",
                "10s",
                "3",
                "x",
            ],
        ),
        (
            "policy/v1",
            "PodDisruptionBudget",
            json!({"spec": {"maxUnavailable": "20%"}, "status": {"disruptionsAllowed": 1}}),
            vec!["x", "N/A", "20%", "1", "60s"],
        ),
    ];
    for (api_version, kind, object, wanted) in cases {
        assert_eq!(row(api_version, kind, object), wanted, "{kind}");
    }
}

#[test]
fn custom_resources_show_their_columns() {
    let mut registry = Registry::default();
    registry
        .add_crd(&json!({"spec": {"group": "g.io", "scope": "Namespaced", "names": {"kind": "X", "plural": "xs"}, "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}},
             "additionalPrinterColumns": [
                {"name": "DESIRED", "type": "integer", "jsonPath": ".spec.replicas", "description": "wanted"},
                {"name": "IMAGES", "type": "string", "jsonPath": ".spec.containers[*].image", "priority": 1},
                {"name": "AGE", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]},
            {"name": "v2", "served": true, "storage": false, "schema": {"openAPIV3Schema": {"type": "object"}}}]}}))
        .unwrap();
    let object = json!({"metadata": {"name": "x", "creationTimestamp": CREATED}, "spec": {"replicas": 3, "containers": [{"image": "a"}, {"image": "b"}]}});
    let v1 = registry.resolve("g.io", "v1", "xs").unwrap();
    assert_eq!(
        cells(&v1, &object, NOW),
        [json!("x"), json!(3), json!("a,b"), json!("60s")]
    );
    assert_eq!(columns(&v1)[2]["priority"], 1);
    assert_eq!(
        cells(&v1, &json!({"metadata": {"name": "y"}}), NOW),
        [json!("y"), Value::Null, Value::Null, Value::Null]
    );
    let v2 = registry.resolve("g.io", "v2", "xs").unwrap();
    assert_eq!(cells(&v2, &object, NOW), [json!("x"), json!("60s")]);
}
