//! What a cluster answers.

use std::collections::BTreeMap;

use afloat_install::{AGENT, Need, OPERATOR, Options, needs};
use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::check::live::list;

/// Questions about rights asked at the same time.
const AT_ONCE: usize = 8;

/// An answer, or why there is none. A kind that the cluster does not have has no objects.
pub(super) type Answer<T> = Result<T, String>;

/// Everything that the judgement is made of.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) namespace: String,
    /// `gitVersion` of the API server.
    pub(super) version: String,
    /// The API server's clock, to the second; and ours, before and after it was asked.
    pub(super) clock: Option<(Timestamp, [Timestamp; 2])>,
    pub(super) crds: Answer<Vec<Value>>,
    pub(super) deployment: Answer<Option<Value>>,
    pub(super) daemon_set: Answer<Option<Value>>,
    /// Pods of the installation's namespace.
    pub(super) pods: Answer<Vec<Value>>,
    pub(super) nodes: Answer<Vec<Value>>,
    /// NodeTraffics.
    pub(super) reports: Answer<Vec<Value>>,
    /// Where the Lease is, as the Deployment says it, or the default.
    pub(super) lease_place: (String, String),
    pub(super) lease: Answer<Option<Value>>,
    /// Pods of the Lease's namespace, where OpenKruise's manager runs.
    pub(super) beside: Answer<Vec<Value>>,
    /// Of both kinds.
    pub(super) webhooks: Answer<Vec<Value>>,
    /// Of the Services that webhooks name, by namespace and name.
    pub(super) endpoints: BTreeMap<(String, String), Answer<Vec<Value>>>,
    /// What is needed and not allowed; None where the API server does not judge that.
    pub(super) denied: Answer<Option<Vec<Need>>>,
    /// How much is needed.
    pub(super) needed: usize,
}

/// Asks for all of it.
///
/// # Errors
/// The API server cannot be reached at all.
pub(super) async fn look(config: Config, namespace: &str) -> anyhow::Result<Seen> {
    let client = Client::try_from(config)?;
    let (version, clock) = server(&client).await.context("cannot reach the API server")?;
    let deployment = one(&client, "apps", "v1", "Deployment", namespace, OPERATOR).await;
    let daemon_set = one(&client, "apps", "v1", "DaemonSet", namespace, AGENT).await;
    let lease_place = lease_place(deployment.as_ref().ok().and_then(Option::as_ref));
    let (lease_namespace, lease_name) = (lease_place.0.as_str(), lease_place.1.as_str());
    let webhooks = webhooks(&client).await;
    let mut endpoints = BTreeMap::new();
    for place in webhooks.iter().flatten().flat_map(services) {
        let slices = all(&client, "discovery.k8s.io", "v1", "EndpointSlice", Some(&place.0)).await;
        endpoints.insert(place, slices);
    }
    let installed = Options {
        namespace: namespace.to_owned(),
        lease_namespace: lease_namespace.to_owned(),
        agent: !matches!(daemon_set, Ok(None)),
        ..Options::default()
    };
    let needs = needs(&installed);
    Ok(Seen {
        namespace: namespace.to_owned(),
        version,
        clock,
        crds: all(&client, "apiextensions.k8s.io", "v1", "CustomResourceDefinition", None).await,
        pods: all(&client, "", "v1", "Pod", Some(namespace)).await,
        nodes: all(&client, "", "v1", "Node", None).await,
        reports: all(&client, "afloat.dev", "v1alpha1", "NodeTraffic", None).await,
        lease: one(
            &client,
            "coordination.k8s.io",
            "v1",
            "Lease",
            lease_namespace,
            lease_name,
        )
        .await,
        beside: all(&client, "", "v1", "Pod", Some(lease_namespace)).await,
        needed: needs.len(),
        denied: denied(&client, namespace, needs).await,
        lease_place,
        deployment,
        daemon_set,
        webhooks,
        endpoints,
    })
}

