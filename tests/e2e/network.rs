//! Names, host names and ports as pods see them: one cluster, many questions.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::{AFLOAT, Cluster, signal_process, wait_until};
use crate::restart::inner_pid;

/// Programs of this machine for the image `tool:v1`. bash, as it can open connections by itself.
const TOOLS: [&str; 13] = [
    "bash", "cat", "getent", "hostname", "id", "ls", "mount", "mkdir", "rm", "sleep", "stat", "touch", "unshare",
];

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.exists())?;
    found.canonicalize().ok()
}

/// Builds `tool:v1` and `web:v1`; false (and a word why) where this machine lacks a program.
pub(crate) fn build_images(cluster: &Cluster) -> bool {
    let mut build = vec!["build", "tool:v1", "--libraries", "--entrypoint", "/bin/bash"];
    let mut files = Vec::new();
    for name in TOOLS {
        let Some(file) = find(name) else {
            eprintln!("skipped: this machine has no {name}");
            return false;
        };
        files.push(format!("--file={}=/bin/{name}", file.display()));
    }
    build.extend(files.iter().map(String::as_str));
    cluster.image(&build);
    cluster.build_images();
    true
}

/// A pod of one container that waits.
pub(crate) fn waiting(name: &str, spec: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container("main")]},
    });
    for (key, value) in spec.as_object().expect("fields of a spec") {
        pod["spec"][key] = value.clone();
    }
    pod
}

/// A container that waits.
pub(crate) fn container(name: &str) -> Value {
    json!({"name": name, "image": "tool:v1", "command": ["sleep", "1000000"]})
}

pub(crate) fn ready(pod: &Value) -> bool {
    crate::cluster::condition(pod, "Ready") == Some("True")
}

/// Runs a script in a pod's container; what it printed, standard error included, and whether it succeeded.
pub(crate) fn run(cluster: &Cluster, pod: &str, container: &str, script: &str) -> (String, bool) {
    let arguments = ["exec", pod, "-c", container, "--", "bash", "-c", script];
    let output = cluster.try_kubectl(&arguments, None);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (text, output.status.success())
}

/// `afloat dns`: what it printed, and its exit code.
fn dns(cluster: &Cluster, arguments: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(AFLOAT)
        .arg("dns")
        .args(arguments)
        .arg("--data-dir")
        .arg(cluster.dir())
        .output()
        .expect("afloat starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (text, output.status.code())
}

fn field<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn manifest() -> String {
    let ports = json!([{"name": "http", "port": 80, "targetPort": 8080}]);
    let service = |name: &str, spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    let items = json!([
        service("plain", json!({"selector": {"app": "web"}, "ports": ports})),
        service("web", json!({"clusterIP": "None", "selector": {"app": "web"}, "ports": ports})),
        service("away", json!({"type": "ExternalName", "externalName": "plain.default.svc.cluster.local"})),
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"}, "spec": {
            "serviceName": "web", "replicas": 2, "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
                "terminationGracePeriodSeconds": 0, "containers": [{"name": "web", "image": "web:v1"}],
            }},
        }},
        waiting("client", &json!({"dnsConfig": {"options": [{"name": "ndots", "value": "4"}]}})),
        waiting("named", &json!({
            "hostname": "own", "subdomain": "web", "setHostnameAsFQDN": true, "dnsPolicy": "Default",
            "hostAliases": [{"ip": "10.1.2.3", "hostnames": ["db.example", "db"]}],
            "containers": [container("main"), {
                "name": "web", "image": "web:v1", "ports": [{"containerPort": 8080, "hostPort": 8088}],
            }],
        })),
        waiting("node", &json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"})),
        waiting("rival", &json!({"nodeSelector": {"kubernetes.io/hostname": "node-1"}, "containers": [
            {"name": "web", "image": "web:v1", "ports": [{"containerPort": 8080, "hostPort": 8088}]},
        ]})),
    ]);
    let mut list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    list["items"][5]["spec"]["nodeName"] = "node-1".into();
    list["items"][6]["spec"]["nodeName"] = "node-2".into();
    list.to_string()
}

