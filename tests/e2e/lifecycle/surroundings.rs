//! What a container finds around it: variables, its home, paths of the node, groups of volumes, its own cgroups; and pods
//! that the node has no room for.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::{Ground, ready, script};
use crate::cluster::condition;

/// Waits for its end, so that nothing is to be waited for in a test.
const STAYS: &str = "say runs; trap 'exit 0' TERM; while :; do sleep 0.1; done";

impl Ground {
    /// Creates a pod with volumes beside its record, mounted in all of its containers.
    fn create_with(&self, name: &str, spec: Value, volumes: &[(Value, &str)]) {
        let mut pod = self.pod(name, spec);
        for (volume, path) in volumes {
            push(&mut pod["spec"]["volumes"], volume.clone());
            for container in pod["spec"]["containers"].as_array_mut().into_iter().flatten() {
                let mount = json!({"name": volume["name"], "mountPath": path});
                push(&mut container["volumeMounts"], mount);
            }
        }
        self.cluster.apply(&pod.to_string());
    }

    /// Makes the folder of a pod's records one that every user may write to.
    fn open(&self, pod: &str) {
        let folder = self.records.path().join(pod);
        fs::create_dir(&folder).expect("our own folder");
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).expect("our own folder");
    }

    fn noted(&self, pod: &str, file: &str) -> String {
        fs::read_to_string(self.records.path().join(pod).join(file)).unwrap_or_default()
    }
}

fn push(list: &mut Value, item: Value) {
    list.as_array_mut().expect("a list").push(item);
}

#[test]
fn variables_tell_of_services_and_of_home() {
    let Some(ground) = Ground::new() else { return };
    let service = ["create", "service", "clusterip", "redis-primary", "--tcp=6379:6379"];
    ground.cluster.kubectl(&service);
    let address = ground.cluster.get(&["service", "redis-primary"]).expect("it is there")["spec"]["clusterIP"].clone();
    let address = address.as_str().expect("an address");
    let text = format!("/bin/busybox env > /record/env; {STAYS}");
    let mut stranger = script("app", &text);
    stranger["securityContext"] = json!({"runAsUser": 12345});
    ground.open("linked");
    ground.create("linked", json!({"containers": [stranger]}));
    ground.create(
        "alone",
        json!({"containers": [script("app", &text)], "enableServiceLinks": false}),
    );
    for name in ["linked", "alone"] {
        ground.wait_said(name, "runs");
    }
    let linked = ground.noted("linked", "env");
    for line in [
        format!("REDIS_PRIMARY_SERVICE_HOST={address}"),
        "REDIS_PRIMARY_SERVICE_PORT=6379".to_owned(),
        "REDIS_PRIMARY_SERVICE_PORT_6379_6379=6379".to_owned(),
        format!("REDIS_PRIMARY_PORT=tcp://{address}:6379"),
        format!("REDIS_PRIMARY_PORT_6379_TCP=tcp://{address}:6379"),
        "REDIS_PRIMARY_PORT_6379_TCP_PROTO=tcp".to_owned(),
        "REDIS_PRIMARY_PORT_6379_TCP_PORT=6379".to_owned(),
        format!("REDIS_PRIMARY_PORT_6379_TCP_ADDR={address}"),
        "KUBERNETES_SERVICE_PORT=443".to_owned(),
        "KUBERNETES_SERVICE_PORT_HTTPS=443".to_owned(),
        "HOME=/".to_owned(),
    ] {
        assert!(linked.lines().any(|known| known == line), "{line}: {linked}");
    }
    let alone = ground.noted("alone", "env");
    assert!(
        alone.contains("KUBERNETES_SERVICE_HOST=") && !alone.contains("REDIS_PRIMARY"),
        "{alone}"
    );
}

#[test]
fn paths_of_the_node_are_made_or_refused_and_groups_read_what_they_may_not_write() {
    let Some(ground) = Ground::new() else { return };
    let root = ground.records.path().to_owned();
    let host =
        |name: &str, path: &str, kind: &str| json!({"name": name, "hostPath": {"path": root.join(path), "type": kind}});
    ground
        .cluster
        .kubectl(&["create", "secret", "generic", "hidden", "--from-literal=word=s3cret"]);
    let secret = json!({"name": "secret", "secret": {"secretName": "hidden", "defaultMode": 0o400}});
    let text = format!(
        "ls -ln /secret/..data/word > /record/secret; ls -lnd /scratch > /record/scratch; cat /secret/word > /record/word; {STAYS}"
    );
    let mut app = script("app", &text);
    app["securityContext"] = json!({"runAsUser": 1000});
    ground.open("paths");
    ground.create_with(
        "paths",
        json!({"containers": [app], "securityContext": {"fsGroup": 3000}}),
        &[
            (host("any", "made/any", ""), "/any"),
            (host("folder", "made/folder", "DirectoryOrCreate"), "/folder"),
            (host("file", "made/folder/file", "FileOrCreate"), "/file"),
            (host("null", "/dev/null", "CharDevice"), "/null"),
            (secret, "/secret"),
            (json!({"name": "scratch", "emptyDir": {}}), "/scratch"),
        ],
    );
    ground.wait_said("paths", "runs");
    assert!(root.join("made/any").is_dir() && root.join("made/folder/file").is_file());
    assert_eq!(ground.noted("paths", "word"), "s3cret");
    let secret = ground.noted("paths", "secret");
    let fields: Vec<&str> = secret.split_whitespace().collect();
    assert_eq!((fields[0], fields[3]), ("-r--r-----", "3000"), "{secret}");
    let scratch = ground.noted("paths", "scratch");
    let fields: Vec<&str> = scratch.split_whitespace().collect();
    assert_eq!((fields[0], fields[3]), ("drwxrwsrwx", "3000"), "{scratch}");

    fs::write(root.join("file"), "").expect("our own folder");
    for (name, path, kind, what) in [
        ("no-folder", "file", "Directory", "directory"),
        ("no-socket", "file", "Socket", "socket file"),
        ("nothing", "none", "File", "file"),
    ] {
        ground.create_with(
            name,
            json!({"containers": [script("app", STAYS)]}),
            &[(host("v", path, kind), "/v")],
        );
        let shown = root.join(path);
        let told = format!(
            "MountVolume.SetUp failed for volume \"v\" : hostPath type check failed: {} is not a {what}",
            shown.display()
        );
        ground.wait_event(name, "FailedMount", &told);
    }
}

