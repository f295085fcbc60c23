//! What no pod may do that is not privileged.

use std::collections::BTreeSet;

use serde_json::Value;

use super::pod::{Pod, Violation, containers, plural, present, quoted, security, setters};
use crate::json::{list, text};

const APP_ARMOR_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_PREFIX: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// Those that a container has anyway, but for NET_RAW.
const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// From which minor version of Kubernetes on a kernel parameter is allowed.
const SYSCTLS: &[(i64, &str)] = &[
    (0, "kernel.shm_rmid_forced"),
    (0, "net.ipv4.ip_local_port_range"),
    (0, "net.ipv4.tcp_syncookies"),
    (0, "net.ipv4.ping_group_range"),
    (0, "net.ipv4.ip_unprivileged_port_start"),
    (27, "net.ipv4.ip_local_reserved_ports"),
    (29, "net.ipv4.tcp_keepalive_time"),
    (29, "net.ipv4.tcp_fin_timeout"),
    (29, "net.ipv4.tcp_keepalive_intvl"),
    (29, "net.ipv4.tcp_keepalive_probes"),
    (32, "net.ipv4.tcp_rmem"),
    (32, "net.ipv4.tcp_wmem"),
];

/// Annotations of a pod whose names begin like this.
fn annotations<'a>(pod: Pod<'a>, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let all = pod
        .metadata
        .and_then(|metadata| metadata.get("annotations")?.as_object());
    let all = all.into_iter().flatten();
    all.filter(move |(key, _)| key.starts_with(prefix))
        .map(|(key, value)| (key.as_str(), text(Some(value))))
}

/// A profile of the kernel's other than the default or one of the node's own.
fn wrong_type(profile: &Value) -> Option<&str> {
    let kind = text(profile.get("type"));
    (!matches!(kind, "RuntimeDefault" | "Localhost")).then_some(kind)
}

pub(super) fn app_armor(pod: Pod<'_>) -> Option<Violation> {
    let wrong = |owner| security(owner, "appArmorProfile").and_then(wrong_type);
    let allowed = |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let names = pod.names(|container| wrong(container).is_some());
    let mut values: BTreeSet<&str> = pod.containers().filter_map(wrong).collect();
    values.extend(wrong(pod.spec));
    let mut forbidden: Vec<String> = annotations(pod, APP_ARMOR_PREFIX)
        .filter(|(_, value)| !allowed(value))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    forbidden.sort();
    let noted = (!forbidden.is_empty()).then(|| plural("annotation", "annotations", forbidden.len()).to_owned());
    let by = [setters(wrong(pod.spec).is_some(), &names), noted];
    let by: Vec<String> = by.into_iter().flatten().collect();
    if by.is_empty() {
        return None;
    }
    let values: Vec<&str> = values.into_iter().chain(forbidden.iter().map(String::as_str)).collect();
    Some(Violation {
        reason: plural(
            "forbidden AppArmor profile",
            "forbidden AppArmor profiles",
            values.len(),
        ),
        detail: format!(
            "{} must not set AppArmor profile type to {}",
            by.join(" and "),
            quoted(values)
        ),
    })
}

/// Capabilities that a container asks for.
pub(super) fn added(container: &Value) -> impl Iterator<Item = &str> {
    let added = list(security(container, "capabilities"), "add");
    added.iter().map(|one| text(Some(one)))
}

pub(super) fn capabilities(pod: Pod<'_>) -> Option<Violation> {
    let extra = |name: &&str| !CAPABILITIES.contains(name);
    let names = pod.names(|container| added(container).any(|one| extra(&one)));
    let values: BTreeSet<&str> = pod.containers().flat_map(added).filter(extra).collect();
    (!names.is_empty()).then(|| Violation {
        reason: "non-default capabilities",
        detail: format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&names),
            quoted(values)
        ),
    })
}

pub(super) fn host_namespaces(pod: Pod<'_>) -> Option<Violation> {
    let shared = |field: &&str| pod.spec.get(*field).and_then(Value::as_bool) == Some(true);
    let fields = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(shared);
    let all: Vec<String> = fields.map(|field| format!("{field}=true")).collect();
    (!all.is_empty()).then(|| Violation {
        reason: "host namespaces",
        detail: all.join(", "),
    })
}

pub(super) fn host_path(pod: Pod<'_>) -> Option<Violation> {
    let volumes = list(Some(pod.spec), "volumes").iter();
    let names: Vec<&str> = volumes
        .filter(|volume| present(volume, "hostPath").is_some())
        .map(|volume| text(volume.get("name")))
        .collect();
    (!names.is_empty()).then(|| Violation {
        reason: "hostPath volumes",
        detail: format!("{} {}", plural("volume", "volumes", names.len()), quoted(names)),
    })
}

pub(super) fn host_ports(pod: Pod<'_>) -> Option<Violation> {
    fn ports(container: &Value) -> impl Iterator<Item = i64> {
        let all = list(Some(container), "ports").iter();
        all.filter_map(|port| port.get("hostPort")?.as_i64())
            .filter(|port| *port != 0)
    }
    let names = pod.names(|container| ports(container).next().is_some());
    // In the order of texts, as the original has them.
    let all: BTreeSet<String> = pod.containers().flat_map(ports).map(|port| port.to_string()).collect();
    (!names.is_empty()).then(|| Violation {
        reason: "hostPort",
        detail: format!(
            "{} {} {} {}",
            containers(&names),
            plural("uses", "use", names.len()),
            plural("hostPort", "hostPorts", all.len()),
            all.into_iter().collect::<Vec<_>>().join(", ")
        ),
    })
}

