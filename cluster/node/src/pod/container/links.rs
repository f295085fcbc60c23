//! Variables that tell a container of the Services in its namespace, as Docker's links had them (Kubernetes, "Accessing the
//! Service", environment variables; `enableServiceLinks`). Pure.

use std::collections::BTreeMap;

use afloat_words::key::Key;
use k8s_openapi::api::core::v1::{Pod, Service};

use crate::pod::spec;

/// Where the API server's own Service is, which every pod is told of.
const MASTER: (&str, &str) = ("default", "kubernetes");

/// What is kept of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Linked {
    pub(crate) key: Key,
    /// Empty: it has no address of its own.
    ip: String,
    ports: Vec<Port>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    name: String,
    number: i32,
    protocol: String,
}

/// All Services, by namespace and name.
pub(crate) type Services = BTreeMap<Key, Linked>;

impl Linked {
    pub(crate) fn of(service: Service) -> Self {
        let key = Key::of(&service.metadata);
        let spec = service.spec.unwrap_or_default();
        let port = |port: k8s_openapi::api::core::v1::ServicePort| Port {
            name: port.name.unwrap_or_default(),
            number: port.port,
            protocol: port.protocol.unwrap_or_else(|| "TCP".to_owned()),
        };
        Self {
            key,
            ip: spec.cluster_ip.filter(|ip| ip != "None").unwrap_or_default(),
            ports: spec.ports.into_iter().flatten().map(port).collect(),
        }
    }

    /// `NAME_SERVICE_HOST` and its like, in the kubelet's order (`pkg/kubelet/envvars`).
    fn variables(&self) -> Vec<(String, String)> {
        let (name, ip) = (upper(&self.key.name), &self.ip);
        let Some(first) = self.ports.first().filter(|_| !ip.is_empty()) else {
            return vec![];
        };
        let mut all = vec![
            (format!("{name}_SERVICE_HOST"), ip.clone()),
            (format!("{name}_SERVICE_PORT"), first.number.to_string()),
        ];
        let named = self.ports.iter().filter(|port| !port.name.is_empty());
        all.extend(named.map(|port| {
            (
                format!("{name}_SERVICE_PORT_{}", upper(&port.name)),
                port.number.to_string(),
            )
        }));
        let place = if ip.contains(':') {
            format!("[{ip}]")
        } else {
            ip.clone()
        };
        let url = |port: &Port| format!("{}://{place}:{}", port.protocol.to_lowercase(), port.number);
        all.push((format!("{name}_PORT"), url(first)));
        for port in &self.ports {
            let prefix = format!("{name}_PORT_{}_{}", port.number, port.protocol.to_uppercase());
            all.extend([
                (prefix.clone(), url(port)),
                (format!("{prefix}_PROTO"), port.protocol.to_lowercase()),
                (format!("{prefix}_PORT"), port.number.to_string()),
                (format!("{prefix}_ADDR"), ip.clone()),
            ]);
        }
        all
    }
}

fn upper(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

/// Of the API server's Service, and of those in the pod's namespace unless it does not want to know; one of them that has the
/// API server's name takes its place.
pub(crate) fn variables(pod: &Pod, services: &Services) -> Vec<(String, String)> {
    let wants_all = pod.spec.as_ref().and_then(|spec| spec.enable_service_links) != Some(false);
    let namespace = spec::namespace(pod);
    let mut told: BTreeMap<&str, &Linked> = BTreeMap::new();
    let master = services.get(&Key::new(MASTER.0, MASTER.1));
    told.extend(master.map(|service| (MASTER.1, service)));
    if wants_all {
        let here = services
            .range(Key::new(namespace, "")..)
            .take_while(|(key, _)| &*key.namespace == namespace);
        told.extend(here.filter(|(_, s)| !s.ip.is_empty()).map(|(key, s)| (&*key.name, s)));
    }
    told.into_values().flat_map(Linked::variables).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn services(list: &[(&str, &str, Value)]) -> Services {
        let linked = |(namespace, name, spec): &(&str, &str, Value)| {
            let text = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
            Linked::of(serde_json::from_value(text).unwrap())
        };
        list.iter()
            .map(linked)
            .map(|linked| (linked.key.clone(), linked))
            .collect()
    }

    fn told(namespace: &str, links: Value, services: &Services) -> Vec<String> {
        let pod = json!({"metadata": {"name": "p", "namespace": namespace}, "spec": {"containers": [], "enableServiceLinks": links}});
        let all = variables(&serde_json::from_value(pod).unwrap(), services);
        all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn a_service_is_told_in_the_documented_form() {
        let redis = json!({"clusterIP": "10.0.0.11", "ports": [{"port": 6379}]});
        let services = services(&[("n", "redis-primary", redis)]);
        assert_eq!(
            told("n", json!(null), &services),
            [
                "REDIS_PRIMARY_SERVICE_HOST=10.0.0.11",
                "REDIS_PRIMARY_SERVICE_PORT=6379",
                "REDIS_PRIMARY_PORT=tcp://10.0.0.11:6379",
                "REDIS_PRIMARY_PORT_6379_TCP=tcp://10.0.0.11:6379",
                "REDIS_PRIMARY_PORT_6379_TCP_PROTO=tcp",
                "REDIS_PRIMARY_PORT_6379_TCP_PORT=6379",
                "REDIS_PRIMARY_PORT_6379_TCP_ADDR=10.0.0.11",
            ]
        );
    }

    #[test]
    fn ports_have_names_protocols_and_families() {
        let dns = json!({"clusterIP": "fd00::a", "ports": [
            {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]});
        let all = told("n", json!(true), &services(&[("n", "d", dns)]));
        for line in [
            "D_SERVICE_PORT_DNS=53",
            "D_SERVICE_PORT_DNS_TCP=53",
            "D_PORT=udp://[fd00::a]:53",
            "D_PORT_53_UDP=udp://[fd00::a]:53",
            "D_PORT_53_TCP_ADDR=fd00::a",
        ] {
            assert!(all.iter().any(|known| known == line), "{line}: {all:?}");
        }
    }

    #[test]
    fn whoever_wants_no_links_is_told_of_the_api_server_alone() {
        let with = |ip: &str| json!({"clusterIP": ip, "ports": [{"port": 1}]});
        let all = services(&[
            ("default", "kubernetes", with("10.0.0.1")),
            ("default", "other", with("10.0.0.2")),
            ("n", "web", with("10.0.0.3")),
            ("n", "headless", with("None")),
            ("n", "elsewhere", json!({"externalName": "a.example"})),
            ("n2", "web2", with("10.0.0.4")),
        ]);
        let hosts = |namespace: &str, links: bool| {
            let mut told = told(namespace, json!(links), &all);
            told.retain(|line| line.contains("_SERVICE_HOST="));
            told
        };
        assert_eq!(hosts("n", false), ["KUBERNETES_SERVICE_HOST=10.0.0.1"]);
        assert_eq!(
            hosts("n", true),
            ["KUBERNETES_SERVICE_HOST=10.0.0.1", "WEB_SERVICE_HOST=10.0.0.3"]
        );
        assert_eq!(
            hosts("default", true),
            ["KUBERNETES_SERVICE_HOST=10.0.0.1", "OTHER_SERVICE_HOST=10.0.0.2"]
        );
        let own = services(&[
            ("default", "kubernetes", with("10.0.0.1")),
            ("n", "kubernetes", with("10.0.0.9")),
        ]);
        assert_eq!(told("n", json!(true), &own)[0], "KUBERNETES_SERVICE_HOST=10.0.0.9");
    }
}
