//! All checks, by level and version, and what they look at.

use serde_json::Value;

use super::policy::{Level, LevelVersion, Version};
use super::{baseline, restricted};
use crate::json::{list, text};

/// The newest version in which a check has changed: later ones are the same.
const NEWEST_MINOR: i64 = 32;

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

type Test = fn(Pod<'_>) -> Option<Violation>;

struct Check {
    id: &'static str,
    level: Level,
    /// From which minor version of Kubernetes it is which test.
    versions: &'static [(i64, Test)],
    /// A check of the lower level that need not be made where this one is.
    overrides: &'static str,
}

const fn baseline(id: &'static str, versions: &'static [(i64, Test)]) -> Check {
    let (level, overrides) = (Level::Baseline, "");
    Check {
        id,
        level,
        versions,
        overrides,
    }
}

const fn restricted(id: &'static str, versions: &'static [(i64, Test)], overrides: &'static str) -> Check {
    let level = Level::Restricted;
    Check {
        id,
        level,
        versions,
        overrides,
    }
}

/// In the order in which Kubernetes reports them: by level, then by id.
const CHECKS: &[Check] = &[
    baseline("appArmorProfile", &[(0, baseline::app_armor)]),
    baseline("capabilities_baseline", &[(0, baseline::capabilities)]),
    baseline("hostNamespaces", &[(0, baseline::host_namespaces)]),
    baseline("hostPathVolumes", &[(0, baseline::host_path)]),
    baseline("hostPorts", &[(0, baseline::host_ports)]),
    baseline("privileged", &[(0, baseline::privileged)]),
    baseline("procMount", &[(0, baseline::proc_mount)]),
    baseline(
        "seLinuxOptions",
        &[
            (0, |pod| baseline::se_linux(pod, false)),
            (31, |pod| baseline::se_linux(pod, true)),
        ],
    ),
    baseline(
        "seccompProfile_baseline",
        &[(0, baseline::seccomp_annotations), (19, baseline::seccomp)],
    ),
    baseline(
        "sysctls",
        &[
            (0, |pod| baseline::sysctls(pod, 0)),
            (27, |pod| baseline::sysctls(pod, 27)),
            (29, |pod| baseline::sysctls(pod, 29)),
            (32, |pod| baseline::sysctls(pod, 32)),
        ],
    ),
    baseline("windowsHostProcess", &[(0, baseline::windows_host_process)]),
    restricted(
        "allowPrivilegeEscalation",
        &[
            (8, restricted::privilege_escalation),
            (25, |pod| unless_windows(pod, restricted::privilege_escalation)),
        ],
        "",
    ),
    restricted(
        "capabilities_restricted",
        &[
            (22, restricted::capabilities),
            (25, |pod| unless_windows(pod, restricted::capabilities)),
        ],
        "capabilities_baseline",
    ),
    restricted("restrictedVolumes", &[(0, restricted::volumes)], "hostPathVolumes"),
    restricted("runAsNonRoot", &[(0, restricted::run_as_non_root)], ""),
    restricted("runAsUser", &[(23, restricted::run_as_user)], ""),
    restricted(
        "seccompProfile_restricted",
        &[
            (19, restricted::seccomp),
            (25, |pod| unless_windows(pod, restricted::seccomp)),
        ],
        "seccompProfile_baseline",
    ),
];

/// A pod of Windows has none of these fields.
fn unless_windows(pod: Pod<'_>, test: Test) -> Option<Violation> {
    let os = text(pod.spec.get("os").and_then(|os| os.get("name")));
    if os == "windows" { None } else { test(pod) }
}

impl Check {
    fn test(&self, minor: i64) -> Option<Test> {
        let begun = self.versions.iter().rfind(|(from, _)| *from <= minor);
        begun.map(|(_, test)| *test)
    }
}

/// Everything that a level does not allow of a pod.
pub(super) fn evaluate(asked: LevelVersion, pod: Pod<'_>) -> Vec<Violation> {
    let minor = match asked.version {
        Version::Latest => NEWEST_MINOR,
        Version::Minor(minor) => minor.min(NEWEST_MINOR),
    };
    let in_force = || {
        CHECKS
            .iter()
            .filter(|check| check.level <= asked.level)
            .filter_map(|check| Some((check, check.test(minor)?)))
    };
    in_force()
        .filter(|(check, _)| !in_force().any(|(other, _)| other.overrides == check.id))
        .filter_map(|(_, test)| test(pod))
        .collect()
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
