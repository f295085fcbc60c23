//! Charts and kustomizations: which folders they are, and what their own tools make of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a tool may take; it may have to fetch what a kustomization names.
const LIMIT: Duration = Duration::from_secs(60);
/// Time between two looks at whether it has ended.
const PAUSE: Duration = Duration::from_millis(10);
const CHART: &str = "Chart.yaml";
/// What builds kustomizations: program, its command, both as they are told.
const KUSTOMIZE: [(&str, &str, &str); 2] = [
    ("kustomize", "build", "kustomize build"),
    ("kubectl", "kustomize", "kubectl kustomize"),
];
const KUSTOMIZATION: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// What a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A chart of Helm.
    Chart,
    /// What is built by kustomize.
    Kustomization,
    /// The same, and another one is built of it.
    Part,
}

/// What became of a folder.
pub(super) enum Rendered {
    /// What a tool printed, and which.
    Objects { text: String, by: &'static str },
    /// Why there is nothing.
    Not(String),
    /// Its tool is not there: its files can be looked at as they are.
    Raw(String),
    /// Nothing is to be rendered: another one is made of it.
    Part,
}

/// The kustomizations below a folder, and the folders that they are made of.
#[derive(Debug, Default)]
pub(super) struct Kustomizations {
    all: BTreeSet<PathBuf>,
    parts: BTreeSet<PathBuf>,
}

impl Kustomizations {
    /// What the folder is, unless it is one like any other.
    pub(super) fn source_of(&self, folder: &Path) -> Option<Source> {
        if folder.join(CHART).is_file() {
            return Some(Source::Chart);
        }
        let known = folder.canonicalize().ok()?;
        match (self.all.contains(&known), self.parts.contains(&known)) {
            (false, false) => None,
            (true, false) => Some(Source::Kustomization),
            (_, true) => Some(Source::Part),
        }
    }

    /// Whether there is one in the folder or below it.
    pub(super) fn is_in(&self, folder: &Path) -> bool {
        let Ok(folder) = folder.canonicalize() else {
            return false;
        };
        self.all.iter().any(|known| known.starts_with(&folder))
    }
}

/// Finds all kustomizations below a folder.
pub(super) fn kustomizations(root: &Path) -> Kustomizations {
    let mut found = Kustomizations::default();
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        let file = KUSTOMIZATION
            .iter()
            .map(|name| folder.join(name))
            .find(|file| file.is_file());
        if let Some(file) = file {
            found.all.extend(folder.canonicalize());
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let named = folders_named(&text).into_iter().map(|name| folder.join(name));
            found.parts.extend(named.filter_map(|path| path.canonicalize().ok()));
            if is_component(&text) {
                found.parts.extend(folder.canonicalize());
            }
        }
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let below = entries.map(|entry| entry.path());
        open.extend(below.filter(|path| path.is_dir() && !path.is_symlink()));
    }
    found
}

fn read(text: &str) -> Value {
    let read: Result<BTreeMap<String, Value>, _> = serde_saphyr::from_str(text);
    read.map_or(Value::Null, |fields| fields.into_iter().collect())
}

/// What a kustomization says that it is made of: files and folders.
fn folders_named(text: &str) -> Vec<String> {
    let kustomization = read(text);
    let lists = ["resources", "bases", "components"].into_iter();
    let items = lists.filter_map(|list| kustomization.get(list)?.as_array().cloned());
    items
        .flatten()
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

fn is_component(text: &str) -> bool {
    read(text).get("kind").is_some_and(|kind| kind == "Component")
}

/// Has the folder's own tool print what is in it.
pub(super) fn render(folder: &Path, source: Source) -> Rendered {
    let path = folder.display().to_string();
    match source {
        Source::Part | Source::Kustomization if !KUSTOMIZE.iter().any(|(program, ..)| is_there(program)) => {
            Rendered::Raw(format!(
                "a kustomization, and there is neither kustomize nor kubectl to build it: its files are looked at as they are; where \
                 there is: kustomize build {path} | afloat check -f -"
            ))
        }
        Source::Part => Rendered::Part,
        Source::Chart if is_library(folder) => Rendered::Part,
        Source::Chart => match run("helm", &["template", "release", &path]) {
            Outcome::Printed(text) => Rendered::Objects {
                text,
                by: "helm template",
            },
            Outcome::Failed(why) => Rendered::Not(format!("a chart that helm does not render: {why}")),
            Outcome::Missing => Rendered::Not(format!(
                "a chart, and there is no helm to render it; where there is: helm template {path} | afloat check -f -"
            )),
        },
        Source::Kustomization => match kustomize(&path) {
            Ok((text, by)) => Rendered::Objects { text, by },
            Err(why) => Rendered::Not(why),
        },
    }
}

/// A library chart makes nothing by itself.
fn is_library(folder: &Path) -> bool {
    let text = std::fs::read_to_string(folder.join(CHART)).unwrap_or_default();
    read(&text).get("type").is_some_and(|kind| kind == "library")
}

fn kustomize(path: &str) -> Result<(String, &'static str), String> {
    for (program, command, by) in KUSTOMIZE {
        match run(program, &[command, path]) {
            Outcome::Printed(text) => return Ok((text, by)),
            Outcome::Failed(why) => return Err(format!("a kustomization that {program} does not build: {why}")),
            Outcome::Missing => {}
        }
    }
    Err("a kustomization whose tool has just gone".to_owned())
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

enum Outcome {
    Printed(String),
    /// The last line that it said.
    Failed(String),
    Missing,
}

/// Runs a tool, which gets [`LIMIT`].
fn run(program: &str, arguments: &[&str]) -> Outcome {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Outcome::Missing,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    // It is read beside the wait, or a full pipe would stop it.
    let reader = |pipe: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let printed = reader(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let said = reader(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let started = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if started.elapsed() < LIMIT => std::thread::sleep(PAUSE),
            Ok(None) => {
                let _ = child.kill().and_then(|()| child.wait());
                return Outcome::Failed(format!("it took more than {} s", LIMIT.as_secs()));
            }
            Err(error) => return Outcome::Failed(error.to_string()),
        }
    };
    let (printed, said) = (printed.join().unwrap_or_default(), said.join().unwrap_or_default());
    if status.success() {
        return Outcome::Printed(printed);
    }
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    Outcome::Failed(last.map_or_else(|| status.to_string(), |line| line.trim().to_owned()))
}
