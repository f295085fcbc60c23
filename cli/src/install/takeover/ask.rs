//! Asks a cluster for what a takeover is decided on.

use std::collections::BTreeMap;

use afloat_api::Gates;
use afloat_rollout::kinds::KINDS;
use anyhow::Context as _;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::Value;

use super::census::Census;
use super::check::Surroundings;
use super::cluster::{self, Which};
use super::definitions::{self, Definitions};
use super::kept::{self, Kept};
use super::kruise;
use super::seen::{Manager, Seen, in_use, pod};
use super::text::Place;
use crate::check::live;

/// What whoever does a takeover has to be allowed: verb, group, resource.
const RIGHTS: [(&str, &str, &str); 11] = [
    ("create", "", "configmaps"),
    ("delete", "", "configmaps"),
    ("list", "", "pods"),
    ("get", "", "secrets"),
    ("create", "apps", "deployments"),
    ("patch", "apps", "deployments"),
    ("create", "coordination.k8s.io", "leases"),
    ("create", "rbac.authorization.k8s.io", "clusterroles"),
    (
        "delete",
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
    ),
    (
        "create",
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
    ),
    ("update", "apiextensions.k8s.io", "customresourcedefinitions"),
];

/// The state that steps are decided on.
pub(super) async fn seen(client: &Client, place: &Place) -> anyhow::Result<Seen> {
    let kept = cluster::get(client, in_namespace("v1", "ConfigMap", &place.namespace, kept::NAME)).await?;
    let kept = kept.map(|object| Kept::read(&object)).transpose();
    let lease = async |name| {
        let which = in_namespace("coordination.k8s.io/v1", "Lease", &place.namespace, name);
        cluster::get(client, which).await
    };
    let holder = lease(afloat_api::names::MANAGER_LEASE).await?;
    let holder = holder.and_then(|lease| Some(lease["spec"]["holderIdentity"].as_str()?.to_owned()));
    let secret = in_namespace(
        "v1",
        "Secret",
        &place.afloat_namespace,
        afloat_api::names::WEBHOOK_SECRET,
    );
    let authority = cluster::get(client, secret).await?;
    let mut webhooks = [None, None];
    for (slot, (kind, name)) in webhooks.iter_mut().zip(kruise::WEBHOOKS) {
        *slot = cluster::get(client, everywhere("admissionregistration.k8s.io/v1", kind, name)).await?;
    }
    let mut seen = Seen {
        kruise: manager(client, &place.namespace, &place.kruise).await?,
        afloat: manager(client, &place.afloat_namespace, &place.afloat).await?,
        holder: holder.unwrap_or_default(),
        hold_lease: lease(kruise::HOLD_LEASE).await?.is_some(),
        webhooks,
        crds: definitions(client).await?,
        authority: authority.and_then(|secret| Some(secret["data"]["ca.crt"].as_str()?.to_owned())),
        told: None,
        unfilled: None,
        kept: kept.map_err(anyhow::Error::msg)?,
    };
    // Before that it is in use, and perhaps nobody converts what would be listed.
    if seen.kept.is_some() && seen.kruise_leads() {
        seen.told = Some(!cluster::told(client).await?.is_empty());
    }
    // On the way back only: Kruise's manager stands for the Lease that Afloat holds.
    let back = |kruise: &Manager| kruise.replicas() > 0 && !kruise.held();
    if seen.kept.is_some() && seen.afloat_leads() && seen.kruise.as_ref().is_some_and(back) {
        let arguments = seen.kruise.as_ref().map(Manager::arguments).unwrap_or_default();
        let gates = kruise::flag(&arguments, "feature-gates").unwrap_or_default();
        let leaves = Gates::is_on(&gates, "TemplateNoDefaults");
        seen.unfilled = Some(!leaves && !cluster::unfilled(client).await?.is_empty());
    }
    Ok(seen)
}

async fn definitions(client: &Client) -> anyhow::Result<Definitions> {
    let mut found = Definitions::default();
    for name in definitions::names() {
        let which = everywhere("apiextensions.k8s.io/v1", "CustomResourceDefinition", &name);
        if let Some(crd) = cluster::get(client, which).await? {
            found.0.insert(name, crd);
        }
    }
    Ok(found)
}

