//! Watches the pods, endpoints and Events of a Service while a probe runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use afloat_watching::feed::{Pauses, Seen as Watched, follow};
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event as CoreEvent, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::Config;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::timeline::{Happening, endpoint_changes, pod_changes, ready_endpoints};

/// Happenings kept; a run that has more keeps the first ones.
const HAPPENINGS_MAX: usize = 100_000;

/// Watches that run until this is dropped.
pub struct ServiceWatch {
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    happenings: Mutex<Vec<Happening>>,
    /// Pods that are or were the Service's.
    pods: Mutex<BTreeSet<String>>,
}

impl Seen {
    fn add(&self, texts: Vec<String>) {
        let mut happenings = self.happenings.lock().unwrap_or_else(PoisonError::into_inner);
        let time = Timestamp::now();
        for text in texts {
            if happenings.len() < HAPPENINGS_MAX {
                happenings.push(Happening { time, text });
            }
        }
    }
}

impl ServiceWatch {
    /// Starts to watch what belongs to a Service; what is there at the start is no happening.
    #[must_use]
    pub fn start(client: &Client, service: &Service) -> Self {
        let seen = Arc::new(Seen::default());
        let namespace = service.namespace().unwrap_or_else(|| "default".into());
        let mut tasks = JoinSet::new();
        let selector = service
            .spec
            .as_ref()
            .and_then(|s| s.selector.clone())
            .unwrap_or_default();
        if !selector.is_empty() {
            let labels: Vec<String> = selector.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let (api, seen) = (Api::<Pod>::namespaced(client.clone(), &namespace), seen.clone());
            tasks.spawn(tell_changes(api, labels.join(","), move |old, new, first| {
                if let Some(pod) = new {
                    let mut pods = seen.pods.lock().unwrap_or_else(PoisonError::into_inner);
                    pods.insert(pod.name_any());
                }
                if !first {
                    seen.add(pod_changes(old, new));
                }
            }));
        }
        let labels = format!("kubernetes.io/service-name={}", service.name_any());
        let (api, in_slices) = (
            Api::<EndpointSlice>::namespaced(client.clone(), &namespace),
            seen.clone(),
        );
        tasks.spawn(tell_changes(api, labels, move |old, new, first| {
            if !first {
                let of = |slice: Option<&EndpointSlice>| slice.map(ready_endpoints).unwrap_or_default();
                in_slices.add(endpoint_changes(&of(old), &of(new)));
            }
        }));
        let (api, in_events) = (Api::<CoreEvent>::namespaced(client.clone(), &namespace), seen.clone());
        tasks.spawn(tell_changes(api, String::new(), move |_, new, first| {
            let Some(event) = new.filter(|_| !first) else { return };
            let pod = event.involved_object.name.clone().unwrap_or_default();
            let ours = event.involved_object.kind.as_deref() == Some("Pod")
                && in_events
                    .pods
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .contains(&pod);
            if ours {
                let reason = event.reason.as_deref().unwrap_or_default();
                let message = event.message.as_deref().unwrap_or_default();
                in_events.add(vec![format!("event {reason} of pod {pod}: {}", message.trim())]);
            }
        }));
        Self { seen, _tasks: tasks }
    }

    /// What happened so far, in the order of time.
    #[must_use]
    pub fn happenings(&self) -> Vec<Happening> {
        let mut all = self
            .seen
            .happenings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        all.sort_by_key(|h| h.time);
        all
    }
}

/// Hands each change of an object to `changed`: what it was, what it is, and whether it was there at the start.
async fn tell_changes<K>(api: Api<K>, labels: String, changed: impl Fn(Option<&K>, Option<&K>, bool))
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut known: BTreeMap<String, K> = BTreeMap::new();
    let mut first = true;
    let config = Config::default().labels(&labels);
    let mut stream = pin!(follow(api, config, Pauses::Patient, |object| object));
    while let Some(seen) = stream.next().await {
        match seen {
            Watched::Listed(objects) => {
                let listed = objects.into_iter().map(|object| (object.name_any(), object)).collect();
                let old = std::mem::replace(&mut known, listed);
                for (name, object) in &known {
                    changed(old.get(name), Some(object), first);
                }
                for (name, object) in &old {
                    if !known.contains_key(name) {
                        changed(Some(object), None, first);
                    }
                }
                first = false;
            }
            Watched::Changed(object) => {
                let old = known.insert(object.name_any(), object.clone());
                changed(old.as_ref(), Some(&object), false);
            }
            Watched::Gone(object) => {
                let old = known.remove(&object.name_any());
                changed(old.as_ref().or(Some(&object)), None, false);
            }
        }
    }
}