#[test]
fn a_container_with_limits_sees_its_own_cgroups() {
    let Some(ground) = Ground::new() else { return };
    let node = ground.cluster.get(&["node", "node-1"]).expect("it is there");
    if condition(&node, "CgroupsUnavailable") == Some("True") {
        eprintln!("skipped: cgroups cannot be written here");
        return;
    }
    let look = "for f in memory/memory.limit_in_bytes memory.max; do cat /sys/fs/cgroup/$f; done > /record/memory; \
                for f in cpu/cpu.cfs_quota_us cpu.max; do cat /sys/fs/cgroup/$f; done > /record/cpu; \
                ls /sys/fs/cgroup > /record/list; cat /proc/self/mountinfo > /record/mounts; cat /proc/self/cgroup > /record/own; \
                echo 1 > /sys/fs/cgroup/memory/memory.limit_in_bytes && say wrote;";
    let mut limited = script("limited", &format!("{look} {STAYS}"));
    limited["resources"] = json!({"limits": {"memory": "64Mi", "cpu": "500m"}});
    ground.create("limits", json!({"containers": [limited]}));
    ground.wait_said("limits", "runs");
    assert_eq!(ground.noted("limits", "memory").trim(), "67108864");
    assert!(
        ground.noted("limits", "cpu").starts_with("50000"),
        "{}",
        ground.noted("limits", "cpu")
    );
    assert_eq!(ground.record("limits").count("wrote"), 0);
    // As the JVM finds it, in version 1: the root of the mount is what /proc/self/cgroup says.
    let own = ground.noted("limits", "own");
    if let Some(path) = own
        .lines()
        .find_map(|line| line.split_once(":memory:"))
        .map(|(_, path)| path)
    {
        let mounts = ground.noted("limits", "mounts");
        let mount = mounts.lines().find(|line| line.contains(" /sys/fs/cgroup/memory "));
        let root = mount.and_then(|line| line.split(' ').nth(3)).unwrap_or_default();
        assert_eq!(root, path, "{mounts}");
        let list = ground.noted("limits", "list");
        for controller in ["cpu", "cpuacct", "cpuset", "memory"] {
            assert!(list.contains(controller), "{list}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_by_the_node() {
    let Some(ground) = Ground::new() else { return };
    let mut large = script("app", STAYS);
    large["resources"] = json!({"requests": {"cpu": "1000"}});
    let refused = |name: &str, reason: &str, message: &str| {
        let pod = ground.wait("its refusal", name, |pod| pod["status"]["phase"] == "Failed");
        let status = &pod["status"];
        assert_eq!(status["reason"], reason, "{status}");
        let told = status["message"].as_str().unwrap_or_default();
        assert!(told.starts_with(&format!("Pod was rejected: {message}")), "{status}");
        assert!(
            status["containerStatuses"].is_null() && status["podIP"].is_null(),
            "{status}"
        );
        ground.wait_event(name, reason, message);
    };
    ground.create("large", json!({"nodeName": "node-1", "containers": [large]}));
    refused(
        "large",
        "OutOfcpu",
        "Node didn't have enough resource: cpu, requested: 1000000, used: ",
    );
    ground.create(
        "elsewhere",
        json!({"nodeName": "node-1", "nodeSelector": {"no": "such"}, "containers": [script("app", STAYS)]}),
    );
    let message = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    refused("elsewhere", "NodeAffinity", message);
    let port = |name: &str| {
        let mut app = script("app", STAYS);
        app["ports"] = json!([{"containerPort": 80, "hostPort": 18_080}]);
        ground.create(name, json!({"nodeName": "node-1", "containers": [app]}));
    };
    port("first");
    ground.wait("it runs", "first", ready);
    port("second");
    let message = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
    refused("second", "NodePorts", message);
}
