//! What OpenKruise's webhook fills into a CloneSet's template and a schema cannot say (`apis/apps/defaults/pod.go` of 1.9.1; not with its gate
//! `TemplateNoDefaults`): the pull policy of an init container, which follows from its image's tag, and the kind of a volume of which
//! only the name is stated.
//!
//! OpenKruise tells revisions by bytes: what we make it must find as it would have made it.

use afloat_words::image::ImageName;
use serde_json::{Value, json};

/// The template with these filled in; None if it has them.
pub fn filled(template: &Value) -> Option<Value> {
    let list = |field: &str| template.get("spec")?.get(field)?.as_array();
    let lacks = list("initContainers")
        .into_iter()
        .flatten()
        .any(|one| policy(one).is_some())
        || list("volumes").into_iter().flatten().any(bare);
    if !lacks {
        return None;
    }
    let mut filled = template.clone();
    let spec = filled.get_mut("spec")?;
    for container in entries(spec, "initContainers") {
        if let Some(policy) = policy(container) {
            container["imagePullPolicy"] = policy.into();
        }
    }
    for volume in entries(spec, "volumes").filter(|volume| bare(volume)) {
        volume["emptyDir"] = json!({});
    }
    Some(filled)
}

fn entries<'a>(spec: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    let list = spec.get_mut(field).and_then(Value::as_array_mut);
    list.into_iter().flatten()
}

/// The pull policy of a container that states none.
fn policy(container: &Value) -> Option<&'static str> {
    let stated = container
        .get("imagePullPolicy")
        .and_then(Value::as_str)
        .is_some_and(|text| !text.is_empty());
    let image = container.get("image")?.as_str().filter(|_| !stated)?;
    // Kubernetes reads the tag `latest` beside a digest, too.
    Some(if ImageName::of(image).tag() == Some("latest") {
        "Always"
    } else {
        "IfNotPresent"
    })
}

/// Whether only the name of a volume is stated.
fn bare(volume: &Value) -> bool {
    let fields = volume.as_object();
    fields.is_some_and(|fields| fields.keys().all(|key| key == "name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing() {
        let template = json!({"spec": {
            "initContainers": [
                {"name": "a", "image": "a:1"}, {"name": "b", "image": "b"}, {"name": "c", "image": "c", "imagePullPolicy": "Never"}],
            "containers": [{"name": "app", "image": "app:1"}],
            "volumes": [{"name": "v"}, {"name": "w", "secret": {"secretName": "s"}}]}});
        let full = filled(&template).unwrap();
        let policies: Vec<_> = full["spec"]["initContainers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["imagePullPolicy"])
            .collect();
        assert_eq!(policies, ["IfNotPresent", "Always", "Never"]);
        assert_eq!(
            full["spec"]["volumes"],
            json!([{"name": "v", "emptyDir": {}}, {"name": "w", "secret": {"secretName": "s"}}])
        );
        assert_eq!(
            full["spec"]["containers"], template["spec"]["containers"],
            "the schema sees to those"
        );
        assert_eq!(filled(&full), None);
        assert_eq!(filled(&json!({})), None);
    }
}
