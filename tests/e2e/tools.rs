//! The tools that people reach for when something is wrong: port-forward, attach, cp, debug, logs, top, describe; over WebSockets
//! and, where kubectl still can, over SPDY.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Output;

use serde_json::{Value, json};

use crate::cluster::{Cluster, condition, signal_process, wait_until};
use crate::restart::{descendants, inner_pid, words};
use crate::streams::{Forward, Terminal, page, resize, run, spawn};

const APPLETS: [&str; 21] = [
    "cat", "date", "echo", "false", "grep", "head", "httpd", "kill", "ls", "md5sum", "mkdir", "ps", "seq", "sh",
    "sleep", "stty", "tar", "touch", "true", "wc", "yes",
];
/// Listens on the loopback address alone, so that only who is inside of the pod reaches it.
const WEB: &str = "mkdir -p /www /tmp; echo hello > /www/index.html; httpd -p 127.0.0.1:8080 -h /www; \
                   trap 'exit 0' TERM; while true; do sleep 0.1; done";
const SPDY: [(&str, &str); 2] = [
    ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false"),
    ("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false"),
];

/// An image of the machine's static busybox; false where it has none.
fn build_busybox(cluster: &Cluster) -> bool {
    let path = std::path::Path::new("/bin/busybox");
    if !path.exists() {
        eprintln!("skipped: no /bin/busybox");
        return false;
    }
    let files = APPLETS.map(|applet| format!("--file=/bin/busybox=/bin/{applet}"));
    let mut build = vec!["build", "busybox:1", "--libraries", "--cmd", "sh"];
    build.extend(files.iter().map(String::as_str));
    cluster.image(&build);
    true
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn ready(cluster: &Cluster, pod: &str) {
    cluster.wait("the pod Ready", &["pod", pod], |pod| {
        condition(pod, "Ready") == Some("True")
    });
}

fn forwards(cluster: &Cluster) {
    for (target, port, environment) in [
        ("pod/web", 8080, &[][..]),
        ("pod/web", 8080, &SPDY[..]),
        ("service/web", 80, &[]),
        ("deployment/many", 8080, &[]),
    ] {
        let forward = Forward::start(cluster, target, port, environment);
        let port = forward.port;
        let asking: Vec<_> = (0..8).map(|_| std::thread::spawn(move || page(port))).collect();
        for thread in asking {
            let page = thread.join().expect("it asks");
            assert!(page.ends_with("hello\n"), "{target}: {page:?}");
        }
        assert!(page(port).ends_with("hello\n"), "{target} goes on");
        forward.stop();
    }
    // kubectl itself gives up after the first error; it must have read which.
    let forward = Forward::start(cluster, "pod/web", 8081, &[]);
    assert_eq!(page(forward.port), "");
    let words = forward.last_words();
    assert!(words.contains("127.0.0.1:8081: connect: connection refused"), "{words}");
}

fn executes(cluster: &Cluster) {
    let big: Vec<u8> = (0..3_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for environment in [&[][..], &SPDY[..]] {
        let run = |arguments: &[&str], input: &[u8]| run(cluster, arguments, environment, input);
        let output = run(
            &["exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 3"],
            b"",
        );
        assert_eq!(output.status.code(), Some(3));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stdout(&output) == "out\n" && errors.starts_with("err\n"), "{output:?}");
        let output = run(&["exec", "-i", "web", "--", "cat"], &big);
        assert!(
            output.stdout == big,
            "all of it comes back, and its end ends the command"
        );
        let output = run(&["exec", "web", "--", "/no/such"], b"");
        assert!(!output.status.success(), "{output:?}");
        let unknown = run(&["exec", "web", "-c", "nobody", "--", "true"], b"");
        assert!(
            String::from_utf8_lossy(&unknown.stderr).contains("nobody"),
            "{unknown:?}"
        );
    }
    // cp, a folder and back.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let from = folder.path().join("from");
    std::fs::create_dir_all(from.join("sub")).expect("made");
    std::fs::write(from.join("sub/big"), &big).expect("written");
    std::fs::write(from.join("small"), "small").expect("written");
    cluster.kubectl(&["cp", from.to_str().expect("UTF-8"), "web:/tmp/there"]);
    assert_eq!(
        cluster.kubectl(&["exec", "web", "--", "ls", "/tmp/there"]),
        "small\nsub\n"
    );
    let back = folder.path().join("back");
    cluster.kubectl(&["cp", "web:/tmp/there", back.to_str().expect("UTF-8")]);
    assert!(std::fs::read(back.join("sub/big")).expect("copied") == big);
    assert_eq!(std::fs::read(back.join("small")).expect("copied"), b"small");
}

fn attaches(cluster: &Cluster) {
    for (name, environment) in [("one", &[][..]), ("two", &SPDY[..])] {
        let create = ["run", name, "-i", "--rm", "--restart=Never", "--image=busybox:1", "--"];
        let script = "while read line; do echo \"got $line\"; done; echo end; exit 4";
        let output = run(
            cluster,
            &[&create[..], &["sh", "-c", script]].concat(),
            environment,
            b"a\nb\n",
        );
        let text = stdout(&output);
        assert!(text.contains("got a\ngot b\nend\n"), "{output:?}");
        assert_eq!(output.status.code(), Some(4), "the container's exit code is kubectl's");
        wait_until("--rm", || cluster.get(&["pod", name]).is_none());
    }
    // Without stdinOnce the input survives those who attach, and all of them read the output.
    cluster.apply(
        &json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "loop"},
            "spec": {"restartPolicy": "Never", "containers": [{
                "name": "loop", "image": "busybox:1", "stdin": true,
                "command": ["sh", "-c", "while read line; do echo got $line; [ $line = end ] && exit 0; done; echo EOF"],
            }]},
        })
        .to_string(),
    );
    ready(cluster, "loop");
    for word in ["first", "second"] {
        let mut child = spawn(cluster, &["attach", "-i", "loop"], &[]);
        let mut stdin = child.stdin.take().expect("stdin is a pipe");
        writeln!(stdin, "{word}").expect("kubectl reads");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is a pipe")).lines();
        let wanted = format!("got {word}");
        assert!(
            lines.by_ref().map_while(Result::ok).any(|line| line == wanted),
            "{word}"
        );
        signal_process(child.id(), "KILL");
        child.wait().expect("kubectl ends");
    }
    run(cluster, &["attach", "-i", "loop"], &[], b"end\n");
    cluster.wait("its own end", &["pod", "loop"], |pod| {
        pod["status"]["phase"] == "Succeeded"
    });
    wait_until("all of its log", || {
        cluster.kubectl(&["logs", "loop"]) == "got first\ngot second\ngot end\n"
    });
}