#[test]
fn pods_find_each_other_by_name() {
    let Some(cluster) = Cluster::boot(2) else { return };
    if !build_images(&cluster) {
        return;
    }
    cluster.apply(&manifest());
    let mut addresses = std::collections::BTreeMap::new();
    for name in ["web-0", "web-1", "client", "named", "node"] {
        let pod = cluster.wait(name, &["pod", name], ready);
        addresses.insert(name, field(&pod, "/status/podIP").to_owned());
    }
    let plain = cluster.get(&["service", "plain"]).expect("it was applied");
    let plain = field(&plain, "/spec/clusterIP");
    names_in_containers(&cluster, &addresses, plain);
    names_on_the_host(&cluster, &addresses, plain);
    host_names_and_ports(&cluster, &addresses);
}

type Addresses<'a> = std::collections::BTreeMap<&'a str, String>;

fn names_in_containers(cluster: &Cluster, addresses: &Addresses<'_>, plain: &str) {
    let client = |script: &str| run(cluster, "client", "main", script);
    let (text, _) = client("cat /etc/resolv.conf");
    assert_eq!(
        text,
        "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:4\n"
    );
    let first = |name: &str| {
        let (text, _) = client(&format!("getent ahostsv4 {name}"));
        let mut found: Vec<String> = text
            .lines()
            .filter(|line| line.contains("STREAM"))
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .collect();
        found.sort();
        found
    };
    let pod = |name: &str| addresses[name].clone();
    let mut both = vec![pod("web-0"), pod("web-1")];
    both.sort();
    wait_until("the endpoints have names", || first("web") == both);
    for name in [
        "plain",
        "plain.default",
        "plain.default.svc.cluster.local",
        "PLAIN",
        "away",
    ] {
        assert_eq!(first(name), [plain], "{name}");
    }
    assert_eq!(first("web-1.web"), [pod("web-1")]);
    let dashed = format!("{}.default.pod.cluster.local", pod("web-0").replace('.', "-"));
    assert_eq!(first(&dashed), [pod("web-0")]);
    assert_eq!(first("kubernetes.default"), ["10.96.0.1"]);
    let (text, _) = client(&format!("getent hosts {plain}"));
    assert!(text.contains("plain.default.svc.cluster.local"), "{text}");
    for unknown in ["nobody", "web.nowhere", "web-7.web", "nobody.invalid"] {
        let (text, found) = client(&format!("getent hosts {unknown}"));
        assert!(!found, "{unknown}: {text}");
    }
    // Over TCP, too.
    let (text, found) = client("RES_OPTIONS=use-vc getent hosts plain");
    assert!(found && text.contains(plain), "{text}");
    // A name goes with what it stands for.
    cluster.kubectl(&["delete", "pod", "web-1", "--wait=false"]);
    cluster.kubectl(&["scale", "statefulset", "web", "--replicas=1"]);
    wait_until("the name of a pod that is gone is gone", || {
        first("web-1.web").is_empty()
    });
    assert_eq!(first("web"), [pod("web-0")]);
}

