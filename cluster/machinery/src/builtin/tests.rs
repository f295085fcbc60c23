//! Each case states a change to a good object, and the whole of what Kubernetes says about it.

mod claims;
mod job;

use serde_json::{Value, json};

use crate::WriteContext;
use crate::kinds::Registry;
use crate::strategy::{Part, prepare_create, prepare_update};

fn context() -> WriteContext {
    WriteContext {
        now: "2026-11-22T08:00:00Z".to_owned(),
        uid: "u".to_owned(),
        suffix: "abcde".to_owned(),
    }
}

fn create(api_version: &str, kind: &str, body: Value) -> Result<Value, Vec<String>> {
    let resource = Registry::builtin().by_kind(api_version, kind).unwrap();
    let mut object = body;
    if object.get("metadata").is_none() {
        object["metadata"] = json!({"name": "x"});
        if resource.namespaced {
            object["metadata"]["namespace"] = "n".into();
        }
    }
    match prepare_create(&resource, &mut object, &context()) {
        Ok(_) => Ok(object),
        Err(errors) => Err(errors
            .into_iter()
            .map(|e| format!("{}: {}", e.field, e.message))
            .collect()),
    }
}

fn update(api_version: &str, kind: &str, old: &Value, change: impl Fn(&mut Value)) -> Result<Value, Vec<String>> {
    let resource = Registry::builtin().by_kind(api_version, kind).unwrap();
    let mut new = old.clone();
    change(&mut new);
    match prepare_update(&resource, Part::Main, old, &mut new, &context()) {
        Ok(_) => Ok(new),
        Err(errors) => Err(errors
            .into_iter()
            .map(|e| format!("{}: {}", e.field, e.message))
            .collect()),
    }
}

/// Merges a JSON merge patch into a good pod's spec, and creates it.
fn pod_with(patch: &Value) -> Result<Value, Vec<String>> {
    let mut spec = json!({"containers": [{"name": "a", "image": "a:1"}]});
    json_patch::merge(&mut spec, patch);
    create("v1", "Pod", json!({"spec": spec}))
}

#[test]
fn a_pod_gets_kubernetes_defaults() {
    let pod = create("v1", "Pod", json!({"spec": {"containers": [
        {"name": "a", "image": "a", "ports": [{"containerPort": 80}], "readinessProbe": {"httpGet": {"port": 80}},
         "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}], "resources": {"limits": {"cpu": "1"}}},
        {"name": "b", "image": "r:5000/b:1"}],
        "volumes": [{"name": "v"}, {"name": "c", "configMap": {"name": "c"}}]}}))
    .unwrap();
    assert_eq!(
        pod["spec"],
        json!({
            "containers": [
                {"name": "a", "image": "a", "imagePullPolicy": "Always", "ports": [{"containerPort": 80, "protocol": "TCP"}],
                 "readinessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                 "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP", "apiVersion": "v1"}}}],
                 "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                 "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}],
                 "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"},
                {"name": "b", "image": "r:5000/b:1", "imagePullPolicy": "IfNotPresent", "resources": {},
                 "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"name": "c", "defaultMode": 420}}],
            "dnsPolicy": "ClusterFirst", "enableServiceLinks": true,
            "restartPolicy": "Always", "schedulerName": "default-scheduler", "securityContext": {},
            "serviceAccount": "default", "serviceAccountName": "default", "terminationGracePeriodSeconds": 30,
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]
        })
    );
    assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "Burstable"}));
}

#[test]
fn quality_of_service_follows_requests_and_limits() {
    let cases = [
        (json!({}), "BestEffort"),
        (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed"),
        (
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}),
            "Guaranteed",
        ),
        (
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}),
            "Burstable",
        ),
        (json!({"requests": {"memory": "1Gi"}}), "Burstable"),
        (json!({"requests": {"ephemeral-storage": "1Gi"}}), "BestEffort"),
    ];
    for (resources, wanted) in cases {
        let pod = pod_with(&json!({"containers": [{"name": "a", "image": "a:1", "resources": resources}]})).unwrap();
        assert_eq!(pod["status"]["qosClass"], wanted, "{resources}");
    }
}

