//! AppArmor profiles in a new pod: those that are fields become annotations, too, and the other way round, for whoever knows only
//! one of them (Kubernetes' `applyAppArmorVersionSkew`).

use serde_json::{Map, Value, json};

use crate::json::text;

const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Completes a new pod.
pub(crate) fn complete(pod: &mut Value) {
    let os = text(pod.pointer("/spec/os/name"));
    if os == "windows" {
        return;
    }
    let of_pod = profile(pod.get("spec")).cloned();
    let mut annotations = pod.pointer("/metadata/annotations").and_then(Value::as_object).cloned();
    let before = annotations.clone();
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        let containers = pod.get_mut("spec").and_then(|spec| spec.get_mut(kind));
        for container in containers.and_then(Value::as_array_mut).into_iter().flatten() {
            complete_container(container, of_pod.as_ref(), &mut annotations);
        }
    }
    let metadata = pod.get_mut("metadata").and_then(Value::as_object_mut);
    if let (Some(metadata), Some(annotations)) = (metadata, annotations.filter(|new| before.as_ref() != Some(new))) {
        metadata.insert("annotations".to_owned(), annotations.into());
    }
}

fn complete_container(container: &mut Value, of_pod: Option<&Value>, annotations: &mut Option<Map<String, Value>>) {
    let key = format!("{PREFIX}{}", text(container.get("name")));
    let own = profile(Some(container));
    let Some(annotation) = annotations.as_ref().and_then(|all| all.get(&key)) else {
        if let Some(text) = own.or(of_pod).and_then(annotation_of) {
            annotations.get_or_insert_default().insert(key, text.into());
        }
        return;
    };
    let Some(field) = field_of(text(Some(annotation))).filter(|field| own.is_none() && of_pod != Some(field)) else {
        return;
    };
    let Some(container) = container.as_object_mut() else {
        return;
    };
    let context = container.entry("securityContext").or_insert(Value::Null);
    if context.is_null() {
        *context = json!({});
    }
    if let Some(context) = context.as_object_mut() {
        context.insert("appArmorProfile".to_owned(), field);
    }
}

/// The profile of a pod's spec or of a container.
fn profile(owner: Option<&Value>) -> Option<&Value> {
    let profile = owner?.get("securityContext")?.get("appArmorProfile")?;
    profile.is_object().then_some(profile)
}

fn annotation_of(profile: &Value) -> Option<String> {
    match text(profile.get("type")) {
        "RuntimeDefault" => Some("runtime/default".to_owned()),
        "Unconfined" => Some("unconfined".to_owned()),
        "Localhost" => match text(profile.get("localhostProfile")) {
            "" => None,
            name => Some(format!("localhost/{name}")),
        },
        _ => None,
    }
}

fn field_of(annotation: &str) -> Option<Value> {
    match annotation {
        "runtime/default" => Some(json!({"type": "RuntimeDefault"})),
        "unconfined" => Some(json!({"type": "Unconfined"})),
        other => match other.strip_prefix("localhost/") {
            None | Some("") => None,
            Some(name) => Some(json!({"type": "Localhost", "localhostProfile": name})),
        },
    }
}