fn names_on_the_host(cluster: &Cluster, addresses: &Addresses<'_>, plain: &str) {
    let found = |arguments: &[&str]| {
        let (text, code) = dns(cluster, arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {text}");
        text
    };
    assert_eq!(
        found(&["plain"]),
        format!("plain.default.svc.cluster.local. 5 IN A {plain}\n")
    );
    assert_eq!(
        found(&["_http._tcp.plain", "--type", "SRV"]),
        "_http._tcp.plain.default.svc.cluster.local. 5 IN SRV 0 100 80 plain.default.svc.cluster.local.\n"
    );
    let text = found(&["_http._tcp.web", "-t", "SRV"]);
    assert!(text.contains("8080 web-0.web.default.svc.cluster.local."), "{text}");
    assert_eq!(
        found(&["away", "-t", "CNAME"]),
        "away.default.svc.cluster.local. 5 IN CNAME plain.default.svc.cluster.local.\n"
    );
    assert!(found(&[&addresses["web-0"]]).contains("web-0.web.default.svc.cluster.local."));
    assert!(found(&["dns-version.cluster.local.", "-t", "TXT"]).contains("1.1.0"));
    assert!(found(&["--address"]).starts_with("127.0.0.1:"));

    let refused = |arguments: &[&str], word: &str| {
        let (text, code) = dns(cluster, arguments);
        assert!(
            code == Some(1) && text.contains(word) && text.lines().count() == 1,
            "{arguments:?}: {text}"
        );
    };
    refused(&["nobody.default.svc.cluster.local."], "NXDOMAIN");
    refused(&["plain", "-t", "AAAA"], "no AAAA records");
    refused(&["plain", "-t", "BEST"], "not a type of DNS records");
    refused(&["a..b"], "not a DNS name");
}

fn host_names_and_ports(cluster: &Cluster, addresses: &Addresses<'_>) {
    let full = "own.web.default.svc.cluster.local";
    let (text, _) = run(cluster, "named", "main", "hostname; echo $HOSTNAME; cat /etc/hostname");
    assert_eq!(text, format!("{full}\n{full}\n{full}\n"));
    let (text, _) = run(cluster, "named", "main", "cat /etc/hosts; getent hosts db");
    assert!(
        text.contains(&format!("{}\t{full}\town\n", addresses["named"])),
        "{text}"
    );
    assert!(
        text.contains("# Entries added by HostAliases.\n10.1.2.3\tdb.example\tdb\n"),
        "{text}"
    );
    assert!(text.contains("10.1.2.3 "), "{text}");
    let (text, _) = run(cluster, "named", "main", "cat /etc/resolv.conf");
    assert!(
        text.contains("nameserver 169.254.20.10\n") && !text.contains("cluster.local"),
        "{text}"
    );
    let (_, found) = run(cluster, "named", "main", "getent hosts plain.default.svc.cluster.local");
    assert!(!found, "dnsPolicy Default knows no names of the cluster");

    assert_eq!(addresses["node"], "10.244.2.1");
    let (text, _) = run(
        cluster,
        "node",
        "main",
        "hostname; getent hosts kubernetes.default; cat /etc/hosts",
    );
    assert!(
        text.starts_with("node-2\n10.96.0.1 ") && text.contains("(host network)"),
        "{text}"
    );

    let ask = "exec 3<>/dev/tcp/10.244.1.1/8088 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3";
    wait_until("the node's port leads to the pod", || {
        let (text, _) = run(cluster, "client", "main", ask);
        text.contains("200 OK") && text.ends_with("v1\n")
    });
    let rival = cluster.wait("the rival to have no place", &["pod", "rival"], |rival| {
        rival["status"]["conditions"][0]["reason"] == "Unschedulable"
    });
    let scheduled = rival["status"]["conditions"][0].clone();
    assert!(field(&scheduled, "/message").contains("free ports"), "{scheduled}");
    cluster.kubectl(&["delete", "pod", "named"]);
    cluster.wait("the port goes to the next", &["pod", "rival"], ready);
    let serves = || run(cluster, "client", "main", ask).0.contains("200 OK");
    wait_until("it leads to the next pod", serves);

    // When the inner process dies, its successor opens all of it again.
    let inner = inner_pid(cluster.pid()).expect("the inner process is found");
    signal_process(inner, "KILL");
    wait_until("another inner process", || {
        inner_pid(cluster.pid()).is_some_and(|pid| pid != inner) && cluster.get(&["nodes"]).is_some()
    });
    wait_until("the port leads to the pod again", serves);
    wait_until("names are resolved again", || {
        run(cluster, "client", "main", "getent hosts plain").1 && dns(cluster, &["plain"]).1 == Some(0)
    });
}
