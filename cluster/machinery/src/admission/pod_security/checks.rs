//! All checks, by level and version.

use super::pod::{Pod, Violation};
use super::policy::{Level, LevelVersion, Version};
use super::{baseline, restricted};
use crate::json::text;

/// The newest version in which a check has changed: later ones are the same.
const NEWEST_MINOR: i64 = 32;

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
