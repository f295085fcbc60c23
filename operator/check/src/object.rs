//! Objects as the rules look at them: workloads with their pod template wherever it is, and who selects whom.

use std::collections::BTreeMap;
use std::fmt;

use afloat_api::{Matcher, Rollout, convert};
use afloat_rollout::kinds::{Visit, with};
use afloat_rollout::workload::budget::Limits;
use afloat_rollout::workload::foresight::Foreseen;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;
use serde_json::Value;

use crate::form::Form;
use crate::image::Images;

/// Which object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Id {
    /// Kind.
    pub kind: String,
    /// Namespace; empty if the object names none.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Id {
    /// Of an object.
    pub fn of(object: &Value) -> Self {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        Self {
            kind: text("/kind").to_owned(),
            namespace: text("/metadata/namespace").to_owned(),
            name: match text("/metadata/name") {
                "" => text("/metadata/generateName").to_owned(),
                name => name.to_owned(),
            },
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}/{}", self.kind, self.name)
        } else {
            write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// Everything that is looked at together.
pub(crate) struct World<'a> {
    pub(crate) objects: &'a [Value],
    pub(crate) workloads: Vec<Workload<'a>>,
    pub(crate) services: Vec<&'a Value>,
    pub(crate) autoscalers: Vec<&'a Value>,
    pub(crate) images: &'a Images,
}

impl<'a> World<'a> {
    pub(crate) fn new(objects: &'a [Value], images: &'a Images) -> Self {
        let of_kind = |kind: &str| objects.iter().filter(|object| object["kind"] == kind).collect();
        Self {
            objects,
            workloads: objects.iter().filter_map(Workload::of).collect(),
            services: of_kind("Service"),
            autoscalers: of_kind("HorizontalPodAutoscaler"),
            images,
        }
    }

    /// The Services that send requests to the workload's pods.
    pub(crate) fn services_of(&self, workload: &Workload<'_>) -> Vec<&'a Value> {
        let services = self.services.iter().copied();
        services.filter(|service| selects(service, workload)).collect()
    }

    /// The containers that requests of Services go to, each with a port; without declared ports the only container.
    pub(crate) fn serving<'w>(&self, workload: &Workload<'w>) -> Vec<(Container<'w>, Value)> {
        let mut found: Vec<(Container<'w>, Value)> = Vec::new();
        let containers = workload.containers();
        for port in self.services_of(workload).into_iter().flat_map(ports) {
            let target = target(port);
            let declared = containers.iter().find(|container| container.declares(&target));
            let container = match (declared, containers.as_slice()) {
                (Some(container), _) | (None, [container]) => container,
                _ => continue,
            };
            if !found.iter().any(|(other, _)| other.pointer == container.pointer) {
                found.push((container.clone(), target));
            }
        }
        found
    }
}

/// Whether the Service selects the workload's pods.
pub(crate) fn selects(service: &Value, workload: &Workload<'_>) -> bool {
    let selector = service.pointer("/spec/selector").and_then(Value::as_object);
    service.pointer("/spec/type").and_then(Value::as_str) != Some("ExternalName")
        && namespace(service) == namespace(workload.object)
        && selector.is_some_and(|selector| {
            let labels = workload.labels();
            let matches = |(key, value): (&String, &Value)| labels.get(key).map(String::as_str) == value.as_str();
            !selector.is_empty() && selector.iter().all(matches)
        })
}

/// The ports of a Service.
pub(crate) fn ports(service: &Value) -> impl Iterator<Item = &Value> {
    items(service, "/spec/ports")
}

/// Where a Service's port leads: a number or a name; absent, it is the port's own number.
pub(crate) fn target(port: &Value) -> Value {
    let stated = port.get("targetPort").filter(|target| !target.is_null());
    let number = |text: &str| text.parse::<u16>().map(Value::from);
    match stated.or_else(|| port.get("port")) {
        Some(Value::String(text)) => number(text).unwrap_or_else(|_| Value::from(text.as_str())),
        other => other.cloned().unwrap_or_default(),
    }
}

/// The namespace, as `kubectl apply` without a flag takes it.
pub(crate) fn namespace(object: &Value) -> &str {
    let stated = object.pointer("/metadata/namespace").and_then(Value::as_str);
    stated.filter(|name| !name.is_empty()).unwrap_or("default")
}

/// Items of the list at the pointer.
pub(crate) fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// An annotation of the object itself.
pub(crate) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(key)?.as_str()
}

/// A selector of matchLabels and matchExpressions; None if it cannot be read.
pub(crate) fn matcher(selector: &Value) -> Option<Matcher> {
    let selector: LabelSelector = serde_json::from_value(selector.clone()).ok()?;
    Some(Matcher::new(&selector))
}

/// A number or a percentage.
pub(crate) fn amount(value: Option<&Value>) -> Option<IntOrString> {
    serde_json::from_value(value?.clone()).ok()
}

/// A JSON pointer as people write fields.
pub(crate) fn path(pointer: &str) -> String {
    let mut out = String::new();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        if part.parse::<usize>().is_ok() || part.contains(['.', '/']) {
            out.push_str(&format!("[{part}]"));
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(&part);
        }
    }
    out
}

/// Something with pods.
#[derive(Clone, Copy)]
pub(crate) struct Workload<'a> {
    pub(crate) object: &'a Value,
    pub(crate) kind: &'a str,
    pub(crate) form: Form,
    /// Where the pod's metadata and spec are.
    pub(crate) prefix: &'static str,
    template: &'a Value,
}