fn types(cluster: &Cluster) {
    let run = [
        "run",
        "typed",
        "-it",
        "--rm",
        "--restart=Never",
        "--image=busybox:1",
        "--",
        "sh",
    ];
    let exec = ["exec", "-it", "web", "--", "sh"];
    for (arguments, environment) in [
        (&run[..], &[][..]),
        (&run[..], &SPDY[..]),
        (&exec[..], &[][..]),
        (&exec[..], &SPDY[..]),
    ] {
        let mut terminal = Terminal::start(cluster, arguments, environment);
        terminal.expect("# ");
        terminal.type_line("echo size: $(stty size)");
        terminal.expect("size: 30 100");
        resize(&terminal.master, 44, 55);
        // It would come from the kernel if the terminal were kubectl's controlling one.
        signal_process(terminal.child.id(), "WINCH");
        // The size travels beside the input and may come after it.
        terminal.type_line("until [ \"$(stty size)\" = '44 55' ]; do sleep 0.1; done; echo re''sized");
        terminal.expect("resized");
        terminal.type_line("exit 7");
        assert_eq!(terminal.end(), Some(7), "{arguments:?}");
        wait_until("--rm", || cluster.get(&["pod", "typed"]).is_none());
    }
}

fn debugs(cluster: &Cluster) {
    let mut terminal = Terminal::start(
        cluster,
        &[
            "debug",
            "-it",
            "web",
            "--image=busybox:1",
            "--target=web",
            "-c",
            "look",
            "--",
            "sh",
        ],
        &[],
    );
    terminal.expect("# ");
    terminal.type_line("ps; echo ex''it");
    terminal.expect("exit\r\n");
    terminal.expect("httpd -p 127.0.0.1:8080");
    terminal.type_line("exit 5");
    terminal.end();
    let of = |pod: &Value| pod["status"]["ephemeralContainerStatuses"][0].clone();
    let pod = cluster.wait("the end of the ephemeral container", &["pod", "web"], |pod| {
        of(pod)["state"]["terminated"]["exitCode"] == 5
    });
    assert_eq!(
        (of(&pod)["name"].as_str(), &of(&pod)["restartCount"]),
        (Some("look"), &json!(0))
    );
    assert_eq!(condition(&pod, "Ready"), Some("True"), "it counts for nothing");
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    let described = cluster.kubectl(&["describe", "pod", "web"]);
    for words in ["Ephemeral Containers:", "  look:", "Started container look"] {
        assert!(described.contains(words), "{words} in {described}");
    }
    // Only additions, only what an ephemeral container may have.
    let patch = |change: &str| {
        let arguments = ["patch", "pod", "web", "--subresource=ephemeralcontainers", "-p", change];
        let output = cluster.try_kubectl(&arguments, None);
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let refused =
        patch(r#"{"spec":{"ephemeralContainers":[{"name":"bad","image":"x","ports":[{"containerPort":1}]}]}}"#);
    assert!(
        refused.contains("ports: Forbidden: cannot be set for an Ephemeral Container"),
        "{refused}"
    );
    let refused = patch(r#"{"spec":{"ephemeralContainers":[{"name":"look","image":"other"}]}}"#);
    assert!(refused.contains("may not be changed"), "{refused}");
    // A copy with one container more.
    let copy = [
        "debug",
        "web",
        "--copy-to=copy",
        "--image=busybox:1",
        "-c",
        "more",
        "--",
        "sleep",
        "1000",
    ];
    cluster.kubectl(&copy);
    ready(cluster, "copy");
    assert_eq!(
        cluster.kubectl(&["exec", "copy", "-c", "more", "--", "echo", "there"]),
        "there\n"
    );
}

fn logs(cluster: &Cluster) {
    // Quick, over several rotations, when it is told to; then it fails, so that there is a previous one.
    let script = "echo ready; until [ -e /go ]; do sleep 0.1; done; seq 1000000 1499999; exit 1";
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "quick", "labels": {"app": "quick"}},
        "spec": {"containers": [{"name": "quick", "image": "busybox:1", "command": ["sh", "-c", script]}]},
    });
    cluster.apply(&pod.to_string());
    ready(cluster, "quick");
    let mut following = spawn(cluster, &["logs", "-f", "quick"], &[]);
    let mut lines = BufReader::new(following.stdout.take().expect("stdout is a pipe")).lines();
    assert_eq!(lines.next().expect("a line").expect("UTF-8"), "ready");
    cluster.kubectl(&["exec", "quick", "--", "touch", "/go"]);
    let mut next = 1_000_000;
    for line in lines {
        assert_eq!(
            line.expect("UTF-8"),
            next.to_string(),
            "nothing is missing over the rotations"
        );
        next += 1;
    }
    assert_eq!(next, 1_500_000, "all of it");
    following.wait().expect("kubectl ends");
    cluster.wait("a restart", &["pod", "quick"], |pod| {
        pod["status"]["containerStatuses"][0]["restartCount"].as_i64() >= Some(1)
    });
    let previous = cluster.kubectl(&["logs", "quick", "--previous", "--tail=2"]);
    assert_eq!(previous, "1499998\n1499999\n");
    let files = kept_files(&cluster.dir().join("nodes"));
    assert!(
        !files.is_empty() && files.iter().all(|size| *size < 12 << 20),
        "{files:?}"
    );
    cluster.kubectl(&["delete", "pod", "quick", "--now"]);

    let talk = "echo one; echo two; sleep 1.1; echo three; sleep 10000";
    for name in ["talk-a", "talk-b"] {
        cluster.kubectl(&[
            "run",
            name,
            "--image=busybox:1",
            "--labels=app=talk",
            "--",
            "sh",
            "-c",
            talk,
        ]);
    }
    for name in ["talk-a", "talk-b"] {
        wait_until("three lines", || cluster.kubectl(&["logs", name]).lines().count() == 3);
    }
    assert_eq!(cluster.kubectl(&["logs", "talk-a", "--tail=1"]), "three\n");
    assert_eq!(cluster.kubectl(&["logs", "talk-a", "--limit-bytes=5"]), "one\nt");
    assert_eq!(cluster.kubectl(&["logs", "talk-a", "--since=1h"]), "one\ntwo\nthree\n");
    let stamped = cluster.kubectl(&["logs", "talk-a", "--timestamps"]);
    let last = stamped
        .lines()
        .last()
        .and_then(|line| line.split(' ').next())
        .expect("a time");
    let since = cluster.kubectl(&["logs", "talk-a", &format!("--since-time={}Z", &last[..19])]);
    assert_eq!(since, "three\n", "{stamped}");
    let all = cluster.kubectl(&["logs", "-l", "app=talk", "--prefix", "--tail=1"]);
    for name in ["talk-a", "talk-b"] {
        assert!(all.contains(&format!("[pod/{name}/{name}] three")), "{all}");
    }
}

