//! What the pods of a namespace are told of a stricter level: nothing, but whoever asks for it is.

use std::collections::BTreeMap;

use serde_json::Value;

use super::checks::evaluate;
use super::pod::Pod;
use super::policy::LevelVersion;
use crate::json::{list, text};

/// So many pods of a namespace are looked at.
pub const PODS_MAX: usize = 3000;

/// The pods that a level would refuse, so far.
#[derive(Debug)]
pub struct Survey {
    enforce: LevelVersion,
    checked: usize,
    /// By what is wrong: the first name, and how many pods.
    found: BTreeMap<String, (String, usize)>,
}

/// The uid of a pod's controller: one of its pods stands for the others, which are looked at last.
pub fn controller_uid(pod: &Value) -> Option<&str> {
    let owners = list(pod.get("metadata"), "ownerReferences");
    let controller = owners
        .iter()
        .find(|owner| owner.get("controller") == Some(&Value::Bool(true)))?;
    controller.get("uid")?.as_str()
}

impl Survey {
    /// For this level.
    pub fn new(enforce: LevelVersion) -> Self {
        Self {
            enforce,
            checked: 0,
            found: BTreeMap::new(),
        }
    }

    /// How many pods it has seen.
    pub fn checked(&self) -> usize {
        self.checked
    }

    /// Looks at a pod.
    pub fn look_at(&mut self, pod: &Value) {
        self.checked += 1;
        let name = text(pod.pointer("/metadata/name"));
        let spec = pod.get("spec").unwrap_or(&Value::Null);
        let metadata = pod.get("metadata");
        let reasons: Vec<&str> = evaluate(self.enforce, Pod { metadata, spec })
            .iter()
            .map(|violation| violation.reason)
            .collect();
        if reasons.is_empty() {
            return;
        }
        let (first, count) = self
            .found
            .entry(reasons.join(", "))
            .or_insert_with(|| (name.to_owned(), 0));
        if name < first.as_str() {
            name.clone_into(first);
        }
        *count += 1;
    }

    /// What is said of them all; `total`: how many there are in the namespace.
    pub fn warnings(self, namespace: &str, total: usize) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.checked < total {
            warnings.push(format!(
                "new PodSecurity enforce level only checked against the first {} of {total} existing pods",
                self.checked
            ));
        }
        if !self.found.is_empty() {
            warnings.push(format!(
                "existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \"{}\"",
                self.enforce
            ));
        }
        let one = |(reasons, (first, count)): (String, (String, usize))| match count {
            1 => format!("{first}: {reasons}"),
            2 => format!("{first} (and 1 other pod): {reasons}"),
            more => format!("{first} (and {} other pods): {reasons}", more - 1),
        };
        let mut pods: Vec<String> = self.found.into_iter().map(one).collect();
        pods.sort();
        warnings.extend(pods);
        warnings
    }
}
