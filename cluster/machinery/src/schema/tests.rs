//! Each case: a schema, an object, what comes of it.

use serde_json::{Value, json};

use crate::kinds::{Registry, Resource};

/// A custom resource whose `spec` has this schema.
fn resource(spec: &Value) -> std::sync::Arc<Resource> {
    let mut registry = Registry::default();
    let schema = json!({"type": "object", "properties": {"spec": spec, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    registry
        .add_crd(
            &json!({"spec": {"group": "g.io", "scope": "Namespaced", "names": {"kind": "X", "plural": "xs"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}}),
        )
        .unwrap();
    registry.resolve("g.io", "v1", "xs").unwrap()
}

fn problems(schema: &Value, old: Option<&Value>, spec: &Value) -> Vec<String> {
    let wrap = |spec: &Value| json!({"apiVersion": "g.io/v1", "kind": "X", "metadata": {"name": "x"}, "spec": spec});
    let old = old.map(wrap);
    let errors = super::validate(&resource(schema), old.as_ref(), &wrap(spec));
    errors
        .into_iter()
        .map(|e| format!("{}: {}", e.field, e.message))
        .collect()
}

/// A schema of an object with one field `f`.
fn with(field: &Value) -> Value {
    json!({"type": "object", "properties": {"f": field}})
}

#[test]
fn what_a_schema_does_not_know_is_dropped() {
    let schema = json!({"type": "object", "properties": {
        "known": {"type": "string"},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"typed": {"type": "object"}}},
        "any": {"type": "object", "additionalProperties": true},
        "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "integer"}}}},
        "embedded": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}}
    }});
    let mut object = json!({"apiVersion": "g.io/v1", "kind": "X", "metadata": {"name": "x", "labels": {"a": "b"}}, "top": 1, "spec": {
        "known": "x", "unknown": 1, "map": {"k": {"a": "1", "b": "2"}}, "free": {"x": {"y": 1}, "typed": {"z": 1}}, "any": {"x": 1},
        "list": [{"a": 1}, {"b": 2}], "embedded": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "other": 1}}});
    let resource = resource(&schema);
    let wanted = [
        "spec.embedded.other",
        "spec.free.typed.z",
        "spec.list[1].b",
        "spec.map.k.b",
        "spec.unknown",
        "top",
    ];
    assert_eq!(crate::strategy::unknown_fields(&resource, &object), wanted);
    assert_eq!(super::prune(&resource, &mut object), wanted);
    assert_eq!(
        object["spec"],
        json!({"known": "x", "map": {"k": {"a": "1"}}, "free": {"x": {"y": 1}, "typed": {}}, "any": {"x": 1},
        "list": [{"a": 1}, {}], "embedded": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}})
    );
    assert_eq!(object["metadata"]["labels"]["a"], "b");
    assert!(
        super::prune(&resource, &mut object).is_empty(),
        "pruning twice changes nothing"
    );
}

#[test]
fn defaults_are_set_at_every_depth() {
    let schema = json!({"type": "object", "properties": {
        "n": {"type": "integer", "default": 3},
        "deep": {"type": "object", "default": {}, "properties": {"x": {"type": "string", "default": "y"}}},
        "absent": {"type": "object", "properties": {"x": {"type": "string", "default": "y"}}},
        "list": {"type": "array", "items": {"type": "object", "properties": {"p": {"type": "string", "default": "TCP"}}}},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"p": {"type": "integer", "default": 1}}}},
        "nullable": {"type": "string", "nullable": true, "default": "d"},
        "not_nullable": {"type": "string", "default": "d"},
        "without_default": {"type": "string"}
    }});
    let mut object = json!({"spec": {"list": [{}, {"p": "UDP"}], "map": {"k": {}}, "nullable": null, "not_nullable": null, "without_default": null}});
    super::default(&resource(&schema), &mut object);
    assert_eq!(
        object["spec"],
        json!({"n": 3, "deep": {"x": "y"}, "list": [{"p": "TCP"}, {"p": "UDP"}], "map": {"k": {"p": 1}},
        "nullable": null, "not_nullable": "d"})
    );
}