/// Sizes of the log files of the container `quick`.
fn kept_files(dir: &std::path::Path) -> Vec<u64> {
    let mut sizes = vec![];
    let mut left = vec![dir.to_path_buf()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push(path);
            } else if path.to_string_lossy().contains("/logs/default_quick_") {
                sizes.extend(entry.metadata().map(|metadata| metadata.len()));
            }
        }
    }
    sizes
}

fn tops(cluster: &Cluster) {
    cluster.kubectl(&[
        "run",
        "busy",
        "--image=busybox:1",
        "--",
        "sh",
        "-c",
        "while true; do true; done",
    ]);
    ready(cluster, "busy");
    let raw = |path: &str| -> Value {
        let text = cluster.kubectl(&["get", "--raw", &format!("/apis/metrics.k8s.io/v1beta1/{path}")]);
        serde_json::from_str(&text).expect("JSON")
    };
    let nano_cores = |usage: &Value| -> u64 {
        let text = usage["cpu"].as_str().expect("a quantity");
        text.trim_end_matches('n').parse().expect("nanocores")
    };
    wait_until("the busy one to be seen", || {
        let list = raw("namespaces/default/pods?labelSelector=run%3Dbusy");
        let items = list["items"].as_array().expect("a list");
        assert!(items.len() <= 1, "{list}");
        items
            .iter()
            .any(|pod| nano_cores(&pod["containers"][0]["usage"]) > 50_000_000)
    });
    let pod = raw("namespaces/default/pods/busy");
    assert_eq!(
        (pod["kind"].as_str(), pod["containers"][0]["name"].as_str()),
        (Some("PodMetrics"), Some("busy"))
    );
    assert!(
        pod["window"].as_str().is_some_and(|window| window.ends_with('s')),
        "{pod}"
    );
    assert!(
        pod["containers"][0]["usage"]["memory"]
            .as_str()
            .is_some_and(|text| text.ends_with("Ki") && text != "0Ki")
    );
    let nodes = raw("nodes");
    assert!(nano_cores(&nodes["items"][0]["usage"]) > 50_000_000, "{nodes}");
    let table = cluster.kubectl(&["top", "pod", "--containers"]);
    assert!(table.contains("busy") && table.contains("CPU(cores)"), "{table}");
    let table = cluster.kubectl(&["top", "node"]);
    assert!(table.contains("node-1") && table.contains('%'), "{table}");
    cluster.kubectl(&["delete", "pod", "busy", "--now"]);
}

