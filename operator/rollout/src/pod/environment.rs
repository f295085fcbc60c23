//! The few variables of a container that the operator reads: the barrier of the launch priority, and those that take
//! their value from the pod's labels and annotations.

use std::borrow::Cow;

use afloat_api::names;
use serde::{Deserialize, Deserializer};
use serde_json::json;

use crate::go::object_hash;
use crate::texts::Entries;

/// What is kept of a container's `env`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Launch priority, out of the variable that keeps the container from starting; see [`crate::pod::launch`].
    pub priority: Option<i32>,
    /// Variables out of labels and annotations, by name.
    from_metadata: Box<[(Box<str>, Source)]>,
}

/// Where in the metadata a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Label(Box<str>),
    Annotation(Box<str>),
}

impl Source {
    /// Reads `metadata.labels['app']`; None for other fields.
    pub(crate) fn read(path: &str) -> Option<Self> {
        let (field, rest) = path.split_once("['")?;
        let key = rest.strip_suffix("']")?;
        match field {
            "metadata.labels" => Some(Self::Label(key.into())),
            "metadata.annotations" => Some(Self::Annotation(key.into())),
            _ => None,
        }
    }
}

impl Environment {
    /// The hash by which OpenKruise's daemon tells whether a container has the values of the pod's present metadata
    /// (spec/kruise-behaviour.md §11).
    pub(crate) fn hash(&self, labels: &Entries, annotations: &Entries) -> u64 {
        let value = |source: &Source| match source {
            Source::Label(key) => labels.get(key),
            Source::Annotation(key) => annotations.get(key),
        };
        let entry = |(name, source): &(Box<str>, Source)| match value(source) {
            Some(value) if !value.is_empty() => json!({"name": name, "value": value}),
            _ => json!({"name": name}),
        };
        let list: Vec<_> = self.from_metadata.iter().map(entry).collect();
        u64::from(object_hash(&if list.is_empty() { json!(null) } else { json!(list) }))
    }
}

impl<'de> Deserialize<'de> for Environment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Variable<'a> {
            // There are many, and of most not even the name is kept.
            #[serde(borrow)]
            name: Cow<'a, str>,
            value_from: Option<ValueFrom>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct ValueFrom {
            config_map_key_ref: Option<KeyRef>,
            field_ref: Option<FieldRef>,
        }
        #[derive(Deserialize)]
        struct KeyRef {
            key: String,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct FieldRef {
            field_path: String,
        }
        let mut environment = Self::default();
        let mut found: Vec<(Box<str>, Source)> = Vec::new();
        for variable in Option::<Vec<Variable>>::deserialize(deserializer)?.unwrap_or_default() {
            let Some(from) = variable.value_from else { continue };
            if variable.name == names::LAUNCH_BARRIER {
                let key = from.config_map_key_ref.map(|reference| reference.key);
                environment.priority = key.and_then(|key| key.strip_prefix("p_")?.parse().ok());
            } else if let Some(source) = from.field_ref.and_then(|field| Source::read(&field.field_path))
                && !["SIDECARSET_VERSION", "SIDECARSET_VERSION_ALT"].contains(&&*variable.name)
            {
                found.push((variable.name.into(), source));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        environment.from_metadata = found.into();
        Ok(environment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::object::Pod;

    #[test]
    fn the_hash_is_the_daemons() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"labels": {"v": "1"}},
            "spec": {"containers": [
                {"name": "none", "env": [{"name": "X", "value": "y"}]},
                {"name": "some", "env": [
                    {"name": "V", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['v']"}}},
                    {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['a']"}}},
                    {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
            ]},
        }))
        .unwrap();
        let hash = |index: usize| {
            pod.spec.containers[index]
                .environment
                .hash(&pod.labels, &pod.annotations)
        };
        assert_eq!(hash(0), 86_995_377, "the check value of the specification: null");
        assert_eq!(
            hash(1),
            u64::from(object_hash(&json!([{"name": "A"}, {"name": "V", "value": "1"}])))
        );
    }
}
