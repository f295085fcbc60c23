//! The CustomResourceDefinitions. Defaults and validation live in their schemas, so that no webhook is needed for them; between
//! the versions of a kind converts either a webhook ([`crate::convert`]) or nobody, where one version is served only.

mod budget;
mod clone_set;
mod daemon_set;
mod images;
mod recreate;
mod serving;
mod stateful_set;
mod told;
mod workload;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use crate::names::GROUP;
use crate::schema::{object, string};
pub use serving::{Door, Serving, Version};

/// Every CRD that the operator needs, as objects to create.
pub fn crds(serving: &Serving) -> Vec<CustomResourceDefinition> {
    #[allow(clippy::expect_used)] // a test reads each of them
    let read = |value: Value| {
        serde_json::from_str(&value.to_string()).expect("the definitions below are CustomResourceDefinitions")
    };
    definitions(serving).into_iter().map(read).collect()
}

/// The same as documents to apply: with nulls for what must go from definitions that are there, OpenKruise's included.
pub fn definitions(serving: &Serving) -> Vec<Value> {
    let mut all = vec![
        clone_set(serving),
        daemon_set(serving),
        recreate::definition(serving),
        stateful_set(serving),
        told::node_traffic(),
        told::rollout_report(),
        budget::definition(),
    ];
    all.extend(images::definitions(serving));
    all
}

/// A kind of OpenKruise with two versions.
struct Workload {
    kind: &'static str,
    short_names: &'static [&'static str],
    columns: Value,
    /// Subresources, beside `status`.
    scale: Option<Value>,
    spec: fn(Version, &Serving) -> Value,
    status: fn(Version) -> Value,
}

fn clone_set(serving: &Serving) -> Value {
    workload(
        &Workload {
            kind: "CloneSet",
            short_names: &["clone"],
            columns: clone_set::columns(),
            scale: Some(workload::scale()),
            spec: clone_set::spec,
            status: |_| clone_set::status(),
        },
        serving,
    )
}

fn daemon_set(serving: &Serving) -> Value {
    workload(
        &Workload {
            kind: "DaemonSet",
            short_names: &["daemon", "ads"],
            columns: daemon_set::columns(),
            scale: None,
            spec: daemon_set::spec,
            status: daemon_set::status,
        },
        serving,
    )
}

fn stateful_set(serving: &Serving) -> Value {
    workload(
        &Workload {
            kind: "StatefulSet",
            short_names: &["sts", "asts"],
            columns: stateful_set::columns(),
            scale: Some(workload::scale()),
            spec: |_, serving| stateful_set::spec(serving),
            status: |_| stateful_set::status(),
        },
        serving,
    )
}

fn workload(kind: &Workload, serving: &Serving) -> Value {
    let version = |version: Version| {
        let mut subresources = json!({"status": {}});
        if let Some(scale) = &kind.scale {
            subresources["scale"] = scale.clone();
        }
        json!({
            "name": version.name(),
            "served": version == Version::V1beta1 || serving.webhook.is_some(),
            "storage": version == serving.stored,
            "subresources": subresources,
            "additionalPrinterColumns": kind.columns,
            "schema": {"openAPIV3Schema": object(
                json!({
                    "apiVersion": string(),
                    "kind": string(),
                    "metadata": {"type": "object"},
                    "spec": (kind.spec)(version, serving),
                    "status": (kind.status)(version),
                }),
                &[],
            )},
        })
    };
    let singular = kind.kind.to_lowercase();
    let plural = format!("{singular}s");
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.kind, "listKind": format!("{}List", kind.kind), "plural": plural, "singular": singular,
                "shortNames": kind.short_names,
            },
            "scope": "Namespaced",
            "conversion": serving.conversion(),
            // v1alpha1 is there even where it is not served: nobody may take a version away in which objects may be stored. It is
            // not the first: OpenKruise's manager claims the webhooks of definitions whose first version it knows.
            "versions": [version(Version::V1beta1), version(Version::V1alpha1)],
        },
    })
}

#[cfg(test)]
mod tests;
