//! Looking up: the kinds that are served and the objects that are stored. Get, list and watch stand on it.

mod answer;
pub(crate) mod conversion;
pub(crate) mod filter;
mod list;
mod snapshot;
pub(crate) mod table;
mod watch;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use afloat_machinery::kinds::{Registry, Resource};
use afloat_store::{Entry, Page, Store};
use serde_json::Value;
use snapshot::Snapshots;
use tokio::sync::Semaphore;
use webhooks::Webhooks;

use crate::follow::{Definitions, Followed};
use crate::metrics::Metrics;
use crate::options::WebhookDialer;
use crate::view;
use crate::wire::status::Status;

/// Looks things up; changes nothing. A cheap handle.
#[derive(Clone)]
pub(crate) struct Reader {
    store: Store,
    definitions: Arc<Followed<Definitions>>,
    metrics: Arc<Metrics>,
    bookmark_interval: Duration,
    /// How long a list may be read.
    list_limit: Duration,
    webhooks: Arc<Webhooks>,
    snapshots: Arc<Snapshots>,
    /// Turns of those who make tables and YAML of lists.
    making: Arc<Semaphore>,
}

impl Reader {
    /// Reads `store`, whose definitions are followed. `bookmark_interval`: how often a watch that asked for bookmarks gets one;
    /// `list_limit`: how long a client may read a list.
    pub(crate) fn new(
        store: Store,
        definitions: Arc<Followed<Definitions>>,
        metrics: Arc<Metrics>,
        bookmark_interval: Duration,
        list_limit: Duration,
        dialer: Option<Arc<dyn WebhookDialer>>,
    ) -> Self {
        Self {
            store,
            definitions,
            metrics,
            bookmark_interval,
            list_limit,
            webhooks: Arc::new(Webhooks::new(dialer)),
            snapshots: Arc::default(),
            making: Arc::new(Semaphore::new(1)),
        }
    }

    /// The kinds that are served now.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        self.definitions.with(|definitions| definitions.registry())
    }

    /// Whether what is written is stored.
    ///
    /// # Errors
    /// Why it is not.
    pub(crate) fn health(&self) -> Result<(), afloat_store::Error> {
        self.store.health()
    }

    /// The newest revision.
    pub(crate) fn revision(&self) -> u64 {
        self.store.revision()
    }

    /// An object as it is stored, if there is one.
    pub(crate) fn find(&self, resource: &Resource, namespace: Option<&str>, name: &str) -> Option<Entry> {
        self.store.get(&view::key(resource, namespace, name))
    }

    /// An object as it is stored.
    ///
    /// # Errors
    /// 404 if there is none.
    pub(crate) fn entry(&self, resource: &Resource, namespace: Option<&str>, name: &str) -> Result<Entry, Status> {
        self.find(resource, namespace, name)
            .ok_or_else(|| Status::not_found(resource, name))
    }

    /// An object of a kind with one version.
    ///
    /// # Errors
    /// 404 if there is none.
    pub(crate) fn object(&self, resource: &Resource, namespace: Option<&str>, name: &str) -> Result<Value, Status> {
        view::parse(resource, &self.entry(resource, namespace, name)?.value)
    }

    /// A namespace, if there is one.
    pub(crate) fn namespace(&self, name: &str) -> Option<Entry> {
        self.store.get(&view::namespace_key(name))
    }

    /// All objects of a kind, or those in one namespace.
    pub(crate) fn all(&self, resource: &Resource, namespace: Option<&str>) -> Page {
        self.store.list(&view::prefix(resource, namespace), None, 0)
    }

    /// Asks a webhook in the name of `caller` (its configuration beside it); the answer is JSON.
    ///
    /// # Errors
    /// What stands behind "failed: " in the original's sentence.
    pub(crate) async fn ask_webhook(
        &self,
        caller: (&str, &Value),
        limit: Duration,
        question: &Value,
    ) -> Result<Value, String> {
        let services = self.registry().resolve("", "v1", "services");
        let service = |namespace: &str, name: &str| self.object(services.as_deref()?, Some(namespace), name).ok();
        self.webhooks.ask(service, caller, limit, question).await
    }

    /// All changes of a kind's objects after a revision. None if they are forgotten.
    pub(crate) fn changes(&self, resource: &Resource, after: u64) -> Option<afloat_store::Watch> {
        self.store.watch(&view::prefix(resource, None), after).ok()
    }
}
