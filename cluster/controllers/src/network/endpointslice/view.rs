//! The few fields of Pods and Services that endpoints depend on.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;

/// Namespace and name of a Service or pod.
pub(crate) type Key = (String, String);

/// A Pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) ip: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) subdomain: Option<String>,
    /// Condition Ready is True.
    pub(crate) ready: bool,
    /// deletionTimestamp is set.
    pub(crate) terminating: bool,
    /// Succeeded or Failed: it will serve nothing any more.
    pub(crate) finished: bool,
    /// Named ports of containers that keep running: name, protocol, number.
    pub(crate) ports: Vec<(String, String, u16)>,
}

impl From<&crate::objects::pod::Pod> for Pod {
    fn from(pod: &crate::objects::pod::Pod) -> Pod {
        let (meta, spec, status) = (&pod.metadata, &pod.spec, &pod.status);
        Pod {
            ports: spec.named_ports.clone(),
            ip: Some(status.pod_ip.clone()).filter(|ip| !ip.is_empty()),
            node: spec.node_name.clone(),
            hostname: spec.hostname.clone(),
            subdomain: spec.subdomain.clone(),
            ready: pod.is_ready(),
            terminating: pod.is_terminating(),
            finished: pod.is_finished(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            labels: meta.labels.clone().unwrap_or_default(),
        }
    }
}

/// A Service whose endpoints are ours to keep.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ServiceView {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// Never empty.
    pub(crate) selector: BTreeMap<String, String>,
    pub(crate) ports: Vec<PortView>,
    pub(crate) publish_not_ready: bool,
    pub(crate) headless: bool,
}

/// One port of a Service.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PortView {
    pub(crate) name: String,
    pub(crate) protocol: String,
    pub(crate) app_protocol: Option<String>,
    pub(crate) target: Target,
}

/// `targetPort`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    Number(i32),
    /// Looked up in each pod.
    Name(String),
}

impl Default for Target {
    fn default() -> Target {
        Target::Number(0)
    }
}

impl ServiceView {
    /// None where the endpoints are not ours: no selector, or ExternalName.
    pub(crate) fn new(object: &Service) -> Option<ServiceView> {
        let spec = object.spec.as_ref()?;
        let selector = spec.selector.clone().filter(|selector| !selector.is_empty())?;
        if spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let ports = spec.ports.iter().flatten().map(|port| PortView {
            name: port.name.clone().unwrap_or_default(),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
            app_protocol: port.app_protocol.clone(),
            target: match &port.target_port {
                Some(k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::String(name)) if !name.is_empty() => {
                    Target::Name(name.clone())
                }
                Some(k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(number)) if *number != 0 => {
                    Target::Number(*number)
                }
                _ => Target::Number(port.port),
            },
        });
        Some(ServiceView {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            labels: object.labels().clone(),
            ports: ports.collect(),
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
            headless: spec.cluster_ip.as_deref() == Some("None"),
            selector,
        })
    }

    /// Whether the selector takes a pod with these labels.
    pub(crate) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}
