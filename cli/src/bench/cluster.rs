//! The cluster that is measured on: what is made in it, and how it is taken away.

use std::path::Path;
use std::time::Duration;

use afloat_api::Serving;
use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use super::kinds::Row;
use super::options::BenchOperatorOptions;
use super::template::template;
use super::version::ApiVersion;

/// Our pods name a scheduler that no cluster has, so that only the simulated nodes take them.
pub(super) const SCHEDULER: &str = "afloat-bench";

/// How long a request at the beginning may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How long the namespace's contents may take to go.
const REMOVE_LIMIT: Duration = Duration::from_secs(300);

/// A client for the cluster.
pub(super) async fn connect(kubeconfig: &Path) -> anyhow::Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("cannot read --kubeconfig {}", kubeconfig.display()))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// The API server's version, as a proof that it answers.
pub(super) async fn version(client: &Client, kubeconfig: &Path) -> anyhow::Result<String> {
    let unreachable = || format!("cannot reach the API server of {}", kubeconfig.display());
    let answer = tokio::time::timeout(LIMIT, client.apiserver_version()).await;
    Ok(answer.with_context(unreachable)?.with_context(unreachable)?.git_version)
}

/// Another operator, or OpenKruise's manager, would work on our sets as well.
pub(super) async fn no_other_operator(client: &Client) -> anyhow::Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kruise-system");
    let Some(spec) = leases.get_opt("kruise-manager").await?.and_then(|lease| lease.spec) else {
        return Ok(());
    };
    let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
    let seconds = i64::from(spec.lease_duration_seconds.unwrap_or(0));
    let held = spec
        .renew_time
        .is_some_and(|time| Timestamp::now().duration_since(time.0).as_secs() <= seconds);
    match holder {
        Some(holder) if held => anyhow::bail!(
            "an operator is at work in this cluster ({holder} holds the lease kruise-system/kruise-manager): \
             it would take part in the measurement"
        ),
        _ => Ok(()),
    }
}

/// Sets of a kind in a namespace.
pub(super) fn sets(client: &Client, namespace: &str, kind: Row, version: ApiVersion) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(afloat_api::GROUP, version.name(), kind.kind);
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind))
}

/// A set with two containers a pod.
pub(super) fn set(name: &str, namespace: &str, replicas: u32, options: &BenchOperatorOptions) -> Value {
    let max_unavailable = options.max_unavailable.as_str();
    let budget = max_unavailable
        .parse::<u32>()
        .map_or_else(|_| json!(max_unavailable), |n| json!(n));
    let kind = options.kind;
    let template = template(name, SCHEDULER, options.pod_form, "app:1");
    let strategy = kind.strategy(options.api_version, &json!({"maxUnavailable": budget}));
    json!({
        "apiVersion": format!("{}/{}", afloat_api::GROUP, options.api_version.name()), "kind": kind.kind,
        "metadata": {"name": name, "namespace": namespace}, "spec": kind.spec(name, replicas, template, strategy),
    })
}

/// What was made in the cluster.
pub(super) struct Made {
    client: Client,
    namespace: String,
    kind: Row,
    version: ApiVersion,
    /// Kinds that were not there before.
    kinds: Vec<String>,
}

impl Made {
    pub(super) fn new(client: Client, namespace: &str, kind: Row, version: ApiVersion) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            kind,
            version,
            kinds: Vec::new(),
        }
    }

    /// Makes the namespace and the kinds that are missing.
    pub(super) async fn create(&mut self) -> anyhow::Result<()> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for crd in afloat_api::crds(&Serving::v1beta1()) {
            let name = crd.name_any();
            if api.get_opt(&name).await?.is_none() {
                api.create(&PostParams::default(), &crd)
                    .await
                    .with_context(|| format!("cannot create {name}"))?;
                self.kinds.push(name);
            }
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(self.namespace.clone());
        api.create(&PostParams::default(), &namespace)
            .await
            .with_context(|| format!("cannot create the namespace {}", self.namespace))?;
        self.served().await
    }

    /// A new kind is served a moment after its definition was accepted.
    async fn served(&self) -> anyhow::Result<()> {
        let wait = async {
            while sets(&self.client, &self.namespace, self.kind, self.version)
                .list(&ListParams::default().limit(1))
                .await
                .is_err()
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(LIMIT, wait)
            .await
            .with_context(|| format!("{} is not served", self.kind.kind))
    }

    /// Takes everything away. By hand and not by deleting the namespace alone: a bare API server has no controller that
    /// would empty it.
    pub(super) async fn remove(self) {
        if let Err(error) = tokio::time::timeout(REMOVE_LIMIT, self.try_remove())
            .await
            .map_err(Into::into)
            .flatten()
        {
            eprintln!(
                "afloat: could not take everything away, see the namespace {}: {}",
                self.namespace,
                crate::output::one_line(&error)
            );
        }
    }

    async fn try_remove(&self) -> anyhow::Result<()> {
        let (client, namespace) = (self.client.clone(), self.namespace.as_str());
        let now = DeleteParams::default().grace_period(0);
        let all = ListParams::default();
        let absent_is_fine = |result: kube::Result<()>| match result {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other,
        };
        absent_is_fine(
            sets(&client, namespace, self.kind, self.version)
                .delete_collection(&now, &all)
                .await
                .map(drop),
        )?;
        Api::<Pod>::namespaced(client.clone(), namespace)
            .delete_collection(&now, &all)
            .await?;
        Api::<ControllerRevision>::namespaced(client.clone(), namespace)
            .delete_collection(&now, &all)
            .await?;
        Api::<Lease>::namespaced(client.clone(), namespace)
            .delete_collection(&now, &all)
            .await?;
        Api::<Event>::namespaced(client.clone(), namespace)
            .delete_collection(&now, &all)
            .await?;
        let kinds: Api<CustomResourceDefinition> = Api::all(client.clone());
        for kind in &self.kinds {
            kinds.delete(kind, &DeleteParams::default()).await?;
        }
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.delete(namespace, &DeleteParams::default()).await?;
        let gone = async {
            while namespaces.get_opt(namespace).await?.is_some() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok::<_, kube::Error>(())
        };
        if let Ok(result) = tokio::time::timeout(LIMIT, gone).await {
            return Ok(result?);
        }
        // No namespace controller: it is empty, so it may go.
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}, "spec": {"finalizers": []}});
        let request = http::Request::put(format!("{}/{namespace}/finalize", Namespace::url_path(&(), None)))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())?;
        client.request::<Value>(request).await?;
        Ok(())
    }
}
