//! Volumes of all kinds, claims, and service account tokens, as containers and kubectl see them.

use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::{Cluster, cloneset, condition, container, wait_until};

const BUSYBOX: &str = "/bin/busybox";
const CURL: &str = "/usr/bin/curl";

/// Builds `tools:v1`, a shell and a web client; None where this machine has neither.
fn build_tools(cluster: &Cluster) -> Option<()> {
    if !Path::new(BUSYBOX).exists() || !Path::new(CURL).exists() {
        eprintln!("skipped: no {BUSYBOX} or no {CURL} to make an image of");
        return None;
    }
    let files = [BUSYBOX, CURL].map(|program| format!("--file={program}={program}"));
    cluster.image(&["build", "tools:v1", "--libraries", &files[0], &files[1]]);
    Some(())
}

/// A container that does nothing until it is told to stop.
fn idle(mounts: &Value) -> Value {
    let script = "trap 'exit 0' TERM; while :; do /bin/busybox sleep 0.2; done";
    json!({"name": "main", "image": "tools:v1", "command": [BUSYBOX, "sh", "-c", script], "volumeMounts": mounts})
}

fn pod(name: &str, volumes: &Value, mounts: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 5, "containers": [idle(mounts)], "volumes": volumes}})
}

fn claim(name: &str, more: &Value) -> Value {
    let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    for (key, value) in more.as_object().expect("fields") {
        claim["spec"][key] = value.clone();
    }
    claim
}

