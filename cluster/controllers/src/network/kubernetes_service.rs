//! The `kubernetes` Service in namespace `default`, behind which pods find the API server.

use std::net::{Ipv4Addr, SocketAddrV4};

use serde_json::{Value, json};

use crate::objects::service::{SERVICE_NAME, SKIP_MIRROR};

const NAME: &str = "kubernetes";
const NAMESPACE: &str = "default";

/// The Service's address: the first of the range.
pub(super) fn address((network, _): (Ipv4Addr, u8)) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(network).saturating_add(1))
}

/// The Service.
pub(super) fn service(address: Ipv4Addr, api_server: SocketAddrV4) -> Value {
    json!({
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "clusterIP": address.to_string(), "type": "ClusterIP",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": api_server.port()}],
        },
    })
}

/// Its endpoint as Endpoints, which are not to be mirrored: the slice is there already.
pub(super) fn endpoints(api_server: SocketAddrV4) -> Value {
    json!({
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {SKIP_MIRROR: "true"}},
        "subsets": [{
            "addresses": [{"ip": api_server.ip().to_string()}],
            "ports": [{"name": "https", "port": api_server.port(), "protocol": "TCP"}],
        }],
    })
}

/// Its endpoint: the API server.
pub(super) fn slice(api_server: SocketAddrV4) -> Value {
    json!({
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {SERVICE_NAME: NAME}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [api_server.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": api_server.port(), "protocol": "TCP"}],
    })
}
