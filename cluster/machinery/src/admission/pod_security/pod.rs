//! What checks look at, and what they say.

use serde_json::Value;

use crate::json::{list, text};

/// Why a pod is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    /// In a few words.
    pub(super) reason: &'static str,
    /// Which container or field it is about.
    pub(super) detail: String,
}

/// What is checked: a pod, or the template of pods.
#[derive(Clone, Copy)]
pub(super) struct Pod<'a> {
    pub(super) metadata: Option<&'a Value>,
    pub(super) spec: &'a Value,
}

impl<'a> Pod<'a> {
    /// Containers of all sorts, in Kubernetes' order.
    pub(super) fn containers(self) -> impl Iterator<Item = &'a Value> {
        let spec = self.spec;
        let kinds = ["initContainers", "containers", "ephemeralContainers"];
        kinds.into_iter().flat_map(move |kind| list(Some(spec), kind))
    }

    /// Names of the containers of which this holds.
    pub(super) fn names(self, holds: impl Fn(&'a Value) -> bool) -> Vec<&'a str> {
        let all = self.containers().filter(|container| holds(container));
        all.map(|container| text(container.get("name"))).collect()
    }
}

/// A field of the security context of a pod's spec or of a container, if it is there and not null.
pub(super) fn security<'a>(owner: &'a Value, field: &str) -> Option<&'a Value> {
    present(owner.get("securityContext")?, field)
}

/// A field that is there and not null.
pub(super) fn present<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    object.get(field).filter(|value| !value.is_null())
}

/// `"a", "b"`
pub(super) fn quoted<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect();
    all.join(", ")
}

/// `container "a"`, `containers "a", "b"`
pub(super) fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// `pod`, `container "a"` or `pod and container "a"`; none if nobody has set it.
pub(super) fn setters(pod: bool, names: &[&str]) -> Option<String> {
    match (pod, names.is_empty()) {
        (false, true) => None,
        (true, true) => Some("pod".to_owned()),
        (false, false) => Some(containers(names)),
        (true, false) => Some(format!("pod and {}", containers(names))),
    }
}

/// One word for one, another for several.
pub(super) fn plural(one: &'static str, several: &'static str, count: usize) -> &'static str {
    if count == 1 { one } else { several }
}
