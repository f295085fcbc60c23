//! Security contexts as the containers themselves see them, and how what cannot be had is told.

mod attacks;
mod identity;
mod logs;
mod stored;

use serde_json::{Value, json};

use crate::cluster::{Cluster, wait_until};
use crate::network::{build_images, container, ready, run, waiting};

fn with(mut container: Value, key: &str, value: Value) -> Value {
    container[key] = value;
    container
}

/// The lines of /proc/self/status that begin with these words, as a shell command.
fn status_lines(words: &str) -> String {
    format!("while read l; do case \"$l\" in {words}) echo $l;; esac; done < /proc/self/status")
}

fn strict() -> Value {
    let locked = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
    });
    let root = json!({"runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": false});
    let free = json!({
        "runAsUser": 0, "runAsNonRoot": false, "privileged": true, "seccompProfile": {"type": "Unconfined"},
    });
    let data = json!([{"name": "data", "mountPath": "/data"}]);
    waiting(
        "strict",
        &json!({
            "securityContext": {
                "runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "supplementalGroups": [4000], "runAsNonRoot": true,
                "seccompProfile": {"type": "RuntimeDefault"}, "fsGroupChangePolicy": "OnRootMismatch",
                "sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "0"}],
            },
            "volumes": [{"name": "data", "emptyDir": {}}],
            "containers": [
                with(with(container("locked"), "securityContext", locked), "volumeMounts", data),
                with(container("root"), "securityContext", root),
                with(container("free"), "securityContext", free),
            ],
        }),
    )
}

#[test]
fn containers_have_what_their_security_context_says() {
    let Some(cluster) = Cluster::boot(1) else { return };
    if !build_images(&cluster) {
        return;
    }
    let context = |context: Value| json!({"securityContext": context});
    let mut pods = vec![strict()];
    let refused = [
        (
            "users",
            json!({"hostUsers": false}),
            "FailedCreatePodSandBox",
            "hostUsers",
        ),
        (
            "unsafe",
            context(json!({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]})),
            "SysctlForbidden",
            "kernel.msgmax",
        ),
        (
            "armoured",
            context(json!({"appArmorProfile": {"type": "RuntimeDefault"}})),
            "AppArmor",
            "AppArmor is not enabled",
        ),
        (
            "local",
            context(json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"}})),
            "Failed",
            "seccompProfile",
        ),
        (
            "labelled",
            context(json!({"seLinuxOptions": {"level": "s0"}})),
            "SecurityContextIgnored",
            "seLinuxOptions",
        ),
        (
            "rootly",
            context(json!({"runAsNonRoot": true})),
            "Failed",
            "runAsNonRoot and image will run as root",
        ),
        (
            "windows",
            json!({"os": {"name": "windows"}}),
            "PodOSNotSupported",
            "windows",
        ),
    ];
    pods.extend(refused.iter().map(|(name, spec, _, _)| waiting(name, spec)));
    cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": pods}).to_string());
    cluster.wait("the strict pod", &["pod", "strict"], ready);
    what_the_strict_pod_sees(&cluster);
    for (name, _, reason, word) in &refused {
        let selector = format!("involvedObject.name={name},reason={reason}");
        let events = cluster.wait("the event", &["events", "--field-selector", &selector], |list| {
            list["items"].as_array().is_some_and(|events| !events.is_empty())
        });
        let event = &events["items"][0];
        assert!(event["message"].as_str().is_some_and(|m| m.contains(word)), "{event:#}");
        assert_eq!(event["type"], "Warning");
    }
    for name in ["unsafe", "armoured", "windows"] {
        let pod = cluster.wait("the rejected pod", &["pod", name], |pod| {
            pod["status"]["phase"] == "Failed"
        });
        assert!(
            pod["status"]["message"]
                .as_str()
                .is_some_and(|m| m.starts_with("Pod was rejected")),
            "{pod:#}"
        );
        let table = cluster.kubectl(&["get", "pod", name]);
        assert!(
            table.contains(pod["status"]["reason"].as_str().expect("a reason")),
            "{table}"
        );
    }
    for name in ["local", "rootly"] {
        wait_until("kubectl's word for it", || {
            let table = cluster.kubectl(&["get", "pod", name]);
            table.contains("CreateContainerConfigError")
        });
    }
    let bad = waiting(
        "bad",
        &context(json!({"runAsUser": -5, "seccompProfile": {"type": "Localhost"}})),
    );
    let output = cluster.try_kubectl(&["apply", "-f", "-"], Some(&bad.to_string()));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    for field in [
        "spec.securityContext.runAsUser",
        "spec.securityContext.seccompProfile.localhostProfile",
    ] {
        assert!(!output.status.success() && text.contains(field), "{text}");
    }
}

fn what_the_strict_pod_sees(cluster: &Cluster) {
    let (text, _) = run(
        cluster,
        "strict",
        "locked",
        "id; touch /data/file; stat -c '%u %g %a' /data /data/file",
    );
    let expected = "uid=1000 gid=3000 groups=3000,2000,4000\n0 2000 2777\n1000 2000 644\n";
    assert_eq!(text, expected);
    let (text, done) = run(cluster, "strict", "locked", "touch /file");
    assert!(!done && text.contains("Read-only file system"), "{text}");
    let (text, _) = run(
        cluster,
        "strict",
        "locked",
        "read l < /proc/sys/net/ipv4/tcp_syncookies; echo $l",
    );
    assert_eq!(text, "0\n");
    let (text, _) = run(
        cluster,
        "strict",
        "locked",
        &status_lines("CapPrm*|CapBnd*|NoNewPrivs*|Seccomp:*"),
    );
    assert_eq!(
        text,
        "CapPrm: 0000000000000000\nCapBnd: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\n"
    );

    // Root, but under the filter: no capability that only installs it is left, and no new namespace is to be had.
    let (text, _) = run(
        cluster,
        "strict",
        "root",
        &status_lines("CapPrm*|NoNewPrivs*|Seccomp:*"),
    );
    assert_eq!(text, "CapPrm: 00000000a80425fb\nNoNewPrivs: 0\nSeccomp: 2\n");
    let (first, _) = run(
        cluster,
        "strict",
        "root",
        "while read l; do case \"$l\" in Seccomp:*) echo $l;; esac; done < /proc/1/status",
    );
    assert_eq!(first, "Seccomp: 2\n");
    let (text, done) = run(cluster, "strict", "root", "unshare -U /bin/ls");
    assert!(!done && text.contains("Operation not permitted"), "{text}");
    let (text, _) = run(cluster, "strict", "root", "(id -u) && bash -c 'id -g'");
    assert_eq!(text, "0\n0\n", "programs start as ever");

    let (text, done) = run(
        cluster,
        "strict",
        "free",
        "mkdir -p /tmp && mount -t tmpfs none /tmp && unshare -n /bin/ls /tmp",
    );
    assert!(done, "{text}");
    let (text, _) = run(cluster, "strict", "free", &status_lines("Seccomp:*"));
    assert_eq!(text, "Seccomp: 0\n");
}
