//! What a pod's security context comes to: honoured, refused with a sentence, or told to be without effect. Never ignored
//! in silence. Pure.

use std::collections::BTreeMap;

use afloat_runtime::Seccomp;
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, SeccompProfile, SecurityContext,
};

use crate::pod::spec;

/// Kernel parameters that every pod may set, as they are its own (Kubernetes, "Using sysctls in a cluster").
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];
/// Annotation that asked for AppArmor profiles before the field did.
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// What the runtime is told of a container's security context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Security {
    pub(crate) read_only_root: bool,
    pub(crate) privileged: bool,
    pub(crate) add_capabilities: Vec<String>,
    pub(crate) drop_capabilities: Vec<String>,
    pub(crate) no_new_privileges: bool,
    pub(crate) seccomp: Seccomp,
}

fn of_pod(pod: &Pod) -> Option<&PodSecurityContext> {
    pod.spec.as_ref()?.security_context.as_ref()
}

fn contexts(pod: &Pod) -> impl Iterator<Item = &SecurityContext> {
    spec::all_containers(pod).filter_map(|container| container.security_context.as_ref())
}

/// The container's own values, or the pod's.
///
/// # Errors
/// What this node cannot give it.
pub(crate) fn of_container(pod: &Pod, container: &Container) -> Result<Security, String> {
    let context = container.security_context.clone().unwrap_or_default();
    let capabilities = context.capabilities.unwrap_or_default();
    let profile = context
        .seccomp_profile
        .as_ref()
        .or_else(|| of_pod(pod)?.seccomp_profile.as_ref());
    Ok(Security {
        read_only_root: context.read_only_root_filesystem == Some(true),
        privileged: context.privileged == Some(true),
        add_capabilities: capabilities.add.unwrap_or_default(),
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        no_new_privileges: context.allow_privilege_escalation == Some(false),
        seccomp: seccomp(profile)?,
    })
}

fn seccomp(profile: Option<&SeccompProfile>) -> Result<Seccomp, String> {
    let Some(profile) = profile else {
        return Ok(Seccomp::Unconfined);
    };
    match profile.type_.as_str() {
        "Unconfined" => Ok(Seccomp::Unconfined),
        "RuntimeDefault" => Ok(Seccomp::RuntimeDefault),
        kind => Err(format!(
            "seccompProfile of type {kind} ({}) is not supported by this node: use RuntimeDefault or Unconfined",
            profile.localhost_profile.as_deref().unwrap_or("no profile named")
        )),
    }
}

/// The kernel parameters that the pod sets.
pub(crate) fn sysctls(pod: &Pod) -> BTreeMap<String, String> {
    let list = of_pod(pod)
        .and_then(|context| context.sysctls.as_deref())
        .unwrap_or_default();
    list.iter()
        .map(|sysctl| (sysctl.name.replace('/', "."), sysctl.value.clone()))
        .collect()
}

/// Why the pod may not run on this node at all: reason and message, where the kubelet's admission has them.
pub(crate) fn rejection(pod: &Pod) -> Option<(&'static str, String)> {
    if let Some(name) = pod.spec.as_ref().and_then(|s| s.os.as_ref()).map(|os| os.name.as_str())
        && name != "linux"
    {
        let message = format!("Failed to admit pod as the OS field doesn't match node OS ({name})");
        return Some(("PodOSNotSupported", message));
    }
    for name in sysctls(pod).keys() {
        let safe = SAFE_SYSCTLS.contains(&name.as_str());
        if !safe {
            let message = format!("forbidden sysctl: {name:?} not allowlisted");
            return Some(("SysctlForbidden", message));
        }
        if spec::host_network(pod) && name.starts_with("net.") {
            let message = format!("forbidden sysctl: {name:?} not allowed with host net enabled");
            return Some(("SysctlForbidden", message));
        }
    }
    wants_apparmor(pod).then(|| {
        let message = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
        ("AppArmor", message.to_owned())
    })
}

fn wants_apparmor(pod: &Pod) -> bool {
    let asks = |profile: Option<&AppArmorProfile>| profile.is_some_and(|profile| profile.type_ != "Unconfined");
    let annotated = pod.metadata.annotations.iter().flatten();
    asks(of_pod(pod).and_then(|context| context.app_armor_profile.as_ref()))
        || contexts(pod).any(|context| asks(context.app_armor_profile.as_ref()))
        || annotated
            .filter(|(key, _)| key.starts_with(APPARMOR_ANNOTATION))
            .any(|(_, value)| value != "unconfined")
}

/// What the pod asks for that its sandbox cannot be made with.
pub(crate) fn unsupported(pod: &Pod) -> Option<String> {
    let pod_spec = pod.spec.as_ref()?;
    let wrong = |field: &str, why: &str| Some(format!("{field} is not supported by this node: {why}"));
    if pod_spec.host_users == Some(false) {
        return wrong("hostUsers: false", "pods have no user namespaces of their own");
    }
    if let Some(name) = pod_spec.runtime_class_name.as_deref().filter(|name| !name.is_empty()) {
        return Some(format!(
            "RuntimeClass {name:?} not found: this node has one runtime, leave it out"
        ));
    }
    None
}

