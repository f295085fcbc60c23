//! What a pod must do that is hardened.

use std::collections::BTreeSet;

use serde_json::Value;

use super::baseline;
use super::pod::{Pod, Violation, containers, plural, present, quoted, security, setters};
use crate::json::{list, text};

/// Volumes that hold nothing of the node's.
const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// The others, in the order in which one of them is named.
const OTHER_VOLUMES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

pub(super) fn privilege_escalation(pod: Pod<'_>) -> Option<Violation> {
    let names =
        pod.names(|container| security(container, "allowPrivilegeEscalation").and_then(Value::as_bool) != Some(false));
    (!names.is_empty()).then(|| Violation {
        reason: "allowPrivilegeEscalation != false",
        detail: format!(
            "{} must set securityContext.allowPrivilegeEscalation=false",
            containers(&names)
        ),
    })
}

pub(super) fn capabilities(pod: Pod<'_>) -> Option<Violation> {
    let drops = |container| {
        let dropped = list(security(container, "capabilities"), "drop");
        dropped.iter().any(|one| text(Some(one)) == "ALL")
    };
    let extra = |name: &&str| *name != "NET_BIND_SERVICE";
    let keeping = pod.names(|container| !drops(container));
    let adding = pod.names(|container| baseline::added(container).any(|one| extra(&one)));
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            containers(&keeping)
        ));
    }
    if !adding.is_empty() {
        let values: BTreeSet<&str> = pod.containers().flat_map(baseline::added).filter(extra).collect();
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&adding),
            quoted(values)
        ));
    }
    (!details.is_empty()).then(|| Violation {
        reason: "unrestricted capabilities",
        detail: details.join("; "),
    })
}

pub(super) fn volumes(pod: Pod<'_>) -> Option<Violation> {
    let is =
        |volume: &Value, kinds: &[&'static str]| kinds.iter().find(|kind| present(volume, kind).is_some()).copied();
    let volumes = list(Some(pod.spec), "volumes").iter();
    let bad: Vec<&Value> = volumes.filter(|volume| is(volume, VOLUMES).is_none()).collect();
    let kinds: BTreeSet<&str> = bad
        .iter()
        .map(|volume| is(volume, OTHER_VOLUMES).unwrap_or("unknown"))
        .collect();
    (!bad.is_empty()).then(|| Violation {
        reason: "restricted volume types",
        detail: format!(
            "{} {} {} {} {}",
            plural("volume", "volumes", bad.len()),
            quoted(bad.iter().map(|volume| text(volume.get("name")))),
            plural("uses", "use", bad.len()),
            plural("restricted volume type", "restricted volume types", kinds.len()),
            quoted(kinds)
        ),
    })
}

pub(super) fn run_as_non_root(pod: Pod<'_>) -> Option<Violation> {
    let reason = "runAsNonRoot != true";
    let of = |owner| security(owner, "runAsNonRoot").and_then(Value::as_bool);
    let of_pod = of(pod.spec);
    if let Some(by) = setters(
        of_pod == Some(false),
        &pod.names(|container| of(container) == Some(false)),
    ) {
        let detail = format!("{by} must not set securityContext.runAsNonRoot=false");
        return Some(Violation { reason, detail });
    }
    let silent = pod.names(|container| of_pod != Some(true) && of(container).is_none());
    (!silent.is_empty()).then(|| Violation {
        reason,
        detail: format!(
            "pod or {} must set securityContext.runAsNonRoot=true",
            containers(&silent)
        ),
    })
}

pub(super) fn run_as_user(pod: Pod<'_>) -> Option<Violation> {
    let root = |owner| security(owner, "runAsUser").and_then(Value::as_i64) == Some(0);
    let by = setters(root(pod.spec), &pod.names(root))?;
    Some(Violation {
        reason: "runAsUser=0",
        detail: format!("{by} must not set runAsUser=0"),
    })
}

pub(super) fn seccomp(pod: Pod<'_>) -> Option<Violation> {
    if let Some(wrong) = baseline::seccomp(pod) {
        return Some(wrong);
    }
    let has = |owner| security(owner, "seccompProfile").is_some();
    let silent = pod.names(|container| !has(pod.spec) && !has(container));
    (!silent.is_empty()).then(|| Violation {
        reason: "seccompProfile",
        detail: format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            containers(&silent)
        ),
    })
}
