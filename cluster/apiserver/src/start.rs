//! Beginning: what every cluster has, and the housekeeping that goes on behind.

use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use afloat_machinery::kinds::Registry;
use afloat_store::Store;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use crate::{ApiServer, Error, Inner, Options, crd, metrics, openapi, service_ip, token, view};

/// Namespaces that exist from the beginning.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// How often old events are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(30);

impl ApiServer {
    /// Serves what is in `store`: registers the definitions found there, counts the addresses of its Services as taken,
    /// and makes the namespaces that every cluster has. Must be called inside a tokio runtime.
    pub async fn new(store: Store, options: Options) -> Result<Self, Error> {
        let registry = Registry::builtin();
        let services = service_ip::Allocations::new(options.service_cidr, options.node_ports.clone());
        let key = options.token_key.clone().map_or_else(token::new_key, Ok)?;
        let inner = Inner {
            store,
            options,
            registry: RwLock::new(Arc::new(registry)),
            services: Mutex::new(services),
            metrics: metrics::Metrics::default(),
            signer: token::Signer::new(&key)?,
            openapi: openapi::Cache::default(),
            policies: RwLock::default(),
        };
        let server = Self { inner: Arc::new(inner) };
        server.load()?;
        for name in NAMESPACES {
            server.ensure_namespace(name).await?;
        }
        server.housekeeping();
        Ok(server)
    }

    fn load(&self) -> Result<(), Error> {
        let registry = self.registry();
        let read = |entry: &afloat_store::Entry| {
            serde_json::from_slice::<Value>(&entry.value).map_err(|e| Error::Corrupt {
                key: entry.key.to_string(),
                why: e.to_string(),
            })
        };
        if let Some(definition) = crd::definition(&registry) {
            for entry in self.inner.store.list(&view::prefix(&definition, None), None, 0).entries {
                self.register(view::meta(&read(&entry)?, "name"));
            }
        }
        self.load_policies();
        if let Some(services) = registry.resolve("", "v1", "services") {
            let entries = self.inner.store.list(&view::prefix(&services, None), None, 0).entries;
            let objects = entries.iter().map(read).collect::<Result<Vec<Value>, Error>>()?;
            let mut all = self
                .inner
                .services
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            objects.iter().for_each(|service| all.load(service));
        }
        Ok(())
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

    /// Ends by itself when the store is closed, or the last handle of the server is gone.
    fn housekeeping(&self) {
        let (weak, closed) = (Arc::downgrade(&self.inner), self.inner.store.closed());
        tokio::spawn(async move {
            let mut ticks = interval(HOUSEKEEPING);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while closed.run_until_cancelled(ticks.tick()).await.is_some() {
                let Some(inner) = weak.upgrade() else { return };
                let server = Self { inner };
                server.expire_events().await;
                server.resume_deletions();
            }
        });
    }

    /// Takes old events away, and the oldest of too many.
    async fn expire_events(&self) {
        let registry = self.registry();
        let Some(resource) = registry.resolve("", "v1", "events") else {
            return;
        };
        let options = &self.inner.options;
        let ttl = SignedDuration::try_from(options.event_ttl).unwrap_or(SignedDuration::MAX);
        let horizon = Timestamp::now().checked_sub(ttl).unwrap_or(Timestamp::MIN);
        let mut found: Vec<(Timestamp, String, u64, Value)> = Vec::new();
        for entry in self.inner.store.list(&view::prefix(&resource, None), None, 0).entries {
            let Ok(event) = serde_json::from_slice::<Value>(&entry.value) else {
                continue;
            };
            let seen = last_seen(&event).parse().unwrap_or(Timestamp::MIN);
            found.push((seen, entry.key.to_string(), entry.revision, event));
        }
        found.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let surplus = found.len().saturating_sub(options.event_limit);
        for (n, (seen, key, revision, event)) in found.into_iter().enumerate() {
            if n >= surplus && seen >= horizon {
                break;
            }
            // Somebody may have counted it up meanwhile: then it stays.
            let _ = self
                .inner
                .store
                .delete(&key, Some(revision), crate::write::stamp(event))
                .await;
        }
    }

    /// Goes on with definitions whose deletion was interrupted.
    fn resume_deletions(&self) {
        let registry = self.registry();
        let Some(definition) = crd::definition(&registry) else {
            return;
        };
        for entry in self.inner.store.list(&view::prefix(&definition, None), None, 0).entries {
            let Ok(object) = serde_json::from_slice::<Value>(&entry.value) else {
                continue;
            };
            if object["metadata"]["deletionTimestamp"].is_string() {
                self.finish_crd(view::meta(&object, "name"));
            }
        }
    }
}

/// When an event last happened, RFC 3339; falls back to its creation.
fn last_seen(event: &Value) -> &str {
    let candidates = [
        &event["series"]["lastObservedTime"],
        &event["lastTimestamp"],
        &event["eventTime"],
    ];
    let last = candidates.into_iter().filter_map(Value::as_str).find(|t| !t.is_empty());
    last.unwrap_or_else(|| view::meta(event, "creationTimestamp"))
}
