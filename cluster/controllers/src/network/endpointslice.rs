//! Services with a selector get EndpointSlices: which pods serve them, and in what state.
//!
//! `plan` says which writes make a Service's slices right, `state` which Services to look at and when; here is the loop
//! that watches and writes. One write at a time per Service, and none is decided on before the watch has shown the
//! one before.

mod plan;
mod state;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use afloat_watching::Cache;
use afloat_watching::feed::{self, Pauses, follow};
use futures::FutureExt as _;
use futures::stream::{BoxStream, StreamExt, select_all};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::watcher::Config;
use kube::{Api, Client, ResourceExt};
use tokio::sync::{Notify, Semaphore};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use plan::{Action, CONTROLLER};
use state::{State, Written};

use crate::Error;
use crate::context::Context;
use crate::network::view::{Key, Pod, ServiceView};
use crate::objects::service::MANAGED_BY;
use crate::objects::{self, Pod as SharedPod};

/// Services that are written for at the same time.
const WRITERS: usize = 16;
/// Longest wait for one write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// What its own two watches bring.
enum Seen {
    Service(Key, Option<ServiceView>),
    Services(BTreeMap<Key, ServiceView>),
    Slice(Key, Option<Box<EndpointSlice>>),
    Slices(BTreeMap<Key, EndpointSlice>),
}

/// What becomes of a Service's writes: what was written, and the first failure.
type Outcome = (Vec<Written>, Option<kube::Error>);

/// Keeps the EndpointSlices of all Services until shutdown; failures of the API server are tried again, with a pause.
///
/// # Errors
/// Only if a watch ends for good.
pub(crate) async fn run_endpointslices(context: Context) -> Result<(), Error> {
    let (client, pods, shutdown) = (context.shell.client, context.caches.pods, context.shutdown);
    tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        () = pods.ready() => {}
    }
    let changed = Changed::of(&pods);
    let mut seen = select_all([services(&client), slices(&client)]);
    let mut state = State::default();
    let mut listed = (false, false);
    let mut writes: JoinSet<Outcome> = JoinSet::new();
    let mut writing: HashMap<task::Id, Key> = HashMap::new();
    let writers = Arc::new(Semaphore::new(WRITERS));
    loop {
        let synced = listed == (true, true);
        let due = state.next_due().filter(|_| synced);
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = changed.wake.notified() => changed.take_in(&pods, &mut state),
            event = seen.next() => {
                take_in(&mut state, event.ok_or(Error::WatchEnded("Services"))?, &mut listed);
            }
            Some(finished) = writes.join_next_with_id() => finish(&mut state, &mut writing, finished),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                while let Some((key, actions)) = state.take(Instant::now()) {
                    if !actions.is_empty() {
                        let task = writes.spawn(write(client.clone(), writers.clone(), key.clone(), actions).boxed());
                        writing.insert(task.id(), key);
                    }
                }
            }
        }
    }
}

/// Pods that have changed since they were looked at last: at most one entry per pod.
#[derive(Default)]
struct Changed {
    keys: Mutex<BTreeSet<objects::Key>>,
    wake: Notify,
}

impl Changed {
    /// Collects from now on, beginning with all that exist.
    fn of(pods: &Cache<SharedPod>) -> Arc<Changed> {
        let changed = Arc::new(Changed::default());
        let weak = Arc::downgrade(&changed);
        pods.subscribe(move |change| {
            let Some(changed) = weak.upgrade() else { return false };
            let mut keys = changed.keys.lock().unwrap_or_else(PoisonError::into_inner);
            keys.extend(change.each().map(|pod| objects::Key::of(&pod.metadata)));
            drop(keys);
            changed.wake.notify_one();
            true
        });
        changed
    }

    fn take_in(&self, pods: &Cache<SharedPod>, state: &mut State) {
        let keys = std::mem::take(&mut *self.keys.lock().unwrap_or_else(PoisonError::into_inner));
        let now = Instant::now();
        for key in keys {
            let pod = pods.peek(&key).map(|pod| Pod::from(&*pod));
            state.pod((key.namespace.to_string(), key.name.to_string()), pod, now);
        }
    }
}

