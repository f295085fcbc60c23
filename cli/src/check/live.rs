//! Objects of a running cluster.

use afloat_rollout::kinds::KINDS;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use serde_json::Value;

use super::input::Read;
use crate::options::cluster::{ClusterFlags, connect};

/// What rules look at beside workloads of ours: group, versions from the newest, kind.
const OTHERS: [(&str, &[&str], &str); 8] = [
    ("", &["v1"], "Service"),
    ("", &["v1"], "Pod"),
    ("apps", &["v1"], "Deployment"),
    ("apps", &["v1"], "StatefulSet"),
    ("apps", &["v1"], "DaemonSet"),
    ("apps", &["v1"], "ReplicaSet"),
    ("policy", &["v1"], "PodDisruptionBudget"),
    ("autoscaling", &["v2"], "HorizontalPodAutoscaler"),
];

/// Versions of workloads of ours.
const OURS: &[&str] = &["v1beta1", "v1alpha1"];

/// Objects per answer of the API server.
const PAGE: u32 = 500;

/// Everything that rules look at.
pub(crate) fn objects(flags: &ClusterFlags, all: bool) -> anyhow::Result<Vec<Read>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (client, namespace) = connect(flags).await?;
        let namespace = (!all).then_some(namespace.as_str());
        let mut found = Vec::new();
        let ours = KINDS.iter().map(|names| (afloat_api::GROUP, OURS, names.kind));
        for (group, versions, kind) in OTHERS.into_iter().chain(ours) {
            for version in versions {
                if let Some(objects) = list(&client, group, version, kind, namespace).await? {
                    found.extend(objects.into_iter().map(Read::live));
                    break;
                }
            }
        }
        Ok(found)
    })
}

/// All objects of a kind; None if the cluster does not have the kind.
pub(crate) async fn list(
    client: &Client,
    group: &str,
    version: &str,
    kind: &str,
    namespace: Option<&str>,
) -> anyhow::Result<Option<Vec<Value>>> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let mut found = Vec::new();
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = match api.list(&parameters).await {
            Ok(page) => page,
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            Err(error) => return Err(anyhow::Error::new(error).context(format!("cannot list {kind}s"))),
        };
        let next = page.metadata.continue_.clone().filter(|token| !token.is_empty());
        for object in page {
            let mut value = serde_json::to_value(object)?;
            // Items of a list do not say it themselves.
            value["apiVersion"] = resource.api_version.clone().into();
            value["kind"] = kind.into();
            found.push(value);
        }
        match next {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(Some(found)),
        }
    }
}
