//! The Node authorizer: what the agent of a node may do, by the pods that are bound to it.

use std::sync::{Arc, Mutex, PoisonError};

use afloat_machinery::authorization::nodes::{self, PodLinks, Related, Source, VolumeLinks};
use afloat_machinery::authorization::{Attributes, Authorizer, Decision, HeldRules, User};
use afloat_store::Store;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::follow::Followed;
use crate::read::Reader;
use crate::view;

/// Group of the agents of nodes.
const NODES: &str = "system:nodes";

/// See the module. Pods are followed only from the first request of a node on: whoever has no nodes pays nothing for it.
pub(crate) struct NodeAuthorizer {
    store: Store,
    reader: Reader,
    links: Mutex<Option<Links>>,
    begun: OnceCell<()>,
}

struct Links {
    pods: Followed<PodLinks>,
    volumes: Followed<VolumeLinks>,
}

impl NodeAuthorizer {
    /// By what is in `store`, which `reader` reads.
    pub(crate) fn new(store: Store, reader: Reader) -> Self {
        Self {
            store,
            reader,
            links: Mutex::default(),
            begun: OnceCell::new(),
        }
    }

    /// Returns when questions about a user are answered at once. All pods are read before the first one of a node, which takes a second
    /// with 100,000: not on a thread that others wait for.
    pub(crate) async fn prepare(self: &Arc<Self>, user: &User) {
        if !user.is_in(NODES) {
            return;
        }
        let begin = async || {
            let this = Arc::clone(self);
            let read = tokio::task::spawn_blocking(move || this.with(|_| ()));
            if let Err(error) = read.await {
                tracing::error!(%error, "what pods refer to was not read");
            }
        };
        self.begun.get_or_init(begin).await;
    }

    fn begin(&self) -> Option<Links> {
        let registry = self.reader.registry();
        let prefix = |plural| Some(view::prefix(&*registry.resolve("", "v1", plural)?, None));
        let followed =
            |error| tracing::error!(%error, "not all pods and volumes can be read: nodes are refused what they need");
        let pods = Followed::new(self.store.clone(), prefix("pods")?, PodLinks::default()).map_err(followed);
        let volumes = prefix("persistentvolumes")?;
        let volumes = Followed::new(self.store.clone(), volumes, VolumeLinks::default()).map_err(followed);
        Some(Links {
            pods: pods.ok()?,
            volumes: volumes.ok()?,
        })
    }

    fn with<T: Default>(&self, look: impl FnOnce(&Links) -> T) -> T {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if links.is_none() {
            *links = self.begin();
        }
        links.as_ref().map(look).unwrap_or_default()
    }
}

impl Related for NodeAuthorizer {
    fn runs(&self, node: &str, namespace: &str, pod: &str) -> bool {
        self.with(|links| links.pods.with(|pods| pods.runs(node, namespace, pod)))
    }

    fn uses(&self, node: &str, source: Source, namespace: &str, name: &str) -> bool {
        self.with(|links| {
            let claims: Vec<_> = match source {
                Source::Secret => links
                    .volumes
                    .with(|volumes| volumes.claims_with(namespace, name).cloned().collect()),
                _ => Vec::new(),
            };
            links.pods.with(|pods| {
                let by_volume =
                    |(namespace, claim): &(String, String)| pods.uses(node, Source::Claim, namespace, claim);
                pods.uses(node, source, namespace, name) || claims.iter().any(by_volume)
            })
        })
    }

    fn mounts(&self, node: &str, volume: &str) -> bool {
        self.with(|links| {
            let claim = links.volumes.with(|volumes| volumes.claim(volume).cloned());
            let uses = |(namespace, name): (String, String)| {
                links
                    .pods
                    .with(|pods| pods.uses(node, Source::Claim, &namespace, &name))
            };
            claim.is_some_and(uses)
        })
    }

    fn attaches(&self, node: &str, attachment: &str) -> bool {
        let resource = self
            .reader
            .registry()
            .resolve("storage.k8s.io", "v1", "volumeattachments");
        let entry = resource.and_then(|resource| self.reader.find(&resource, None, attachment));
        let object: Option<Value> = entry.and_then(|entry| serde_json::from_slice(&entry.value).ok());
        object.is_some_and(|object| object["spec"]["nodeName"] == node)
    }
}

/// One of those who decide.
pub(crate) struct ByNodes(pub(crate) Arc<NodeAuthorizer>);

impl Authorizer for ByNodes {
    fn authorize(&self, asked: &Attributes<'_>) -> Decision {
        nodes::decide(&*self.0, asked)
    }

    fn rules(&self, user: &User, _namespace: &str) -> HeldRules {
        nodes::rules(user)
    }
}