fn take_in(state: &mut State, seen: Seen, listed: &mut (bool, bool)) {
    let now = Instant::now();
    match seen {
        Seen::Service(key, service) => state.service(key, service, now),
        Seen::Services(all) => {
            state.services(all, now);
            listed.0 = true;
        }
        Seen::Slice(key, slice) => state.slice(key, slice.map(|slice| *slice), now),
        Seen::Slices(all) => {
            state.slices(all, now);
            listed.1 = true;
        }
    }
}

fn finish(state: &mut State, writing: &mut HashMap<task::Id, Key>, finished: Result<(task::Id, Outcome), JoinError>) {
    let (id, (written, error)) = match finished {
        Ok((id, (written, error))) => (id, (written, error.map(|error| error.to_string()))),
        Err(error) => (error.id(), (Vec::new(), Some(error.to_string()))),
    };
    let Some(key) = writing.remove(&id) else { return };
    if let Some(error) = &error {
        tracing::debug!(
            namespace = key.0,
            service = key.1,
            error,
            "slices not written, trying again"
        );
    }
    state.done(key, written, error.is_some(), Instant::now());
}

/// Does one Service's writes in order; the first failure ends them.
async fn write(client: Client, writers: Arc<Semaphore>, key: Key, actions: Vec<Action>) -> Outcome {
    let _permit = writers.acquire().await;
    let api: Api<EndpointSlice> = Api::namespaced(client, &key.0);
    let mut written = Vec::new();
    for action in &actions {
        let outcome = match timeout(WRITE_TIMEOUT, act(&api, action)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(kube::Error::Service("the API server did not answer in time".into())),
        };
        match outcome {
            Ok(done) => written.push(done),
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}

async fn act(api: &Api<EndpointSlice>, action: &Action) -> kube::Result<Written> {
    let stored = match action {
        Action::Create(slice) => api.create(&PostParams::default(), slice).await?,
        Action::Update(slice) => api.replace(&slice.name_any(), &PostParams::default(), slice).await?,
        Action::Delete(slice) => {
            let preconditions = Preconditions {
                uid: slice.uid(),
                resource_version: slice.resource_version(),
            };
            api.delete(&slice.name_any(), &DeleteParams::default().preconditions(preconditions))
                .await?;
            return Ok(Written::Deleted {
                name: slice.name_any(),
                uid: slice.uid().unwrap_or_default(),
            });
        }
    };
    Ok(Written::Stored {
        name: stored.name_any(),
        version: stored.resource_version().unwrap_or_default(),
    })
}

fn services(client: &Client) -> BoxStream<'static, Seen> {
    let api: Api<Service> = Api::all(client.clone());
    let read = |service: Service| {
        let view = service
            .spec
            .as_ref()
            .and_then(|spec| ServiceView::new(&service.metadata, spec));
        (key_of(&service), view)
    };
    let seen = follow(api, Config::default(), Pauses::Quick, read).map(|seen| match seen {
        feed::Seen::Listed(all) => {
            Seen::Services(all.into_iter().filter_map(|(key, view)| Some((key, view?))).collect())
        }
        feed::Seen::Changed((key, view)) => Seen::Service(key, view),
        feed::Seen::Gone((key, _)) => Seen::Service(key, None),
    });
    seen.boxed()
}

fn slices(client: &Client) -> BoxStream<'static, Seen> {
    let api: Api<EndpointSlice> = Api::all(client.clone());
    let ours = Config::default().labels(&format!("{MANAGED_BY}={CONTROLLER}"));
    let read = |slice: EndpointSlice| (key_of(&slice), Box::new(slice));
    let seen = follow(api, ours, Pauses::Quick, read).map(|seen| match seen {
        feed::Seen::Listed(all) => Seen::Slices(all.into_iter().map(|(key, slice)| (key, *slice)).collect()),
        feed::Seen::Changed((key, slice)) => Seen::Slice(key, Some(slice)),
        feed::Seen::Gone((key, _)) => Seen::Slice(key, None),
    });
    seen.boxed()
}

fn key_of(object: &impl ResourceExt) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}
