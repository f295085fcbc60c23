//! Selectors of list and watch requests: by labels and by fields.

use std::collections::BTreeMap;

use kube::core::{Expression, Selector, SelectorExt};
use serde_json::Value;

use crate::names;
use crate::resource::Resource;

/// A parsed `labelSelector`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelSelector(Selector);

impl LabelSelector {
    /// Parses `a=b,c!=d,e in (f,g),h notin (i),j,!k`. Empty selects everything.
    ///
    /// # Errors
    /// Says what cannot be read, as Kubernetes begins its message: `unable to parse requirement: …`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut selector = Selector::default();
        for part in split(text) {
            selector.extend(requirement(part.trim()).map_err(|e| format!("unable to parse requirement: {e}"))?);
        }
        Ok(Self(selector))
    }

    /// Reads a `metav1.LabelSelector` (or a plain map of labels, as Services and ReplicationControllers have it).
    ///
    /// # Errors
    /// If it has an operator that does not exist.
    pub fn from_value(value: &Value) -> Result<Self, String> {
        let text = label_selector_text(value);
        Self::parse(&text)
    }

    /// As objects have it.
    pub fn to_api(&self) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector {
        self.0.clone().into()
    }

    /// Whether it selects everything.
    pub fn selects_all(&self) -> bool {
        self.0.selects_all()
    }

    /// Whether an object's labels fit.
    pub fn matches(&self, object: &Value) -> bool {
        if self.0.selects_all() {
            return true;
        }
        self.matches_labels(crate::get(object, &["metadata", "labels"]))
    }

    /// Whether a map of labels fits.
    pub fn matches_labels(&self, labels: Option<&Value>) -> bool {
        let labels = labels.and_then(Value::as_object).into_iter().flatten();
        let labels: BTreeMap<String, String> = labels
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        self.0.matches(&labels)
    }
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    let parts = text.split(move |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.filter(|part| !part.trim().is_empty())
}

fn requirement(text: &str) -> Result<Expression, String> {
    if let Some(key) = text.strip_prefix('!') {
        return Ok(Expression::DoesNotExist(label_key(key)?));
    }
    if let Some((left, values)) = text.split_once('(') {
        let values = values
            .trim_end()
            .strip_suffix(')')
            .ok_or_else(|| format!("missing ')' in {text:?}"))?;
        let values = values
            .split(',')
            .map(|v| label_value(v.trim()))
            .collect::<Result<_, _>>()?;
        return match left.trim_end().rsplit_once(char::is_whitespace) {
            Some((key, "in")) => Ok(Expression::In(label_key(key)?, values)),
            Some((key, "notin")) => Ok(Expression::NotIn(label_key(key)?, values)),
            _ => Err(format!(
                "found {left:?}, expected: 'in' or 'notin' before the values of {text:?}"
            )),
        };
    }
    if let Some((key, value)) = text.split_once("!=") {
        return Ok(Expression::NotEqual(label_key(key)?, label_value(value.trim())?));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Expression::Equal(label_key(key)?, label_value(value.trim())?));
    }
    Ok(Expression::Exists(label_key(text)?))
}

fn label_key(key: &str) -> Result<String, String> {
    let key = key.trim();
    match crate::names::qualified_name(key).first() {
        None => Ok(key.to_owned()),
        Some(problem) => Err(format!("<nil>: Invalid value: {key:?}: {problem}")),
    }
}

fn label_value(value: &str) -> Result<String, String> {
    match crate::names::label_value(value).first() {
        None => Ok(value.to_owned()),
        Some(problem) => Err(format!("<nil>: Invalid value: {value:?}: {problem}")),
    }
}

