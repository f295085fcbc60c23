//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a pod.

use std::fs;
use std::io;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;

use crate::dirs::PodDirs;
use crate::pod::spec;

/// How names are resolved in the cluster.
#[derive(Clone, Debug)]
pub(crate) struct NameServices {
    pub(crate) dns: Option<IpAddr>,
    /// The node's own resolv.conf.
    pub(crate) of_node: String,
    /// `cluster.local`.
    pub(crate) domain: String,
    /// The node's name.
    pub(crate) node: String,
}

/// Longest host name of a kernel (HOST_NAME_MAX).
const HOST_NAME_MAX: usize = 64;

/// The host name that a pod's processes see: its own; with `setHostnameAsFQDN` the full one; in the node's network the
/// node's.
pub(crate) fn host_name(pod: &Pod, names: &NameServices) -> Result<String, String> {
    let pod_spec = pod.spec.as_ref();
    if spec::host_network(pod) {
        return Ok(names.node.clone());
    }
    match full_name(pod, &names.domain) {
        Some(full) if pod_spec.and_then(|s| s.set_hostname_as_fqdn) == Some(true) => {
            if full.len() > HOST_NAME_MAX {
                let length = full.len();
                return Err(format!(
                    "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long \
                     ({HOST_NAME_MAX} characters is the max, {length} characters requested)"
                ));
            }
            Ok(full)
        }
        _ => Ok(hostname(pod)),
    }
}

/// `web-0.web.shop.svc.cluster.local`, if the pod has a subdomain.
fn full_name(pod: &Pod, domain: &str) -> Option<String> {
    let subdomain = pod.spec.as_ref()?.subdomain.as_deref().filter(|s| !s.is_empty())?;
    Some(format!(
        "{}.{subdomain}.{}.svc.{domain}",
        hostname(pod),
        spec::namespace(pod)
    ))
}

/// `spec.hostname` or the pod's own name, at most 63 bytes.
fn hostname(pod: &Pod) -> String {
    let name = pod
        .spec
        .as_ref()
        .and_then(|s| s.hostname.as_deref())
        .unwrap_or(spec::name(pod));
    name.chars()
        .take(63)
        .collect::<String>()
        .trim_end_matches(['-', '.'])
        .to_owned()
}

/// Writes the three files. They are bind-mounted, so they are written in place: a rename would not be seen.
pub(crate) fn write_etc(pod: &Pod, dirs: &PodDirs, ip: IpAddr, names: &NameServices) -> io::Result<()> {
    let etc = dirs.etc();
    fs::create_dir_all(&etc)?;
    fs::write(etc.join("hosts"), hosts(pod, ip, names))?;
    let own = host_name(pod, names).map_err(io::Error::other)?;
    fs::write(etc.join("hostname"), format!("{own}\n"))?;
    fs::write(etc.join("resolv.conf"), resolv_conf(pod, names))
}

fn hosts(pod: &Pod, ip: IpAddr, names: &NameServices) -> String {
    let hostname = hostname(pod);
    let mut text = String::from(if spec::host_network(pod) {
        "# Kubernetes-managed hosts file (host network).\n"
    } else {
        "# Kubernetes-managed hosts file.\n"
    });
    text.push_str(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    let pod_spec = pod.spec.as_ref();
    match full_name(pod, &names.domain) {
        _ if spec::host_network(pod) => text.push_str(&format!("{ip}\t{}\n", names.node)),
        Some(full) => text.push_str(&format!("{ip}\t{full}\t{hostname}\n")),
        None => text.push_str(&format!("{ip}\t{hostname}\n")),
    }
    let aliases = pod_spec.and_then(|s| s.host_aliases.as_deref()).unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        text.push_str(&format!(
            "{}\t{}\n",
            alias.ip,
            alias.hostnames.clone().unwrap_or_default().join("\t")
        ));
    }
    text
}

