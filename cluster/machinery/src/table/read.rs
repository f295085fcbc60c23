//! Reading what cells show out of objects.

use serde_json::Value;

use crate::json::text;

/// A list, empty where there is none.
pub(crate) fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A number, 0 where there is none.
pub(crate) fn number(object: &Value, path: &[&str]) -> i64 {
    crate::get(object, path).and_then(Value::as_i64).unwrap_or_default()
}

/// Whether it is `true`.
pub(crate) fn truthy(value: Option<&Value>) -> bool {
    value == Some(&Value::Bool(true))
}

/// A string, `<none>` where there is none.
pub(crate) fn or_none(value: Option<&Value>) -> String {
    joined(value.and_then(Value::as_str).into_iter())
}

/// Texts with commas between them, `<none>` if there is nothing.
pub(crate) fn joined<S: AsRef<str>>(texts: impl Iterator<Item = S>) -> String {
    let texts: Vec<String> = texts.map(|t| t.as_ref().to_owned()).filter(|t| !t.is_empty()).collect();
    if texts.is_empty() {
        "<none>".to_owned()
    } else {
        texts.join(",")
    }
}

/// The first few texts, and how many there are besides.
pub(crate) fn first_few(texts: &[String], shown: usize) -> String {
    match texts {
        [] => "<none>".to_owned(),
        all if all.len() > shown => format!("{} + {} more...", all[..shown].join(","), all.len() - shown),
        all => all.join(","),
    }
}

/// Names of the containers of a PodSpec.
pub(crate) fn containers(spec: Option<&Value>) -> String {
    named(spec, "name")
}

/// Images of the containers of a PodSpec.
pub(crate) fn images(spec: Option<&Value>) -> String {
    named(spec, "image")
}

fn named(spec: Option<&Value>, key: &str) -> String {
    let containers = list(spec.and_then(|s| s.get("containers")));
    containers
        .iter()
        .map(|c| text(c.get(key)))
        .collect::<Vec<_>>()
        .join(",")
}

/// A selector as text, `<none>` if it is empty.
pub(crate) fn selector(selector: Option<&Value>) -> String {
    let text = selector.map(crate::selector::label_selector_text).unwrap_or_default();
    if text.is_empty() { "<none>".to_owned() } else { text }
}
