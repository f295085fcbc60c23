//! One pod's worker: observe, plan, act, and tell. The only task that touches this pod.

mod act;
mod admit;
mod create;
mod handlers;
mod host_ports;
mod news;
mod process;
mod pull;
mod resize;
mod run;
mod sandbox;
mod tell;
mod token;
mod volumes;
mod words;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use tokio::task::{AbortHandle, JoinSet};

use self::token::{Place, Token};
use crate::context::Context;
use crate::dirs::PodDirs;
use crate::mailbox::Mailbox;
use crate::options::API_LIMIT;
use crate::pod::container::env;
use crate::pod::instance::HookKind;
use crate::pod::progress;
use crate::pod::state::PodState;
use crate::volume::{self, NameServices};

/// Before a sandbox, a clean-up or a deletion that failed is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// What a worker keeps from one refresh to the next.
#[derive(Default)]
struct Kept {
    tokens: BTreeMap<Place, Token>,
    /// Immutable ones, which need not be asked for again (KEP-1412).
    config_maps: BTreeMap<String, ConfigMap>,
    secrets: BTreeMap<String, Secret>,
}

/// See the module.
pub(crate) struct Worker {
    context: Arc<Context>,
    mailbox: Arc<Mailbox>,
    pod: Arc<Pod>,
    state: PodState,
    dirs: PodDirs,
    tasks: JoinSet<()>,
    /// Running hooks by container id.
    hooks: HashMap<(String, HookKind), AbortHandle>,
    /// Running pulls by container.
    pulls: HashMap<String, AbortHandle>,
    /// Ports of the node that lead to the pod.
    host_ports: JoinSet<()>,
    kept: Kept,
    dirty_since: Option<Timestamp>,
    write_failures: u32,
    write_after: Option<Timestamp>,
}

impl Worker {
    pub(crate) fn new(context: Arc<Context>, mailbox: Arc<Mailbox>, pod: Arc<Pod>, state: PodState) -> Self {
        let dirs = PodDirs::new(&context.options.dir, &pod);
        Self {
            context,
            mailbox,
            pod,
            state,
            dirs,
            tasks: JoinSet::new(),
            hooks: HashMap::new(),
            pulls: HashMap::new(),
            host_ports: JoinSet::new(),
            kept: Kept::default(),
            dirty_since: None,
            write_failures: 0,
            write_after: None,
        }
    }

    fn name_of(&self, id: &str) -> Option<String> {
        self.state
            .instances()
            .find(|(_, instance)| instance.id == id)
            .map(|(name, _)| name.clone())
    }

    fn event(&self, container: Option<&str>, warning: bool, reason: &str, message: &str, now: Timestamp) {
        self.context
            .events
            .pod(&self.pod, container, warning, reason, message, now);
    }

    /// The pod came to its end and says so.
    fn is_terminal(&self) -> bool {
        progress::is_terminal(self.pod.status.as_ref())
    }

    fn names(&self) -> NameServices {
        let options = &self.context.options;
        NameServices {
            dns: options.cluster_dns,
            of_node: options.resolv_conf.clone(),
            domain: options.cluster_domain.clone(),
            node: options.node_name.clone(),
        }
    }

    /// Fetches what volumes or an environment refer to. What does not exist is simply not in the answer.
    async fn sources(&self, references: volume::References, ip: Option<IpAddr>) -> Result<env::Sources, String> {
        let fetch = self.context.sources(&self.pod, references, ip);
        tokio::time::timeout(API_LIMIT, fetch)
            .await
            .map_err(|_| "no answer from the API server in time".to_owned())?
    }

    async fn service_variables(&self) -> Result<Vec<(String, String)>, String> {
        let known = self.context.service_variables(&self.pod);
        tokio::time::timeout(API_LIMIT, known)
            .await
            .map_err(|_| "services have not yet been read at least once, cannot construct envvars".to_owned())
    }
}

/// File work, off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    let work: Box<dyn FnOnce() -> _ + Send> = Box::new(work);
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(error.to_string()))
}