fn resolv_conf(pod: &Pod, names: &NameServices) -> String {
    let pod_spec = pod.spec.as_ref();
    let policy = pod_spec.and_then(|s| s.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let of_host = policy == "Default" || policy == "ClusterFirst" && spec::host_network(pod);
    let mut servers: Vec<String> = vec![];
    let mut searches: Vec<String> = vec![];
    let mut options: Vec<String> = vec![];
    match names.dns {
        _ if policy == "None" => {}
        Some(dns) if !of_host => {
            let domain = &names.domain;
            servers.push(dns.to_string());
            searches.extend([
                format!("{}.svc.{domain}", spec::namespace(pod)),
                format!("svc.{domain}"),
                domain.clone(),
            ]);
            options.push("ndots:5".to_owned());
        }
        _ => {
            for line in names.of_node.lines() {
                let mut words = line.split_whitespace();
                let list = match words.next() {
                    Some("nameserver") => &mut servers,
                    Some("search") => &mut searches,
                    Some("options") => &mut options,
                    _ => continue,
                };
                list.extend(words.map(str::to_owned));
            }
        }
    }
    if let Some(config) = pod_spec.and_then(|s| s.dns_config.as_ref()) {
        servers.extend(config.nameservers.iter().flatten().cloned());
        searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let Some(name) = option.name.as_deref() else { continue };
            // The pod's own value replaces the policy's.
            options.retain(|known| known.split(':').next() != Some(name));
            options.push(match option.value.as_deref() {
                Some(value) => format!("{name}:{value}"),
                None => name.to_owned(),
            });
        }
    }
    // Each once, as the kubelet has it (`omitDuplicates`).
    for list in [&mut servers, &mut searches] {
        let mut seen = std::collections::BTreeSet::new();
        list.retain(|entry| seen.insert(entry.clone()));
    }
    let mut text = String::new();
    if !searches.is_empty() {
        text.push_str(&format!("search {}\n", searches.join(" ")));
    }
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        let json = serde_json::json!({"metadata": {"name": "web-0", "namespace": "shop"}, "spec": spec});
        serde_json::from_value(json).unwrap()
    }

    fn names() -> NameServices {
        NameServices {
            dns: "10.96.0.10".parse().ok(),
            of_node: "search x y\nnameserver 9.9.9.9\noptions edns0\n".into(),
            domain: "cluster.local".into(),
            node: "node-1".into(),
        }
    }

    #[test]
    fn names_are_resolved_as_the_policy_says() {
        let cluster =
            "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n";
        let node = "search x y\nnameserver 9.9.9.9\noptions edns0\n";
        let own = serde_json::json!({
            "nameservers": ["1.1.1.1"], "searches": ["own", "svc.cluster.local"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}],
        });
        let cases = [
            (serde_json::json!({}), cluster.to_owned()),
            (serde_json::json!({"dnsPolicy": "ClusterFirst"}), cluster.to_owned()),
            (
                serde_json::json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}),
                node.to_owned(),
            ),
            (
                serde_json::json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}),
                cluster.to_owned(),
            ),
            (serde_json::json!({"dnsPolicy": "Default"}), node.to_owned()),
            (
                serde_json::json!({"dnsPolicy": "None", "dnsConfig": own}),
                "search own svc.cluster.local\nnameserver 1.1.1.1\noptions ndots:2 rotate\n".to_owned(),
            ),
            (
                serde_json::json!({"dnsConfig": own}),
                "search shop.svc.cluster.local svc.cluster.local cluster.local own\nnameserver 10.96.0.10\n\
                 nameserver 1.1.1.1\noptions ndots:2 rotate\n"
                    .to_owned(),
            ),
        ];
        for (mut spec, expected) in cases {
            spec["containers"] = serde_json::json!([]);
            assert_eq!(resolv_conf(&pod(spec.clone()), &names()), expected, "{spec}");
        }
    }

    #[test]
    fn hosts_has_the_pod_and_its_aliases() {
        let pod = pod(
            serde_json::json!({"containers": [], "subdomain": "web", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}),
        );
        let text = hosts(&pod, "10.244.0.5".parse().unwrap(), &names());
        assert!(
            text.contains("10.244.0.5\tweb-0.web.shop.svc.cluster.local\tweb-0\n"),
            "{text}"
        );
        assert!(
            text.ends_with("# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"),
            "{text}"
        );
    }

    #[test]
    fn the_host_name_is_the_pods_its_full_one_or_the_nodes() {
        let cases = [
            (serde_json::json!({}), Ok("web-0")),
            (
                serde_json::json!({"hostname": "own", "setHostnameAsFQDN": true}),
                Ok("own"),
            ),
            (
                serde_json::json!({"hostname": "own", "subdomain": "web", "setHostnameAsFQDN": true}),
                Ok("own.web.shop.svc.cluster.local"),
            ),
            (serde_json::json!({"subdomain": "web"}), Ok("web-0")),
            (
                serde_json::json!({"hostNetwork": true, "hostname": "own"}),
                Ok("node-1"),
            ),
            (
                serde_json::json!({"hostname": "x".repeat(63), "subdomain": "web", "setHostnameAsFQDN": true}),
                Err("too long (64 characters is the max, 90 characters requested)"),
            ),
        ];
        for (mut spec, expected) in cases {
            spec["containers"] = serde_json::json!([]);
            match (host_name(&pod(spec.clone()), &names()), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, expected) => panic!("{spec}: {found:?} instead of {expected:?}"),
            }
        }
    }
}