impl<'a> Workload<'a> {
    pub(crate) fn of(object: &'a Value) -> Option<Self> {
        let kind = object.get("kind")?.as_str()?;
        let version = object.get("apiVersion").and_then(Value::as_str);
        let form = Form::of(version.unwrap_or_default(), kind)?;
        let prefix = form.template();
        let template = object.pointer(prefix)?;
        Some(Self {
            object,
            kind,
            form,
            prefix,
            template,
        })
    }

    /// Whether it is of a kind that the operator looks after.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.form, Form::Ours(_))
    }

    /// Whether another object makes it, which is the one to look at.
    pub(crate) fn controlled(&self) -> bool {
        items(self.object, "/metadata/ownerReferences").any(|owner| owner["controller"] == true)
    }

    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        let labels = self.template.pointer("/metadata/labels").and_then(Value::as_object);
        let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
        labels.into_iter().flatten().filter_map(text).collect()
    }

    pub(crate) fn containers(&self) -> Vec<Container<'a>> {
        self.list("containers")
    }

    pub(crate) fn init_containers(&self) -> Vec<Container<'a>> {
        self.list("initContainers")
    }

    fn list(&self, field: &str) -> Vec<Container<'a>> {
        let found = items(self.template, &format!("/spec/{field}")).enumerate();
        found
            .map(|(index, value)| Container {
                value,
                pointer: format!("{}/spec/{field}/{index}", self.prefix),
            })
            .collect()
    }

    /// Pointer to a field of the pod's spec.
    pub(crate) fn pod_field(&self, field: &str) -> String {
        format!("{}/spec/{field}", self.prefix)
    }

    /// A field of the pod's spec.
    pub(crate) fn pod(&self, field: &str) -> Option<&'a Value> {
        self.template.get("spec")?.get(field).filter(|value| !value.is_null())
    }

    /// Seconds from the request to stop to SIGKILL.
    pub(crate) fn grace(&self) -> i64 {
        let stated = self.pod("terminationGracePeriodSeconds").and_then(Value::as_i64);
        stated.unwrap_or(30)
    }

    /// Pods wanted; None where the number of nodes decides.
    pub(crate) fn replicas(&self) -> Option<usize> {
        match self.form {
            form if form.per_node() => None,
            Form::Pod => Some(1),
            _ => {
                let stated = self.object.pointer("/spec/replicas").and_then(Value::as_u64);
                Some(stated.map_or(1, |number| usize::try_from(number).unwrap_or(usize::MAX)))
            }
        }
    }

    /// How it is updated; None for kinds that the operator does not look after.
    pub(crate) fn rollout(&self) -> Option<Rollout> {
        Some(self.foreseen(0)?.0)
    }

    /// How many of its pods may go at once, with so many there; None for kinds that the operator does not look after.
    pub(crate) fn limits(&self, pods: usize) -> Option<Limits> {
        Some(self.foreseen(pods)?.1)
    }

    fn foreseen(&self, pods: usize) -> Option<(Rollout, Limits)> {
        let asked = Asked(self.object, pods);
        self.is_ours().then(|| with(self.kind, asked)?.ok()).flatten()
    }
}

/// Whether an object of a kind of ours can be read as one; of others nothing is said.
///
/// # Errors
/// A sentence that names what is not as the kind has it.
pub fn readable(object: &Value) -> Result<(), String> {
    let workload = Workload::of(object).filter(Workload::is_ours);
    let read = workload.and_then(|workload| with(workload.kind, Asked(object, 0)));
    read.map_or(Ok(()), |read| read.map(|_| ()))
}

/// The question how an object is updated, with so many pods.
struct Asked<'a>(&'a Value, usize);

impl Visit for Asked<'_> {
    type Out = Result<(Rollout, Limits), String>;
    fn visit<W: Foreseen>(self) -> Self::Out {
        let mut object = self.0.clone();
        convert::convert(&mut object, W::API_VERSION)?;
        let set: W =
            serde_json::from_str(&object.to_string()).map_err(|error| format!("is no {}: {error}", W::KIND))?;
        Ok((set.rollout(), set.limits(self.1)))
    }
}

/// A container of a pod template.
#[derive(Clone)]
pub(crate) struct Container<'a> {
    pub(crate) value: &'a Value,
    pub(crate) pointer: String,
}

impl<'a> Container<'a> {
    pub(crate) fn name(&self) -> &'a str {
        self.value.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn image(&self) -> &'a str {
        self.value.get("image").and_then(Value::as_str).unwrap_or_default()
    }

    /// A field below the container, unless it is missing or null.
    /// Of an init container: whether it runs as long as the pod does.
    pub(crate) fn is_sidecar(&self) -> bool {
        self.value["restartPolicy"] == "Always"
    }

    pub(crate) fn field(&self, pointer: &str) -> Option<&'a Value> {
        self.value.pointer(pointer).filter(|value| !value.is_null())
    }

    pub(crate) fn at(&self, pointer: &str) -> String {
        format!("{}{pointer}", self.pointer)
    }

    pub(crate) fn declares(&self, target: &Value) -> bool {
        items(self.value, "/ports")
            .any(|port| port.get("containerPort") == Some(target) || port.get("name") == Some(target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_readable() {
        assert_eq!(
            path("/spec/template/spec/containers/0/image"),
            "spec.template.spec.containers[0].image"
        );
        assert_eq!(
            path("/metadata/annotations/afloat.dev~1drain"),
            "metadata.annotations[afloat.dev/drain]"
        );
    }
}
