//! Checks of security contexts and of what ties a pod to its host (Kubernetes' `ValidatePodSecurityContext`,
//! `ValidateSecurityContext`, `validatePodDNSConfig`, `ValidateHostAliases`).

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::FieldError;
use crate::field::{child, duplicate, forbidden, index, invalid, not_supported, required};
use crate::json::{list, text};
use crate::names;

const IDS: &str = "must be between 0 and 2147483647, inclusive";
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;
/// Signals that a container may be asked to stop with (KEP-4960), besides `SIGRTMIN` and its like.
const SIGNALS: &[&str] = &[
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGRTMIN",
    "SIGRTMAX",
];

/// Checks a PodSpec at `path`.
pub(crate) fn spec(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let context = spec.get("securityContext").unwrap_or(&Value::Null);
    let place = child(path, "securityContext");
    both(context, &place, errors);
    id(context, "fsGroup", &place, errors);
    for (i, group) in list(Some(context), "supplementalGroups").iter().enumerate() {
        in_range(group, &index(child(&place, "supplementalGroups").as_str(), i), errors);
    }
    one_of(
        context,
        "fsGroupChangePolicy",
        &place,
        &["OnRootMismatch", "Always"],
        errors,
    );
    one_of(
        context,
        "supplementalGroupsPolicy",
        &place,
        &["Merge", "Strict"],
        errors,
    );
    sysctls(context, &place, errors);
    let both_set = ["hostPID", "shareProcessNamespace"]
        .iter()
        .all(|key| spec.get(key) == Some(&json!(true)));
    if both_set {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(invalid(child(path, "shareProcessNamespace"), true, detail));
    }
    let os = text(spec.get("os").and_then(|os| os.get("name")));
    if spec.get("os").is_some_and(|os| !os.is_null()) && !["linux", "windows"].contains(&os) {
        errors.push(not_supported(child(path, "os.name"), os, &["linux", "windows"]));
    }
    if os == "linux" && present(context, "windowsOptions") {
        let detail = "windows options cannot be set for a linux pod";
        errors.push(forbidden(child(&place, "windowsOptions"), detail));
    }
    for key in ["initContainers", "containers", "ephemeralContainers"] {
        for (i, one) in list(Some(spec), key).iter().enumerate() {
            container(one, spec, os, &index(child(path, key).as_str(), i), errors);
        }
    }
    host_aliases(spec, path, errors);
    dns(spec, path, errors);
}

fn container(container: &Value, spec: &Value, os: &str, path: &str, errors: &mut Vec<FieldError>) {
    stop_signal(container, os, path, errors);
    if spec.get("hostNetwork") == Some(&json!(true)) {
        for (i, port) in list(Some(container), "ports").iter().enumerate() {
            let (inside, outside) = (port.get("containerPort"), port.get("hostPort"));
            if outside.is_some_and(|n| n.as_i64() != Some(0) && Some(n) != inside) {
                let field = child(&index(child(path, "ports").as_str(), i), "containerPort");
                let detail = "must match `hostPort` when `hostNetwork` is true";
                errors.push(invalid(field, inside.cloned().unwrap_or_default(), detail));
            }
        }
    }
    let Some(context) = container.get("securityContext").filter(|c| !c.is_null()) else {
        return;
    };
    let path = child(path, "securityContext");
    both(context, &path, errors);
    one_of(context, "procMount", &path, &["Default", "Unmasked"], errors);
    if text(context.get("procMount")) == "Unmasked" && spec.get("hostUsers") != Some(&json!(false)) {
        let detail = "`hostUsers` must be false to use `Unmasked`";
        errors.push(invalid(child(&path, "procMount"), "Unmasked", detail));
    }
    if context.get("allowPrivilegeEscalation") == Some(&json!(false)) {
        if context.get("privileged") == Some(&json!(true)) {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(invalid(path.as_str(), context.clone(), detail));
        }
        if list(context.get("capabilities"), "add").contains(&json!("CAP_SYS_ADMIN")) {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(invalid(path.as_str(), context.clone(), detail));
        }
    }
    if os == "linux" && present(context, "windowsOptions") {
        let detail = "windows options cannot be set for a linux pod";
        errors.push(forbidden(child(&path, "windowsOptions"), detail));
    }
}

/// What pods' and containers' contexts have in common.
fn both(context: &Value, path: &str, errors: &mut Vec<FieldError>) {
    id(context, "runAsUser", path, errors);
    id(context, "runAsGroup", path, errors);
    for key in ["seccompProfile", "appArmorProfile"] {
        if let Some(profile) = context.get(key).filter(|p| !p.is_null()) {
            self::profile(profile, &child(path, key), errors);
        }
    }
}