fn list(objects: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

#[track_caller]
fn ready(cluster: &Cluster, name: &str) -> Value {
    cluster.wait(&format!("{name} Ready"), &["pod", name], |pod| {
        condition(pod, "Ready") == Some("True")
    })
}

/// What a shell in the pod prints; empty where it fails.
fn try_sh(cluster: &Cluster, pod: &str, script: &str) -> String {
    let output = cluster.try_kubectl(&["exec", pod, "--", BUSYBOX, "sh", "-c", script], None);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[track_caller]
fn sh(cluster: &Cluster, pod: &str, script: &str) -> String {
    cluster
        .kubectl(&["exec", pod, "--", BUSYBOX, "sh", "-c", script])
        .trim()
        .to_owned()
}

#[track_caller]
fn shows(cluster: &Cluster, pod: &str, file: &str, text: &str) {
    wait_until(&format!("{file} to be {text:?}"), || {
        try_sh(cluster, pod, &format!("/bin/busybox cat {file}")) == text
    });
}

#[track_caller]
fn event(cluster: &Cluster, name: &str, reason: &str) -> String {
    let filter = format!("involvedObject.name={name},reason={reason}");
    let found = cluster.wait(
        &format!("event {reason} of {name}"),
        &["events", "--field-selector", &filter],
        |list| list["items"].as_array().is_some_and(|items| !items.is_empty()),
    );
    found["items"][0]["message"].as_str().unwrap_or_default().to_owned()
}

/// What a TokenReview says.
fn review(cluster: &Cluster, token: &str, audiences: &[&str]) -> Value {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": audiences}});
    let output = cluster.try_kubectl(&["create", "-o", "json", "-f", "-"], Some(&review.to_string()));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    answer["status"].clone()
}

#[test]
fn files_follow_their_objects_and_pods_know_who_they_are() {
    let Some(cluster) = Cluster::boot(1) else { return };
    let Some(()) = build_tools(&cluster) else { return };
    cluster.kubectl(&[
        "create",
        "configmap",
        "conf",
        "--from-literal=key=one",
        "--from-literal=other=x",
    ]);
    cluster.kubectl(&["create", "secret", "generic", "hidden", "--from-literal=word=s3cret"]);
    let items = json!([{"key": "key", "path": "deep/er", "mode": 0o440}]);
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let limit = json!({"path": "limit", "resourceFieldRef": {"containerName": "main", "resource": "limits.memory", "divisor": "1Mi"}});
    let mut labels = field("metadata.labels");
    labels["path"] = "labels".into();
    let vault = json!({"serviceAccountToken": {"path": "vault", "audience": "vault", "expirationSeconds": 600}});
    let volumes = json!([
        {"name": "conf", "configMap": {"name": "conf"}},
        {"name": "items", "configMap": {"name": "conf", "items": items}},
        {"name": "hidden", "secret": {"secretName": "hidden", "defaultMode": 0o400}},
        {"name": "info", "projected": {"sources": [{"downwardAPI": {"items": [labels, limit]}},
            {"secret": {"name": "later", "optional": true}}, vault]}},
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "scratch", "emptyDir": {}},
    ]);
    let mounts = json!([
        {"name": "conf", "mountPath": "/conf"}, {"name": "items", "mountPath": "/items"},
        {"name": "conf", "mountPath": "/fixed", "subPath": "key"}, {"name": "hidden", "mountPath": "/hidden"},
        {"name": "info", "mountPath": "/info"}, {"name": "memory", "mountPath": "/memory"},
        {"name": "scratch", "mountPath": "/scratch", "subPathExpr": "of-$(POD_NAME)"},
        {"name": "scratch", "mountPath": "/all"},
    ]);
    let mut first = pod("first", &volumes, &mounts);
    let mut name = field("metadata.name");
    name = json!({"name": "POD_NAME", "valueFrom": name});
    let main = &mut first["spec"]["containers"][0];
    main["resources"] = json!({"limits": {"memory": "64Mi"}});
    main["env"] = json!([name,
        {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "word"}}},
        {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}}]);
    main["envFrom"] = json!([{"prefix": "C_", "configMapRef": {"name": "conf"}}]);
    let large = pod(
        "large",
        &json!([{"name": "d", "emptyDir": {"sizeLimit": "1Mi"}}]),
        &json!([{"name": "d", "mountPath": "/d"}]),
    );
    let mut nobody = pod("nobody", &json!([]), &json!([]));
    nobody["spec"]["automountServiceAccountToken"] = false.into();
    cluster.apply(&list(&[first, large, nobody]));
    for name in ["first", "large", "nobody"] {
        ready(&cluster, name);
    }
    sh(
        &cluster,
        "large",
        "/bin/busybox dd if=/dev/zero of=/d/f bs=1M count=3 2>/dev/null",
    );

    // The kubelet's layout, and what was asked for.
    assert_eq!(sh(&cluster, "first", "/bin/busybox readlink /conf/key"), "..data/key");
    assert!(sh(&cluster, "first", "/bin/busybox readlink /conf/..data").starts_with("..20"));
    assert_eq!(
        sh(
            &cluster,
            "first",
            "/bin/busybox stat -L -c %a /items/deep/er /hidden/word"
        ),
        "440\n400"
    );
    assert_eq!(sh(&cluster, "first", "echo $WORD $LIMIT $C_key"), "s3cret 67108864 one");
    assert_eq!(sh(&cluster, "first", "/bin/busybox cat /info/limit"), "64");
    sh(&cluster, "first", "echo mine > /scratch/f");
    assert_eq!(sh(&cluster, "first", "/bin/busybox cat /all/of-first/f"), "mine");
    let refused = cluster.try_kubectl(&["exec", "first", "--", BUSYBOX, "touch", "/conf/x"], None);
    assert!(!refused.status.success(), "contents from the API cannot be written to");

    // Changes arrive; what was mounted by subPath stays.
    cluster.kubectl(&[
        "patch",
        "configmap",
        "conf",
        "-p",
        r#"{"data": {"key": "two", "more": "y"}}"#,
    ]);
    cluster.kubectl(&["label", "pod", "first", "tier=front"]);
    cluster.kubectl(&["create", "secret", "generic", "later", "--from-literal=late=come"]);
    shows(&cluster, "first", "/conf/key", "two");
    shows(&cluster, "first", "/conf/more", "y");
    shows(&cluster, "first", "/items/deep/er", "two");
    shows(&cluster, "first", "/info/late", "come");
    shows(&cluster, "first", "/info/labels", "app=\"first\"\ntier=\"front\"");
    assert_eq!(sh(&cluster, "first", "/bin/busybox cat /fixed"), "one");
    cluster.kubectl(&["patch", "configmap", "conf", "-p", r#"{"immutable": true}"#]);
    let output = cluster.try_kubectl(&["patch", "configmap", "conf", "-p", r#"{"data": {"key": "3"}}"#], None);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("field is immutable"),
        "{output:?}"
    );

    // Memory is no larger than it may be, and an emptyDir that is ends its pod.
    assert!(sh(&cluster, "first", "/bin/busybox grep ' /memory ' /proc/mounts").contains("tmpfs"));
    let full = "/bin/busybox dd if=/dev/zero of=/memory/f bs=1M count=2 2>/dev/null; echo $?";
    assert_eq!(sh(&cluster, "first", full), "1");
    let evicted = cluster.wait("large evicted", &["pod", "large"], |pod| {
        pod["status"]["phase"] == "Failed"
    });
    assert_eq!(evicted["status"]["reason"], "Evicted");
    let told = evicted["status"]["message"].as_str().unwrap_or_default();
    assert!(
        told.starts_with("Usage of EmptyDir volume \"d\" exceeds the limit \"1Mi\""),
        "{told}"
    );
    event(&cluster, "large", "Evicted");
    assert_eq!(container(&ready(&cluster, "first"), "main")["restartCount"], 0);

    tokens(&cluster);
}

fn tokens(cluster: &Cluster) {
    const DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    // A client in a container finds the API server and is known there.
    let ask = |pod: &str, credentials: &str, path: &str| {
        let script = format!(
            "{CURL} -sS --cacert {DIR}/ca.crt {credentials} \
             https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT{path} 2>&1"
        );
        try_sh(cluster, pod, &script)
    };
    let bearer = format!("-H \"Authorization: Bearer $(/bin/busybox cat {DIR}/token)\"");
    let pods = || {
        ask(
            "first",
            &bearer,
            "/api/v1/namespaces/$(/bin/busybox cat /var/run/secrets/kubernetes.io/serviceaccount/namespace)/pods",
        )
    };
    // It may do nothing until it is given a role.
    let told = "User \\\"system:serviceaccount:default:default\\\" cannot list resource \\\"pods\\\"";
    assert!(pods().contains(told), "{}", pods());
    assert!(ask("first", &bearer, "/api/v1").contains("\"kind\":\"APIResourceList\""));
    cluster.kubectl(&[
        "create",
        "rolebinding",
        "reader",
        "--clusterrole=view",
        "--serviceaccount=default:default",
    ]);
    assert!(pods().contains("\"kind\":\"PodList\""), "{}", pods());
    // Who shows nothing sees health and version, and no more. (kubectl would ask its user for a name.)
    assert_eq!(ask("first", "", "/readyz"), "ok");
    assert!(ask("first", "", "/version").contains("gitVersion"));
    for path in ["/api/v1/pods", "/api", "/metrics"] {
        assert!(ask("first", "", path).contains("\"code\":403"), "{path}");
    }
    assert!(ask("first", "-H 'Authorization: Bearer nonsense'", "/api/v1/pods").contains("\"code\":401"));
    assert_eq!(try_sh(cluster, "nobody", &format!("/bin/busybox ls {DIR}")), "");

    let token = sh(cluster, "first", &format!("/bin/busybox cat {DIR}/token"));
    let known = review(cluster, &token, &[]);
    assert_eq!(
        known["user"]["username"], "system:serviceaccount:default:default",
        "{known}"
    );
    assert_eq!(
        known["user"]["extra"]["authentication.kubernetes.io/pod-name"][0],
        "first"
    );
    let vault = sh(cluster, "first", "/bin/busybox cat /info/vault");
    assert_eq!(review(cluster, &vault, &["vault"])["authenticated"], true);
    assert_eq!(
        review(cluster, &vault, &[])["authenticated"],
        false,
        "it is for somebody else"
    );

    let made = cluster.kubectl(&["create", "token", "default", "--duration=20m"]);
    assert_eq!(review(cluster, made.trim(), &[])["authenticated"], true);
    let output = cluster.try_kubectl(&["create", "token", "default", "--duration=5m"], None);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("may not specify a duration less than 10 minutes"),
        "{told}"
    );
    let output = cluster.try_kubectl(&["create", "token", "nobody"], None);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("not found"),
        "{output:?}"
    );
    let mut stranger = pod("stranger", &json!([]), &json!([]));
    stranger["spec"]["serviceAccountName"] = "stranger".into();
    let output = cluster.try_kubectl(&["create", "-f", "-"], Some(&stranger.to_string()));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("serviceaccount \"stranger\" not found"),
        "{output:?}"
    );

    // It dies with its pod; others do not.
    cluster.kubectl(&["delete", "pod", "first", "--timeout=120s"]);
    assert_eq!(review(cluster, &token, &[])["authenticated"], false);
    assert_eq!(review(cluster, made.trim(), &[])["authenticated"], true);
}