#[test]
fn errors_are_worded_as_kubernetes_words_them() {
    #[rustfmt::skip]
    let cases = [
        (json!({"type": "integer"}), json!("x"), vec![r#"spec.f: Invalid value: "string": spec.f in body must be of type integer: "string""#]),
        (json!({"type": "string"}), json!(null), vec![r#"spec.f: Invalid value: "null": spec.f in body must be of type string: "null""#]),
        (json!({"type": "string", "nullable": true}), json!(null), vec![]),
        (json!({"type": "integer"}), json!(2.0), vec![]),
        (json!({"type": "integer"}), json!(2.5), vec![r#"spec.f: Invalid value: "number": spec.f in body must be of type integer: "number""#]),
        (json!({"type": "number"}), json!(2), vec![]),
        (json!({"x-kubernetes-int-or-string": true}), json!("25%"), vec![]),
        (json!({"x-kubernetes-int-or-string": true}), json!(3), vec![]),
        (json!({"x-kubernetes-int-or-string": true}), json!(true), vec![r#"spec.f: Invalid value: "boolean": spec.f in body must be of type integer,string: "boolean""#]),
        (json!({"type": "string", "enum": ["A", "B"]}), json!("C"), vec![r#"spec.f: Unsupported value: "C": supported values: "A", "B""#]),
        (json!({"type": "integer", "minimum": 0}), json!(-1), vec!["spec.f: Invalid value: -1: spec.f in body should be greater than or equal to 0"]),
        (json!({"type": "integer", "minimum": 0, "exclusiveMinimum": true}), json!(0), vec!["spec.f: Invalid value: 0: spec.f in body should be greater than 0"]),
        (json!({"type": "integer", "maximum": 5}), json!(6), vec!["spec.f: Invalid value: 6: spec.f in body should be less than or equal to 5"]),
        (json!({"type": "integer", "multipleOf": 2}), json!(3), vec!["spec.f: Invalid value: 3: spec.f in body should be a multiple of 2"]),
        (json!({"type": "integer", "format": "int32"}), json!(3_000_000_000_i64), vec!["spec.f: Invalid value: 3000000000: spec.f in body must be of type int32: 3000000000"]),
        (json!({"type": "string", "minLength": 2}), json!("a"), vec![r#"spec.f: Invalid value: "a": spec.f in body should be at least 2 chars long"#]),
        (json!({"type": "string", "maxLength": 2}), json!("abc"), vec!["spec.f: Too long: may not be more than 2 bytes"]),
        (json!({"type": "string", "pattern": "^[a-z]+$"}), json!("A"), vec![r#"spec.f: Invalid value: "A": spec.f in body should match '^[a-z]+$'"#]),
        (json!({"type": "string", "format": "date-time"}), json!("yesterday"), vec![r#"spec.f: Invalid value: "yesterday": spec.f in body must be of type date-time: "yesterday""#]),
        (json!({"type": "string", "format": "date-time"}), json!("2026-11-22T08:00:00Z"), vec![]),
        (json!({"type": "string", "format": "whatever"}), json!("x"), vec![]),
        (json!({"type": "array", "items": {"type": "string"}, "maxItems": 1}), json!(["a", "b"]), vec!["spec.f: Too many: 2: must have at most 1 items"]),
        (json!({"type": "array", "items": {"type": "string"}}), json!(["a", 1]), vec![r#"spec.f[1]: Invalid value: "integer": spec.f[1] in body must be of type string: "integer""#]),
        (json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}), json!(["a", "a"]), vec![r#"spec.f[1]: Duplicate value: "a""#]),
        (json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {"type": "object", "properties": {"name": {"type": "string"}}}}),
            json!([{"name": "a"}, {"name": "a"}]), vec![r#"spec.f[1]: Duplicate value: {"name":"a"}"#]),
        (json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}), json!({}), vec!["spec.f.a: Required value"]),
        (json!({"type": "object", "additionalProperties": {"type": "string"}}), json!({"k": 1}), vec![r#"spec.f.k: Invalid value: "integer": spec.f.k in body must be of type string: "integer""#]),
        (json!({"type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}}), json!({}), vec!["spec.f: Invalid value: {}: spec.f in body should have at least 1 properties"]),
        (json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}), json!({"kind": "Pod"}), vec!["spec.f.apiVersion: Required value: must not be empty"]),
        (json!({"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]}), json!(3), vec![r#"spec.f: Invalid value: "": "spec.f" must validate at least one schema (anyOf)"#]),
        (json!({"type": "integer", "oneOf": [{"minimum": 1}, {"minimum": 2}]}), json!(3), vec![r#"spec.f: Invalid value: "": "spec.f" must validate one and only one schema (oneOf)"#]),
        (json!({"type": "integer", "not": {"minimum": 1}}), json!(3), vec![r#"spec.f: Invalid value: "": "spec.f" must not validate the schema (not)"#]),
        (json!({"type": "integer", "allOf": [{"minimum": 5}]}), json!(3), vec!["spec.f: Invalid value: 3: spec.f in body should be greater than or equal to 5"]),
    ];
    for (field, value, wanted) in cases {
        assert_eq!(
            problems(&with(&field), None, &json!({"f": value})),
            wanted,
            "{field} {value}"
        );
    }
}

#[test]
fn what_was_wrong_before_and_has_not_changed_is_let_through() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "integer", "minimum": 1}, "b": {"type": "integer"},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items":
            {"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "integer", "minimum": 1}}}}}});
    let old = json!({"a": 0, "b": 1, "list": [{"name": "x", "n": 0}]});
    let new = json!({"a": 0, "b": 2, "list": [{"name": "y", "n": 1}, {"name": "x", "n": 0}]});
    assert!(problems(&schema, Some(&old), &new).is_empty());
    assert_eq!(problems(&schema, Some(&old), &json!({"a": -1, "b": 1})).len(), 1);
    assert_eq!(problems(&schema, None, &old).len(), 2);
}

#[test]
fn cel_rules_are_evaluated() {
    let schema = json!({"type": "object",
        "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}, "fixed": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "fixed is immutable"}]}},
        "x-kubernetes-validations": [{"rule": "!has(self.min) || !has(self.max) || self.min <= self.max", "message": "min must not exceed max"},
            {"rule": "!has(self.max) || self.max < 100", "messageExpression": "'max is ' + string(self.max)", "reason": "FieldValueForbidden"}]});
    assert!(problems(&schema, None, &json!({"min": 1, "max": 2})).is_empty());
    assert_eq!(
        problems(&schema, None, &json!({"min": 3, "max": 2})),
        [r#"spec: Invalid value: "object": min must not exceed max"#]
    );
    assert_eq!(
        problems(&schema, None, &json!({"max": 200})),
        ["spec: Forbidden: max is 200"]
    );
    assert!(
        problems(&schema, None, &json!({"fixed": "a"})).is_empty(),
        "a transition rule needs an old value"
    );
    assert_eq!(
        problems(&schema, Some(&json!({"fixed": "a"})), &json!({"fixed": "b"})),
        [r#"spec.fixed: Invalid value: "string": fixed is immutable"#]
    );
}

#[test]
fn rules_that_cost_too_much_end_with_the_originals_words() {
    let listed = |rule: &str| {
        let items = json!({"type": "array", "items": {"type": "integer"}});
        json!({"type": "object", "properties": {"items": items}, "x-kubernetes-validations": [{"rule": rule}, {"rule": "false"}]})
    };
    let object = json!({"items": (0..2_000).collect::<Vec<_>>()});
    let rule = "self.items.all(a, self.items.all(b, self.items.all(c, a + b + c >= 0)))";
    assert_eq!(
        problems(&listed(rule), None, &object),
        [format!(
            "spec: Invalid value: \"object\": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run \
             due to call cost exceeds limit for rule: {rule}"
        )]
    );
    let each = json!({"type": "object", "properties": {"items": {"type": "array", "items": {"type": "array", "items": {"type": "integer"},
        "x-kubernetes-validations": [{"rule": "self.all(a, self.exists(b, b == a))"}]}}}});
    let object = json!({"items": vec![(0..300).collect::<Vec<_>>(); 60]});
    let told = problems(&each, None, &object);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0]
            .ends_with("validation failed due to running out of cost budget, no further validation rules will be run"),
        "{told:?}"
    );
}

#[test]
fn rules_see_values_as_the_schema_says() {
    let schema = json!({"type": "object", "properties": {
            "at": {"type": "string", "format": "date-time"},
            "for": {"type": "string", "format": "duration"},
            "raw": {"type": "string", "format": "byte"},
            "a-b": {"type": "string"},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "inner": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}},
        "x-kubernetes-validations": [
            {"rule": "self.at > timestamp('2020-01-01T00:00:00Z') && self.__for__ > duration('1h')"},
            {"rule": "self.raw == b'ab' && self.a__dash__b == 'x' && self.labels['a-b'] == 'y' && self.inner.metadata == {}"}]});
    let object = json!({"at": "2021-01-01T00:00:00Z", "for": "90m", "raw": "YWI=", "a-b": "x", "labels": {"a-b": "y"},
        "inner": {"apiVersion": "v1", "kind": "X"}});
    assert_eq!(problems(&schema, None, &object), Vec::<String>::new());
}