/// Version and clock.
async fn server(client: &Client) -> anyhow::Result<(String, Option<(Timestamp, [Timestamp; 2])>)> {
    let request = http::Request::get("/version").body(kube::client::Body::empty())?;
    let before = Timestamp::now();
    let answer = client.send(request).await?;
    let after = Timestamp::now();
    let date = answer
        .headers()
        .get(http::header::DATE)
        .and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    let body = answer.into_body().collect_bytes().await?;
    let version: Value = serde_json::from_slice(&body).context("its version is not JSON")?;
    let version = version["gitVersion"].as_str().unwrap_or("unknown").to_owned();
    Ok((version, date.map(|date| (date.timestamp(), [before, after]))))
}

/// All objects of a kind.
async fn all(client: &Client, group: &str, version: &str, kind: &str, namespace: Option<&str>) -> Answer<Vec<Value>> {
    match list(client, group, version, kind, namespace).await {
        Ok(found) => Ok(found.unwrap_or_default()),
        Err(error) => Err(crate::output::one_line(&error)),
    }
}

async fn one(
    client: &Client,
    group: &str,
    version: &str,
    kind: &str,
    namespace: &str,
    name: &str,
) -> Answer<Option<Value>> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    match api.get_opt(name).await {
        Ok(found) => Ok(found.map(|object| json!(object))),
        Err(error) => Err(error.to_string()),
    }
}

/// Where a Deployment says that the Lease is.
fn lease_place(deployment: Option<&Value>) -> (String, String) {
    let variables = deployment.and_then(|one| one.pointer("/spec/template/spec/containers/0/env")?.as_array());
    let of = |name: &str, default: &str| {
        let variable = variables
            .into_iter()
            .flatten()
            .find(|variable| variable["name"] == name);
        let value = variable.and_then(|variable| variable["value"].as_str());
        value.unwrap_or(default).to_owned()
    };
    (
        of("AFLOAT_LEASE_NAMESPACE", afloat_api::names::MANAGER_NAMESPACE),
        of("AFLOAT_LEASE_NAME", afloat_api::names::MANAGER_LEASE),
    )
}

async fn webhooks(client: &Client) -> Answer<Vec<Value>> {
    let mut found = Vec::new();
    for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
        found.extend(all(client, "admissionregistration.k8s.io", "v1", kind, None).await?);
    }
    Ok(found)
}

/// Namespace and name of the Services of a configuration of webhooks.
fn services(configuration: &Value) -> Vec<(String, String)> {
    let webhooks = configuration["webhooks"].as_array().into_iter().flatten();
    let service = |webhook: &Value| {
        let service = webhook.pointer("/clientConfig/service")?;
        Some((
            service["namespace"].as_str()?.to_owned(),
            service["name"].as_str()?.to_owned(),
        ))
    };
    webhooks.filter_map(service).collect()
}

/// What of it is not allowed. Asked is the API server's authorizer, about the accounts, whoever we are.
async fn denied(client: &Client, namespace: &str, needs: Vec<Need>) -> Answer<Option<Vec<Need>>> {
    let gvk = GroupVersionKind::gvk("authorization.k8s.io", "v1", "SubjectAccessReview");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&gvk));
    let ask = |need: Need| {
        let (api, review) = (api.clone(), review(namespace, &need));
        async move {
            let review: DynamicObject = serde_json::from_value(review).map_err(kube::Error::SerdeError)?;
            let answer = api.create(&kube::api::PostParams::default(), &review).await?;
            let allowed = answer.data["status"]["allowed"] == true;
            Ok::<_, kube::Error>((!allowed).then_some(need))
        }
    };
    let asked = futures::stream::iter(needs).map(ask).buffered(AT_ONCE);
    let answers: kube::Result<Vec<Option<Need>>> = asked.try_collect().await;
    match answers {
        Ok(answers) => Ok(Some(answers.into_iter().flatten().collect())),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn review(namespace: &str, need: &Need) -> Value {
    let (resource, subresource) = need.resource.split_once('/').unwrap_or((&need.resource, ""));
    json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
        "spec": {
            "user": format!("system:serviceaccount:{namespace}:{}", need.account),
            "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated"],
            "resourceAttributes": {
                "namespace": need.namespace.as_deref().unwrap_or_default(),
                "verb": need.verb, "group": need.group, "resource": resource, "subresource": subresource,
                "name": need.name.as_deref().unwrap_or_default(),
            },
        },
    })
}