/// The directory that a claim's volume has on the host.
fn directory(cluster: &Cluster, claim: &str) -> std::path::PathBuf {
    let claim = cluster.get(&["pvc", claim]).expect("the claim");
    let name = claim["spec"]["volumeName"].as_str().expect("bound").to_owned();
    let volume = cluster.get(&["pv", &name]).expect("the volume");
    let path = volume["spec"]["local"]["path"].as_str().expect("a directory");
    std::path::PathBuf::from(path)
}

fn mounted(name: &str, claim: &str) -> Value {
    pod(
        name,
        &json!([{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]),
        &json!([{"name": "data", "mountPath": "/data"}, {"name": "data", "mountPath": "/part", "subPath": "a/b"},
            {"name": "data", "mountPath": "/look", "readOnly": true}]),
    )
}

#[test]
fn claims_keep_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let Some(cluster) = Cluster::boot_in(&dir, 2, &[]) else {
        return;
    };
    let Some(()) = build_tools(&cluster) else { return };
    cluster.build_images();
    cluster.wait("the class", &["sc", "standard"], |_| true);
    let classes = cluster.kubectl(&["get", "sc"]);
    let words: Vec<&str> = classes.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!(
        words[..6],
        [
            "standard",
            "(default)",
            "afloat.dev/local",
            "Delete",
            "WaitForFirstConsumer",
            "false"
        ]
    );

    // It waits for a pod, then is made where the pod goes.
    cluster.apply(&claim("data", &json!({})).to_string());
    event(&cluster, "data", "WaitForFirstConsumer");
    let waiting = cluster.get(&["pvc", "data"]).expect("the claim");
    assert_eq!(
        (&waiting["status"]["phase"], &waiting["spec"]["storageClassName"]),
        (&json!("Pending"), &json!("standard"))
    );
    cluster.apply(&mounted("first", "data").to_string());
    let first = ready(&cluster, "first");
    event(&cluster, "data", "ExternalProvisioning");
    event(&cluster, "data", "ProvisioningSucceeded");
    let table = cluster.kubectl(&["get", "pv,pvc"]);
    assert!(
        table.contains("Bound") && table.contains("default/data") && table.contains("RWO"),
        "{table}"
    );
    assert!(table.contains("1Gi") && table.contains("<unset>"), "{table}");
    sh(&cluster, "first", "echo hello > /data/f; echo deep > /part/g");
    assert_eq!(
        sh(&cluster, "first", "/bin/busybox cat /data/a/b/g /look/f"),
        "deep\nhello"
    );
    let refused = cluster.try_kubectl(&["exec", "first", "--", BUSYBOX, "touch", "/look/x"], None);
    assert!(!refused.status.success(), "readOnly is honoured");
    let place = directory(&cluster, "data");
    assert_eq!(std::fs::read_to_string(place.join("f")).unwrap(), "hello\n");

    // Contents survive the container and the pod; another pod goes where they are.
    sh(&cluster, "first", "/bin/busybox kill 1");
    cluster.wait("a restart", &["pod", "first"], |pod| {
        container(pod, "main")["restartCount"] == 1 && condition(pod, "Ready") == Some("True")
    });
    assert_eq!(sh(&cluster, "first", "/bin/busybox cat /data/f"), "hello");
    cluster.kubectl(&["delete", "pod", "first", "--timeout=120s"]);
    cluster.kubectl(&["cordon", first["spec"]["nodeName"].as_str().unwrap_or_default()]);
    cluster.apply(&mounted("second", "data").to_string());
    let told = event(&cluster, "second", "FailedScheduling");
    assert!(told.contains("1 node(s) had volume node affinity conflict"), "{told}");
    cluster.kubectl(&["uncordon", first["spec"]["nodeName"].as_str().unwrap_or_default()]);
    let second = ready(&cluster, "second");
    assert_eq!(second["spec"]["nodeName"], first["spec"]["nodeName"]);
    assert_eq!(sh(&cluster, "second", "/bin/busybox cat /data/f"), "hello");

    binding(&cluster);
    sets(&cluster);

    // kill -9, and again.
    cluster.stop("KILL");
    let cluster = Cluster::boot_in(&dir, 2, &[]).expect("it booted before");
    shows(&cluster, "second", "/data/f", "hello");
    shows(&cluster, "db-1", "/data/f", "of db-1");

    // A claim in use stays until its pod is gone; then the contents go, too.
    cluster.kubectl(&["delete", "pvc", "data", "--wait=false"]);
    assert!(cluster.kubectl(&["get", "pvc", "data"]).contains("Terminating"));
    assert_eq!(sh(&cluster, "second", "/bin/busybox cat /data/f"), "hello");
    cluster.kubectl(&["delete", "pod", "second", "--timeout=120s"]);
    wait_until("the claim to be gone", || cluster.get(&["pvc", "data"]).is_none());
    wait_until("its contents to be gone", || !place.exists());
    wait_until("its volume to be gone", || {
        !cluster.kubectl(&["get", "pv"]).contains("default/data ")
    });
}

