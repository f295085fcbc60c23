//! Check values, and what core/v1 makes of templates.

use serde::Deserialize;

use super::*;
use crate::go::bytes;
use crate::pod::meaning::{canonical, equivalent};

#[test]
fn hashes_are_kubernetes_own() {
    // Check values of the specification: decimal digits map to 456789bcdf.
    assert_eq!(safe_encode("86995377"), "dbff97cc");
    assert_eq!(safe_encode("0123456789"), "456789bcdf");
    // FNV-1 of "0" is offset * prime ^ '0'.
    assert_eq!(
        hash(b"", 0),
        safe_encode(&(0x811c_9dc5_u32.wrapping_mul(0x0100_0193) ^ 0x30).to_string())
    );
    assert_ne!(hash(b"x", 0), hash(b"x", 1));
}

#[test]
fn the_wire_form_is_gos() {
    let template =
        json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i<1>"}]}});
    assert_eq!(
        String::from_utf8(bytes(&data(&template))).unwrap(),
        r#"{"spec":{"template":{"$patch":"replace","metadata":{"creationTimestamp":null,"labels":{"app":"x"}},"spec":{"containers":[{"image":"i\u003c1\u003e","name":"c","resources":{}}]}}}}"#
    );
}

#[derive(Deserialize)]
struct Golden {
    case: String,
    workload: String,
    template: Value,
    plain: Form,
    defaulted: Form,
}

#[derive(Deserialize)]
struct Form {
    name: String,
    raw: String,
}

/// Templates, and what core/v1 of Kubernetes 1.32.10 makes of each in a revision of OpenKruise: as it is, and with
/// the defaults that its webhook stores. Written by a Go program around `SetObjectDefaults_PodTemplate`.
fn golden() -> Vec<Golden> {
    serde_json::from_str(include_str!("golden.json")).unwrap()
}

#[test]
fn revisions_are_kruises_byte_for_byte() {
    for Golden {
        case,
        workload,
        template,
        plain,
        defaulted,
    } in golden()
    {
        let stored: Value = serde_json::from_str(&defaulted.raw).unwrap();
        for (template, form) in [(&template, &plain), (&stored["spec"]["template"], &defaulted)] {
            let bytes = bytes(&data(template));
            assert_eq!(String::from_utf8_lossy(&bytes), form.raw, "{case}");
            assert_eq!(name(&workload, &hash(&bytes, 0)), form.name, "{case}");
        }
    }
}

#[test]
fn a_defaulted_template_means_the_same() {
    for Golden {
        case,
        template,
        defaulted,
        ..
    } in golden()
    {
        let stored: Value = serde_json::from_str(&defaulted.raw).unwrap();
        assert!(equivalent(&template, &stored["spec"]["template"]), "{case}");
        let stored = canonical(&stored["spec"]["template"]);
        for pointer in pointers(&stored) {
            let mut other = stored.clone();
            let value = other.pointer_mut(&pointer).unwrap();
            *value = match value {
                Value::Bool(flag) => json!(!*flag),
                Value::Number(number) => json!(number.as_f64().unwrap_or_default() * 2.0 + 7.0),
                _ => json!("another"),
            };
            assert!(!equivalent(&stored, &other), "{case}: {pointer} does not count");
        }
    }
}

/// All values that are neither objects nor lists.
fn pointers(value: &Value) -> Vec<String> {
    let below = |key: String, value: &Value| -> Vec<String> {
        let key = key.replace('~', "~0").replace('/', "~1");
        let inner = pointers(value).into_iter();
        inner.map(|rest| format!("/{key}{rest}")).collect()
    };
    match value {
        Value::Object(map) => map.iter().flat_map(|(key, value)| below(key.clone(), value)).collect(),
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items
                .flat_map(|(index, value)| below(index.to_string(), value))
                .collect()
        }
        _ => vec![String::new()],
    }
}
