//! A running `afloat up` and the words that the tests use with it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::ports::free_port;

/// The program under test.
pub(crate) const AFLOAT: &str = env!("CARGO_BIN_EXE_afloat");
/// A wait that is not over by then has failed; far beyond what any step needs, for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// A flag that makes a cluster pull images: it need not be trusted, only given.
pub(crate) const ONLINE: &str = "--registry-mirror=docker.io=http://127.0.0.1:1";

/// A cluster in the foreground of a process of ours; killed when dropped.
pub(crate) struct Cluster {
    child: Child,
    dir: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

/// kubectl, or None (with a word why) where there is none.
pub(crate) fn kubectl_program() -> Option<PathBuf> {
    let program = std::env::var_os("AFLOAT_KUBECTL").map_or_else(|| PathBuf::from("kubectl"), PathBuf::from);
    let found = Command::new(&program)
        .args(["version", "--client"])
        .output()
        .is_ok_and(|o| o.status.success());
    if !found {
        eprintln!("skipped: no kubectl (set AFLOAT_KUBECTL, or build one: cd tests/kubectl && go build)");
    }
    found.then_some(program)
}

/// Runs the program with an input: exit code, standard output and standard error.
pub(crate) fn afloat(arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut child = Command::new(AFLOAT)
        .args(arguments)
        .env_remove("AFLOAT_DATA_DIR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("afloat starts");
    // A run that does not read its input closes it.
    let _ = std::io::Write::write_all(&mut child.stdin.take().expect("stdin is a pipe"), input.as_bytes());
    let output = child.wait_with_output().expect("afloat ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}

impl Cluster {
    /// Boots a cluster in a new folder; None where this machine cannot (which is printed).
    pub(crate) fn boot(nodes: u32) -> Option<Self> {
        Self::boot_with(nodes, &[])
    }

    /// The same with more flags.
    pub(crate) fn boot_with(nodes: u32, flags: &[&str]) -> Option<Self> {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let dir = temporary.path().join("data");
        let mut cluster = Self::boot_in(&dir, nodes, flags)?;
        cluster._temporary = Some(temporary);
        Some(cluster)
    }

    /// Boots a cluster in a folder that may hold an earlier cluster's state.
    pub(crate) fn boot_in(dir: &Path, nodes: u32, flags: &[&str]) -> Option<Self> {
        Self::boot_as(Command::new(AFLOAT), dir, nodes, flags)
    }

    /// The same by a command that becomes afloat with the arguments that are added.
    pub(crate) fn boot_as(mut command: Command, dir: &Path, nodes: u32, flags: &[&str]) -> Option<Self> {
        kubectl_program()?;
        let port = free_port();
        let mut child = command
            .args([
                "up",
                "--nodes",
                &nodes.to_string(),
                "--port",
                &port.to_string(),
                "--data-dir",
            ])
            .arg(dir)
            .args(flags)
            // No test may ask a registry but its own.
            .env("AFLOAT_OFFLINE", if flags.contains(&ONLINE) { "false" } else { "true" })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("afloat starts");
        let stderr = child.stderr.take().expect("stderr is a pipe");
        let errors = std::thread::spawn(move || {
            let mut all = String::new();
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                eprintln!("[afloat] {line}");
                all.push_str(&line);
                all.push('\n');
            }
            all
        });
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let up = lines.any(|line| line.starts_with("Kubernetes is up"));
        if !up {
            let status = child.wait().expect("afloat ends");
            let errors = errors.join().expect("its errors can be read");
            assert!(errors.contains("kernel"), "afloat up ended with {status}: {errors}");
            eprintln!("skipped: {errors}");
            return None;
        }
        // What it prints later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self {
            child,
            dir: dir.to_path_buf(),
            _temporary: None,
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Process id of the outer process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs kubectl, whatever comes of it.
    pub(crate) fn try_kubectl(&self, arguments: &[&str], input: Option<&str>) -> Output {
        let program = kubectl_program().expect("checked before the boot");
        let mut command = Command::new(program);
        command
            .arg("--kubeconfig")
            .arg(self.dir.join("kubeconfig"))
            .args(arguments);
        command.env("KUBECACHEDIR", self.dir.join("kubectl-cache"));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("stdin is a pipe");
        std::io::Write::write_all(&mut stdin, input.unwrap_or("").as_bytes()).expect("kubectl reads");
        drop(stdin);
        child.wait_with_output().expect("kubectl ends")
    }

    /// Runs kubectl, which must succeed, and gives what it printed.
    #[track_caller]
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        text(&self.try_kubectl(arguments, None), arguments)
    }

    #[track_caller]
    pub(crate) fn apply(&self, manifest: &str) -> String {
        text(&self.try_kubectl(&["apply", "-f", "-"], Some(manifest)), &["apply"])
    }

    /// An object (or list) as JSON; None if there is none.
    pub(crate) fn get(&self, arguments: &[&str]) -> Option<Value> {
        let output = self.try_kubectl(&[&["get", "-o", "json"], arguments].concat(), None);
        if output.status.success() {
            serde_json::from_slice(&output.stdout).ok()
        } else {
            None
        }
    }

    /// Waits until what kubectl gets is as wished, and gives it.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, arguments: &[&str], wish: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.get(arguments);
            match now {
                Some(object) if wish(&object) => return object,
                last if Instant::now() > deadline => panic!(
                    "waited in vain for {what}: {}\n{}",
                    serde_json::to_string_pretty(&last).unwrap_or_default(),
                    String::from_utf8_lossy(&self.try_kubectl(&["get", "pods,events", "-A"], None).stdout)
                ),
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Waits until the API server has been told of the operator's webhooks, which it is a moment after it is up.
    pub(crate) fn wait_webhooks(&self) {
        for kind in ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] {
            self.wait("the webhooks", &[kind, "afloat"], |hooks| {
                hooks["webhooks"][0]["clientConfig"]["caBundle"].is_string()
            });
        }
    }

    /// Follows a part of an object, given as a JSONPath: what is so for a moment is seen, too.
    pub(crate) fn watch(&self, arguments: &[&str], path: &str) -> Watch {
        let mut child = Command::new(kubectl_program().expect("checked before the boot"))
            .arg("--kubeconfig")
            .arg(self.dir.join("kubeconfig"))
            .args(["get", "--watch", "-o", &format!("jsonpath={path}{{\"\\n\"}}")])
            .args(arguments)
            .env("KUBECACHEDIR", self.dir.join("kubectl-cache"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let seen = Arc::<Mutex<String>>::default();
        let noted = seen.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let mut seen = noted.lock().expect("no panic there");
                seen.push_str(&line);
                seen.push('\n');
            }
        });
        let watch = Watch { child, seen };
        wait_until("the watch to begin", || !watch.so_far().is_empty());
        watch
    }

    /// Builds images of the program itself, as the demo does: `web:v1`, `web:v2` (its web server, with the version in a
    /// variable) and `collector:v1`.
    pub(crate) fn build_images(&self) {
        for (name, role, version) in [
            ("web:v1", "web", "v1"),
            ("web:v2", "web", "v2"),
            ("collector:v1", "collect", "v1"),
        ] {
            let (file, env) = (format!("{AFLOAT}=/afloat"), format!("APP_VERSION={version}"));
            let entrypoint = ["--entrypoint", "/afloat", "--entrypoint", "app", "--entrypoint", role];
            let build = ["build", name, "--libraries", "--file", &file, "--env", &env];
            self.image(&[&build[..], &entrypoint].concat());
        }
    }

    /// Runs `afloat image` on the cluster's images, whatever comes of it.
    pub(crate) fn try_image(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(AFLOAT);
        command.arg("image").args(arguments).arg("--data-dir").arg(&self.dir);
        command.output().expect("afloat image starts")
    }

    /// Runs `afloat image`, which must succeed, and gives what it printed.
    #[track_caller]
    pub(crate) fn image(&self, arguments: &[&str]) -> String {
        text(&self.try_image(arguments), arguments)
    }

    /// Sends a signal and waits for the end; gives the exit code.
    pub(crate) fn stop(self, signal: &str) -> Option<i32> {
        signal_process(self.child.id(), signal);
        self.stop_after_signal()
    }

    /// Waits for the end of a process that was sent a signal.
    pub(crate) fn stop_after_signal(mut self) -> Option<i32> {
        wait_for_exit(&mut self.child)
    }
}

/// See [`Cluster::watch`]; ends when dropped.
pub(crate) struct Watch {
    child: Child,
    seen: Arc<Mutex<String>>,
}

impl Watch {
    /// A line for each version that there was.
    pub(crate) fn so_far(&self) -> String {
        self.seen.lock().expect("no panic there").clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            signal_process(self.child.id(), "TERM");
            wait_for_exit(&mut self.child);
        }
    }
}

fn wait_for_exit(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            return status.code();
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("afloat does not stop");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn signal_process(pid: u32, signal: &str) {
    let status = Command::new("kill")
        .args([&format!("-{signal}"), &pid.to_string()])
        .status()
        .expect("kill runs");
    assert!(status.success(), "kill -{signal} {pid}");
}

/// Waits for a condition that kubectl cannot see.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[track_caller]
fn text(output: &Output, what: &[&str]) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what:?}: {stdout}{stderr}");
    stdout
}