fn describes(cluster: &Cluster) {
    let pod = |name: &str, container: Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
        })
        .to_string()
    };
    let sleep = json!(["sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.1; done"]);
    let probe = |command: &str| json!({"exec": {"command": [command]}, "periodSeconds": 1, "failureThreshold": 2});
    cluster.apply(&pod(
        "ill",
        json!({"name": "c", "image": "busybox:1", "command": sleep, "livenessProbe": probe("false"), "readinessProbe": probe("false")}),
    ));
    cluster.apply(&pod(
        "crash",
        json!({"name": "c", "image": "busybox:1", "command": ["false"]}),
    ));
    cluster.apply(&pod("lost", json!({"name": "c", "image": "nowhere:1"})));
    let expect = |pod: &str, words: &[&str]| {
        wait_until(&format!("the events of {pod}: {words:?}"), || {
            let described = cluster.kubectl(&["describe", "pod", pod]);
            words.iter().all(|word| described.contains(word))
        });
    };
    expect(
        "ill",
        &[
            "Successfully assigned default/ill to node-1",
            "Container image \"busybox:1\" already present on machine",
            "Created container: c",
            "Started container c",
            "Liveness probe failed:",
            "Readiness probe failed:",
            "Container c failed liveness probe, will be restarted",
        ],
    );
    expect(
        "crash",
        &[
            "BackOff",
            "Back-off restarting failed container c in pod crash_default(",
        ],
    );
    expect(
        "lost",
        &[
            "Failed to pull image \"nowhere:1\":",
            "Error: ErrImagePull",
            "Back-off pulling image \"nowhere:1\"",
            "Error: ImagePullBackOff",
        ],
    );
    cluster.wait(
        "a repeated event is counted",
        &["events", "--field-selector=involvedObject.name=ill"],
        |list| {
            let unhealthy = |event: &&Value| {
                event["reason"] == "Unhealthy" && event["message"].as_str().is_some_and(|m| m.starts_with("Readiness"))
            };
            let same: Vec<&Value> = list["items"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(unhealthy)
                .collect();
            assert!(same.len() <= 1, "counted, not repeated: {same:?}");
            same.first().is_some_and(|event| event["count"].as_i64() >= Some(3))
        },
    );
    cluster.kubectl(&["delete", "pod", "ill", "crash", "lost", "--now"]);
}

