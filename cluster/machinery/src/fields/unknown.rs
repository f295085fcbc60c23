//! Fields that an object has and its kind does not.

use serde_json::{Map, Value};

use super::{Kind, NAMED, NAMES_KIND, SCHEMA, Shape, message_of};
use crate::resource::Resource;

/// Paths that are told of one object; Kubernetes' decoder tells as many.
pub const PATHS_LIMIT: usize = 100;

/// Takes the fields out of an object that its kind does not have (of a custom one those of its metadata), as it happens to them where
/// objects are read into types. Tells their paths: `spec.containers[0].imag`.
pub fn drop_unknown(resource: &Resource, object: &mut Value) -> Vec<String> {
    let mut found = Vec::new();
    match message_of(resource) {
        Some(name) => {
            if let Some(fields) = object.as_object_mut() {
                message(name, fields, true, &mut found);
            }
        }
        None => {
            if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
                message("meta.v1.ObjectMeta", metadata, false, &mut found);
                below(&mut found, "metadata");
            }
        }
    }
    found
}

/// Puts a step, a name or `[n]`, in front of paths.
pub fn below(paths: &mut [String], step: &str) {
    for path in paths {
        let dot = if path.starts_with('[') { "" } else { "." };
        *path = format!("{step}{dot}{path}");
    }
}

fn message(name: &str, fields: &mut Map<String, Value>, is_object: bool, found: &mut Vec<String>) {
    let Some(known) = NAMED.get(name) else { return };
    let names_kind = is_object || NAMES_KIND.contains(&name);
    fields.retain(|key, value| {
        let Some(field) = known.get(key.as_str()) else {
            let says_what_it_is = names_kind && matches!(key.as_str(), "apiVersion" | "kind");
            if !says_what_it_is && found.len() < PATHS_LIMIT {
                found.push(key.clone());
            }
            return says_what_it_is;
        };
        let before = found.len();
        match field.kind {
            Kind::Message(inner) => values(inner, field.shape, value, found),
            Kind::Schema(_) => values(SCHEMA, field.shape, value, found),
            _ => {}
        }
        if found.len() > before {
            below(&mut found[before..], key);
        }
        true
    });
}

fn values(name: &str, shape: Shape, value: &mut Value, found: &mut Vec<String>) {
    let mut one = |value: &mut Value, step: &dyn Fn() -> String| {
        let before = found.len();
        if let Value::Object(fields) = value {
            message(name, fields, false, found);
        }
        if found.len() > before {
            below(&mut found[before..], &step());
        }
    };
    match (shape, value) {
        (Shape::One, Value::Object(fields)) => message(name, fields, false, found),
        (Shape::Map, Value::Object(fields)) => fields.iter_mut().for_each(|(key, value)| one(value, &|| key.clone())),
        // A list may also stand where a schema may.
        (Shape::Repeated | Shape::One, Value::Array(items)) => {
            items
                .iter_mut()
                .enumerate()
                .for_each(|(n, value)| one(value, &|| format!("[{n}]")));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::Registry;

    fn dropped(mut object: Value) -> (Vec<String>, Value) {
        let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
        let resource = Registry::builtin().by_kind(&text("apiVersion"), &text("kind")).unwrap();
        (drop_unknown(&resource, &mut object), object)
    }

    #[test]
    fn typing_mistakes_are_found_wherever_they_are() {
        let container = json!({"name": "c", "imag": "x", "readinessProbe": {"httpGet": {"pth": "/"}}, "resources": {"limits": {"cpu": 1}}});
        let volume = json!({"name": "v", "configMap": {"name": "m", "itens": []}});
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "lables": {}, "managedFields": []},
            "spec": {"replica": 1, "template": {"spec": {"containers": [container], "volumes": [volume]}}},
        });
        let (found, left) = dropped(object);
        let expected = [
            "metadata.lables",
            "spec.replica",
            "spec.template.spec.containers[0].imag",
            "spec.template.spec.containers[0].readinessProbe.httpGet.pth",
            "spec.template.spec.volumes[0].configMap.itens",
        ];
        assert_eq!(found, expected);
        assert_eq!(dropped(left.clone()), (Vec::new(), left.clone()));
        assert_eq!(
            left["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"],
            1
        );
    }

    #[test]
    fn a_claim_in_another_object_says_what_it_is() {
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spek": {}});
        let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": {"volumeClaimTemplates": [claim]}});
        let (found, left) = dropped(set);
        assert_eq!(found, ["spec.volumeClaimTemplates[0].spek"]);
        assert_eq!(left["spec"]["volumeClaimTemplates"][0]["kind"], "PersistentVolumeClaim");
    }

    #[test]
    fn schemas_are_looked_into() {
        let schema = json!({"type": "object", "propertys": {}, "properties": {"a": {"items": {"typ": "string"}, "default": {"free": 1}}}});
        let versions = json!([{"name": "v1", "schema": {"openAPIV3Schema": schema}}]);
        let object = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": {"versions": versions}});
        let expected = [
            "spec.versions[0].schema.openAPIV3Schema.properties.a.items.typ",
            "spec.versions[0].schema.openAPIV3Schema.propertys",
        ];
        assert_eq!(dropped(object).0, expected);
    }
}