fn profile(profile: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let kinds = ["Localhost", "RuntimeDefault", "Unconfined"];
    let (kind, local) = (text(profile.get("type")), text(profile.get("localhostProfile")));
    match kind {
        "" => errors.push(required(child(path, "type"), "type is required")),
        "Localhost" if local.is_empty() => errors.push(required(
            child(path, "localhostProfile"),
            "must be set when type is Localhost",
        )),
        "Localhost" if local.starts_with('/') || local.split('/').any(|part| part == "..") => {
            let detail = "must be a relative path that does not contain '..'";
            errors.push(invalid(child(path, "localhostProfile"), local, detail));
        }
        "RuntimeDefault" | "Unconfined" if present(profile, "localhostProfile") => {
            let detail = "can only be set when type is Localhost";
            errors.push(invalid(child(path, "localhostProfile"), local, detail));
        }
        known if kinds.contains(&known) => {}
        other => errors.push(not_supported(child(path, "type"), other, &kinds)),
    }
}

fn sysctls(context: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (i, sysctl) in list(Some(context), "sysctls").iter().enumerate() {
        let field = child(&index(child(path, "sysctls").as_str(), i), "name");
        let name = text(sysctl.get("name"));
        let segment = |part: &str| {
            let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
            !part.is_empty() && part.bytes().all(inner) && !part.starts_with(['-', '_']) && !part.ends_with(['-', '_'])
        };
        if name.is_empty() {
            errors.push(required(field, ""));
        } else if name.len() > 253 || !name.split(['.', '/']).all(segment) {
            let detail =
                "must have at most 253 characters and match segments of lower case letters, digits, '-' and '_'";
            errors.push(invalid(field, name, detail));
        } else if !seen.insert(name) {
            errors.push(duplicate(field, name));
        }
    }
}

fn stop_signal(container: &Value, os: &str, path: &str, errors: &mut Vec<FieldError>) {
    let signal = text(container.get("lifecycle").and_then(|l| l.get("stopSignal")));
    if signal.is_empty() {
        return;
    }
    let field = child(&child(path, "lifecycle"), "stopSignal");
    let allowed = if os == "windows" {
        &["SIGTERM", "SIGKILL"][..]
    } else {
        SIGNALS
    };
    let real_time = |prefix: &str, range: std::ops::RangeInclusive<u8>| {
        let offset = signal.strip_prefix(prefix).and_then(|n| n.parse::<u8>().ok());
        os != "windows" && offset.is_some_and(|n| range.contains(&n))
    };
    if os.is_empty() {
        errors.push(forbidden(
            field,
            "may not be set for containers with empty `spec.os.name`",
        ));
    } else if !allowed.contains(&signal) && !real_time("SIGRTMIN+", 1..=15) && !real_time("SIGRTMAX-", 1..=14) {
        errors.push(not_supported(field, signal, allowed));
    }
}

fn host_aliases(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for (i, alias) in list(Some(spec), "hostAliases").iter().enumerate() {
        let path = index(child(path, "hostAliases").as_str(), i);
        ip(alias.get("ip"), &child(&path, "ip"), errors);
        for (j, name) in list(Some(alias), "hostnames").iter().enumerate() {
            let field = index(child(&path, "hostnames").as_str(), j);
            let problems = names::dns_subdomain(text(Some(name)));
            errors.extend(problems.iter().map(|p| invalid(field.as_str(), name.clone(), p)));
        }
    }
}

fn dns(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let config = spec.get("dnsConfig").filter(|c| !c.is_null());
    let path = child(path, "dnsConfig");
    let servers = list(config, "nameservers");
    let field = child(&path, "nameservers");
    if text(spec.get("dnsPolicy")) == "None" && servers.is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.push(required(
            if config.is_none() { path.clone() } else { field.clone() },
            detail,
        ));
    }
    if servers.len() > NAMESERVERS_MAX {
        let detail = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.push(invalid(field.as_str(), json!(servers), &detail));
    }
    for (i, server) in servers.iter().enumerate() {
        ip(Some(server), &index(field.as_str(), i), errors);
    }
    let searches = list(config, "searches");
    let field = child(&path, "searches");
    if searches.len() > SEARCHES_MAX {
        let detail = format!("must not have more than {SEARCHES_MAX} search paths");
        errors.push(invalid(field.as_str(), json!(searches), &detail));
    }
    let texts: Vec<&str> = searches.iter().map(|s| text(Some(s))).collect();
    if texts.join(" ").len() > SEARCH_CHARS_MAX {
        let detail =
            format!("must not have more than {SEARCH_CHARS_MAX} characters (including spaces) in the search list");
        errors.push(invalid(field.as_str(), json!(searches), &detail));
    }
    for (i, option) in list(config, "options").iter().enumerate() {
        if text(option.get("name")).is_empty() {
            errors.push(required(child(&index(child(&path, "options").as_str(), i), "name"), ""));
        }
    }
}

fn present(parent: &Value, key: &str) -> bool {
    parent.get(key).is_some_and(|value| !value.is_null())
}

fn one_of(parent: &Value, key: &str, path: &str, allowed: &[&str], errors: &mut Vec<FieldError>) {
    let value = text(parent.get(key));
    if present(parent, key) && !allowed.contains(&value) {
        errors.push(not_supported(child(path, key), value, allowed));
    }
}