/// What the pod asks for that has no effect here, as on any node without SELinux or Windows: an event says so.
pub(crate) fn ignored(pod: &Pod) -> Option<String> {
    let context = of_pod(pod);
    let selinux = context.is_some_and(|c| c.se_linux_options.is_some())
        || contexts(pod).any(|context| context.se_linux_options.is_some());
    let windows = context.is_some_and(|c| c.windows_options.is_some())
        || contexts(pod).any(|context| context.windows_options.is_some());
    let mut fields = vec![];
    if selinux {
        fields.push("seLinuxOptions (SELinux is not enabled on this node)");
    }
    if windows {
        fields.push("windowsOptions (this node runs Linux)");
    }
    (!fields.is_empty()).then(|| format!("without effect: securityContext.{}", fields.join(", securityContext.")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(context: Value, container: Value, more: Value) -> Pod {
        let mut spec = json!({
            "securityContext": context, "containers": [{"name": "c", "image": "i", "securityContext": container}],
        });
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn security(context: Value, container: Value) -> Result<Security, String> {
        let pod = pod(context, container, json!({}));
        of_container(&pod, &spec::containers(&pod)[0])
    }

    #[test]
    fn the_containers_own_profile_counts_before_the_pods() {
        let profile = |kind: &str| json!({"seccompProfile": {"type": kind, "localhostProfile": "x.json"}});
        let found = |of_pod, own| security(of_pod, own).map(|security| security.seccomp);
        assert_eq!(found(json!({}), json!({})), Ok(Seccomp::Unconfined));
        assert_eq!(found(profile("RuntimeDefault"), json!({})), Ok(Seccomp::RuntimeDefault));
        assert_eq!(
            found(profile("RuntimeDefault"), profile("Unconfined")),
            Ok(Seccomp::Unconfined)
        );
        let error = found(json!({}), profile("Localhost")).unwrap_err();
        assert!(error.contains("Localhost (x.json) is not supported"), "{error}");
    }

    #[test]
    fn a_containers_context_becomes_the_runtimes() {
        let own = json!({
            "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
        });
        let expected = Security {
            read_only_root: true,
            add_capabilities: vec!["NET_ADMIN".into()],
            drop_capabilities: vec!["ALL".into()],
            no_new_privileges: true,
            ..Security::default()
        };
        assert_eq!(security(json!({}), own), Ok(expected));
    }

    #[test]
    fn what_the_kubelet_does_not_admit_is_rejected_in_its_words() {
        let sysctl = |name: &str| json!({"sysctls": [{"name": name, "value": "1"}]});
        let reason = |pod: Pod| rejection(&pod).map(|(reason, _)| reason);
        let plain = |context| pod(context, json!({}), json!({}));
        assert_eq!(reason(plain(json!({}))), None);
        assert_eq!(reason(plain(sysctl("net.ipv4.tcp_syncookies"))), None);
        assert_eq!(reason(plain(sysctl("net/ipv4/tcp_wmem"))), None);
        assert_eq!(reason(plain(sysctl("kernel.msgmax"))), Some("SysctlForbidden"));
        let on_host = pod(
            sysctl("net.ipv4.tcp_syncookies"),
            json!({}),
            json!({"hostNetwork": true}),
        );
        assert_eq!(reason(on_host), Some("SysctlForbidden"));
        let armed = |kind: &str| json!({"appArmorProfile": {"type": kind}});
        assert_eq!(reason(plain(armed("RuntimeDefault"))), Some("AppArmor"));
        assert_eq!(reason(plain(armed("Unconfined"))), None);
        assert_eq!(
            reason(pod(json!({}), armed("RuntimeDefault"), json!({}))),
            Some("AppArmor")
        );
        let windows = pod(json!({}), json!({}), json!({"os": {"name": "windows"}}));
        assert_eq!(reason(windows), Some("PodOSNotSupported"));
    }

    #[test]
    fn what_cannot_be_had_is_said() {
        let with = |more| pod(json!({}), json!({}), more);
        let shared = json!({"hostPID": true, "hostIPC": true, "hostNetwork": true});
        assert_eq!(unsupported(&with(shared)), None);
        for (more, word) in [
            (json!({"hostUsers": false}), "hostUsers"),
            (json!({"runtimeClassName": "gvisor"}), "gvisor"),
        ] {
            let said = unsupported(&with(more)).unwrap_or_default();
            assert!(said.contains(word), "{said}");
        }
        let selinux = pod(json!({"seLinuxOptions": {"level": "s0"}}), json!({}), json!({}));
        assert!(ignored(&selinux).is_some_and(|text| text.contains("seLinuxOptions")));
        let windows = pod(json!({}), json!({"windowsOptions": {}}), json!({}));
        assert!(ignored(&windows).is_some_and(|text| text.contains("windowsOptions")));
        assert_eq!(ignored(&with(json!({}))), None);
    }
}
