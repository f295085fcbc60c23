//! What an API server makes of a patch. The walks of the model use it as well.

use serde_json::{Value, json};

/// Strategic merge, for the lists of a pod that are patched.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let (Some(target), Some(patch)) = (target.as_object_mut(), patch.as_object()) else {
        return;
    };
    for (key, value) in patch {
        let by = match key.as_str() {
            "containers" | "initContainers" | "containerStatuses" => Some("name"),
            "conditions" => Some("type"),
            "ownerReferences" => Some("uid"),
            _ => None,
        };
        let slot = target.entry(key.clone()).or_insert(Value::Null);
        match (by, value) {
            (_, Value::Null) => {
                target.remove(key);
            }
            (Some(by), Value::Array(items)) => {
                if !slot.is_array() {
                    *slot = json!([]);
                }
                let list = slot.as_array_mut().unwrap();
                for item in items {
                    if item["$patch"] == "delete" {
                        list.retain(|old| old[by] != item[by]);
                    } else if let Some(old) = list.iter_mut().find(|old| old[by] == item[by]) {
                        merge(old, item);
                    } else {
                        list.push(item.clone());
                    }
                }
            }
            (_, Value::Object(_)) if slot.is_object() => merge(slot, value),
            _ => *slot = value.clone(),
        }
    }
}
