//! Beginning: the state that follows from what is stored, and what every cluster has.

use std::sync::Arc;

use afloat_machinery::kinds::Registry;
use afloat_store::Store;
use serde_json::json;

use crate::auth::token;
use crate::follow::{Addresses, Bound, Definitions, Followed};
use crate::serve::openapi;
use crate::{ApiServer, Error, Inner, Options, metrics, view};

/// Namespaces that exist from the beginning.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

impl ApiServer {
    /// Serves what is in `store`: registers the definitions found there, counts the addresses of its Services as taken,
    /// and makes the namespaces that every cluster has. Must be called inside a tokio runtime.
    pub async fn new(store: Store, options: Options) -> Result<Self, Error> {
        let builtin = Registry::builtin();
        let prefix = |group: &str, plural: &str| {
            let resource = builtin.resolve(group, "v1", plural);
            resource.map_or_else(String::new, |resource| view::prefix(&resource, None))
        };
        let group = "admissionregistration.k8s.io";
        let bound = Bound::new(
            prefix(group, "validatingadmissionpolicies"),
            prefix(group, "validatingadmissionpolicybindings"),
        );
        let addresses = Addresses::new(options.service_cidr, options.node_ports.clone());
        let key = options.token_key.clone().map_or_else(token::new_key, Ok)?;
        let inner = Inner {
            definitions: Followed::new(
                store.clone(),
                prefix("apiextensions.k8s.io", "customresourcedefinitions"),
                Definitions::new(),
            )?,
            policies: Followed::new(store.clone(), format!("/{group}/"), bound)?,
            addresses: Arc::new(Followed::new(store.clone(), prefix("", "services"), addresses)?),
            store,
            options,
            metrics: metrics::Metrics::default(),
            signer: token::Signer::new(&key)?,
            openapi: openapi::Cache::default(),
        };
        let server = Self { inner: Arc::new(inner) };
        for name in NAMESPACES {
            server.ensure_namespace(name).await?;
        }
        server.begin_background();
        Ok(server)
    }

    async fn ensure_namespace(&self, name: &str) -> Result<(), Error> {
        let registry = self.registry();
        let Some(resource) = registry.resolve("", "v1", "namespaces") else {
            return Ok(());
        };
        if self.inner.store.get(&view::namespace_key(name)).is_some() {
            return Ok(());
        }
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        match self.insert(&resource, None, object, false, None).await {
            Ok(_) => Ok(()),
            Err(status) if status.reason == "AlreadyExists" => Ok(()),
            Err(why) => Err(Error::Bootstrap {
                what: format!("namespace {name}"),
                why,
            }),
        }
    }
}
