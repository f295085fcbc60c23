//! From one JSON value to another by a merge patch (RFC 7396).

use serde_json::{Map, Value};

/// The merge patch that makes `to` of `from`; None if there is nothing to change. Of values with a null in a map, which a merge
/// patch cannot say, the null is taken for absent.
pub fn difference(from: &Value, to: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (from, to) else {
        return (from != to).then(|| to.clone());
    };
    let mut patch = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        let change = match old.get(key) {
            Some(before) => difference(before, value),
            None => Some(value.clone()),
        };
        if let Some(change) = change {
            patch.insert(key.clone(), change);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// RFC 7396, as it stands there.
    fn merge(target: &mut Value, patch: &Value) {
        let Value::Object(patch) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        let Some(target) = target.as_object_mut() else { return };
        for (key, value) in patch {
            if value.is_null() {
                target.remove(key);
            } else {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<bool>().prop_map(Value::from), (0..3).prop_map(Value::from)];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map("[ab]", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_patch_leads_there(from in value(), to in value()) {
            // What a merge patch sets anew may hold no map with nulls, and these have none.
            let mut reached = from.clone();
            match difference(&from, &to) {
                Some(patch) => merge(&mut reached, &patch),
                None => prop_assert_eq!(&from, &to),
            }
            prop_assert_eq!(reached, to);
        }
    }

    #[test]
    fn what_is_gone_is_said() {
        let patch = difference(&json!({"a": {"b": 1, "c": [1]}, "d": 1}), &json!({"a": {"c": [1]}}));
        assert_eq!(patch, Some(json!({"a": {"b": null}, "d": null})));
    }
}