/// Claims that are bound at once, to volumes that somebody has made, or never.
fn binding(cluster: &Cluster) {
    let path = cluster.dir().join("disk");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("f"), "from before").unwrap();
    let disk = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "disk"},
        "spec": {"capacity": {"storage": "5Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": path},
            "storageClassName": "manual"}});
    let now = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "now"},
        "provisioner": "afloat.dev/local", "reclaimPolicy": "Retain"});
    cluster.apply(&list(&[disk, now]));
    cluster.wait("disk Available", &["pv", "disk"], |pv| {
        pv["status"]["phase"] == "Available"
    });
    let never = json!({"storageClassName": "none"});
    cluster.apply(&list(&[
        claim("mine", &json!({"storageClassName": "manual"})),
        claim("soon", &json!({"storageClassName": "now"})),
        claim("never", &never),
        mounted("mine", "mine"),
        mounted("never", "never"),
    ]));
    let mine = cluster.wait("mine Bound", &["pvc", "mine"], |claim| {
        claim["status"]["phase"] == "Bound"
    });
    assert_eq!(
        (&mine["spec"]["volumeName"], &mine["status"]["capacity"]["storage"]),
        (&json!("disk"), &json!("5Gi"))
    );
    cluster.wait("soon Bound", &["pvc", "soon"], |claim| {
        claim["status"]["phase"] == "Bound"
    });
    ready(cluster, "mine");
    assert_eq!(sh(cluster, "mine", "/bin/busybox cat /data/f"), "from before");
    event(cluster, "never", "ProvisioningFailed");
    let told = event(cluster, "never", "FailedScheduling");
    assert!(
        told.contains("pod has unbound immediate PersistentVolumeClaims"),
        "{told}"
    );

    cluster.kubectl(&["delete", "pod", "mine", "never", "--timeout=120s"]);
    cluster.kubectl(&["delete", "pvc", "mine", "soon", "never", "--timeout=120s"]);
    cluster.wait("disk Released", &["pv", "disk"], |pv| {
        pv["status"]["phase"] == "Released"
    });
    assert_eq!(std::fs::read_to_string(path.join("f")).unwrap(), "from before");
    cluster.kubectl(&["delete", "pv", "disk", "--timeout=120s"]);
    let output = cluster.try_kubectl(
        &["create", "-f", "-"],
        Some(&claim("bad", &json!({"accessModes": []})).to_string()),
    );
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("spec.accessModes: Required value: at least 1 access mode is required"),
        "{told}"
    );
}

