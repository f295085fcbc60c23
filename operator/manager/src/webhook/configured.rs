//! The configurations by which the API server asks our webhooks about what is written: made where they are missing, and kept true. What
//! they ask about goes on without an answer (`failurePolicy: Ignore`).

use afloat_api::{Door, names};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Error};
use serde_json::{Value, json};

/// All of them.
fn configurations(door: &Door, authorities: &str) -> Vec<Value> {
    let at = |path: &str| {
        let mut config = door.config_at(path);
        config["caBundle"] = STANDARD.encode(authorities).into();
        config
    };
    vec![
        recreate(&at(names::RECREATE_PATH)),
        budgets(&at(names::BUDGET_PATH), &at(names::WRITTEN_BUDGET_PATH)),
    ]
}

/// What a ContainerRecreateRequest lacks.
fn recreate(config: &Value) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": names::WEBHOOKS},
        "webhooks": [{
            "name": "recreate.afloat.dev",
            "clientConfig": config,
            "rules": [{
                "apiGroups": [names::GROUP], "apiVersions": ["v1alpha1", "v1beta1"], "operations": ["CREATE"],
                "resources": ["containerrecreaterequests"], "scope": "Namespaced",
            }],
            // What a request lacks is put in later by the operator that leads.
            "failurePolicy": "Ignore",
            "matchPolicy": "Equivalent",
            "sideEffects": "None",
            "reinvocationPolicy": "Never",
            "timeoutSeconds": 5,
            "admissionReviewVersions": ["v1"],
        }],
    })
}

/// Whether a pod may go. Of changes and deletions only those of pods that bear a budget's name are asked about; an eviction does not show
/// its pod. And whether there may be such a budget.
fn budgets(config: &Value, written: &Value) -> Value {
    let keys = names::RELATED_BUDGET.map(|key| format!("'{key}' in oldObject.metadata.annotations"));
    let guarded = format!(
        "request.operation == 'CREATE' || (has(oldObject.metadata.annotations) && ({}))",
        keys.join(" || ")
    );
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": names::WEBHOOKS},
        "webhooks": [{
            "name": names::BUDGET_WEBHOOK,
            "clientConfig": config,
            "rules": [
                {
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE", "DELETE"], "resources": ["pods"],
                    "scope": "Namespaced",
                },
                {
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods/resize"],
                    "scope": "Namespaced",
                },
                {
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods/eviction"],
                    "scope": "Namespaced",
                },
            ],
            // A budget is no reason for a cluster to stand still.
            "failurePolicy": "Ignore",
            "matchPolicy": "Equivalent",
            "matchConditions": [{"name": "guarded", "expression": guarded}],
            "sideEffects": "NoneOnDryRun",
            "timeoutSeconds": 5,
            "admissionReviewVersions": ["v1"],
        }, {
            "name": names::WRITTEN_BUDGET_WEBHOOK,
            "clientConfig": written,
            "rules": [{
                "apiGroups": ["policy.kruise.io"], "apiVersions": ["v1alpha1", "v1beta1"], "operations": ["CREATE", "UPDATE"],
                "resources": ["podunavailablebudgets"], "scope": "Namespaced",
            }],
            // Without an answer there may be two that are about the same pods: each pod goes by the one that was first.
            "failurePolicy": "Ignore",
            "matchPolicy": "Equivalent",
            "sideEffects": "None",
            "timeoutSeconds": 5,
            "admissionReviewVersions": ["v1"],
        }],
    })
}

/// Makes them, or brings them up to date.
pub(super) async fn keep_configurations(client: &Client, door: &Door, authorities: &str) -> Result<(), Error> {
    for wanted in configurations(door, authorities) {
        let text = |key: &str| wanted[key].as_str().unwrap_or_default();
        let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", text("kind"));
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
        let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
        match api.get_opt(name).await? {
            None => {
                let object: DynamicObject = serde_json::from_value(wanted.clone()).map_err(Error::SerdeError)?;
                api.create(&PostParams::default(), &object).await?;
            }
            Some(present) if says(&present.data["webhooks"], &wanted["webhooks"]) => continue,
            Some(present) => {
                let version = present.metadata.resource_version;
                let patch = json!({"metadata": {"resourceVersion": version}, "webhooks": wanted["webhooks"]});
                api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            }
        }
        tracing::info!(
            configuration = name,
            "the API server is told of the webhooks that review"
        );
    }
    Ok(())
}

/// Whether everything that is wanted is there, beside defaults of the API server; null: it is not.
fn says(present: &Value, wanted: &Value) -> bool {
    match (present, wanted) {
        (Value::Object(present), Value::Object(wanted)) => {
            (wanted.iter()).all(|(key, value)| says(present.get(key).unwrap_or(&Value::Null), value))
        }
        (Value::Array(present), Value::Array(wanted)) => {
            present.len() == wanted.len()
                && present
                    .iter()
                    .zip(wanted)
                    .all(|(present, wanted)| says(present, wanted))
        }
        (present, wanted) => present == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_adds_is_no_difference() {
        let door = Door::default();
        let wanted = configurations(&door, "new").remove(0);
        let mut present = wanted["webhooks"].clone();
        present[0]["namespaceSelector"] = json!({});
        assert!(says(&present, &wanted["webhooks"]));
        let other = configurations(&door, "old").remove(0);
        assert!(!says(&present, &other["webhooks"]));
        let url = Door::Url("https://127.0.0.1:9/convert".into());
        let elsewhere = configurations(&url, "new").remove(0);
        assert_eq!(
            elsewhere["webhooks"][0]["clientConfig"]["url"],
            format!("https://127.0.0.1:9{}", names::RECREATE_PATH)
        );
        assert!(!says(&present, &elsewhere["webhooks"]));
    }
}