/// A condition of an object, by type.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|c| c["type"] == kind)?["status"]
        .as_str()
}

/// A container's status in a pod.
pub(crate) fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    static NONE: Value = Value::Null;
    pod["status"]["containerStatuses"]
        .as_array()
        .and_then(|all| all.iter().find(|c| c["name"] == name))
        .unwrap_or(&NONE)
}

/// A CloneSet of the images that [`Cluster::build_images`] makes: web and collector, in place only.
pub(crate) fn cloneset(name: &str, replicas: u32) -> String {
    serde_json::json!({
        "apiVersion": "apps.kruise.io/v1beta1", "kind": "CloneSet", "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"podUpdatePolicy": "InPlaceOnly", "maxUnavailable": 1}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 5, "containers": [
                    {"name": "web", "image": "web:v1", "ports": [{"name": "http", "containerPort": 8080}],
                     "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}},
                    {"name": "collector", "image": "collector:v1"},
                ]},
            },
        },
    })
    .to_string()
}

/// Whether a CloneSet has `replicas` pods, all updated and ready, and says so about its newest generation.
pub(crate) fn settled(cloneset: &Value, replicas: u32) -> bool {
    let status = &cloneset["status"];
    status["observedGeneration"] == cloneset["metadata"]["generation"]
        && ["replicas", "readyReplicas", "updatedReplicas", "updatedReadyReplicas"]
            .iter()
            .all(|key| status[key] == replicas)
}
