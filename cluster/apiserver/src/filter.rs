//! Which objects of a collection a list or watch is about: label selectors, field selectors, one name.

use serde_json::Value;

use crate::request::{ObjectPath, Query};
use crate::status::Status;

/// A parsed filter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    labels: Vec<Label>,
    fields: Vec<Field>,
    /// Only the object of this name; decided by key alone.
    pub(crate) name: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Label {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

#[derive(Clone, Debug, PartialEq)]
struct Field {
    path: Vec<String>,
    value: String,
    equal: bool,
}

impl Filter {
    pub(crate) fn parse(query: &Query, path: &ObjectPath) -> Result<Self, Status> {
        let mut filter = Self {
            name: path.name.clone(),
            ..Self::default()
        };
        if let Some(text) = query.get("labelSelector") {
            filter.labels = labels(text)
                .map_err(|why| Status::bad_request(format!("unable to parse labelSelector \"{text}\": {why}")))?;
        }
        for field in query.get("fieldSelector").map(fields).transpose()?.unwrap_or_default() {
            if field.path == ["metadata", "name"]
                && field.equal
                && filter.name.as_ref().is_none_or(|n| *n == field.value)
            {
                filter.name = Some(field.value);
            } else {
                filter.fields.push(field);
            }
        }
        Ok(filter)
    }

    /// Whether the object itself must be looked at.
    pub(crate) fn looks_inside(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }

    /// Whether the key's last segment is right.
    pub(crate) fn admits_key(&self, key: &str) -> bool {
        self.name
            .as_ref()
            .is_none_or(|name| key.rsplit('/').next() == Some(name))
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|l| l.matches(labels)) && self.fields.iter().all(|f| f.matches(object))
    }
}

/// Whether a `LabelSelector` object selects the labels of an object. An empty selector selects all, none at all nothing.
pub(crate) fn selects(selector: &Value, object: &Value) -> bool {
    let Some(selector) = selector.as_object() else {
        return false;
    };
    let labels = &object["metadata"]["labels"];
    let exact = selector.get("matchLabels").and_then(Value::as_object);
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    exact
        .into_iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value))
        && expressions.into_iter().flatten().all(|e| {
            let key = e["key"].as_str().unwrap_or_default().to_owned();
            let values = e["values"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect();
            match e["operator"].as_str() {
                Some("In") => Label::In(key, values).matches(labels),
                Some("NotIn") => Label::NotIn(key, values).matches(labels),
                Some("Exists") => Label::Exists(key).matches(labels),
                Some("DoesNotExist") => Label::Absent(key).matches(labels),
                _ => false,
            }
        })
}

impl Label {
    fn matches(&self, labels: &Value) -> bool {
        let value = |key: &str| labels.get(key).and_then(Value::as_str);
        match self {
            Self::In(key, values) => value(key).is_some_and(|v| values.iter().any(|x| x == v)),
            Self::NotIn(key, values) => value(key).is_none_or(|v| values.iter().all(|x| x != v)),
            Self::Exists(key) => value(key).is_some(),
            Self::Absent(key) => value(key).is_none(),
        }
    }
}

impl Field {
    fn matches(&self, object: &Value) -> bool {
        let found = self.path.iter().try_fold(object, |v, key| v.get(key));
        let text = match found {
            Some(Value::String(s)) => s.clone(),
            None | Some(Value::Null) => String::new(),
            Some(other) => other.to_string(),
        };
        (text == self.value) == self.equal
    }
}

/// Splits at commas outside parentheses.
fn labels(text: &str) -> Result<Vec<Label>, String> {
    let mut parts = vec![String::new()];
    let mut depth = 0_i32;
    for c in text.chars() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        match parts.last_mut() {
            Some(part) if c != ',' || depth > 0 => part.push(c),
            _ => parts.push(String::new()),
        }
    }
    if depth != 0 {
        return Err("unbalanced parentheses".into());
    }
    parts
        .iter()
        .map(|p| p.trim())
        .filter(|p| !p.is_empty())
        .map(label)
        .collect()
}

fn label(text: &str) -> Result<Label, String> {
    let one = |key: &str, value: &str| -> Result<(String, Vec<String>), String> {
        Ok((label_key(key)?, vec![value.trim().to_owned()]))
    };
    if let Some(open) = text.find('(') {
        let set = text[open + 1..].strip_suffix(')').ok_or("missing ')'")?;
        let values = set.split(',').map(|v| v.trim().to_owned()).collect();
        let mut words = text[..open].split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => Ok(Label::In(label_key(key)?, values)),
            (Some(key), Some("notin"), None) => Ok(Label::NotIn(label_key(key)?, values)),
            _ => Err(format!("found '{text}', expected: KEY in (…) or KEY notin (…)")),
        };
    }
    if let Some((key, value)) = text.split_once("!=") {
        return one(key, value).map(|(k, v)| Label::NotIn(k, v));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return one(key, value).map(|(k, v)| Label::In(k, v));
    }
    match text.strip_prefix('!') {
        Some(key) => label_key(key).map(Label::Absent),
        None => label_key(text).map(Label::Exists),
    }
}

fn label_key(text: &str) -> Result<String, String> {
    let key = text.trim();
    let fine = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    if fine {
        Ok(key.to_owned())
    } else {
        Err(format!("'{key}' is not a label key"))
    }
}

fn fields(text: &str) -> Result<Vec<Field>, Status> {
    let parse = |part: &str| {
        let (path, value, equal) = if let Some((p, v)) = part.split_once("!=") {
            (p, v, false)
        } else if let Some((p, v)) = part.split_once("==").or_else(|| part.split_once('=')) {
            (p, v, true)
        } else {
            return Err(Status::bad_request(format!(
                "invalid selector: '{text}'; can't understand '{part}'"
            )));
        };
        let path = path.trim().split('.').map(str::to_owned).collect();
        Ok(Field {
            path,
            value: value.trim().replace("\\,", ",").replace("\\=", "="),
            equal,
        })
    };
    text.split(',').filter(|p| !p.is_empty()).map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn label_selectors() {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": "front"}}});
        let cases = [
            ("app=web", true),
            ("app==web,tier!=back", true),
            ("app in (api, web),tier", true),
            ("app notin (web)", false),
            ("!missing", true),
            ("missing", false),
            ("missing!=x", true),
        ];
        for (text, expected) in cases {
            let filter = Filter {
                labels: labels(text).unwrap(),
                ..Filter::default()
            };
            assert_eq!(filter.matches(&object), expected, "{text}");
        }
        assert!(labels("a in (b").is_err());
        assert!(labels("a b=c").is_err());
    }

    #[test]
    fn a_name_is_decided_by_the_key() {
        let query = Query::parse(Some("fieldSelector=metadata.name%3Da,spec.nodeName!%3Dn"));
        let filter = Filter::parse(&query, &ObjectPath::default()).unwrap();
        assert!(filter.admits_key("/core/pods/x/a"));
        assert!(!filter.admits_key("/core/pods/x/ab"));
        assert!(filter.matches(&json!({"spec": {}})));
        assert!(!filter.matches(&json!({"spec": {"nodeName": "n"}})));
    }
}
