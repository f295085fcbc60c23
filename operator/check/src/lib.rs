//! What there is to say before anything is applied: rules about objects that lose requests ([`check`]), and what a change
//! will do ([`plan`]). Pure: objects come in as JSON values, findings go out; who reads files or asks a cluster is not here.

mod object;
mod patch;
pub mod plan;
pub mod policy;
pub mod report;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

pub use object::Id;
use object::World;
pub use rules::RULES;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Loses requests under some circumstances.
    Warning,
    /// Loses requests, or cannot work.
    Error,
}

impl Severity {
    /// As it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Something to look for.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Stable name: it stands in annotations, flags and reports.
    pub id: &'static str,
    /// How bad a finding is.
    pub severity: Severity,
    /// One sentence.
    pub title: &'static str,
    /// What happens, and why.
    pub why: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    /// Where to read on.
    pub link: &'static str,
    test: Test,
    cel: policy::Cel,
}

/// What a rule looks at.
#[derive(Clone, Copy, Debug)]
enum Test {
    /// Whatever has a pod template, and pods that nobody controls.
    Workload(fn(&World<'_>, &object::Workload<'_>) -> Vec<Hit>),
    /// Every object, with its kind.
    Object(fn(&World<'_>, &Value) -> Vec<Hit>),
}

/// What a rule finds in an object.
#[derive(Clone, Debug, PartialEq)]
struct Hit {
    /// JSON pointer.
    pointer: String,
    message: String,
    /// JSON patch.
    fix: Option<Value>,
}

impl Hit {
    fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            message: message.into(),
            fix: None,
        }
    }

    fn with_fix(mut self, fix: Vec<Value>) -> Self {
        self.fix = Some(Value::Array(fix));
        self
    }
}

/// A rule that holds of an object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The rule's id.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Which object.
    pub object: Id,
    /// Its place in the input.
    #[serde(skip)]
    pub index: usize,
    /// The field, for example `spec.template.spec.containers[0].readinessProbe`; it may be missing.
    pub path: String,
    /// The field as a JSON pointer.
    #[serde(skip)]
    pub pointer: String,
    /// What was found.
    pub message: String,
    /// What happens, and why.
    pub explanation: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    /// A JSON patch of the object (`kubectl patch --type=json`), where one can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<Value>,
    /// Where to read on.
    pub link: &'static str,
}

/// What is known of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Digest of its content.
    pub id: String,
    /// Its files, absolute, as far as they can be told; links are files.
    pub paths: Option<BTreeSet<String>>,
}

/// Images by the reference that objects name them with.
pub type Images = BTreeMap<String, Image>;

/// Annotation of an object with rules that shall not look at it, by comma; `*` is all.
pub const IGNORE: &str = "check.afloat.dev/ignore";

/// All findings about the objects, in their order and per object in the order of the rules.
pub fn check(objects: &[Value], images: &Images, ignored: &BTreeSet<String>) -> Vec<Finding> {
    let world = World::new(objects, images);
    let mut found = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        let id = Id::of(object);
        let listed = object
            .pointer("/metadata/annotations")
            .and_then(|annotations| annotations.get(IGNORE)?.as_str())
            .unwrap_or_default();
        let skips = |rule: &str| listed.split(',').any(|word| word.trim() == rule || word.trim() == "*");
        let workload = object::Workload::of(object).filter(|workload| !workload.controlled());
        for rule in RULES {
            if ignored.contains(rule.id) || skips(rule.id) {
                continue;
            }
            let hits = match (rule.test, &workload) {
                (Test::Workload(test), Some(workload)) => test(&world, workload),
                (Test::Object(test), _) => test(&world, object),
                (Test::Workload(_), None) => Vec::new(),
            };
            found.extend(hits.into_iter().map(|hit| Finding {
                rule: rule.id,
                severity: rule.severity,
                object: id.clone(),
                index,
                path: object::path(&hit.pointer),
                pointer: hit.pointer,
                message: hit.message,
                explanation: rule.why,
                remedy: rule.remedy,
                fix: hit.fix,
                link: rule.link,
            }));
        }
    }
    found
}

/// The references of all images that the objects name.
pub fn references(objects: &[Value]) -> BTreeSet<String> {
    let workloads = objects.iter().filter_map(object::Workload::of);
    workloads
        .flat_map(|workload| {
            let containers = workload.containers().into_iter().chain(workload.init_containers());
            containers
                .map(|container| container.image().to_owned())
                .collect::<Vec<_>>()
        })
        .filter(|image| !image.is_empty())
        .collect()
}
