//! What a takeover puts aside before it changes anything, in one ConfigMap beside OpenKruise's manager: enough to undo all of
//! it, by this program or by hand.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::census::Census;
use super::definitions::{Definitions, version};

/// The ConfigMap.
pub(super) const NAME: &str = "afloat-takeover";
/// Bytes that a ConfigMap may have are 1 MiB, all of its keys and values together; the rest is for its metadata.
const LIMIT: usize = 1_000_000;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Kept {
    /// Kruise's webhook configurations, in the order of [`super::kruise::WEBHOOKS`]; None: there was none.
    pub(super) webhooks: [Option<Value>; 2],
    /// Kruise's CustomResourceDefinitions of the kinds of workload.
    pub(super) crds: Definitions,
    /// What the takeover installed, as apiVersion, kind, namespace and name: it was not there before.
    pub(super) installed: Vec<Value>,
    /// The workloads and their pods then; None: too many to be kept.
    pub(super) before: Option<Census>,
}

impl Kept {
    /// Whether Kruise knew a kind's v1beta1, too, which is so of those that it did not have.
    pub(super) fn knew_v1beta1(&self, name: &str) -> bool {
        let crd = self.crds.0.get(name);
        crd.is_none_or(|crd| version(crd, "v1beta1").0)
    }

    /// The ConfigMap's data. Gives up `before` if all of it is too big; an error if the rest is.
    pub(super) fn data(&self) -> Result<BTreeMap<String, String>, String> {
        let mut data: BTreeMap<String, String> = [
            ("webhooks.json", json!(self.webhooks)),
            ("crds.json", json!(self.crds)),
            ("installed.json", json!(self.installed)),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_string()))
        .into();
        let size =
            |data: &BTreeMap<String, String>| data.iter().map(|(name, text)| name.len() + text.len()).sum::<usize>();
        let rest = size(&data);
        if rest > LIMIT {
            return Err(format!(
                "Kruise's CRDs and webhook configurations have {rest} bytes, more than a ConfigMap may have: shorten their annotations"
            ));
        }
        if let Some(before) = &self.before {
            data.insert("before.json".to_owned(), json!(before).to_string());
            if size(&data) > LIMIT {
                data.remove("before.json");
            }
        }
        Ok(data)
    }

    /// What a ConfigMap says; an error names its key.
    pub(super) fn read(object: &Value) -> Result<Self, String> {
        let part = |name: &str| match object["data"][name].as_str() {
            Some(text) => serde_json::from_str(text).map_err(|error| format!("{name} of ConfigMap {NAME}: {error}")),
            None => Err(format!("{name} is missing in ConfigMap {NAME}")),
        };
        let wrong = |name: &str, error: serde_json::Error| format!("{name} of ConfigMap {NAME}: {error}");
        let before = match object["data"].get("before.json") {
            None => None,
            Some(_) => Some(serde_json::from_value(part("before.json")?).map_err(|error| wrong("before.json", error))?),
        };
        Ok(Self {
            webhooks: serde_json::from_value(part("webhooks.json")?).map_err(|error| wrong("webhooks.json", error))?,
            crds: serde_json::from_value(part("crds.json")?).map_err(|error| wrong("crds.json", error))?,
            installed: serde_json::from_value(part("installed.json")?)
                .map_err(|error| wrong("installed.json", error))?,
            before,
        })
    }
}

/// An object as it can be created again: what the API server adds is left out.
pub(super) fn bare(object: &Value) -> Value {
    let mut bare = object.clone();
    if let Some(fields) = bare.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = bare["metadata"].as_object_mut() {
        metadata.retain(|field, _| matches!(field.as_str(), "name" | "namespace" | "labels" | "annotations"));
    }
    bare
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME_OF_ONE: &str = "clonesets.apps.kruise.io";

    fn kept(pods: usize) -> Kept {
        let set = super::super::census::Set {
            pods: (0..pods).map(|number| (format!("{number:08x}"), 0)).collect(),
            ..Default::default()
        };
        let crd = json!({"spec": {"versions": [{"name": "v1alpha1", "served": true, "storage": true}]}});
        Kept {
            webhooks: [Some(json!({"webhooks": []})), None],
            crds: Definitions([(NAME_OF_ONE.to_owned(), crd)].into()),
            installed: vec![json!({"kind": "Deployment"})],
            before: Some(Census {
                sets: [("default/web".to_owned(), set)].into(),
            }),
        }
    }

    #[test]
    fn what_is_kept_can_be_read_again() {
        let kept = kept(3);
        assert!(!kept.knew_v1beta1(NAME_OF_ONE) && kept.knew_v1beta1("others"));
        assert_eq!(Kept::read(&json!({"data": kept.data().unwrap()})).unwrap(), kept);
        assert!(
            Kept::read(&json!({"data": {"crds.json": "{}"}}))
                .unwrap_err()
                .contains("webhooks.json is missing")
        );
    }

    #[test]
    fn too_many_pods_are_not_kept_and_too_big_a_rest_is_an_error() {
        let mut kept = kept(100_000);
        assert!(!kept.data().unwrap().contains_key("before.json"));
        kept.crds.0.insert(String::new(), json!("x".repeat(LIMIT)));
        assert!(kept.data().is_err());
    }

    #[test]
    fn the_api_servers_own_fields_are_left_out() {
        let object = json!({"kind": "A", "status": {}, "metadata": {"name": "a", "uid": "1", "resourceVersion": "2", "labels": {}}});
        assert_eq!(
            bare(&object),
            json!({"kind": "A", "metadata": {"name": "a", "labels": {}}})
        );
    }
}
