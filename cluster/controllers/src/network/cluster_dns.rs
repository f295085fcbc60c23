//! The Service `kube-dns` in namespace `kube-system`: where pods find the cluster's DNS server.
//!
//! That server listens on the Service's address itself, so the Service has no endpoints and says to proxies, by the label
//! that Kubernetes has for that, that it is not theirs: each look-up would be a flow of its own for them.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

const NAME: &str = "kube-dns";
const NAMESPACE: &str = "kube-system";
/// Well-known label: another proxy than kube-proxy looks after the Service (KEP-2447).
const SERVICE_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

/// The address of the DNS server: the tenth of the range, as kubeadm has it.
pub fn address((network, _): (Ipv4Addr, u8)) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(network).saturating_add(10))
}

/// The Service.
pub(super) fn service(address: Ipv4Addr) -> Value {
    json!({
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {
            "k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS",
            SERVICE_PROXY_NAME: "afloat-dns",
        }},
        "spec": {
            "clusterIP": address.to_string(), "type": "ClusterIP",
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
            ],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_where_pods_are_told_to_ask() {
        let address = address((Ipv4Addr::new(10, 96, 0, 0), 16));
        assert_eq!(service(address)["spec"]["clusterIP"], "10.96.0.10");
        assert_eq!(service(address)["metadata"]["labels"][SERVICE_PROXY_NAME], "afloat-dns");
    }
}
