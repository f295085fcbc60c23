//! The CustomResourceDefinitions. Defaults and validation live in their schemas, so that no webhook is needed for them; between
//! the versions of a kind converts either a webhook ([`crate::convert`]) or nobody, where one version is served only.

mod clone_set;
mod images;
mod serving;
mod told;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use crate::names::GROUP;
use crate::schema::{object, string};
pub use serving::{Door, Serving, Version};

/// Every CRD that the operator needs, as objects to create.
pub fn crds(serving: &Serving) -> Vec<CustomResourceDefinition> {
    #[allow(clippy::expect_used)] // a test reads each of them
    let read = |value| serde_json::from_value(value).expect("the definitions below are CustomResourceDefinitions");
    definitions(serving).into_iter().map(read).collect()
}

/// The same as documents to apply: with nulls for what must go from definitions that are there, OpenKruise's included.
pub fn definitions(serving: &Serving) -> Vec<Value> {
    let mut all = vec![clone_set(serving), told::node_traffic(), told::rollout_report()];
    all.extend(images::definitions(serving));
    all
}

fn clone_set(serving: &Serving) -> Value {
    let version = |version: Version| {
        let mut value = json!({
            "name": version.name(),
            "served": version == Version::V1beta1 || serving.webhook.is_some(),
            "storage": version == serving.stored,
            "subresources": {
                "status": {},
                "scale": {
                    "specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.labelSelector",
                },
            },
            "additionalPrinterColumns": clone_set::columns(),
        });
        value["schema"] = json!({"openAPIV3Schema": object(
            json!({
                "apiVersion": string(),
                "kind": string(),
                "metadata": {"type": "object"},
                "spec": clone_set::spec(version),
                "status": clone_set::status(),
            }),
            &[],
        )});
        if !serving.template_defaults {
            clone_set::leave_templates(&mut value);
        }
        value
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("clonesets.{GROUP}")},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": "CloneSet", "listKind": "CloneSetList", "plural": "clonesets", "singular": "cloneset",
                "shortNames": ["clone"],
            },
            "scope": "Namespaced",
            "conversion": conversion(serving.webhook.as_ref()),
            // v1alpha1 is there even where it is not served: nobody may take a version away in which objects may be stored. It is
            // not the first: OpenKruise's manager claims the webhooks of definitions whose first version it knows.
            "versions": [version(Version::V1beta1), version(Version::V1alpha1)],
        },
    })
}

fn conversion(webhook: Option<&Door>) -> Value {
    match webhook {
        None => json!({"strategy": "None", "webhook": null}),
        Some(door) => json!({
            "strategy": "Webhook",
            "webhook": {"clientConfig": door.client_config(), "conversionReviewVersions": ["v1"]},
        }),
    }
}

#[cfg(test)]
mod tests;
