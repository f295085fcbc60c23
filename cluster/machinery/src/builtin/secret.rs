//! Secrets: what those of a known type hold (<https://kubernetes.io/docs/concepts/configuration/secret/#secret-types>; Kubernetes'
//! `ValidateSecret`). What is told of them never shows what they hold.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::cluster::{data, immutable};
use crate::FieldError;
use crate::field::{index, invalid, required};

/// Checks a Secret.
pub(crate) fn checks(secret: &Value) -> Vec<FieldError> {
    let mut errors = data(secret);
    match secret["type"].as_str().unwrap_or_default() {
        "kubernetes.io/service-account-token" => {
            let name = "kubernetes.io/service-account.name";
            if secret["metadata"]["annotations"][name]
                .as_str()
                .is_none_or(str::is_empty)
            {
                errors.push(required(index("metadata.annotations", name), ""));
            }
        }
        "kubernetes.io/dockercfg" => errors.extend(document(secret, ".dockercfg")),
        "kubernetes.io/dockerconfigjson" => errors.extend(document(secret, ".dockerconfigjson")),
        "kubernetes.io/basic-auth" if !has(secret, "username") && !has(secret, "password") => {
            errors.extend(["username", "password"].map(missing));
        }
        "kubernetes.io/ssh-auth" => {
            let key = "ssh-privatekey";
            errors.extend(held(secret, key).is_none_or(str::is_empty).then(|| missing(key)));
        }
        "kubernetes.io/tls" => {
            let keys = ["tls.crt", "tls.key"].into_iter().filter(|key| !has(secret, key));
            errors.extend(keys.map(missing));
        }
        _ => {}
    }
    errors
}

/// What may not change: its type, and all of one that says so.
pub(crate) fn update(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if old["type"] != new["type"] {
        errors.push(invalid("type", new["type"].clone(), "field is immutable"));
    }
    errors.extend(immutable(old, new));
    errors
}

fn held<'a>(secret: &'a Value, key: &str) -> Option<&'a str> {
    secret["data"][key].as_str()
}

fn has(secret: &Value, key: &str) -> bool {
    secret["data"].get(key).is_some()
}

fn missing(key: &str) -> FieldError {
    required(index("data", key), "")
}

/// A key has to hold an object in JSON.
fn document(secret: &Value, key: &str) -> Option<FieldError> {
    let Some(text) = held(secret, key) else {
        return Some(missing(key));
    };
    // What is no base64 was refused with its type.
    let bytes = STANDARD.decode(text).ok()?;
    let why = no_object(&bytes)?;
    Some(invalid(index("data", key), "<secret contents redacted>", &why))
}

/// Why these bytes are no object in JSON, in the words of Go's `encoding/json` where they say nothing of the content.
fn no_object(bytes: &[u8]) -> Option<String> {
    let kind = match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Object(_) | Value::Null) => return None,
        Ok(Value::String(_)) => "string",
        Ok(Value::Array(_)) => "array",
        Ok(Value::Number(_)) => "number",
        Ok(Value::Bool(_)) => "bool",
        Err(error) if error.is_eof() => return Some("unexpected end of JSON input".to_owned()),
        Err(_) => return Some("invalid character in JSON".to_owned()),
    };
    Some(format!(
        "json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(kind: &str, data: &[(&str, &str)]) -> Vec<String> {
        let data: serde_json::Map<_, _> = data
            .iter()
            .map(|(key, text)| ((*key).to_owned(), json!(STANDARD.encode(text))))
            .collect();
        let secret = json!({"type": format!("kubernetes.io/{kind}"), "data": data});
        let errors = checks(&secret).into_iter();
        errors
            .map(|error| format!("{}: {}", error.field, error.message))
            .collect()
    }

    #[test]
    fn each_type_has_what_it_is_for() {
        let config = "data[.dockerconfigjson]";
        let redacted = format!("{config}: Invalid value: \"<secret contents redacted>\"");
        assert_eq!(told("dockerconfigjson", &[]), [format!("{config}: Required value")]);
        assert_eq!(
            told("dockerconfigjson", &[(".dockerconfigjson", "")]),
            [format!("{redacted}: unexpected end of JSON input")]
        );
        assert_eq!(
            told("dockerconfigjson", &[(".dockerconfigjson", "hunter2")]),
            [format!("{redacted}: invalid character in JSON")]
        );
        assert_eq!(
            told("dockerconfigjson", &[(".dockerconfigjson", "\"hunter2\"")]),
            [format!(
                "{redacted}: json: cannot unmarshal string into Go value of type map[string]interface {{}}"
            )]
        );
        assert!(told("dockerconfigjson", &[(".dockerconfigjson", "{}")]).is_empty());
        assert_eq!(told("tls", &[("tls.key", "")]), ["data[tls.crt]: Required value"]);
        assert_eq!(told("basic-auth", &[]).len(), 2);
        assert!(told("basic-auth", &[("username", "")]).is_empty());
        assert_eq!(
            told("ssh-auth", &[("ssh-privatekey", "")]),
            ["data[ssh-privatekey]: Required value"]
        );
        assert_eq!(
            told("service-account-token", &[]),
            ["metadata.annotations[kubernetes.io/service-account.name]: Required value"]
        );
    }

    #[test]
    fn a_type_stays() {
        let errors = update(&json!({"type": "Opaque"}), &json!({"type": "mine"}));
        assert_eq!(errors[0].message, "Invalid value: \"mine\": field is immutable");
    }
}