pub(super) fn privileged(pod: Pod<'_>) -> Option<Violation> {
    let names = pod.names(|container| security(container, "privileged").and_then(Value::as_bool) == Some(true));
    (!names.is_empty()).then(|| Violation {
        reason: "privileged",
        detail: format!("{} must not set securityContext.privileged=true", containers(&names)),
    })
}

pub(super) fn proc_mount(pod: Pod<'_>) -> Option<Violation> {
    let other = |container| {
        security(container, "procMount")
            .map(|kind| text(Some(kind)))
            .filter(|kind| *kind != "Default")
    };
    let names = pod.names(|container| other(container).is_some());
    let values: BTreeSet<&str> = pod.containers().filter_map(other).collect();
    (!names.is_empty()).then(|| Violation {
        reason: "procMount",
        detail: format!(
            "{} must not set securityContext.procMount to {}",
            containers(&names),
            quoted(values)
        ),
    })
}

/// `engine`: also containers that make containers are allowed (1.31).
pub(super) fn se_linux(pod: Pod<'_>, engine: bool) -> Option<Violation> {
    let good = |kind: &str| {
        matches!(kind, "" | "container_t" | "container_init_t" | "container_kvm_t")
            || engine && kind == "container_engine_t"
    };
    let of = |owner| security(owner, "seLinuxOptions");
    let set = |options: &Value, field: &str| !text(options.get(field)).is_empty();
    let wrong = |options: &Value| !good(text(options.get("type"))) || set(options, "user") || set(options, "role");
    let names = pod.names(|container| of(container).is_some_and(wrong));
    let by = setters(of(pod.spec).is_some_and(wrong), &names)?;
    let all: Vec<&Value> = std::iter::once(pod.spec)
        .chain(pod.containers())
        .filter_map(of)
        .collect();
    let types: BTreeSet<&str> = all
        .iter()
        .map(|options| text(options.get("type")))
        .filter(|kind| !good(kind))
        .collect();
    let mut data = Vec::new();
    if !types.is_empty() {
        data.push(format!("{} {}", plural("type", "types", types.len()), quoted(types)));
    }
    for field in ["user", "role"] {
        if all.iter().any(|options| set(options, field)) {
            data.push(format!("{field} may not be set"));
        }
    }
    Some(Violation {
        reason: "seLinuxOptions",
        detail: format!("{by} set forbidden securityContext.seLinuxOptions: {}", data.join("; ")),
    })
}

/// Before 1.19, when profiles were annotations.
pub(super) fn seccomp_annotations(pod: Pod<'_>) -> Option<Violation> {
    let allowed =
        |value: &str| matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
    let of_container = |key: &str| {
        pod.containers()
            .any(|container| key.strip_prefix(SECCOMP_PREFIX) == Some(text(container.get("name"))))
    };
    let forbidden: BTreeSet<String> = annotations(pod, "")
        .filter(|(key, value)| (*key == SECCOMP_POD || of_container(key)) && !allowed(value))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    (!forbidden.is_empty()).then(|| Violation {
        reason: "seccompProfile",
        detail: format!(
            "forbidden {} {}",
            plural("annotation", "annotations", forbidden.len()),
            forbidden.into_iter().collect::<Vec<_>>().join(", ")
        ),
    })
}

pub(super) fn seccomp(pod: Pod<'_>) -> Option<Violation> {
    let wrong = |owner| security(owner, "seccompProfile").and_then(wrong_type);
    let names = pod.names(|container| wrong(container).is_some());
    let by = setters(wrong(pod.spec).is_some(), &names)?;
    let values: BTreeSet<&str> = std::iter::once(pod.spec)
        .chain(pod.containers())
        .filter_map(wrong)
        .collect();
    Some(Violation {
        reason: "seccompProfile",
        detail: format!(
            "{by} must not set securityContext.seccompProfile.type to {}",
            quoted(values)
        ),
    })
}

/// `minor`: of the version whose parameters are allowed.
pub(super) fn sysctls(pod: Pod<'_>, minor: i64) -> Option<Violation> {
    let allowed = |name: &str| SYSCTLS.iter().any(|(from, known)| *known == name && *from <= minor);
    let all = list(present(pod.spec, "securityContext"), "sysctls").iter();
    let forbidden: Vec<&str> = all
        .map(|sysctl| text(sysctl.get("name")))
        .filter(|name| !allowed(name))
        .collect();
    (!forbidden.is_empty()).then(|| Violation {
        reason: "forbidden sysctls",
        detail: forbidden.join(", "),
    })
}

pub(super) fn windows_host_process(pod: Pod<'_>) -> Option<Violation> {
    let set = |owner| {
        let options = security(owner, "windowsOptions");
        options.and_then(|options| options.get("hostProcess")?.as_bool()) == Some(true)
    };
    let by = setters(set(pod.spec), &pod.names(set))?;
    Some(Violation {
        reason: "hostProcess",
        detail: format!("{by} must not set securityContext.windowsOptions.hostProcess=true"),
    })
}