fn id(parent: &Value, key: &str, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(value) = parent.get(key).filter(|v| !v.is_null()) {
        in_range(value, &child(path, key), errors);
    }
}

fn in_range(value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if !value.as_i64().is_some_and(|id| (0..=2_147_483_647).contains(&id)) {
        errors.push(invalid(path, value.clone(), IDS));
    }
}

fn ip(value: Option<&Value>, path: &str, errors: &mut Vec<FieldError>) {
    if text(value).parse::<IpAddr>().is_err() {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.push(invalid(path, text(value), detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields that are refused.
    fn refused(pod_spec: Value) -> Vec<String> {
        let mut errors = vec![];
        spec(&pod_spec, "spec", &mut errors);
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn what_is_right_passes() {
        let good = json!({
            "os": {"name": "linux"}, "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a"], "options": [{"name": "ndots", "value": "2"}]},
            "hostAliases": [{"ip": "10.1.2.3", "hostnames": ["db.example"]}],
            "securityContext": {
                "runAsUser": 1000, "fsGroup": 2000, "supplementalGroups": [1, 2], "fsGroupChangePolicy": "Always",
                "sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}], "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{"name": "c", "lifecycle": {"stopSignal": "SIGRTMIN+3"}, "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "procMount": "Default",
                "seccompProfile": {"type": "Localhost", "localhostProfile": "p/a.json"},
            }}],
        });
        assert_eq!(refused(good), [""; 0]);
    }

    #[test]
    #[allow(clippy::too_many_lines, reason = "one table of cases")]
    fn each_mistake_is_told_by_its_field() {
        let container = |own: Value| json!({"containers": [own]});
        let context = |own: Value| json!({"containers": [{"securityContext": own}]});
        let cases = [
            (
                json!({"securityContext": {"runAsUser": -1}}),
                "spec.securityContext.runAsUser",
            ),
            (
                json!({"securityContext": {"supplementalGroups": [0, -2]}}),
                "spec.securityContext.supplementalGroups[1]",
            ),
            (
                json!({"securityContext": {"fsGroupChangePolicy": "Never"}}),
                "spec.securityContext.fsGroupChangePolicy",
            ),
            (
                json!({"securityContext": {"sysctls": [{"name": "Net.X", "value": ""}]}}),
                "spec.securityContext.sysctls[0].name",
            ),
            (
                json!({"securityContext": {"seccompProfile": {"type": "Strict"}}}),
                "spec.securityContext.seccompProfile.type",
            ),
            (
                json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}}),
                "spec.securityContext.seccompProfile.localhostProfile",
            ),
            (
                json!({"securityContext": {"appArmorProfile": {"type": "Unconfined", "localhostProfile": "x"}}}),
                "spec.securityContext.appArmorProfile.localhostProfile",
            ),
            (
                json!({"hostPID": true, "shareProcessNamespace": true}),
                "spec.shareProcessNamespace",
            ),
            (json!({"os": {"name": "plan9"}}), "spec.os.name"),
            (json!({"hostAliases": [{"ip": "host"}]}), "spec.hostAliases[0].ip"),
            (
                json!({"hostAliases": [{"ip": "1.1.1.1", "hostnames": ["A_b"]}]}),
                "spec.hostAliases[0].hostnames[0]",
            ),
            (json!({"dnsPolicy": "None"}), "spec.dnsConfig"),
            (
                json!({"dnsConfig": {"nameservers": ["one"]}}),
                "spec.dnsConfig.nameservers[0]",
            ),
            (
                json!({"dnsConfig": {"nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"]}}),
                "spec.dnsConfig.nameservers",
            ),
            (
                json!({"dnsConfig": {"options": [{"value": "1"}]}}),
                "spec.dnsConfig.options[0].name",
            ),
            (
                container(json!({"lifecycle": {"stopSignal": "SIGUSR1"}})),
                "spec.containers[0].lifecycle.stopSignal",
            ),
            (
                json!({"os": {"name": "linux"}, "containers": [{"lifecycle": {"stopSignal": "SIGNOPE"}}]}),
                "spec.containers[0].lifecycle.stopSignal",
            ),
            (
                json!({"hostNetwork": true, "containers": [{"ports": [{"containerPort": 80, "hostPort": 81}]}]}),
                "spec.containers[0].ports[0].containerPort",
            ),
            (
                context(json!({"runAsGroup": "root"})),
                "spec.containers[0].securityContext.runAsGroup",
            ),
            (
                context(json!({"procMount": "Unmasked"})),
                "spec.containers[0].securityContext.procMount",
            ),
            (
                context(json!({"privileged": true, "allowPrivilegeEscalation": false})),
                "spec.containers[0].securityContext",
            ),
            (
                json!({"os": {"name": "linux"}, "securityContext": {"windowsOptions": {}}}),
                "spec.securityContext.windowsOptions",
            ),
        ];
        for (spec, field) in cases {
            assert_eq!(refused(spec.clone()), [field], "{spec}");
        }
    }
}