/// What is asked once, before the first step.
pub(super) async fn surroundings(client: &Client) -> anyhow::Result<Surroundings> {
    let version = client
        .apiserver_version()
        .await
        .context("cannot reach the API server")?;
    Ok(Surroundings {
        kubernetes: version.git_version,
        in_use: kinds_in_use(client).await?,
        forbidden: forbidden(client).await?,
    })
}

/// The workloads and their pods.
pub(super) async fn census(client: &Client) -> anyhow::Result<Census> {
    let mut all = Vec::new();
    for names in KINDS {
        let mut sets = None;
        for version in ["v1alpha1", "v1beta1"] {
            if sets.is_none() {
                sets = live::list(client, afloat_api::names::GROUP, version, names.kind, None).await?;
            }
        }
        all.extend(sets.unwrap_or_default());
    }
    let pods = live::list(client, "", "v1", "Pod", None).await?;
    Ok(Census::new(all.iter(), pods.iter().flatten()))
}

async fn manager(client: &Client, namespace: &str, name: &str) -> anyhow::Result<Option<Manager>> {
    let Some(deployment) = cluster::get(client, in_namespace("apps/v1", "Deployment", namespace, name)).await? else {
        return Ok(None);
    };
    let labels = deployment["spec"]["selector"]["matchLabels"].as_object();
    let pair = |(key, value): (&String, &Value)| format!("{key}={}", value.as_str().unwrap_or_default());
    let labels: Vec<_> = labels.into_iter().flatten().map(pair).collect();
    let pods = cluster::pods(client, namespace, &labels.join(",")).await?;
    Ok(Some(Manager {
        deployment,
        pods: pods.iter().filter_map(pod).collect(),
    }))
}

/// Objects of Kruise's kinds. They are read in the version in which they are stored, which needs no webhook.
async fn kinds_in_use(client: &Client) -> anyhow::Result<BTreeMap<String, usize>> {
    let crds = live::list(client, "apiextensions.k8s.io", "v1", "CustomResourceDefinition", None).await?;
    let (mut found, ours) = (BTreeMap::new(), definitions::ours());
    for crd in crds.iter().flatten() {
        let group = crd["spec"]["group"].as_str().unwrap_or_default();
        let name = crd["metadata"]["name"].as_str().unwrap_or_default();
        if !kruise::GROUPS.contains(&group) || ours.contains(name) {
            continue;
        }
        let versions = crd["spec"]["versions"].as_array();
        let stored = versions
            .into_iter()
            .flatten()
            .find(|version| version["storage"] == true);
        let version = stored.and_then(|version| version["name"].as_str()).unwrap_or_default();
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap_or_default();
        let objects = live::list(client, group, version, kind, None).await?;
        found.extend(in_use(objects.iter().flatten()));
    }
    Ok(found)
}

async fn forbidden(client: &Client) -> anyhow::Result<Vec<String>> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let mut forbidden = Vec::new();
    let sets = KINDS.iter().map(|names| ("list", afloat_api::GROUP, names.plural));
    for (verb, group, resource) in RIGHTS.into_iter().chain(sets) {
        let spec = SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some(verb.to_owned()),
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        };
        let review = SelfSubjectAccessReview {
            spec,
            ..SelfSubjectAccessReview::default()
        };
        let answer = reviews.create(&PostParams::default(), &review).await;
        let answer = answer.context("cannot ask the API server what you may do")?;
        if !answer.status.is_some_and(|status| status.allowed) {
            let dot = if group.is_empty() { "" } else { "." };
            forbidden.push(format!("{verb} {resource}{dot}{group}"));
        }
    }
    Ok(forbidden)
}

pub(super) fn in_namespace<'a>(version: &'a str, kind: &'a str, namespace: &'a str, name: &'a str) -> Which<'a> {
    Which {
        version,
        kind,
        namespace,
        name,
    }
}

pub(super) fn everywhere<'a>(version: &'a str, kind: &'a str, name: &'a str) -> Which<'a> {
    in_namespace(version, kind, "", name)
}
