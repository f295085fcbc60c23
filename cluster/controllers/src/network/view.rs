//! The few fields of Pods and Services that endpoints depend on.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ObjectReference, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

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

impl PortView {
    /// Its number in a pod; None where the port has a name that the pod does not have.
    pub(crate) fn number_in(&self, pod: &Pod) -> Option<i32> {
        match &self.target {
            Target::Number(number) => Some(*number),
            Target::Name(name) => {
                let mut ports = pod.ports.iter();
                let found = ports.find(|(known, protocol, _)| known == name && *protocol == self.protocol);
                found.map(|(_, _, number)| i32::from(*number))
            }
        }
    }
}

impl Default for Target {
    fn default() -> Target {
        Target::Number(0)
    }
}

impl ServiceView {
    /// None where the endpoints are not ours: no selector, or ExternalName.
    pub(crate) fn new(meta: &ObjectMeta, spec: &ServiceSpec) -> Option<ServiceView> {
        let selector = spec.selector.clone().filter(|selector| !selector.is_empty())?;
        if spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let ports = spec.ports.iter().flatten().map(|port| PortView {
            name: port.name.clone().unwrap_or_default(),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
            app_protocol: port.app_protocol.clone(),
            target: match &port.target_port {
                Some(IntOrString::String(name)) if !name.is_empty() => Target::Name(name.clone()),
                Some(IntOrString::Int(number)) if *number != 0 => Target::Number(*number),
                _ => Target::Number(port.port),
            },
        });
        Some(ServiceView {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            labels: meta.labels.clone().unwrap_or_default(),
            ports: ports.collect(),
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
            headless: spec.cluster_ip.as_deref() == Some("None"),
            selector,
        })
    }

    /// The host name under which DNS tells this pod, if it is told under the Service's name.
    pub(crate) fn hostname_of(&self, pod: &Pod) -> Option<String> {
        let named = pod.subdomain.as_deref() == Some(self.name.as_str());
        pod.hostname.clone().filter(|hostname| named && !hostname.is_empty())
    }

    /// Whether the selector takes a pod with these labels.
    pub(crate) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// What an endpoint says of the pod that it is.
pub(crate) fn reference_to(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: Some(pod.namespace.clone()),
        name: Some(pod.name.clone()),
        uid: Some(pod.uid.clone()),
        ..ObjectReference::default()
    }
}