/// A `metav1.LabelSelector`, or a plain map of labels, as text (`a=b,c in (d,e)`).
pub fn label_selector_text(selector: &Value) -> String {
    let structured = ["matchLabels", "matchExpressions"]
        .iter()
        .any(|key| selector.get(*key).is_some());
    let labels = if structured {
        selector.get("matchLabels")
    } else {
        Some(selector)
    };
    let labels = labels.and_then(Value::as_object).into_iter().flatten();
    let mut parts: Vec<String> = labels
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    for expression in selector
        .get("matchExpressions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let text = |key: &str| expression.get(key).and_then(Value::as_str).unwrap_or_default();
        let values = expression
            .get("values")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        let values: Vec<&str> = values.collect();
        parts.push(match text("operator") {
            "Exists" => text("key").to_owned(),
            "DoesNotExist" => format!("!{}", text("key")),
            "In" => format!("{} in ({})", text("key"), values.join(",")),
            "NotIn" => format!("{} notin ({})", text("key"), values.join(",")),
            other => format!("{} {other} ({})", text("key"), values.join(",")),
        });
    }
    parts.join(",")
}

/// A parsed `fieldSelector`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<FieldTerm>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldTerm {
    path: String,
    equal: bool,
    value: String,
}

impl FieldSelector {
    /// Parses `metadata.name=a,status.phase!=Running`. Empty selects everything.
    ///
    /// # Errors
    /// Says which part cannot be read, or which field this kind cannot be selected by.
    pub fn parse(resource: &Resource, text: &str) -> Result<Self, String> {
        let selector = Self::read(text)?;
        match selector.0.iter().find(|term| !is_selectable(resource, &term.path)) {
            Some(term) => Err(format!("field label not supported: {}", term.path)),
            None => Ok(selector),
        }
    }

    /// The only name that can match, of whatever kind: who may see an object of this name may list with this selector. None if the
    /// text cannot be read, too.
    pub fn name_in(text: &str) -> Option<String> {
        let selector = Self::read(text).ok()?;
        let name = selector.name()?;
        (!name.is_empty() && names::path_segment(name).is_empty()).then(|| name.to_owned())
    }

    fn read(text: &str) -> Result<Self, String> {
        let mut terms = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (path, equal, value) = if let Some((path, value)) = part.split_once("!=") {
                (path, false, value)
            } else if let Some((path, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                (path, true, value)
            } else {
                return Err(format!("invalid selector: '{text}'; can't understand '{part}'"));
            };
            terms.push(FieldTerm {
                path: path.to_owned(),
                equal,
                value: value.to_owned(),
            });
        }
        Ok(Self(terms))
    }

    /// The value that a selector asks of a field, if its text can be read and asks for one.
    pub fn required(text: &str, path: &str) -> Option<String> {
        let selector = Self::read(text).ok()?;
        let asked = selector.0.into_iter().find(|term| term.equal && term.path == path);
        asked.map(|term| term.value)
    }

    /// Whether it selects everything.
    pub fn selects_all(&self) -> bool {
        self.0.is_empty()
    }

    /// The only name that can match, if the selector says so: a list by name is a get.
    pub fn name(&self) -> Option<&str> {
        self.0
            .iter()
            .find(|t| t.equal && t.path == "metadata.name")
            .map(|t| t.value.as_str())
    }

    /// Whether an object's fields fit; a missing field is the empty string.
    pub fn matches(&self, object: &Value) -> bool {
        self.0
            .iter()
            .all(|term| (field(object, &term.path) == term.value) == term.equal)
    }
}

fn field(object: &Value, path: &str) -> String {
    // The source of an event is its component's name, or who reports it.
    let path = match path {
        "source" if crate::get(object, &["source", "component"]).is_none_or(|name| name == "") => "reportingComponent",
        "source" => "source.component",
        other => other,
    };
    match path.split('.').try_fold(object, |value, key| value.get(key)) {
        None | Some(Value::Null) => match path {
            "spec.unschedulable" | "spec.hostNetwork" => "false".to_owned(),
            _ => String::new(),
        },
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn is_selectable(resource: &Resource, path: &str) -> bool {
    path == "metadata.name"
        || (path == "metadata.namespace" && resource.namespaced)
        || resource.builtin.is_some_and(|row| row.selectable.contains(&path))
}

#[cfg(test)]
mod tests;
