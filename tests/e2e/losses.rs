//! A release that loses connections is counted, held, and brought back; a good one is reported as such.

use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::cluster::{Cluster, cloneset, settled, signal_process, wait_until};
use crate::load::{Load, request};

/// The program.
const AFLOAT: &str = env!("CARGO_BIN_EXE_afloat");
const PORT: u16 = 30_473;

fn phase(report: &Value) -> &str {
    report["status"]["phase"].as_str().unwrap_or_default()
}

/// The reports of rollouts, the latest last.
fn reports(cluster: &Cluster) -> Vec<Value> {
    let list = cluster.get(&["rolloutreports"]).expect("reports");
    let mut reports = list["items"].as_array().cloned().unwrap_or_default();
    reports.sort_by_key(|report| report["status"]["startedAt"].as_str().unwrap_or_default().to_owned());
    reports
}

fn lost(report: &Value) -> u64 {
    report["status"]["lost"].as_u64().expect("losses are counted")
}

fn image(cluster: &Cluster, image: &str) {
    let patch = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]);
    cluster.kubectl(&["patch", "clonesets", "web", "--type=json", "-p", &patch.to_string()]);
}

fn images(cluster: &Cluster) -> Vec<String> {
    let list = cluster.get(&["pods", "-l", "app=web"]).expect("pods");
    let image = |pod: &Value| {
        pod["spec"]["containers"][0]["image"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    list["items"].as_array().into_iter().flatten().map(image).collect()
}

/// A process that does not outlive its test.
struct Running(Option<Child>);

impl Running {
    fn pid(&self) -> u32 {
        self.0.as_ref().expect("it runs").id()
    }

    /// Asks it to end, and gives what it printed.
    fn interrupt(mut self) -> Output {
        signal_process(self.pid(), "INT");
        self.0.take().expect("it runs").wait_with_output().expect("it ends")
    }

    /// Whether it has a connection to the node port.
    fn is_connected(&self) -> bool {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the table of connections");
        let remote = format!(":{PORT:04X}");
        let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ours = lines.filter(|fields| fields.len() > 9 && fields[2].ends_with(&remote) && fields[3] == "01");
        let sockets: Vec<String> = ours.map(|fields| format!("socket:[{}]", fields[9])).collect();
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .into_iter()
            .flatten()
            .flatten();
        let mut links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
        links.any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn exceeded(set: &Value) -> bool {
    let conditions = set["status"]["conditions"].as_array().into_iter().flatten();
    let mut found = conditions.filter(|condition| condition["type"] == "LossExceeded" && condition["status"] == "True");
    found.next().is_some()
}

/// `afloat watch` of the CloneSet: its output, and its exit code.
fn watch(cluster: &Cluster, arguments: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(AFLOAT)
        .args(["watch", "clone/web", "--kubeconfig"])
        .arg(cluster.dir().join("kubeconfig"))
        .args(arguments)
        .output()
        .expect("afloat watch");
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        output.status.code(),
    )
}

#[test]
fn a_release_that_loses_is_counted_held_and_brought_back() {
    let Some(cluster) = Cluster::boot(2) else { return };
    cluster.build_images();
    let (file, entrypoint) = (
        format!("{AFLOAT}=/afloat"),
        ["--entrypoint", "/afloat", "--entrypoint", "app", "--entrypoint", "web"],
    );
    let build = [
        "build",
        "web:bad",
        "--libraries",
        "--file",
        &file,
        "--env",
        "APP_PORT=9090",
    ];
    cluster.image(&[&build[..], &entrypoint].concat());
    let mut set: Value = serde_json::from_str(&cloneset("web", 3)).expect("JSON");
    // Time for a connection to come to the pod that has just changed, before the next one does.
    set["spec"]["minReadySeconds"] = json!(2);
    // The probe asks a port that every version serves.
    let app = &mut set["spec"]["template"]["spec"]["containers"][0];
    app["env"] = json!([{"name": "APP_TCP_PORT", "value": "8081"}]);
    app["readinessProbe"] = json!({"tcpSocket": {"port": 8081}, "periodSeconds": 1});
    cluster.apply(&set.to_string());
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"type": "NodePort",
        "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http", "nodePort": PORT}]}});
    cluster.apply(&service.to_string());
    let all = |set: &Value| settled(set, 3) && set["status"]["availableReplicas"] == 3;
    cluster.wait("all pods available", &["clonesets", "web"], all);
    wait_until("answers", || (0..20).all(|_| request(PORT)));

    // A good one.
    let load = Load::start(PORT);
    let probe = Command::new(AFLOAT)
        .args([
            "probe",
            "svc/web",
            "--mode",
            "http=50",
            "--record",
            "--retry-idle-close",
            "--json",
            "--kubeconfig",
        ])
        .arg(cluster.dir().join("kubeconfig"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("afloat probe");
    let probe = Running(Some(probe));
    wait_until("the probe's connection", || probe.is_connected());
    image(&cluster, "web:v2");
    let (output, code) = watch(&cluster, &["--wait"]);
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("Completed: 3 of 3 updated"), "{output}");
    let all_reports = reports(&cluster);
    assert_eq!(
        all_reports.len(),
        1,
        "the first revision is no rollout: {all_reports:?}"
    );
    let report = &all_reports[0]["status"];
    assert_eq!(
        (&report["phase"], &report["kept"], &report["lost"]),
        (&json!("Completed"), &json!(3), &json!(0))
    );
    assert_eq!(report["steps"]["replace"]["pods"], 3, "{report}");
    assert!(
        report["writes"].as_u64() > Some(8) && report["duration"].as_str() > Some("0"),
        "{report}"
    );
    let (_, unlucky) = load.finish();
    assert_eq!(unlucky, 0);
    let latency = || reports(&cluster)[0]["status"]["latency"].clone();
    wait_until("the times until the end", || {
        latency()["during"].as_str().is_some_and(|text| text.ends_with('s'))
    });
    let output = probe.interrupt();
    let result: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(output.status.success() && result["lost"] == 0, "{result}");
    let latency = latency();
    assert!(
        ["before", "after"]
            .iter()
            .all(|key| latency[key].as_str().is_some_and(|text| text.ends_with('s'))),
        "{latency}"
    );
    assert!(
        latency["requests"].as_u64() > Some(20) && latency["lost"] == 0,
        "{latency}"
    );

    // One whose pods are Ready and refuse every connection.
    cluster.kubectl(&["annotate", "clonesets", "web", "afloat.dev/max-loss=0"]);
    let load = Load::start(PORT);
    image(&cluster, "web:bad");
    let (output, code) = watch(&cluster, &["--wait"]);
    assert_eq!(code, Some(1), "{output}");
    assert!(
        output.contains("LossExceeded: ") && output.contains(" refused"),
        "{output}"
    );
    let set = cluster.wait("the condition", &["clonesets", "web"], exceeded);
    assert_eq!(set["status"]["updatedReplicas"], 1, "the others were not touched");
    let events = cluster.wait(
        "the event",
        &["events", "--field-selector=reason=LossExceeded"],
        |events| events["items"].as_array().is_some_and(|events| !events.is_empty()),
    );
    assert_eq!(events["items"].as_array().map(Vec::len), Some(1), "{events}");
    let (picture, _) = watch(&cluster, &["--once"]);
    assert!(
        picture.contains("LossExceeded") && picture.matches("Serving").count() == 3,
        "{picture}"
    );

    // Back it goes, and stays.
    cluster.kubectl(&["annotate", "clonesets", "web", "afloat.dev/on-loss=Rollback"]);
    wait_until("the way back", || {
        phase(reports(&cluster).last().expect("a report")) == "RolledBack"
    });
    assert!(images(&cluster).iter().all(|image| image == "web:v2"));
    assert!(exceeded(&cluster.get(&["clonesets", "web"]).expect("the CloneSet")));
    wait_until("answers", || (0..20).all(|_| request(PORT)));
    let (_, unlucky) = load.finish();
    assert!(unlucky > 0, "nothing was lost");
    wait_until("each loss to be counted, and no other", || {
        lost(reports(&cluster).last().expect("a report")) == unlucky
    });

    // A limit that allows it all lets it go on.
    cluster.kubectl(&[
        "annotate",
        "clonesets",
        "web",
        "afloat.dev/max-loss=100%",
        "--overwrite",
    ]);
    let (output, code) = watch(&cluster, &["--wait"]);
    assert_eq!(code, Some(0), "{output}");
    assert!(images(&cluster).iter().all(|image| image == "web:bad"));
    let table = cluster.kubectl(&["get", "rolloutreports"]);
    assert!(
        table.contains("PHASE") && table.matches("Completed").count() == 2,
        "{table}"
    );
}
