//! The pod lifecycle as Kubernetes documents it, sentence by sentence, with containers that write down what happens to them and when.
//!
//! Every container has `say WORD`, which adds the time and the word to the pod's record, a file of the host. Order and
//! bounds are read from there, so that neither a slow kubectl nor a busy machine is taken for a slow node agent.

mod changes;
mod ends;
mod examples;
mod handlers;
mod hooks;
mod jobs;
mod probes;
mod recreate;
mod start;
mod stop;
mod surroundings;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cluster::{Cluster, wait_until};

/// A cluster of one node, an image `box` (busybox) and a folder for the records.
struct Ground {
    cluster: Cluster,
    records: tempfile::TempDir,
}

/// Name of the image in which all cases run.
const BOX: &str = "box:1";

impl Ground {
    /// None where this machine cannot run containers or has no busybox; which is printed.
    fn new() -> Option<Self> {
        let files = box_files()?;
        let cluster = Cluster::boot(1)?;
        build_image(&cluster, BOX, files.path());
        let records = tempfile::tempdir().expect("a temporary folder");
        Some(Self { cluster, records })
    }

    /// Creates a pod that keeps its record; `spec` needs only what the case is about.
    fn create(&self, name: &str, spec: Value) {
        self.cluster.apply(&self.pod(name, spec).to_string());
    }

    fn pod(&self, name: &str, mut spec: Value) -> Value {
        let folder = self.records.path().join(name);
        std::fs::create_dir_all(&folder).expect("the folder of the records is ours");
        spec["volumes"] = json!([{"name": "record", "hostPath": {"path": folder}}]);
        for list in ["initContainers", "containers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                if container["image"].is_null() {
                    container["image"] = BOX.into();
                }
                container["volumeMounts"] = json!([{"name": "record", "mountPath": "/record"}]);
            }
        }
        let metadata = json!({"name": name, "labels": {"case": name}});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    }

    fn get(&self, name: &str) -> Value {
        self.cluster.get(&["pod", name]).expect("the pod is there")
    }

    fn wait(&self, what: &str, name: &str, wish: impl Fn(&Value) -> bool) -> Value {
        self.cluster.wait(what, &["pod", name], wish)
    }

    fn wait_gone(&self, name: &str) {
        wait_until("the end of the pod", || self.cluster.get(&["pod", name]).is_none());
    }

    /// Deletes a pod without waiting for its end.
    fn delete(&self, name: &str, flags: &[&str]) {
        self.cluster
            .kubectl(&[&["delete", "pod", name, "--wait=false"], flags].concat());
    }

    /// A file that the pod's containers see as `/record/FILE`.
    fn put(&self, name: &str, file: &str) {
        std::fs::write(self.records.path().join(name).join(file), "").expect("the folder of the records is ours");
    }

    fn record(&self, name: &str) -> Record {
        Record::read(&self.records.path().join(name).join("log"))
    }

    /// Waits until the record has the word.
    fn wait_said(&self, name: &str, word: &str) -> Record {
        wait_until(word, || self.record(name).first(word).is_some());
        self.record(name)
    }

    /// Reasons and messages of the events about an object.
    fn events(&self, name: &str) -> Vec<(String, String)> {
        let selector = format!("--field-selector=involvedObject.name={name}");
        let list = self.cluster.get(&["events", &selector]).unwrap_or_default();
        let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let all = list["items"].as_array().into_iter().flatten();
        all.map(|event| (text(event, "reason"), text(event, "message")))
            .collect()
    }

    /// Waits for an event with that reason whose message contains a text.
    fn wait_event(&self, name: &str, reason: &str, part: &str) {
        wait_until(&format!("event {reason}: {part}"), || {
            let events = self.events(name);
            events.iter().any(|(r, message)| r == reason && message.contains(part))
        });
    }
}

/// What the containers of a pod said: seconds since the start of the machine, and a word.
#[derive(Debug)]
struct Record(Vec<(f64, String)>);

impl Record {
    fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        Self(
            lines
                .filter_map(|(time, word)| Some((time.parse().ok()?, word.to_owned())))
                .collect(),
        )
    }

    fn times(&self, word: &str) -> Vec<f64> {
        let said = self.0.iter().filter(|(_, said)| said == word);
        said.map(|(time, _)| *time).collect()
    }

    fn count(&self, word: &str) -> usize {
        self.times(word).len()
    }

    fn first(&self, word: &str) -> Option<f64> {
        self.times(word).first().copied()
    }

    /// When the word was said first.
    #[track_caller]
    fn at(&self, word: &str) -> f64 {
        self.first(word).unwrap_or_else(|| panic!("no {word} in {self:?}"))
    }

    /// When the word was said last.
    #[track_caller]
    fn last(&self, word: &str) -> f64 {
        let times = self.times(word);
        *times.last().unwrap_or_else(|| panic!("no {word} in {self:?}"))
    }

    /// The words were said for the first time in this order.
    #[track_caller]
    fn in_order(&self, words: &[&str]) {
        let places: Vec<Option<usize>> = words
            .iter()
            .map(|word| self.0.iter().position(|(_, said)| said == word))
            .collect();
        assert!(places.iter().all(Option::is_some), "not all of {words:?} in {self:?}");
        assert!(places.is_sorted(), "not in the order {words:?}: {self:?}");
    }
}

/// A container that runs a shell script.
fn script(name: &str, text: &str) -> Value {
    json!({"name": name, "command": ["/bin/sh", "-c", text]})
}

/// A handler or probe that runs a shell script.
fn exec(text: &str) -> Value {
    json!({"exec": {"command": ["/bin/sh", "-c", text]}})
}

/// Stays, and says `term` when it is asked to stop.
const OBEDIENT: &str = "trap 'say term; exit 0' TERM; say runs; while :; do sleep 0.1; done";

fn ready(pod: &Value) -> bool {
    crate::cluster::condition(pod, "Ready") == Some("True")
}

/// State of a container of the pod: name of the state, its content.
fn state<'a>(pod: &'a Value, container: &str) -> (&'a str, &'a Value) {
    static NONE: Value = Value::Null;
    let state = crate::cluster::container(pod, container)["state"].as_object();
    let first = state.and_then(|state| state.iter().next());
    first.map_or(("", &NONE), |(name, content)| (name.as_str(), content))
}

/// Busybox under the names that scripts use, and `say`.
fn box_files() -> Option<tempfile::TempDir> {
    let Some(busybox) = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|p| Path::new(p).exists())
    else {
        eprintln!("skipped: no busybox (Debian: apt-get install busybox-static)");
        return None;
    };
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::copy(busybox, dir.path().join("busybox")).expect("busybox can be copied");
    for applet in [
        "sh", "sleep", "cat", "hostname", "test", "kill", "touch", "id", "ls", "nc", "dd", "true", "false",
    ] {
        std::os::unix::fs::symlink("busybox", dir.path().join(applet)).expect("a link in our own folder");
    }
    let say = dir.path().join("say");
    std::fs::write(
        &say,
        "#!/bin/sh\nread t _ < /proc/uptime\necho \"$t $*\" >> /record/log\n",
    )
    .expect("our own folder");
    executable(&say);
    Some(dir)
}

fn executable(file: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).expect("our own file");
}

fn build_image(cluster: &Cluster, name: &str, bin: &Path) {
    let file = format!("{}=/bin", bin.display());
    cluster.image(&["build", name, "--file", &file, "--env", "PATH=/bin"]);
}

/// A file of the repository's examples.
fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples/lifecycle")
        .join(name)
}