/// The end of the inner process closes no input and hangs up no terminal; the end of the containers leaves nobody behind.
fn survives(cluster: &Cluster) {
    for (name, tty) in [("pipe", false), ("terminal", true)] {
        let command = json!([
            "sh",
            "-c",
            "while read line; do echo got $line; done; echo EOF; sleep 10000"
        ]);
        let container = json!({"name": name, "image": "busybox:1", "stdin": true, "tty": tty, "command": command});
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
        });
        cluster.apply(&pod.to_string());
        ready(cluster, name);
    }
    let inner = inner_pid(cluster.pid()).expect("it runs");
    signal_process(inner, "KILL");
    wait_until("another inner process", || {
        inner_pid(cluster.pid()).is_some_and(|pid| pid != inner)
    });
    for name in ["pipe", "terminal"] {
        let pod = cluster.wait("the pod again", &["pod", name], |pod| {
            condition(pod, "Ready") == Some("True")
        });
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0, "{name}");
        let mut child = wait_for_attach(cluster, name);
        let mut stdin = child.stdin.take().expect("stdin is a pipe");
        writeln!(stdin, "after").expect("kubectl reads");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is a pipe")).lines();
        let answered = lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.trim_end() == "got after");
        assert!(answered, "{name}");
        signal_process(child.id(), "KILL");
        child.wait().expect("kubectl ends");
        assert!(!cluster.kubectl(&["logs", name]).contains("EOF"), "{name}");
    }
    cluster.kubectl(&["delete", "pod", "pipe", "terminal", "--now"]);
    wait_until("the last relay to be gone", || {
        let below = descendants(cluster.pid());
        !below.iter().any(|pid| words(*pid).iter().any(|word| word == "stdio"))
    });
}

/// The server may have just begun to listen: until it answers.
fn wait_for_attach(cluster: &Cluster, name: &str) -> std::process::Child {
    wait_until("the kubelet", || {
        cluster
            .try_kubectl(&["exec", name, "--", "true"], None)
            .status
            .success()
    });
    spawn(cluster, &["attach", "-i", name], &[])
}

#[test]
fn the_tools_work_as_everywhere() {
    let Some(cluster) = Cluster::boot(1) else { return };
    if !build_busybox(&cluster) {
        return;
    }
    let container =
        json!({"name": "web", "image": "busybox:1", "command": ["sh", "-c", WEB], "ports": [{"containerPort": 8080}]});
    let web = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    let many = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "many"},
        "spec": {"selector": {"matchLabels": {"app": "many"}},
                 "template": {"metadata": {"labels": {"app": "many"}}, "spec": web["spec"]}},
    });
    for object in [&web, &service, &many] {
        cluster.apply(&object.to_string());
    }
    ready(&cluster, "web");
    cluster.kubectl(&["rollout", "status", "deployment/many", "--timeout=120s"]);
    wait_until("the web servers", || {
        let listens = |pod: &str| {
            let arguments = ["exec", pod, "--", "sh", "-c", "ps | grep -v grep | grep -q httpd"];
            cluster.try_kubectl(&arguments, None).status.success()
        };
        listens("web") && listens("deployment/many")
    });
    forwards(&cluster);
    executes(&cluster);
    attaches(&cluster);
    types(&cluster);
    debugs(&cluster);
    logs(&cluster);
    tops(&cluster);
    describes(&cluster);
    survives(&cluster);
}
