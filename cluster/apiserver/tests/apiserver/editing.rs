//! Every kind that is served, as people change what runs: got, applied, edited, replaced, patched; and what Kubernetes' own server makes
//! of the same objects.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use afloat_machinery::kinds::{Registry, Resource};
use kube::Client;
use serde_json::{Map, Value, json};

use super::kubectl::Kubectl;
use super::types::original;
use super::{raw, server};

/// One object of each kind, with lists of all that are merged.
fn samples() -> Vec<Value> {
    serde_json::from_str(include_str!("kinds.json")).unwrap()
}

fn resource(object: &Value) -> Arc<Resource> {
    let text = |key: &str| object[key].as_str().unwrap();
    Registry::builtin()
        .by_kind(text("apiVersion"), text("kind"))
        .unwrap_or_else(|| panic!("{} is not served", text("kind")))
}

fn collection(object: &Value) -> String {
    let resource = resource(object);
    let root = if resource.group.is_empty() { "/api" } else { "/apis" };
    let space = if resource.namespaced { "/namespaces/default" } else { "" };
    format!("{root}/{}{space}/{}", resource.api_version(), resource.plural)
}

#[test]
fn there_is_a_sample_of_each_kind() {
    let have: BTreeSet<String> = samples()
        .iter()
        .map(|object| format!("{}/{}", resource(object).group, resource(object).kind))
        .collect();
    let registry = Registry::builtin();
    let wanted = registry.all().filter(|resource| resource.is_stored());
    let missing: Vec<_> = wanted
        .filter(|resource| !have.contains(&format!("{}/{}", resource.group, resource.kind)))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// What agents and controllers write into the objects.
const STATUSES: [(&str, &str); 3] = [
    (
        "pod/x",
        r#"{"status":{"observedGeneration":1,"phase":"Running","conditions":[{"type":"Ready","status":"True","observedGeneration":1}],"containerStatuses":[{"name":"c","image":"c","imageID":"","ready":true,"restartCount":0,"stopSignal":"SIGTERM","allocatedResources":{"cpu":"1"},"resources":{"limits":{"cpu":"1"}},"volumeMounts":[{"name":"v","mountPath":"/v"}]}]}}"#,
    ),
    (
        "deployment/x",
        r#"{"status":{"observedGeneration":1,"replicas":1,"conditions":[{"type":"Available","status":"True"}]}}"#,
    ),
    (
        "node/x",
        r#"{"status":{"runtimeHandlers":[{"name":"","features":{"recursiveReadOnlyMounts":true}}],"features":{"supplementalGroupsPolicy":true}}}"#,
    ),
];

/// Writes an editor that adds an annotation to each object.
fn editor(kubectl: &Kubectl) {
    let path = kubectl.home.path().join("editor");
    std::fs::write(
        &path,
        "#!/bin/sh\nsed -i 's/^\\( *\\)annotations:$/\\1annotations:\\n\\1  example.com\\/edited: \"yes\"/' \"$1\"\n",
    )
    .unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// Whether the server found something that it does not know, or twice.
fn misspelt(text: &str) -> bool {
    text.contains("unknown field") || text.contains("duplicate field")
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_changes_every_kind_that_runs() {
    let Some(served) = Kubectl::served().await else { return };
    let kubectl = &served.kubectl;
    editor(kubectl);
    let all = json!({"apiVersion": "v1", "kind": "List", "items": samples()}).to_string();
    let done = async |what: &str, input: &str, word: &str| {
        let (success, text) = kubectl.run(what, input).await;
        let lines = text.lines().filter(|line| !line.starts_with("Warning: "));
        let told = lines.filter(|line| line.contains(word)).count();
        assert!(
            success && told == samples().len() && !misspelt(&text),
            "kubectl {what}: {told} of {}\n{text}",
            samples().len()
        );
    };
    done("create --validate=strict -f -", &all, " created").await;
    for (object, status) in STATUSES {
        kubectl
            .says(
                &format!("patch {object} --subresource=status --type=merge -p {status}"),
                "",
                "patched",
            )
            .await;
    }
    let live = async || kubectl.run("get -o json -f -", &all).await.1;
    // As people begin to keep what runs in a file: without a word of what was applied before.
    let (success, text) = kubectl.run("apply --validate=strict -f -", &live().await).await;
    assert!(success && !misspelt(&text), "{text}");
    done("apply --validate=strict -f -", &live().await, " configured").await;
    done("replace --validate=strict -f -", &live().await, " replaced").await;
    done("edit --validate=strict -f -", &live().await, " edited").await;
    let label = r#"{"metadata":{"labels":{"example.com/patched":"yes"}}}"#;
    done(&format!("patch -f - -p {label}"), &all, " patched").await;
    done(&format!("patch -f - --type=merge -p {label}"), &all, " patched").await;
    let add = r#"[{"op":"add","path":"/metadata/labels/example.com~1added","value":"yes"}]"#;
    done(&format!("patch -f - --type=json -p {add}"), &all, " patched").await;
    done("label -f - example.com/labelled=yes", &all, " labeled").await;
    let last: Value = serde_json::from_str(&live().await).unwrap();
    for object in last["items"].as_array().unwrap() {
        assert_eq!(
            object["metadata"]["annotations"]["example.com/edited"], "yes",
            "{object}"
        );
        assert_eq!(object["metadata"]["labels"]["example.com/added"], "yes", "{object}");
    }
    served.stop().await;
}

/// Where ours differs from Kubernetes' own server: kind (`*` is any), and how the line of the difference begins.
#[rustfmt::skip]
const KNOWN: &[(&str, &str)] = &[
    // 1.33 counts the changes of pods, 1.32 does not.
    ("Pod", ".metadata.generation"),
    // Controllers and admission fill these in a moment later, or 1.33 does it otherwise than 1.32.
    ("Node", ".spec.taints"),
    ("PersistentVolume", ".status.lastPhaseTransitionTime"),
    ("Pod", ".status.conditions[0].lastTransitionTime"),
    ("Service", ".spec.clusterIP"),
    ("CustomResourceDefinition", ".metadata.finalizers"),
    ("CustomResourceDefinition", ".status"),
    // Zeros that types of Go write and nobody misses.
    ("Event", ".reportingComponent"),
    ("Event", ".reportingInstance"),
    ("Event", ".deprecatedSource"),
    ("PersistentVolume", ".spec.hostPath.type"),
    ("ReplicationController", ".status.replicas"),
    ("ReplicaSet", ".status.replicas"),
    ("StatefulSet", ".status"),
    ("DaemonSet", ".status"),
    ("CronJob", ".spec.jobTemplate"),
    ("HorizontalPodAutoscaler", ".status"),
    ("PodDisruptionBudget", ".status"),
    ("Ingress", ".status.loadBalancer"),
    ("VolumeAttachment", ".status"),
    // Not yet.
    ("DaemonSet", ".metadata.annotations"),
    ("Job", ".metadata.labels"),
    ("Job", ".spec.podReplacementPolicy"),
    ("Job", "200 "),
    ("Endpoints", "200 "),
    ("HorizontalPodAutoscaler", ".spec"),
    ("CertificateSigningRequest", ".spec"),
];

/// What two servers may differ in.
fn bare(mut object: Value) -> Value {
    for key in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
        object["metadata"].as_object_mut().map(|meta| meta.remove(key));
    }
    object
}

/// Where two answers differ, one line each.
fn differences(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                differences(&format!("{path}.{key}"), &ours[key], &theirs[key], found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for n in 0..a.len() {
                differences(&format!("{path}[{n}]"), &ours[n], &theirs[n], found);
            }
        }
        // A null says no more than nothing.
        _ if ours != theirs => found.push(format!("  {path}: {ours}, theirs {theirs}")),
        _ => {}
    }
}

/// What both servers say to the same request, and where that differs.
async fn compared(clients: [&Client; 2], method: &str, uri: &str, content_type: &str, body: &Value) -> Vec<String> {
    let mut said = Vec::new();
    for client in clients {
        let (code, made) = send(client, method, uri, content_type, body).await;
        let uid = made["metadata"]["uid"].as_str().unwrap_or("no uid").to_owned();
        let made = if code < 300 {
            bare(made)
        } else {
            made["message"].clone()
        };
        let made = serde_json::from_str(&made.to_string().replace(&uid, "UID")).unwrap();
        said.push((code, made));
    }
    let mut found = Vec::new();
    if said[0].0 != said[1].0 {
        let [(code, ours), (other, theirs)] = [&said[0], &said[1]];
        let short = |value: &Value| value.to_string().chars().take(300).collect::<String>();
        found.push(format!("  {code} {}\n  theirs {other} {}", short(ours), short(theirs)));
    } else if said[0].0 < 300 {
        differences("", &said[0].1, &said[1].1, &mut found);
    }
    found
}

async fn send(client: &Client, method: &str, uri: &str, content_type: &str, body: &Value) -> (u16, Value) {
    let (code, text) = raw(
        client,
        method,
        uri,
        &[("content-type", content_type)],
        &body.to_string(),
    )
    .await;
    (code, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// For each list in an object of which a strategic merge patch may know how it is merged: a patch of its last element alone, and one that
/// takes it out.
fn patches(object: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    if let Some(fields) = object.as_object() {
        for (key, value) in fields {
            if matches!(key.as_str(), "managedFields" | "data" | "matchLabels") {
                continue;
            }
            match value {
                Value::Array(items) if items.len() > 1 => {
                    let last = &items[items.len() - 1];
                    found.push(json!({key: [last]}));
                    if let Value::Object(last) = last {
                        let mut gone = Map::from_iter(last.clone());
                        gone.insert("$patch".to_owned(), "delete".into());
                        found.push(json!({key: [gone]}));
                    } else {
                        found.push(json!({format!("$deleteFromPrimitiveList/{key}"): [last]}));
                    }
                }
                Value::Object(_) => found.extend(patches(value).into_iter().map(|inner| json!({key: inner}))),
                _ => {}
            }
            if let Value::Array(items) = value {
                // Into an element, by whatever names it.
                for item in items.iter().filter(|item| item.is_object()) {
                    let names = [
                        "name",
                        "type",
                        "mountPath",
                        "containerPort",
                        "ip",
                        "port",
                        "uid",
                        "topologyKey",
                    ];
                    for inner in patches(item) {
                        let mut whole = inner;
                        for name in names.into_iter().filter(|name| item.get(name).is_some()) {
                            whole[name] = item[name].clone();
                        }
                        found.push(json!({key: [whole]}));
                    }
                }
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_own_server_makes_the_same_of_every_kind() {
    let Some((_original, theirs)) = original().await else {
        return;
    };
    let (_server, ours) = server().await;
    let mut wrong = Vec::new();
    for object in samples() {
        let (uri, kind) = (collection(&object), object["kind"].as_str().unwrap());
        let name = object["metadata"]["name"].as_str().unwrap();
        let clients = [&ours, &theirs];
        let known = |line: &String| {
            KNOWN
                .iter()
                .any(|(of, begins)| (*of == "*" || *of == kind) && line.trim_start().starts_with(begins))
        };
        let mut note = |what: &str, mut found: Vec<String>| {
            found.retain(|line| !known(line));
            if !found.is_empty() {
                wrong.push(format!("{kind}{what}\n{}", found.join("\n")));
            }
        };
        let strict = format!("{uri}?fieldValidation=Strict");
        note(
            "",
            compared(clients, "POST", &strict, "application/json", &object).await,
        );
        let uri = format!("{uri}/{name}");
        let (_, made) = send(&theirs, "GET", &uri, "", &Value::Null).await;
        for patch in patches(&made) {
            let dry = format!("{uri}?dryRun=All");
            let found = compared(clients, "PATCH", &dry, "application/strategic-merge-patch+json", &patch).await;
            note(&format!(" {patch}"), found);
        }
    }
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
}

/// Specs of Services, each valid or not, and of some what a merge patch makes of them.
const SERVICES: &str = include_str!("services.txt");

/// Fields that each server allocates by itself, and a default for a balancer that ours does not allocate.
const ALLOCATED: [&str; 5] = [
    ".spec.clusterIP",
    ".spec.ports[0].nodePort",
    ".spec.healthCheckNodePort",
    ".metadata",
    ".status",
];

/// Code and first sentence of each answer, and the object where it was taken.
async fn tried(client: &Client, name: &str, steps: &[&str]) -> Vec<(u16, Value)> {
    let uri = "/api/v1/namespaces/default/services";
    let mut said = Vec::new();
    for (n, spec) in steps.iter().enumerate() {
        let body = json!({"metadata": {"name": name}, "spec": serde_json::from_str::<Value>(spec).unwrap()});
        let (code, made) = if n == 0 {
            send(client, "POST", uri, "application/json", &body).await
        } else {
            send(
                client,
                "PATCH",
                &format!("{uri}/{name}"),
                "application/merge-patch+json",
                &body,
            )
            .await
        };
        said.push((
            code,
            if code < 300 {
                bare(made)
            } else {
                made["details"]["causes"].clone()
            },
        ));
    }
    let _ = raw(client, "DELETE", &format!("{uri}/{name}"), &[], "").await;
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_own_server_says_the_same_of_services() {
    let Some((_original, theirs)) = original().await else {
        return;
    };
    let (_server, ours) = server().await;
    let mut wrong = Vec::new();
    for (n, line) in SERVICES.lines().filter(|line| !line.starts_with('#')).enumerate() {
        let steps: Vec<&str> = line.split(" => ").collect();
        let name = format!("s{n}");
        let (here, there) = (tried(&ours, &name, &steps).await, tried(&theirs, &name, &steps).await);
        for (mine, other) in here.iter().zip(&there) {
            let mut found = Vec::new();
            // Which fields are wrong, not each word: the original prints values of Go.
            let fields = |causes: &Value| {
                let all = causes.as_array().into_iter().flatten();
                all.map(|cause| cause["field"].as_str().unwrap_or_default().to_owned())
                    .collect::<BTreeSet<_>>()
            };
            if mine.0 != other.0 {
                found.push(format!("  {} {}, theirs {} {}", mine.0, mine.1, other.0, other.1));
            } else if mine.0 >= 300 && fields(&mine.1) != fields(&other.1) {
                found.push(format!("  {:?}, theirs {:?}", fields(&mine.1), fields(&other.1)));
            } else if mine.0 < 300 {
                differences("", &mine.1, &other.1, &mut found);
                found.retain(|line| !ALLOCATED.iter().any(|begins| line.trim_start().starts_with(begins)));
            }
            if !found.is_empty() {
                wrong.push(format!("{line}\n{}", found.join("\n")));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
}

/// What a write of `/status` changes of the metadata.
#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_own_server_lets_status_writes_change_the_same() {
    let Some((_original, theirs)) = original().await else {
        return;
    };
    let (_server, ours) = server().await;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "z"});
    let metadata = json!({"labels": {"s": "1"}, "annotations": {"s": "1"}, "finalizers": ["example.com/s"], "ownerReferences": [owner]});
    let mut wrong = Vec::new();
    for object in samples() {
        let uri = collection(&object);
        let status = format!("{uri}/{}/status", object["metadata"]["name"].as_str().unwrap());
        let mut said = Vec::new();
        for client in [&ours, &theirs] {
            send(client, "POST", &uri, "application/json", &object).await;
            let patch = json!({"metadata": metadata});
            let (code, made) = send(client, "PATCH", &status, "application/merge-patch+json", &patch).await;
            let meta = &made["metadata"];
            let taken = metadata.as_object().unwrap().keys().filter(|key| {
                meta[key.as_str()].to_string().contains("\"s\"")
                    || meta[key.as_str()].to_string().contains("/s\"")
                    || meta[key.as_str()].to_string().contains("\"z\"")
            });
            said.push((code, taken.cloned().collect::<Vec<_>>()));
        }
        if said[0] != said[1] {
            wrong.push(format!("{}: {:?}, theirs {:?}", object["kind"], said[0], said[1]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_a_client_writes_it_finds_byte_by_byte() {
    let (_server, client) = server().await;
    let uri = "/apis/apps/v1/namespaces/default/controllerrevisions";
    let body = r#"{"metadata":{"name":"r"},"revision":1,"data":{"spec":"\u003ca \u0026 b\u003e"}}"#;
    assert_eq!(
        raw(&client, "POST", uri, &[("content-type", "application/json")], body)
            .await
            .0,
        201
    );
    let (_, text) = raw(&client, "GET", &format!("{uri}/r"), &[], "").await;
    assert!(text.contains(r#""data":{"spec":"\u003ca \u0026 b\u003e"}"#), "{text}");
}

#[tokio::test]
async fn a_negative_time_to_end_is_a_second() {
    let (_server, client) = server().await;
    let spec = json!({"terminationGracePeriodSeconds": -5, "containers": [{"name": "c", "image": "i"}]});
    let uri = "/api/v1/namespaces/default/pods";
    let (code, pod) = send(
        &client,
        "POST",
        uri,
        "application/json",
        &json!({"metadata": {"name": "p"}, "spec": spec}),
    )
    .await;
    assert_eq!((code, &pod["spec"]["terminationGracePeriodSeconds"]), (201, &json!(1)));
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": spec});
    let set =
        json!({"metadata": {"name": "s"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let (code, set) = send(
        &client,
        "POST",
        "/apis/apps/v1/namespaces/default/replicasets",
        "application/json",
        &set,
    )
    .await;
    assert_eq!(
        (code, &set["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]),
        (201, &json!(-5))
    );
}

#[tokio::test]
async fn an_events_source_is_who_reports_it() {
    let (_server, client) = server().await;
    for mut event in samples().into_iter().filter(|object| object["kind"] == "Event") {
        // What is an hour old goes.
        event
            .as_object_mut()
            .unwrap()
            .retain(|key, _| !key.ends_with("Timestamp") && key != "eventTime");
        let (code, made) = send(&client, "POST", &collection(&event), "application/json", &event).await;
        assert_eq!(code, 201, "{made}");
    }
    let cases = [
        ("api/v1", "source=kubelet", 1),
        ("api/v1", "source=example.com/c", 1),
        ("api/v1", "reportingComponent=example.com/c", 1),
        ("api/v1", "involvedObject.kind=Pod", 2),
        ("api/v1", "involvedObject.kind=Pod,reason!=Started", 1),
        ("apis/events.k8s.io/v1", "regarding.kind=Pod,regarding.name=p", 2),
        ("apis/events.k8s.io/v1", "reportingController=example.com/c", 1),
    ];
    for (root, selector, found) in cases {
        let uri = format!(
            "/{root}/namespaces/default/events?fieldSelector={}",
            selector.replace('=', "%3D")
        );
        let (_, list) = send(&client, "GET", &uri, "", &Value::Null).await;
        assert_eq!(
            list["items"].as_array().map(Vec::len),
            Some(found),
            "{root} {selector} {list}"
        );
    }
}