#[test]
fn what_people_get_wrong_in_a_pod() {
    #[rustfmt::skip]
    let containers = [
        (json!({"name": "a"}), vec!["spec.containers[0].image: Required value"]),
        (json!({"image": "a:1"}), vec!["spec.containers[0].name: Required value"]),
        (json!({"name": "a", "image": " a"}), vec![r#"spec.containers[0].image: Invalid value: " a": must not have leading or trailing whitespace"#]),
        (json!({"name": "a", "image": "a:1", "imagePullPolicy": "Sometimes"}),
            vec![r#"spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never""#]),
        (json!({"name": "a", "image": "a:1", "ports": [{"containerPort": 0}]}),
            vec!["spec.containers[0].ports[0].containerPort: Invalid value: 0: must be between 1 and 65535, inclusive"]),
        (json!({"name": "a", "image": "a:1", "ports": [{}]}), vec!["spec.containers[0].ports[0].containerPort: Required value"]),
        (json!({"name": "a", "image": "a:1", "env": [{"name": "A=B"}]}),
            vec![r#"spec.containers[0].env[0].name: Invalid value: "A=B": a valid environment variable name must consist only of printable ASCII characters other than '='"#]),
        (json!({"name": "a", "image": "a:1", "env": [{"name": "A", "value": 5}]}), vec!["spec.containers[0].env[0].value: Invalid value: 5: must be a string"]),
        (json!({"name": "a", "image": "a:1", "readinessProbe": {}}), vec!["spec.containers[0].readinessProbe: Required value: must specify a handler type"]),
        (json!({"name": "a", "image": "a:1", "readinessProbe": {"exec": {"command": ["x"]}, "tcpSocket": {"port": 80}}}),
            vec!["spec.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"]),
        (json!({"name": "a", "image": "a:1", "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": -1}}),
            vec!["spec.containers[0].readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0"]),
        (json!({"name": "a", "image": "a:1", "livenessProbe": {"exec": {"command": ["x"]}, "successThreshold": 2}}),
            vec!["spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"]),
        (json!({"name": "a", "image": "a:1", "lifecycle": {"preStop": {"exec": {}}}}), vec!["spec.containers[0].lifecycle.preStop.exec.command: Required value"]),
        (json!({"name": "a", "image": "a:1", "lifecycle": {"preStop": {"sleep": {"seconds": 5}}}}), vec![]),
        (json!({"name": "a", "image": "a:1", "lifecycle": {"preStop": {"sleep": {"seconds": 31}}}}),
            vec!["spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)"]),
        (json!({"name": "a", "image": "a:1", "readinessProbe": {"exec": {"command": ["x"]}, "terminationGracePeriodSeconds": 5}}),
            vec!["spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes"]),
        (json!({"name": "a", "image": "a:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}), vec![r#"spec.containers[0].volumeMounts[0].name: Not found: "v""#]),
        (json!({"name": "a", "image": "a:1", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}),
            vec![r#"spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1"#]),
        (json!({"name": "a", "image": "a:1", "resources": {"limits": {"memory": "1gi"}}}),
            vec![r#"spec.containers[0].resources.limits[memory]: Invalid value: "1gi": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"#,
                 r#"spec.containers[0].resources.requests[memory]: Invalid value: "1gi": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"#]),
    ];
    for (container, wanted) in containers {
        let errors = pod_with(&json!({"containers": [container]})).err().unwrap_or_default();
        assert_eq!(errors, wanted, "{container}");
    }
    #[rustfmt::skip]
    let specs = [
        (json!({"containers": []}), vec!["spec.containers: Required value"]),
        (json!({"containers": [{"name": "a", "image": "a"}, {"name": "a", "image": "a"}]}), vec![r#"spec.containers[1].name: Duplicate value: "a""#]),
        (json!({"restartPolicy": "Maybe"}), vec![r#"spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "OnFailure", "Never""#]),
        (json!({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]}), vec!["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"]),
        (json!({"volumes": [{"name": "v"}, {"name": "v"}]}), vec![r#"spec.volumes[1].name: Duplicate value: "v""#]),
        (json!({"tolerations": [{"key": "a", "effect": "Never"}]}),
            vec![r#"spec.tolerations[0].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute""#]),
    ];
    for (patch, wanted) in specs {
        assert_eq!(pod_with(&patch).err().unwrap_or_default(), wanted, "{patch}");
    }
}

type Change = fn(&mut Value);

/// A pod with one of everything that its updates are judged by.
fn living_pod() -> Value {
    create("v1", "Pod", json!({"spec": {"nodeName": "n1", "activeDeadlineSeconds": 100, "initContainers": [{"name": "i", "image": "i:1"}],
        "schedulingGates": [{"name": "g.io/wait"}],
        "containers": [{"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "b:1"}]}}))
    .unwrap()
}

#[test]
fn the_image_and_little_else_of_a_living_pod_may_change() {
    let pod = living_pod();
    let good: &[(&str, Change)] = &[
        ("nothing", |_| {}),
        ("image", |p| p["spec"]["containers"][0]["image"] = "a:2".into()),
        ("init image", |p| p["spec"]["initContainers"][0]["image"] = "i:2".into()),
        ("labels", |p| p["metadata"]["labels"] = json!({"a": "b"})),
        ("a shorter deadline", |p| p["spec"]["activeDeadlineSeconds"] = 50.into()),
        ("another toleration", |p| {
            p["spec"]["tolerations"]
                .as_array_mut()
                .unwrap()
                .push(json!({"key": "k", "operator": "Exists"}));
        }),
        ("tolerationSeconds", |p| {
            p["spec"]["tolerations"][0]["tolerationSeconds"] = 5.into();
        }),
        ("a gate goes", |p| p["spec"]["schedulingGates"] = json!([])),
        ("absent fields that have defaults", |p| {
            p["spec"].as_object_mut().unwrap().remove("dnsPolicy");
        }),
    ];
    for (what, change) in good {
        update("v1", "Pod", &pod, change).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    }
}

#[test]
fn what_may_not_change_of_a_living_pod_is_refused_by_name() {
    let pod = living_pod();
    let bad: &[(&str, Change)] = &[
        ("changed: spec.nodeName", |p| p["spec"]["nodeName"] = "n2".into()),
        ("changed: spec.containers[0].env[0].value", |p| {
            p["spec"]["containers"][0]["env"][0]["value"] = "2".into();
        }),
        ("changed: spec.containers[1].command", |p| {
            p["spec"]["containers"][1]["command"] = json!(["x"]);
        }),
        ("changed: spec.containers[0].name", |p| {
            p["spec"]["containers"][0]["name"] = "c".into();
        }),
        ("changed: spec.terminationGracePeriodSeconds", |p| {
            p["spec"]["terminationGracePeriodSeconds"] = 1.into();
        }),
        (
            "spec.activeDeadlineSeconds: Invalid value: 200: must be less than or equal to previous value",
            |p| p["spec"]["activeDeadlineSeconds"] = 200.into(),
        ),
        (
            "spec.containers: Forbidden: pod updates may not add or remove containers",
            |p| {
                p["spec"]["containers"].as_array_mut().unwrap().pop();
            },
        ),
        (
            "spec.tolerations: Forbidden: existing toleration can not be modified",
            |p| p["spec"]["tolerations"] = json!([]),
        ),
        (
            "only deletion is allowed, but found new scheduling gate 'g.io/new'",
            |p| p["spec"]["schedulingGates"] = json!([{"name": "g.io/new"}]),
        ),
    ];
    for (wanted, change) in bad {
        let errors = update("v1", "Pod", &pod, change).unwrap_err();
        assert!(
            errors
                .iter()
                .any(|e| e.ends_with(wanted) || e.contains(wanted) && !wanted.starts_with("changed")),
            "{errors:?} lacks {wanted}"
        );
    }
    let errors = update("v1", "Pod", &pod, |p| p["spec"]["hostname"] = "h".into()).unwrap_err();
    assert!(errors[0].starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"));
}

/// A good Deployment's spec.
fn deployment_spec() -> Value {
    json!({"selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}}})
}

#[test]
fn workloads_get_kubernetes_defaults() {
    let spec = |kind: &str, extra: &Value| {
        let mut spec = deployment_spec();
        json_patch::merge(&mut spec, extra);
        let mut spec = create("apps/v1", kind, json!({"spec": spec})).unwrap()["spec"].take();
        spec.as_object_mut()
            .unwrap()
            .retain(|key, _| !["selector", "template"].contains(&key.as_str()));
        spec
    };
    assert_eq!(
        spec("Deployment", &json!({})),
        json!({"replicas": 1, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600})
    );
    assert_eq!(
        spec("Deployment", &json!({"replicas": 0, "strategy": {"type": "Recreate"}}))["strategy"],
        json!({"type": "Recreate"})
    );
    assert_eq!(spec("ReplicaSet", &json!({})), json!({"replicas": 1}));
    assert_eq!(
        spec("StatefulSet", &json!({"serviceName": "s"})),
        json!({"replicas": 1, "serviceName": "s", "podManagementPolicy": "OrderedReady", "revisionHistoryLimit": 10,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"}})
    );
    assert_eq!(
        spec("DaemonSet", &json!({})),
        json!({"revisionHistoryLimit": 10, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}})
    );
    let template =
        create("apps/v1", "Deployment", json!({"spec": deployment_spec()})).unwrap()["spec"]["template"]["spec"].take();
    assert_eq!(template["terminationGracePeriodSeconds"], 30);
    for only_in_pods in ["enableServiceLinks", "tolerations", "priority", "serviceAccountName"] {
        assert!(template.get(only_in_pods).is_none(), "{only_in_pods}");
    }
}

#[test]
fn what_people_get_wrong_in_a_workload() {
    #[rustfmt::skip]
    let cases = [
        ("Deployment", json!({"selector": null}), vec!["spec.selector: Required value"]),
        ("Deployment", json!({"selector": {"matchLabels": null}}), vec!["spec.selector: Invalid value: {}: empty selector is invalid for deployment"]),
        ("StatefulSet", json!({"selector": {"matchLabels": null}}), vec!["spec.selector: Invalid value: {}: empty selector is invalid for statefulset"]),
        ("Deployment", json!({"selector": {"matchLabels": {"app": "db"}}}),
            vec![r#"spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`"#]),
        ("Deployment", json!({"selector": {"matchExpressions": [{"key": "app", "operator": "Near"}]}}),
            vec![r#"spec.selector.matchExpressions[0].operator: Invalid value: "Near": not a valid selector operator"#]),
        ("Deployment", json!({"replicas": -1}), vec!["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]),
        ("Deployment", json!({"strategy": {"type": "Slow"}}), vec![r#"spec.strategy.type: Unsupported value: "Slow": supported values: "Recreate", "RollingUpdate""#]),
        ("Deployment", json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}}),
            vec!["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"]),
        ("Deployment", json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}}),
            vec!["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"]),
        ("Deployment", json!({"strategy": {"rollingUpdate": {"maxUnavailable": "many"}}}),
            vec![r#"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "many": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"#]),
        ("Deployment", json!({"template": {"spec": {"restartPolicy": "Never"}}}), vec![r#"spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always""#]),
        ("Deployment", json!({"template": {"spec": {"containers": []}}}), vec!["spec.template.spec.containers: Required value"]),
        ("Deployment", json!({"template": null}), vec![r#"spec.template.metadata.labels: Invalid value: {}: `selector` does not match template `labels`"#, "spec.template: Required value"]),
        ("StatefulSet", json!({"updateStrategy": {"rollingUpdate": {"partition": -1}}}),
            vec!["spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0"]),
        ("DaemonSet", json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}}),
            vec!["spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0 when maxSurge is 0"]),
    ];
    for (kind, patch, wanted) in cases {
        let mut spec = deployment_spec();
        json_patch::merge(&mut spec, &patch);
        assert_eq!(
            create("apps/v1", kind, json!({"spec": spec})).err().unwrap_or_default(),
            wanted,
            "{kind} {patch}"
        );
    }
}

#[test]
fn selectors_of_workloads_stay() {
    for (kind, wanted) in [
        ("Deployment", "field is immutable"),
        ("ReplicaSet", "field is immutable"),
        ("DaemonSet", "field is immutable"),
        ("StatefulSet", "updates to statefulset spec for fields other than"),
    ] {
        let old = create("apps/v1", kind, json!({"spec": deployment_spec()})).unwrap();
        let errors = update("apps/v1", kind, &old, |o| {
            o["spec"]["selector"]["matchLabels"] = json!({"app": "db"});
            o["spec"]["template"]["metadata"]["labels"] = json!({"app": "db"});
        });
        assert!(errors.unwrap_err()[0].contains(wanted), "{kind}");
        update("apps/v1", kind, &old, |o| {
            o["spec"]["template"]["spec"]["containers"][0]["image"] = "a:2".into();
        })
        .unwrap();
    }
}

#[test]
fn jobs_and_cron_jobs() {
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a:1"}]}});
    let job = create("batch/v1", "Job", json!({"spec": {"template": template}})).unwrap();
    assert_eq!(
        (
            &job["spec"]["completions"],
            &job["spec"]["parallelism"],
            &job["spec"]["backoffLimit"]
        ),
        (&json!(1), &json!(1), &json!(6))
    );
    let always = json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "a:1"}]}}}});
    assert_eq!(
        create("batch/v1", "Job", always).unwrap_err(),
        [r#"spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#]
    );
    let cron = json!({"spec": {"schedule": "* *", "jobTemplate": {"spec": {"template": template}}}});
    assert!(create("batch/v1", "CronJob", cron).unwrap_err()[0].starts_with("spec.schedule: Invalid value"));
}

#[test]
fn services_get_defaults_and_keep_their_address() {
    let mut service = create(
        "v1",
        "Service",
        json!({"spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}),
    )
    .unwrap();
    assert_eq!(
        service["spec"],
        json!({"selector": {"app": "web"}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "type": "ClusterIP", "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"})
    );
    service["spec"]["clusterIP"] = "10.96.0.7".into();
    service["spec"]["clusterIPs"] = json!(["10.96.0.7"]);
    let kept = update("v1", "Service", &service, |s| {
        let spec = s["spec"].as_object_mut().unwrap();
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    });
    assert_eq!(kept.unwrap()["spec"], service["spec"]);
    let errors = update("v1", "Service", &service, |s| {
        s["spec"]["clusterIP"] = "10.96.0.8".into();
    })
    .unwrap_err();
    assert_eq!(
        errors,
        [r#"spec.clusterIPs[0]: Invalid value: "10.96.0.8": may not change once set"#]
    );
    #[rustfmt::skip]
    let cases = [
        (json!({}), vec!["spec.ports: Required value"]),
        (json!({"clusterIP": "None"}), vec![]),
        (json!({"type": "Magic", "ports": [{"port": 1}]}), vec![r#"spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort""#]),
        (json!({"type": "ExternalName"}), vec!["spec.externalName: Required value"]),
        (json!({"ports": [{"port": 1}, {"port": 2}]}), vec!["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"]),
        (json!({"ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]}), vec![r#"spec.ports[1].name: Duplicate value: "a""#]),
        (json!({"ports": [{"port": 70_000, "targetPort": 1}]}), vec!["spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive"]),
        (json!({"ports": [{"port": 1, "protocol": "tcp"}]}), vec![r#"spec.ports[0].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP""#]),
    ];
    for (spec, wanted) in cases {
        assert_eq!(
            create("v1", "Service", json!({"spec": spec})).err().unwrap_or_default(),
            wanted,
            "{spec}"
        );
    }
}

#[test]
fn small_kinds() {
    let namespace = create("v1", "Namespace", json!({})).unwrap();
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(namespace["status"]["phase"], "Active");
    assert_eq!(namespace["metadata"]["labels"]["kubernetes.io/metadata.name"], "x");
    let node = create("v1", "Node", json!({"status": {"phase": "here"}})).unwrap();
    assert_eq!(
        node["status"]["phase"], "here",
        "a node registers itself with its status"
    );
    let map = create("v1", "ConfigMap", json!({"immutable": true, "data": {"a": "1"}})).unwrap();
    let errors = update("v1", "ConfigMap", &map, |m| m["data"]["a"] = "2".into()).unwrap_err();
    assert_eq!(errors, ["data: Forbidden: field is immutable when `immutable` is set"]);
    assert!(create("v1", "ConfigMap", json!({"data": {"a b": "1"}})).is_err());
    assert!(create("v1", "ConfigMap", json!({"data": {"a": 1}})).is_err());
    let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["nonsense"]}], "ports": [{"port": 80}]});
    assert_eq!(
        create("discovery.k8s.io/v1", "EndpointSlice", slice).unwrap_err(),
        [r#"endpoints[0].addresses[0]: Invalid value: "nonsense": must be an IPv4 address"#]
    );
    let secret = create("v1", "Secret", json!({"stringData": {"a": "b"}})).unwrap();
    assert_eq!(
        (&secret["type"], &secret["data"]["a"]),
        (&json!("Opaque"), &json!("Yg=="))
    );
    assert!(secret.get("stringData").is_none());
}

/// A definition that is right.
fn definition() -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}}}});
    json!({"metadata": {"name": "xs.g.io"}, "spec": {"group": "g.io", "scope": "Namespaced", "names": {"kind": "X", "plural": "xs"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}})
}

#[test]
fn definitions_of_custom_resources() {
    let good = definition();
    let with = |patch: Value| {
        let mut crd = good.clone();
        json_patch::merge(&mut crd, &patch);
        create("apiextensions.k8s.io/v1", "CustomResourceDefinition", crd)
    };
    let made = with(json!({})).unwrap();
    assert_eq!(
        made["spec"]["names"],
        json!({"kind": "X", "plural": "xs", "singular": "x", "listKind": "XList"})
    );
    assert_eq!(made["spec"]["conversion"], json!({"strategy": "None"}));
    let version = |extra: Value| {
        let mut version = good["spec"]["versions"][0].clone();
        json_patch::merge(&mut version, &extra);
        json!({"spec": {"versions": [version]}})
    };
    let field = |schema: Value| {
        version(json!({"schema": {"openAPIV3Schema": {"properties": {"spec": {"properties": {"a": schema}}}}}}))
    };
    let cases = [
        (
            json!({"metadata": {"name": "wrong"}}),
            "metadata.name: Invalid value: \"wrong\": must be spec.names.plural+\".\"+spec.group",
        ),
        (
            json!({"spec": {"scope": "Everywhere"}}),
            "spec.scope: Unsupported value: \"Everywhere\"",
        ),
        (json!({"spec": {"versions": []}}), "spec.versions: Required value"),
        (version(json!({"storage": false})), "spec.versions: Invalid value"),
        (
            version(json!({"schema": null})),
            "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
        ),
        (
            field(json!({"type": null})),
            "spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[a].type: Required value: must not be empty for specified object fields",
        ),
        (
            field(json!({"pattern": "("})),
            "spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[a].pattern: Invalid value: \"(\": must be a valid regular expression",
        ),
        (
            field(json!({"type": "array"})),
            "spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[a].items: Required value",
        ),
        (
            field(json!({"x-kubernetes-validations": [{"rule": "self +"}]})),
            "spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[a].x-kubernetes-validations[0].rule: Invalid value: \"self +\": compilation failed",
        ),
        (
            version(
                json!({"subresources": {"scale": {"specReplicasPath": "replicas", "statusReplicasPath": ".status.replicas"}}}),
            ),
            "spec.versions[0].subresources.scale.specReplicasPath: Invalid value",
        ),
    ];
    for (patch, wanted) in cases {
        let errors = with(patch).unwrap_err();
        assert!(errors[0].starts_with(wanted), "{errors:?} is not {wanted}");
    }
    let resource = Registry::builtin()
        .by_kind("apiextensions.k8s.io/v1", "CustomResourceDefinition")
        .unwrap();
    let mut moved = made.clone();
    moved["spec"]["scope"] = "Cluster".into();
    assert!(prepare_update(&resource, Part::Main, &made, &mut moved, &context()).is_err());
}

#[test]
fn saying_the_same_again_changes_nothing() {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "a:1",
        "ports": [{"containerPort": 80}], "livenessProbe": {"tcpSocket": {"port": 80}}}], "volumes": [{"name": "v"}]}});
    let job = json!({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a:1"}]}}});
    let workload = json!({"selector": {"matchLabels": {"app": "web"}}, "template": template});
    let cases = [
        ("v1", "Pod", template["spec"].clone()),
        ("v1", "Namespace", json!({})),
        (
            "v1",
            "Service",
            json!({"ports": [{"port": 80}], "selector": {"app": "web"}}),
        ),
        ("v1", "Service", json!({"clusterIP": "None"})),
        (
            "v1",
            "Service",
            json!({"type": "LoadBalancer", "ports": [{"port": 80}]}),
        ),
        ("v1", "Service", json!({"type": "ExternalName", "externalName": "a.b"})),
        (
            "v1",
            "PersistentVolumeClaim",
            json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}),
        ),
        ("v1", "Node", json!({})),
        ("apps/v1", "Deployment", workload.clone()),
        ("apps/v1", "StatefulSet", workload.clone()),
        ("apps/v1", "DaemonSet", workload.clone()),
        ("apps/v1", "ReplicaSet", workload),
        ("batch/v1", "Job", job.clone()),
        (
            "batch/v1",
            "CronJob",
            json!({"schedule": "* * * * *", "jobTemplate": {"spec": job}}),
        ),
        ("coordination.k8s.io/v1", "Lease", json!({"holderIdentity": "n1"})),
    ];
    for (api_version, kind, spec) in cases {
        let created = create(api_version, kind, json!({ "spec": spec })).unwrap();
        assert_eq!(
            update(api_version, kind, &created, |_| {}).unwrap(),
            created,
            "{kind} as it is"
        );
        // A manifest that is applied again lacks all that the server has added.
        let again = update(api_version, kind, &created, |o| o["spec"] = spec.clone());
        // Of a pod hardly anything may change; of a Job not the labels and the selector that the server made.
        if !["Pod", "Job"].contains(&kind) {
            assert_eq!(again.unwrap(), created, "{kind} as it was written");
        }
    }
}