/// Claims from templates: each pod keeps its own.
fn sets(cluster: &Cluster) {
    let mounts = json!([{"name": "data", "mountPath": "/data"}]);
    let template = |app: &str| {
        json!({"metadata": {"labels": {"app": app}},
            "spec": {"terminationGracePeriodSeconds": 5, "containers": [idle(&mounts)]}})
    };
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": {
        "replicas": 2, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
        "template": template("db"), "volumeClaimTemplates": [claim("data", &json!({}))]}});
    let mut clones: Value = serde_json::from_str(&cloneset("web", 2)).expect("our own JSON");
    clones["spec"]["volumeClaimTemplates"] = json!([claim("data", &json!({}))]);
    clones["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = mounts.clone();
    let mut single = pod(
        "single",
        &json!([{"name": "own", "ephemeral": {"volumeClaimTemplate": {"spec": claim("own", &json!({}))["spec"]}}}]),
        &json!([{"name": "own", "mountPath": "/own"}]),
    );
    single["metadata"]["labels"] = json!({});
    cluster.apply(&list(&[set, clones, single]));
    for pod in ["db-0", "db-1"] {
        ready(cluster, pod);
        sh(cluster, pod, &format!("echo of {pod} > /data/f"));
    }
    cluster.kubectl(&["delete", "pod", "db-1", "--timeout=120s"]);
    shows(cluster, "db-1", "/data/f", "of db-1");
    cluster.wait("the clones Ready", &["clonesets", "web"], |set| {
        crate::cluster::settled(set, 2)
    });
    let bound = cluster.get(&["pvc"]).expect("claims");
    let of_clones = bound["items"].as_array().into_iter().flatten().filter(|claim| {
        claim["metadata"]["ownerReferences"][0]["kind"] == "CloneSet" && claim["status"]["phase"] == "Bound"
    });
    assert_eq!(of_clones.count(), 2, "{bound:#}");

    // A generic ephemeral volume's claim goes with its pod.
    ready(cluster, "single");
    sh(cluster, "single", "echo x > /own/f");
    cluster.kubectl(&["delete", "pod", "single", "--timeout=120s"]);
    wait_until("the pod's own claim to be gone", || {
        cluster.get(&["pvc", "single-own"]).is_none()
    });
    cluster.kubectl(&["delete", "cloneset", "web", "--timeout=120s"]);
}
