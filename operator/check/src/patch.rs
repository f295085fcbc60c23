//! JSON patches that also make the parents of what they set: `add` alone fails where the parent is missing, and a strategic
//! merge patch fails on custom resources.

use serde_json::{Value, json};

/// Sets the value at the pointer. List items must exist.
pub(crate) fn set(object: &Value, pointer: &str, value: Value) -> Value {
    let mut at = pointer;
    let mut value = value;
    while let Some((parent, key)) = at.rsplit_once('/') {
        if parent.is_empty() || object.pointer(parent).is_some_and(|parent| !parent.is_null()) {
            break;
        }
        value = json!({ (key.replace("~1", "/").replace("~0", "~")): value });
        at = parent;
    }
    let operation = if object.pointer(at).is_some() { "replace" } else { "add" };
    json!({"op": operation, "path": at, "value": value})
}

/// Removes what is at the pointer.
pub(crate) fn remove(pointer: &str) -> Value {
    json!({"op": "remove", "path": pointer})
}

/// A key as a part of a pointer.
pub(crate) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_made() {
        let object = json!({"a": {"b": 1}});
        for (pointer, wanted) in [
            ("/a/b", json!({"op": "replace", "path": "/a/b", "value": 7})),
            ("/a/c", json!({"op": "add", "path": "/a/c", "value": 7})),
            ("/a/c/d~1e", json!({"op": "add", "path": "/a/c", "value": {"d/e": 7}})),
            ("/x/y", json!({"op": "add", "path": "/x", "value": {"y": 7}})),
        ] {
            assert_eq!(set(&object, pointer, json!(7)), wanted);
        }
    }
}
